// Enrols pictures of somebody: hints before, warnings of the service after, and what can be done about them.

import * as api from './api.js';
import { button, confirm, field, h, id, name, picture, problem, say, warn } from './dom.js';
import { form, partName, picker, problems } from './pictures.js';
import { has, similarity, t } from './text.js';

export async function view(app) {
  const { inputs } = app.info.model;
  const { given } = app;
  const probes = [];
  const list = h('ul', { class: 'cards' });
  const outcome = h('div');
  const chosen = h('p', { class: 'note', role: 'status' });
  const count = () => {
    chosen.textContent = probes.length > 0 ? t('enrol.chosen', { n: probes.length }) : '';
  };
  const add = (files) => {
    const probe = { files };
    const hints = h('ul', { class: 'hints' });
    const item = h(
      'li',
      { class: 'card' },
      files.map(([, file]) => picture(() => createImageBitmap(file), t('picture.probe', { name: file.name }))),
      h('span', { class: 'name' }, files.map(([, file]) => file.name).join(' + ')),
      hints,
      button(
        [t('enrol.drop'), h('span', { class: 'unseen' }, ` (${files.map(([, file]) => file.name).join(' + ')})`)],
        () => {
          probes.splice(probes.indexOf(probe), 1);
          item.remove();
          count();
          document.querySelector('main h1')?.focus();
        },
        { class: 'quiet' },
      ),
    );
    probes.push(probe);
    outcome.replaceChildren();
    list.append(item);
    pictures.clear();
    count();
    files.forEach(async ([part, file], at) => {
      const found = await problems(file, (inputs[at] ?? inputs[0]).size);
      const words = found.map((kind) => t(`quality.${kind}`));
      const which = files.length > 1 ? `${partName(part)}: ` : '';
      hints.append(...words.map((line) => h('li', null, which, line)));
      if (words.length > 0) say(words.join(' '));
    });
  };
  const pictures = picker({ inputs, onprobe: add });

  const who = h('input', {
    type: 'text',
    required: true,
    autocomplete: 'off',
    spellcheck: 'false',
    value: given?.name ?? '',
    maxlength: 200,
  });
  const known = h('p', { class: 'hint', role: 'status' });
  const camera = h('input', { type: 'number', min: 1, max: 1e6, step: 1, inputmode: 'numeric' });
  const taken = h('input', { type: 'datetime-local' });
  const keep = h('input', { type: 'checkbox', checked: true, id: id('keep') });
  let waiting;
  const look = async () => {
    const text = who.value.trim();
    known.textContent = '';
    if (!text) return;
    const { subjects } = await api.subjects({ q: text, limit: 10 });
    const same = subjects.find((person) => person.name === text);
    if (same && who.value.trim() === text) known.textContent = t('enrol.known', { n: same.templates, name: text });
  };
  who.addEventListener('input', () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => look().catch(() => {}), 250);
  });

  const submit = h('button', { type: 'submit', class: 'primary' }, t('enrol.do'));
  const send = async (event) => {
    event.preventDefault();
    if (probes.length === 0) {
      outcome.replaceChildren(warn(t('enrol.nopictures')));
      return;
    }
    submit.disabled = true;
    outcome.replaceChildren(h('p', { class: 'note' }, t('enrol.running')));
    try {
      const fields = {
        name: who.value.trim(),
        // Cameras are counted from 0 by the service and from 1 by people.
        camera: camera.value ? String(Number(camera.value) - 1) : '',
        taken: taken.value ? `${new Date(taken.value).toISOString().slice(0, 19)}Z` : '',
        keep_picture: String(keep.checked),
      };
      const answer = await api.enrol(
        form(
          probes.flatMap((probe) => probe.files),
          fields,
        ),
      );
      await app.changed();
      outcome.replaceChildren(done(app, answer, fields.name));
      outcome.firstChild.focus();
      say(t('enrol.done', { n: answer.templates.length, name: fields.name }));
      probes.length = 0;
      list.replaceChildren();
      count();
      look().catch(() => {});
    } catch (error) {
      outcome.replaceChildren(problem(error));
    } finally {
      submit.disabled = false;
    }
  };

  if (given?.files.length > 0) add(given.files);
  app.given = null;
  look().catch(() => {});
  return [
    h('h1', null, t('enrol.title')),
    h('p', { class: 'lead' }, t('enrol.lead')),
    h(
      'form',
      { class: 'enrol', onsubmit: send },
      h('div', { class: 'ask' }, pictures.element),
      chosen,
      list,
      h(
        'div',
        { class: 'fields' },
        h('div', null, field(t('enrol.name'), who, t('enrol.name.hint')), known),
        field(t('enrol.camera'), camera, t('optional')),
        field(t('enrol.taken'), taken, t('optional')),
      ),
      h('p', { class: 'check' }, keep, h('label', { for: keep.id }, t('enrol.keep'))),
      h('p', { class: 'hint' }, t('enrol.keep.hint')),
      h('div', { class: 'actions' }, submit),
    ),
    outcome,
  ];
}

