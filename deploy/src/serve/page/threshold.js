// The threshold: what each would mean, live, from what was calibrated, and which one the service uses.

import * as api from './api.js';
import { button, field, h, id, problem, rich, s, say } from './dom.js';
import { largest, live, meaning, rate, ratesAt } from './meaning.js';
import { number, percent, similarity, t } from './text.js';

export async function view(app) {
  const known = await app.thresholds();
  const { answer, calibrated } = known;
  const used = app.info.gallery.threshold;
  const range = span(calibrated, used);
  const start = typeof used === 'number' ? used : (range.low + range.high) / 2;
  const slider = h('input', { type: 'range', min: range.low, max: range.high, step: range.step, value: start });
  const exact = h('input', {
    type: 'number',
    min: -1,
    max: 1,
    step: 'any',
    value: written(start),
    inputmode: 'decimal',
  });
  const words = h('p', { class: 'live' });
  const [fpir, fnir] = [h('b'), h('b')];
  const chart = calibrated && calibrated.points.length > 1 ? curve(calibrated, range, used) : null;
  let value = start;
  const show = () => {
    slider.setAttribute('aria-valuetext', similarity(value));
    chart?.mark(value);
    if (!calibrated) return;
    const rates = ratesAt(calibrated, value);
    const sign = { fpir: { below: '≥ ', above: '≤ ' }, fnir: { below: '≤ ', above: '≥ ' } };
    fpir.textContent = (sign.fpir[rates.bound] ?? '') + percent(rates.fpir);
    fnir.textContent = (sign.fnir[rates.bound] ?? '') + percent(rates.fnir);
    words.textContent = live(rates, calibrated);
  };
  const move = (to, from) => {
    if (!Number.isFinite(to)) return;
    value = Math.min(1, Math.max(-1, to));
    if (from !== slider) slider.value = value;
    if (from !== exact) exact.value = written(value);
    show();
  };
  let spoken;
  slider.addEventListener('input', () => {
    move(Number(slider.value), slider);
    clearTimeout(spoken);
    // After the hand has come to rest.
    spoken = setTimeout(() => say(calibrated ? words.textContent : similarity(value)), 700);
  });
  exact.addEventListener('input', () => move(exact.valueAsNumber, exact));
  show();
  return [
    h('h1', null, t('threshold.title')),
    h(
      'div',
      { class: 'meaning' },
      meaning(used, known).map((line) => h('p', null, rich(line))),
    ),
    !calibrated &&
      h(
        'div',
        { class: 'empty' },
        h(
          'p',
          null,
          h('b', null, largest(answer) > 0 ? t('meaning.larger', { n: largest(answer) }) : t('threshold.uncalibrated')),
        ),
        h('p', null, t('threshold.uncalibrated.why')),
        h('p', null, h('code', null, 'deploy calibrate --model MODEL --datadir PICTURES --fpir 0.01,0.001')),
      ),
    h(
      'section',
      { class: 'try', 'aria-labelledby': 'try' },
      h('h2', { id: 'try' }, t('threshold.try')),
      h('div', { class: 'fields' }, field(t('threshold.slider'), slider), field(t('threshold.exact'), exact)),
      calibrated &&
        h(
          'div',
          { class: 'tiles' },
          h('div', { class: 'tile' }, fpir, h('span', null, t('fpir'))),
          h('div', { class: 'tile' }, fnir, h('span', null, t('fnir'))),
        ),
      calibrated && words,
      app.can('admin') ? setter(app, () => value) : h('p', { class: 'note' }, t('threshold.admin')),
      chart?.element,
    ),
    table(answer.table, calibrated, move),
  ];
}

/** A threshold in its field: as many digits as tell neighbours apart. */
const written = (value) => String(Number(value.toFixed(6)));

/** From where to where thresholds are tried, and in which steps: what was measured and a little more. */
function span(calibrated, used) {
  const values = [
    ...(calibrated?.points.map((point) => point.similarity) ?? []),
    ...(typeof used === 'number' ? [used] : []),
  ];
  // Without a measurement, all there is.
  if (!calibrated) return { low: -1, high: 1, step: 0.001 };
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const extent = most - least || 0.1;
  const step = 10 ** Math.floor(Math.log10(extent / 100));
  const snapped = (value) => Number((Math.round(value / step) * step).toFixed(8));
  return { low: Math.max(-1, snapped(least - 0.15 * extent)), high: Math.min(1, snapped(most + 0.15 * extent)), step };
}

function setter(app, value) {
  const store = h('input', { type: 'checkbox', id: id('store') });
  const place = h('div', { role: 'status' });
  return h(
    'div',
    null,
    h(
      'div',
      { class: 'actions' },
      button(
        t('threshold.use'),
        async () => {
          try {
            await api.setThreshold(value(), store.checked);
            await app.changed();
            say(t('threshold.used', { similarity: similarity(value()) }));
            app.go('#/threshold');
          } catch (error) {
            place.replaceChildren(problem(error));
          }
        },
        { class: 'primary' },
      ),
      h('span', { class: 'check' }, store, h('label', { for: store.id }, t('threshold.store'))),
    ),
    place,
  );
}

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [640, 280, 60, 12, 12, 40];

