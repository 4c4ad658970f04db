// Who is this? Pictures in, ranked people out, with what their similarity means.

import * as api from './api.js';
import { button, field, gauge, h, id, name, noPicture, picture, problem, rich, say } from './dom.js';
import { camera, meaning, why } from './meaning.js';
import { form, partName, picker } from './pictures.js';
import { choosePerson, personLink } from './subjects.js';
import { has, joined, similarity, t, time } from './text.js';

const SHOWN = [5, 10, 20];
/** Results stay while other views are looked at, the newest first. */
const KEPT = 30;
let results = [];
let k = SHOWN[0];

/** Forgets the results: those of another key, or in another language. */
export function forget() {
  results = [];
}

export async function view(app) {
  const known = await app.thresholds();
  const empty = app.info.gallery.subjects === 0;
  const list = h('div', { class: 'results' }, results);
  const clear = button(
    t('search.clear'),
    () => {
      forget();
      list.replaceChildren();
      clear.hidden = true;
      say(t('search.cleared'));
    },
    { hidden: results.length === 0 },
  );
  const add = (element) => {
    results = [element, ...results].slice(0, KEPT);
    list.replaceChildren(...results);
    clear.hidden = false;
  };
  const pictures = picker({
    inputs: app.info.model.inputs,
    onprobe: async (files) => {
      const place = h(
        'section',
        { class: 'result busy', 'aria-busy': 'true' },
        h('h2', null, title(files)),
        h('p', { class: 'note' }, t('search.running')),
      );
      add(place);
      let shown;
      try {
        shown = result(app, files, await api.search(form(files), { k, by: 'subject' }), known.calibrated);
      } catch (error) {
        shown = h('section', { class: 'result failed' }, h('h2', null, title(files)), problem(error));
      }
      place.replaceWith(shown);
      results = results.map((one) => (one === place ? shown : one));
      pictures.clear();
    },
  });
  const count = h(
    'select',
    {
      onchange: () => {
        k = Number(count.value);
      },
    },
    SHOWN.map((n) => h('option', { value: n, selected: n === k }, t('search.k', { n }))),
  );
  return [
    h('h1', null, t('search.title')),
    h('p', { class: 'lead' }, t('search.lead', { people: t('people.count', { n: app.info.gallery.subjects }) })),
    empty &&
      h(
        'p',
        { class: 'empty' },
        t('people.none'),
        ' ',
        app.can('enrol') && h('a', { href: '#/enrol' }, t('enrol.first')),
      ),
    h('div', { class: 'ask' }, pictures.element, h('div', { class: 'options' }, field(t('search.show'), count), clear)),
    h(
      'div',
      { class: 'meaning' },
      meaning(app.info.gallery.threshold, known).map((line) => h('p', null, rich(line))),
    ),
    list,
  ];
}

const title = (files) => files.map(([, file]) => file.name).join(' + ');

/** The answer for one probe. */
function result(app, files, answer, calibrated) {
  const heading = h('h2', { id: id('result') }, title(files));
  const { matches, threshold } = answer;
  const spoken = headline(matches, threshold);
  say(`${title(files)}: ${spoken.textContent}`);
  return h(
    'section',
    { class: 'result', 'aria-labelledby': heading.id },
    h(
      'div',
      { class: 'probe' },
      files.map(([part, file]) =>
        h(
          'figure',
          null,
          picture(() => createImageBitmap(file), t('picture.probe', { name: file.name })),
          files.length > 1 && h('figcaption', null, partName(part)),
        ),
      ),
    ),
    h(
      'div',
      { class: 'answers' },
      heading,
      spoken,
      quality(answer.quality),
      h(
        'ol',
        { class: 'people' },
        matches.map((found) => person(app, found, threshold, calibrated)),
      ),
      app.can('enrol') && review(app, files, answer),
    ),
  );
}

/** Who it is, in one sentence. */
function headline(matches, threshold) {
  const best = matches[0];
  if (!best) return h('p', { class: 'answer' }, t(typeof threshold === 'number' ? 'search.nobody' : 'search.empty'));
  const who = h('b', null, name(best.name));
  const much = h('span', { class: 'number' }, similarity(best.similarity));
  const key =
    best.decision === 'match' ? 'search.found' : best.decision === 'no match' ? 'search.notfound' : 'search.nearest';
  // The sentence has places for both, in an order of the language's own.
  return h(
    'p',
    { class: `answer ${best.decision === 'match' ? 'right' : ''}` },
    t(key, { who: '\u0001', much: '\u0002' })
      .split(/([\u0001\u0002])/)
      .map((part) => (part === '\u0001' ? who : part === '\u0002' ? much : part)),
  );
}

function quality(pictures) {
  const found = [pictures ?? []].flat().flatMap((one) => one.problems ?? []);
  if (found.length === 0) return null;
  return h(
    'ul',
    { class: 'hints' },
    found.map((one) =>
      h('li', null, has(`quality.${one.kind}`) ? t(`quality.${one.kind}`) : h('span', { lang: 'en' }, one.text)),
    ),
  );
}

function person(app, found, threshold, calibrated) {
  const decided = found.decision === 'match' ? 'right' : found.decision === 'no match' ? 'below' : '';
  const facts = [camera(found.camera), found.taken && time(found.taken)].filter(Boolean);
  return h(
    'li',
    { class: `person ${decided}` },
    found.picture
      ? picture(() => api.thumbnail(found.picture), t('picture.of', { name: found.name || t('nameless') }))
      : noPicture(),
    h(
      'div',
      { class: 'who' },
      h(
        'div',
        { class: 'head' },
        h(
          'span',
          { class: 'name' },
          h('span', { class: 'rank' }, `${found.rank}. `),
          personLink(found.subject, found.name),
        ),
        h('span', { class: 'number' }, similarity(found.similarity)),
        gauge(found.similarity, threshold),
        found.decision &&
          h('span', { class: `badge ${decided}` }, t(found.decision === 'match' ? 'badge.above' : 'badge.below')),
      ),
      h('p', { class: 'why' }, joined(why(found.similarity, threshold, calibrated, found.rank === 1))),
      facts.length > 0 && h('p', { class: 'note' }, facts.join(' · ')),
    ),
  );
}

/** Whether the answer was right, and what else can be done with the picture. */
function review(app, files, answer) {
  const best = answer.matches[0];
  const state = h('span', { class: 'note', role: 'status' });
  const send = async (verdict, subject, words) => {
    try {
      await api.review(answer.id, verdict, subject);
      state.textContent = words;
    } catch (error) {
      bar.after(problem(error));
    }
  };
  const bar = h(
    'div',
    { class: 'actions' },
    best && button(t('review.right'), () => send('confirmed', undefined, t('review.confirmed'))),
    button(t('review.wrong'), async () => {
      const chosen = await choosePerson(t('review.who'), { none: t('review.nobody') });
      if (chosen)
        await send(
          'wrong',
          chosen.id,
          chosen.id === undefined ? t('review.marked') : t('review.is', { name: chosen.name || t('nameless') }),
        );
    }),
    button(t('review.enrol'), () => app.enrolWith(files, best?.decision === 'match' ? best.name : '')),
    state,
  );
  return bar;
}
