// The people of the gallery: browse and search them; look at one, merge, remove.

import * as api from './api.js';
import { button, confirm, dialog, field, h, id, name, noPicture, picture, problem, say } from './dom.js';
import { camera } from './meaning.js';
import { t, time } from './text.js';

const PAGE = 24;
/** Where somebody was in the list, so that going back leads there. */
let at = { q: '', pages: [null] };

export function forget() {
  at = { q: '', pages: [null] };
}

const label = (person) => person.name || t('nameless');
const link = (person) => `#/people/${encodeURIComponent(person.id)}`;
const thumbnail = (path, text) => (path ? picture(() => api.thumbnail(path), text) : noPicture());

export async function view(app) {
  const list = h('ul', { class: 'cards' });
  const note = h('p', { class: 'note', role: 'status' });
  const previous = button(t('page.previous'), () => turn(() => at.pages.pop()));
  const next = button(t('page.next'), () => turn(() => at.pages.push(next.dataset.after)));
  const pager = h('nav', { class: 'actions', 'aria-label': t('page.pages') }, previous, next);
  const query = h('input', { type: 'search', value: at.q, autocomplete: 'off', spellcheck: 'false' });
  let asked = null;
  const load = async () => {
    asked?.abort();
    const mine = new AbortController();
    asked = mine;
    list.setAttribute('aria-busy', 'true');
    try {
      const { subjects, next: after } = await api.subjects(
        { q: at.q, after: at.pages.at(-1), limit: PAGE },
        mine.signal,
      );
      if (asked !== mine) return;
      const before = (at.pages.length - 1) * PAGE;
      list.replaceChildren(...subjects.map(card));
      next.dataset.after = after ?? '';
      next.disabled = after === null || after === undefined;
      previous.disabled = at.pages.length <= 1;
      pager.hidden = next.disabled && previous.disabled;
      note.textContent =
        subjects.length === 0
          ? t(at.q ? 'people.nomatch' : 'people.none')
          : t(at.q ? 'people.shown' : 'people.of', {
              from: before + 1,
              to: before + subjects.length,
              all: app.info.gallery.subjects,
            });
    } catch (error) {
      if (error.name !== 'AbortError') list.replaceChildren(h('li', { class: 'wide' }, problem(error)));
    } finally {
      list.removeAttribute('aria-busy');
    }
  };
  const turn = async (change) => {
    change();
    await load();
    // A button that has just become useless gives the focus to the list's heading.
    document.querySelector('main h1')?.focus();
    window.scrollTo(0, 0);
  };
  let waiting;
  query.addEventListener('input', () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      at = { q: query.value.trim(), pages: [null] };
      load();
    }, 250);
  });
  await load();
  return [
    h('h1', null, t('people.title')),
    h(
      'div',
      { class: 'toolbar' },
      h('form', { role: 'search', onsubmit: (event) => event.preventDefault() }, field(t('people.search'), query)),
      app.can('enrol') && h('a', { class: 'button primary', href: '#/enrol' }, t('enrol.title')),
    ),
    note,
    list,
    pager,
  ];
}

const card = (person) =>
  h(
    'li',
    null,
    h(
      'a',
      { class: 'card', href: link(person) },
      thumbnail(person.picture, ''),
      h('span', { class: 'name' }, name(person.name)),
      h('span', { class: 'note' }, t('templates.count', { n: person.templates })),
    ),
  );