/** What was enrolled, what the service thinks of it, and ways back. */
function done(app, answer, who) {
  const place = h('div');
  const attempt = async (work) => {
    try {
      await work();
    } catch (error) {
      place.replaceChildren(problem(error));
    }
  };
  const warning = (one) => {
    const words =
      one.kind === 'duplicate' || one.kind === 'similar'
        ? t(`warning.${one.kind}`, {
            name: one.name || t('nameless'),
            similarity: typeof one.similarity === 'number' ? similarity(one.similarity) : '–',
          })
        : has(`quality.${one.kind}`)
          ? t(`quality.${one.kind}`)
          : null;
    const other = one.subject !== undefined && one.subject !== null && one.subject !== answer.subject;
    return h(
      'li',
      null,
      typeof one.picture === 'number' &&
        answer.templates.length > 1 &&
        `${t('enrol.picture', { n: one.picture + 1 })} `,
      words ?? h('span', { lang: 'en' }, one.text ?? String(one)),
      other && [
        ' ',
        h(
          'a',
          { href: `#/people/${encodeURIComponent(one.subject)}` },
          t('warning.look', { name: one.name || t('nameless') }),
        ),
        ' ',
        button(
          t('merge.into', { name: one.name || t('nameless') }),
          () =>
            attempt(async () => {
              const sure = await confirm(
                t('merge.title'),
                t('merge.text', { from: who, into: one.name || t('nameless') }),
                t('merge.do'),
              );
              if (!sure) return;
              await api.merge(one.subject, answer.subject);
              await app.changed();
              say(t('merged', { from: who, into: one.name || t('nameless') }));
              app.go(`#/people/${encodeURIComponent(one.subject)}`);
            }),
          { class: 'quiet' },
        ),
      ],
    );
  };
  const warnings = answer.warnings ?? [];
  const box = h(
    'section',
    { class: 'done', tabindex: '-1', 'aria-label': t('enrol.outcome') },
    h('p', { class: 'answer right' }, t('enrol.done', { n: answer.templates.length, name: who })),
    warnings.length > 0 && [
      h('p', null, t('enrol.warnings', { n: warnings.length })),
      h('ul', { class: 'hints' }, warnings.map(warning)),
    ],
    h(
      'div',
      { class: 'actions' },
      h(
        'a',
        { class: 'button', href: `#/people/${encodeURIComponent(answer.subject)}` },
        t('warning.look', { name: who }),
      ),
      button(t('enrol.undo'), () =>
        attempt(async () => {
          for (const template of answer.templates) await api.removeTemplate(template);
          await app.changed();
          say(t('enrol.undone'));
          box.replaceWith(h('p', { class: 'note' }, t('enrol.undone')));
        }),
      ),
    ),
    place,
  );
  return box;
}