/** FPIR and FNIR over the similarity; rates go by powers of ten. */
function curve({ points }, range, used) {
  const least = Math.min(...points.flatMap((point) => [point.fpir, point.fnir]).filter((value) => value > 0), 0.1);
  const floor = 10 ** Math.floor(Math.log10(least));
  const decades = -Math.log10(floor);
  const x = (value) => LEFT + ((value - range.low) / (range.high - range.low)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + (-Math.log10(Math.max(value, floor)) / decades) * (HEIGHT - TOP - BOTTOM);
  const path = (of) =>
    points.map((point, at) => `${at ? 'L' : 'M'}${x(point.similarity).toFixed(1)} ${y(of(point)).toFixed(1)}`).join('');
  const grid = [];
  for (let power = 0; power <= decades + 1e-9; power += 1) {
    const value = 10 ** -power;
    grid.push(
      s('line', { class: 'grid', x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      s('text', { x: LEFT - 8, y: y(value) + 4, 'text-anchor': 'end' }, percent(value)),
    );
  }
  for (let step = 0; step <= 4; step += 1) {
    const value = range.low + (step / 4) * (range.high - range.low);
    grid.push(
      s(
        'text',
        { x: x(value), y: HEIGHT - BOTTOM + 18, 'text-anchor': step === 4 ? 'end' : 'middle' },
        number(value, { maximumFractionDigits: Math.max(2, Math.ceil(-Math.log10(range.step)) - 1) }),
      ),
    );
  }
  const marker = s('line', { class: 'marker', y1: TOP, y2: HEIGHT - BOTTOM });
  const dots = ['fpir', 'fnir'].map((which) => s('circle', { class: `dot ${which}`, r: 4 }));
  const drawing = s(
    'svg',
    { class: 'curve', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': t('threshold.chart') },
    grid,
    s('text', { x: LEFT + (WIDTH - LEFT - RIGHT) / 2, y: HEIGHT - 4, 'text-anchor': 'middle' }, t('similarity')),
    typeof used === 'number' && s('line', { class: 'used', x1: x(used), x2: x(used), y1: TOP, y2: HEIGHT - BOTTOM }),
    s('path', { class: 'line fpir', d: path((point) => point.fpir) }),
    s('path', { class: 'line fnir', d: path((point) => point.fnir) }),
    marker,
    dots,
  );
  return {
    element: h(
      'figure',
      { class: 'chart' },
      drawing,
      h(
        'figcaption',
        null,
        h('span', { class: 'mark fpir' }, t('fpir')),
        ' ',
        h('span', { class: 'mark fnir' }, t('fnir')),
        ' ',
        typeof used === 'number' && h('span', { class: 'mark used' }, t('threshold.current')),
      ),
    ),
    mark(value) {
      const inside = Math.min(range.high, Math.max(range.low, value));
      const rates = ratesAt({ points }, inside);
      marker.setAttribute('x1', x(inside));
      marker.setAttribute('x2', x(inside));
      dots.forEach((dot, at) => {
        dot.setAttribute('cx', x(inside));
        dot.setAttribute('cy', y(at === 0 ? rates.fpir : rates.fnir));
      });
    },
  };
}

/** The calibrated thresholds: first those that this gallery can use, one of a search is tried by its button. */
function table(rows, calibrated, move) {
  if (rows.length === 0) return null;
  const here = (row) => row.kind !== '1:N' || row.gallery === calibrated?.gallery;
  const head = ['table.for', 'similarity', 'table.rate', 'table.missed', 'table.trials', 'table.try'];
  const line = (row) =>
    h(
      'tr',
      { class: row.current ? 'best' : null },
      h(
        'th',
        { scope: 'row' },
        row.kind === '1:N' ? t('table.search', { n: row.gallery ?? 0 }) : t('table.verify'),
        row.current && ` (${t('threshold.current')})`,
      ),
      h('td', null, similarity(row.similarity)),
      h('td', null, rate(row.rate, row.interval)),
      h('td', null, typeof row.fnir === 'number' ? percent(row.fnir) : '–'),
      h('td', null, typeof row.trials === 'number' ? number(row.trials) : '–'),
      h(
        'td',
        null,
        row.kind === '1:N' &&
          here(row) &&
          button(
            [t('table.try'), h('span', { class: 'unseen' }, ` ${similarity(row.similarity)}`)],
            () => {
              move(row.similarity);
              document.getElementById('try').scrollIntoView({ block: 'start' });
              say(t('threshold.tried', { similarity: similarity(row.similarity) }));
            },
            { class: 'quiet' },
          ),
      ),
    );
  const all = (lines, label) =>
    h(
      'div',
      { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': label },
      h(
        'table',
        { class: 'numbers' },
        h(
          'thead',
          null,
          h(
            'tr',
            null,
            head.map((key) => h('th', { scope: 'col' }, t(key))),
          ),
        ),
        h('tbody', null, lines.map(line)),
      ),
    );
  const others = rows.filter((row) => !here(row));
  return h(
    'div',
    null,
    h('h2', null, t('threshold.table')),
    rows.some(here) && all(rows.filter(here), t('threshold.table')),
    h('p', { class: 'note' }, t('threshold.kinds')),
    others.length > 0 &&
      h(
        'details',
        null,
        h('summary', null, t('threshold.others', { n: others.length })),
        all(others, t('threshold.others', { n: others.length })),
      ),
  );
}
