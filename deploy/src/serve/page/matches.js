// What was searched for recently, to be confirmed or put right.

import * as api from './api.js';
import { button, gauge, h, problem, say } from './dom.js';
import { choosePerson, personLink } from './subjects.js';
import { ago, similarity, t, time } from './text.js';

const SHOWN = 50;

export async function view(app) {
  const list = h('ol', { class: 'matches' });
  const note = h('p', { class: 'note', role: 'status' });
  const load = async () => {
    const { matches } = await api.matches(SHOWN);
    list.replaceChildren(...matches.map((one) => entry(app, one)));
    note.textContent = matches.length === 0 ? t('matches.none') : t('matches.count', { n: matches.length });
  };
  await load();
  return [
    h('h1', null, t('matches.title')),
    h('p', { class: 'lead' }, t('matches.lead')),
    h(
      'div',
      { class: 'actions' },
      button(t('refresh'), async () => {
        try {
          await load();
        } catch (error) {
          list.replaceChildren(h('li', null, problem(error)));
        }
      }),
    ),
    note,
    list,
  ];
}

function entry(app, one) {
  const item = h('li');
  const show = () => {
    const found = one.decision === 'match';
    const best = one.best;
    const decided = found ? 'right' : one.decision === 'no match' ? 'below' : '';
    item.className = `match ${decided}`;
    item.replaceChildren(
      h('time', { datetime: one.at, title: time(one.at) }, ago(one.at)),
      h(
        'div',
        { class: 'who' },
        h(
          'div',
          { class: 'head' },
          best ? personLink(best.subject, best.name) : h('span', null, t('matches.nobody')),
          best && h('span', { class: 'number' }, similarity(best.similarity)),
          best && gauge(best.similarity, one.threshold),
          one.decision && h('span', { class: `badge ${decided}` }, t(found ? 'badge.above' : 'badge.below')),
        ),
        h('p', { class: 'note' }, reviewed(one.review)),
      ),
      ...(app.can('enrol')
        ? [
            h(
              'div',
              { class: 'actions' },
              best && button(t('review.right'), () => send('confirmed', null, t('review.confirmed'))),
              button(t('review.wrong'), async () => {
                const chosen = await choosePerson(t('review.who'), { none: t('review.nobody') });
                if (chosen) await send('wrong', chosen.id === undefined ? null : chosen, t('review.marked'));
              }),
            ),
          ]
        : []),
    );
  };
  const send = async (verdict, person, words) => {
    try {
      await api.review(one.id, verdict, person?.id);
      one.review = { verdict, subject: person?.id, name: person?.name };
      show();
      // The button that was used is gone with the old content.
      item.querySelector('button')?.focus();
      say(words);
    } catch (error) {
      item.append(problem(error));
    }
  };
  show();
  return item;
}

function reviewed(review) {
  if (!review) return t('review.open');
  if (review.verdict === 'confirmed') return `✓ ${t('review.confirmed')}`;
  return review.subject === undefined || review.subject === null
    ? `✗ ${t('review.marked')}`
    : `✗ ${t('review.is', { name: review.name || String(review.subject) })}`;
}
