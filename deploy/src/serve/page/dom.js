// Elements made of data: every text becomes a text node, so that no name and no answer can become markup.

import { t } from './text.js';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  // As browsers do it themselves, except that nothing stays nothing.
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** An element of HTML: `h('p', { class: 'note' }, 'text', other)`; `onclick` and the like are functions. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** An element of SVG. */
export const s = (tag, attributes, ...children) =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

/** What stands between backticks is code. */
export const rich = (text) => text.split('`').map((part, at) => (at % 2 ? h('code', null, part) : part));

/** A name of a person: its direction of writing stays its own. */
export const name = (text) => (text ? h('bdi', null, text) : h('em', null, t('nameless')));

let count = 0;
/** A new id, for labels. */
export const id = (prefix) => `${prefix}-${(count += 1)}`;

/** A field with its label and what is to be known about it. */
export function field(label, control, hint) {
  control.id ||= id('field');
  const note = hint && h('span', { class: 'hint', id: `${control.id}-hint` }, hint);
  if (note) control.setAttribute('aria-describedby', note.id);
  return h('div', { class: 'field' }, h('label', { for: control.id }, label), control, note);
}

export const button = (label, onclick, attributes) => h('button', { type: 'button', onclick, ...attributes }, label);

/** Says something to those who listen to the page. */
export function say(text, urgent = false) {
  const place = document.getElementById(urgent ? 'urgent' : 'polite');
  // The same words again are only heard when they are new to the region.
  place.textContent = '';
  setTimeout(() => {
    place.textContent = text;
  }, 60);
}

/** What has to be put right first. */
export const warn = (text) => h('div', { class: 'warning', role: 'alert' }, h('p', null, text));

/** What went wrong, in the page's words and in those of the service. */
export function problem(error) {
  const headline = error.headline?.() ?? t('error.page');
  const details = error.details?.() ?? [String(error.message ?? error)];
  return h(
    'div',
    { class: 'warning', role: 'alert' },
    h('p', null, h('b', null, headline)),
    details.map((line) => h('p', { lang: 'en' }, rich(line))),
  );
}

/**
 * A dialog over the page. `build(close)` makes its content; `close(value)` closes it. The value is what it was closed
 * with, `undefined` by Escape.
 */
export function dialog(title, build, { onclose } = {}) {
  return new Promise((resolve) => {
    let result;
    const heading = h('h2', { id: id('dialog') }, title);
    const box = h('dialog', { 'aria-labelledby': heading.id });
    const close = (value) => {
      result = value;
      box.close();
    };
    box.append(heading, ...[build(close)].flat());
    box.addEventListener('close', () => {
      onclose?.();
      box.remove();
      resolve(result);
    });
    document.body.append(box);
    box.showModal();
  });
}

/** Whether somebody really wants something that cannot be undone. */
export function confirm(title, text, action) {
  return dialog(title, (close) => [
    h('p', null, text),
    h(
      'div',
      { class: 'actions' },
      button(t('cancel'), () => close(false), { autofocus: true }),
      button(action, () => close(true), { class: 'danger' }),
    ),
  ]);
}

/** Where the similarity lies from 0 to 1, and the threshold. The number beside it says the same. */
export function gauge(similarity, threshold) {
  const at = (value) => `${(100 * Math.min(1, Math.max(0, value))).toFixed(1)}`;
  return s(
    'svg',
    { class: 'gauge', viewBox: '0 0 100 10', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    s('rect', { class: 'track', y: 2, width: 100, height: 6 }),
    s('rect', { class: 'part', y: 2, width: at(similarity), height: 6 }),
    typeof threshold === 'number' &&
      s('rect', { class: 'at', x: Math.min(99, Math.max(0, at(threshold) - 0.5)), width: 1, height: 10 }),
  );
}

/**
 * A picture that `load` gets, drawn on a canvas: the page may show nothing but its own files, not even `blob:`.
 * It is loaded when it comes into view. Without a label it only repeats what stands beside it.
 */
export function picture(load, label) {
  const spoken = label ? { role: 'img', 'aria-label': label } : { 'aria-hidden': 'true' };
  const canvas = h('canvas', { class: 'picture', width: 3, height: 4, ...spoken });
  const show = async () => {
    try {
      draw(canvas, await load());
    } catch {
      canvas.replaceWith(h('div', { class: 'picture missing', ...spoken }, t('picture.unreadable')));
    }
  };
  const watcher = new IntersectionObserver(
    (entries) => {
      if (entries.some((entry) => entry.isIntersecting)) {
        watcher.disconnect();
        show();
      }
    },
    { rootMargin: '200px' },
  );
  watcher.observe(canvas);
  return canvas;
}

/** At most so many pixels along the longer edge of a picture that is only looked at. */
const SHOWN = 384;

function draw(canvas, bitmap) {
  const scale = Math.min(1, SHOWN / Math.max(bitmap.width, bitmap.height));
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext('2d').drawImage(bitmap, 0, 0, canvas.width, canvas.height);
}

/** Where no picture was kept. */
export const noPicture = () => h('div', { class: 'picture missing' }, t('picture.none'));