/** One person. */
export async function one(app, subject) {
  const person = await api.subject(subject);
  const who = label(person);
  const place = h('div');
  const attempt = async (work) => {
    place.replaceChildren();
    try {
      await work();
    } catch (error) {
      place.replaceChildren(problem(error));
    }
  };
  const template = (one, at) =>
    h(
      'li',
      { class: 'card' },
      thumbnail(one.picture, t('picture.number', { name: who, n: at + 1 })),
      h('span', null, t('template.number', { n: at + 1 })),
      [
        camera(one.camera),
        one.taken && t('taken.at', { time: time(one.taken) }),
        one.enrolled && t('enrolled.at', { time: time(one.enrolled) }),
      ]
        .filter(Boolean)
        .map((fact) => h('span', { class: 'note' }, fact)),
      app.can('enrol') &&
        button(
          [t('remove'), h('span', { class: 'unseen' }, ` (${t('template.number', { n: at + 1 })})`)],
          () =>
            attempt(async () => {
              const last = person.templates.length === 1;
              const text = last ? t('remove.last', { name: who }) : t('remove.template.text', { name: who });
              if (!(await confirm(t('remove.template.title'), text, t('remove')))) return;
              await api.removeTemplate(one.id);
              say(t('removed.template'));
              await app.changed();
              app.go(last ? '#/people' : link(person));
            }),
          { class: 'quiet' },
        ),
    );
  return [
    h('p', { class: 'back' }, h('a', { href: '#/people' }, t('people.back'))),
    h('h1', null, name(person.name)),
    h('p', { class: 'lead' }, t('templates.count', { n: person.templates.length })),
    app.can('enrol') &&
      h(
        'div',
        { class: 'actions' },
        button(t('enrol.more'), () => app.enrolWith([], person.name), { class: 'primary' }),
        button(t('merge.with'), () => attempt(() => merge(app, person))),
        button(t('remove.person'), () => attempt(() => remove(app, person)), { class: 'danger' }),
      ),
    place,
    h('ul', { class: 'cards' }, person.templates.map(template)),
  ];
}

async function merge(app, person) {
  const other = await choosePerson(t('merge.choose', { name: label(person) }), { without: person.id });
  if (!other) return;
  const sure = await confirm(
    t('merge.title'),
    t('merge.text', { from: label(other), into: label(person) }),
    t('merge.do'),
  );
  if (!sure) return;
  await api.merge(person.id, other.id);
  say(t('merged', { from: label(other), into: label(person) }));
  await app.changed();
  app.go(link(person));
}

async function remove(app, person) {
  const text = t('remove.person.text', {
    name: label(person),
    templates: t('templates.count', { n: person.templates.length }),
  });
  if (!(await confirm(t('remove.person.title', { name: label(person) }), text, t('remove.person')))) return;
  await api.removeSubject(person.id);
  say(t('removed.person', { name: label(person) }));
  await app.changed();
  app.go('#/people');
}

/** Somebody's name, leading to them; people without a name have no view of their own. */
export const personLink = (subject, text) =>
  subject === null || subject === undefined
    ? h('span', { class: 'name' }, name(text))
    : h('a', { class: 'name', href: link({ id: subject }) }, name(text));

/** Somebody of the gallery, or `undefined`. `none` offers that it is nobody, which gives a person without an id. */
export function choosePerson(title, { without, none } = {}) {
  return dialog(title, (close) => {
    const list = h('ul', { class: 'choices', id: id('choices') });
    const note = h('p', { class: 'hint', role: 'status' });
    const query = h('input', { type: 'search', autocomplete: 'off', spellcheck: 'false', autofocus: true });
    let asked = null;
    const load = async () => {
      asked?.abort();
      const mine = new AbortController();
      asked = mine;
      try {
        const { subjects, next } = await api.subjects({ q: query.value.trim(), limit: 12 }, mine.signal);
        const others = subjects.filter((person) => person.id !== without);
        list.replaceChildren(
          ...others.map((person) =>
            h(
              'li',
              null,
              h(
                'button',
                { type: 'button', class: 'choice', onclick: () => close(person) },
                thumbnail(person.picture, ''),
                h('span', { class: 'name' }, name(person.name)),
                h('span', { class: 'note' }, t('templates.count', { n: person.templates })),
              ),
            ),
          ),
        );
        note.textContent = others.length === 0 ? t('people.nomatch') : next ? t('people.more') : '';
      } catch (error) {
        if (error.name !== 'AbortError') list.replaceChildren(h('li', null, problem(error)));
      }
    };
    let waiting;
    query.addEventListener('input', () => {
      clearTimeout(waiting);
      waiting = setTimeout(load, 200);
    });
    load();
    return [
      field(t('people.search'), query),
      list,
      note,
      h(
        'div',
        { class: 'actions' },
        button(t('cancel'), () => close()),
        none && button(none, () => close({ id: undefined, name: '' })),
      ),
    ];
  });
}
