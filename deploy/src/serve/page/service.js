// The service itself: its model and card, what it runs on, and its metrics as they change.

import * as api from './api.js';
import { button, h, problem, rich, s, say } from './dom.js';
import { bytes, has, number, percent, similarity, t } from './text.js';

const EVERY = 2000;
/** Rates are those of the last half minute. */
const WINDOW = 15;
const HISTORY = 60;

export async function view(app) {
  const { info } = app;
  const live = h('div', { class: 'tiles' });
  const line = h('div', { class: 'spark' });
  const note = h('p', { class: 'hint' });
  let samples = [];
  let paused = false;
  const pause = button(t('metrics.pause'), () => {
    paused = !paused;
    pause.textContent = t(paused ? 'metrics.go' : 'metrics.pause');
    say(t(paused ? 'metrics.paused' : 'metrics.going'));
  });
  const tick = async () => {
    try {
      samples = [...samples, { at: performance.now(), values: parse(await api.metrics()) }].slice(-HISTORY);
      live.replaceChildren(...tiles(samples));
      line.replaceChildren(...spark(samples));
      note.textContent = t('metrics.window', { n: (WINDOW * EVERY) / 1000 });
    } catch (error) {
      live.replaceChildren(problem(error));
      paused = true;
      pause.textContent = t('metrics.go');
    }
  };
  await tick();
  const timer = setInterval(() => {
    if (!live.isConnected) clearInterval(timer);
    else if (!paused && document.visibilityState === 'visible') tick();
  }, EVERY);
  return [
    h('h1', null, t('service.title')),
    h(
      'section',
      { 'aria-labelledby': 'live' },
      h('h2', { id: 'live' }, t('metrics.title')),
      live,
      line,
      h('div', { class: 'actions' }, pause, note),
    ),
    !info.gallery && h('p', { class: 'empty' }, t('gallery.none')),
    facts('model', t('model.title'), { ...info.model, ...info.model.training }, ['card'], inputs(info.model.inputs)),
    facts('runtime', t('runtime.title'), info.runtime),
    facts('gallery', t('gallery.title'), info.gallery),
    facts('limits', t('limits.title'), info.limits),
    info.model.card &&
      h('section', { 'aria-labelledby': 'card' }, h('h2', { id: 'card' }, t('card.title')), card(info.model.card)),
  ];
}

const inputs = (all) => [
  [
    t('fact.inputs'),
    all.map(({ name, size: [height, width] }) => `${name} ${number(width)}×${number(height)}`).join(', '),
  ],
];

/** Names and values of a part of what the service says of itself. */
function facts(which, title, values, without = [], more = []) {
  if (!values) return null;
  const known = Object.entries(values).filter(
    ([key, value]) => !without.includes(key) && value !== null && value !== '' && typeof value !== 'object',
  );
  const label = (key) => (has(`fact.${key}`) ? t(`fact.${key}`) : h('span', { lang: 'en' }, key.replaceAll('_', ' ')));
  const text = (key, value) => {
    if (typeof value === 'boolean') return t(value ? 'yes' : 'no');
    if (typeof value !== 'number') return String(value);
    if (key === 'threshold') return similarity(value);
    return key === 'max_body' ? bytes(value) : number(value, { maximumFractionDigits: 4 });
  };
  return h(
    'section',
    { 'aria-labelledby': which },
    h('h2', { id: which }, title),
    h(
      'dl',
      { class: 'facts' },
      [...known.map(([key, value]) => [label(key), text(key, value)]), ...more].map(([key, value]) =>
        h('div', null, h('dt', null, key), h('dd', null, value)),
      ),
    ),
  );
}

/** Samples of the text format of Prometheus: `{name, labels, value}`. */
export function parse(text) {
  const samples = [];
  for (const line of text.split('\n')) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, label, value] of (found[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
      labels[label] = value.replace(/\\(["\\])/g, '$1');
    samples.push({ name: found[1], labels, value: found[3] === '+Inf' ? Infinity : Number(found[3]) });
  }
  return samples;
}

/** What asks for this page's numbers is none of the work. */
const counts = ({ labels }) => labels.route !== '/metrics';
const sum = (values, name, which = () => true) => {
  const found = values.filter((one) => one.name === name && counts(one) && which(one));
  return found.length === 0 ? null : found.reduce((total, one) => total + one.value, 0);
};

/** How much a counter has grown between two samples; `null` where there is none. */
function grown(first, last, name, which) {
  const [before, after] = [sum(first.values, name, which), sum(last.values, name, which)];
  return after === null ? null : Math.max(0, after - (before ?? 0));
}

/** The quantile of a histogram between two samples: `{above, upTo}`, the edges of its bucket. */
export function quantile(first, last, name, q) {
  const edges = [
    ...new Set(last.values.filter((one) => one.name === `${name}_bucket` && counts(one)).map((one) => one.labels.le)),
  ];
  const buckets = edges
    .map((le) => ({
      le: le === '+Inf' ? Infinity : Number(le),
      count: grown(first, last, `${name}_bucket`, (one) => one.labels.le === le),
    }))
    .sort((one, other) => one.le - other.le);
  const all = buckets.at(-1)?.count ?? 0;
  if (all === 0) return null;
  const at = buckets.findIndex((bucket) => bucket.count >= q * all);
  return { above: at > 0 ? buckets[at - 1].le : 0, upTo: buckets[at].le };
}

function tiles(samples) {
  const last = samples.at(-1);
  const first = samples[Math.max(0, samples.length - 1 - WINDOW)];
  const seconds = (last.at - first.at) / 1000;
  const found = [];
  const tile = (key, text) =>
    found.push(h('div', { class: 'tile' }, h('b', null, text), h('span', null, t(`metrics.${key}`))));
  const per = (value) => number(value / seconds, { maximumSignificantDigits: 3 });
  const milliseconds = (value) =>
    number(value * 1000, { style: 'unit', unit: 'millisecond', maximumSignificantDigits: 3 });
  const requests = grown(first, last, 'vitrine_http_requests_total');
  if (requests !== null) tile('rate', seconds > 0 ? per(requests) : '–');
  const total = sum(last.values, 'vitrine_http_requests_total');
  if (total !== null) tile('total', number(total));
  const failed = sum(last.values, 'vitrine_http_requests_total', ({ labels }) => /^5/.test(labels.status ?? '')) ?? 0;
  if (total) tile('failed', percent(failed / total));
  for (const q of [0.5, 0.99]) {
    const value =
      quantile(first, last, 'vitrine_http_request_seconds', q) ??
      quantile({ values: [] }, last, 'vitrine_http_request_seconds', q);
    if (value !== null)
      tile(
        q === 0.5 ? 'median' : 'p99',
        value.upTo === Infinity ? `> ${milliseconds(value.above)}` : `≤ ${milliseconds(value.upTo)}`,
      );
  }
  const batches = sum(last.values, 'vitrine_batch_size_count');
  if (batches)
    tile('batch', number(sum(last.values, 'vitrine_batch_size_sum') / batches, { maximumFractionDigits: 1 }));
  for (const [key, name] of [
    ['queue', 'vitrine_queue_depth'],
    ['flight', 'vitrine_in_flight'],
  ]) {
    const value = sum(last.values, name);
    if (value !== null) tile(key, number(value));
  }
  const memory = sum(last.values, 'process_resident_memory_bytes');
  if (memory !== null) tile('memory', bytes(memory));
  return found;
}

/** Requests a second over the last two minutes. */
function spark(samples) {
  const rates = samples.slice(1).map((sample, at) => {
    const before = samples[at];
    return (grown(before, sample, 'vitrine_http_requests_total') ?? 0) / ((sample.at - before.at) / 1000);
  });
  if (rates.length < 2) return [];
  const most = Math.max(...rates, 1);
  const points = rates
    .map((value, at) => `${((at / (HISTORY - 2)) * 600).toFixed(1)},${(58 - (value / most) * 54).toFixed(1)}`)
    .join(' ');
  return [
    s(
      'svg',
      {
        viewBox: '0 0 600 60',
        preserveAspectRatio: 'none',
        role: 'img',
        'aria-label': t('metrics.spark', { n: Math.round(most) }),
      },
      s('polyline', { points, class: 'line fpir' }),
    ),
    h('p', { class: 'hint' }, t('metrics.spark', { n: Math.round(most) })),
  ];
}

/** The card that lies beside the model: headings, lists, tables and paragraphs of its Markdown; the rest as it is. */
function card(text) {
  const box = h('div', { class: 'modelcard', lang: 'en' });
  const lines = text.split('\n');
  let above = t('card.title');
  const inline = (line) =>
    rich(line).map((part) =>
      typeof part === 'string'
        ? part.replace(/\*\*(.+?)\*\*/g, '$1').replace(/\[([^\]]+)\]\(([^)]+)\)/g, '$1 ($2)')
        : part,
    );
  const cells = (line) =>
    line
      .replace(/^\||\|$/g, '')
      .split('|')
      .map((cell) => cell.trim());
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at];
    const heading = /^(#{1,6})\s+(.*)/.exec(line);
    if (heading) {
      box.append(h(heading[1].length < 2 ? 'h3' : 'h4', null, inline(heading[2])));
      above = heading[2];
    } else if (/^\s*```/.test(line)) {
      const from = at + 1;
      while (at + 1 < lines.length && !/^\s*```/.test(lines[at + 1])) at += 1;
      box.append(h('pre', null, lines.slice(from, at + 1).join('\n')));
      at += 1;
    } else if (line.startsWith('|')) {
      const from = at;
      while (at + 1 < lines.length && lines[at + 1].startsWith('|')) at += 1;
      const [head, ...rows] = lines
        .slice(from, at + 1)
        .filter((row) => !/^\|[\s:|-]+\|?$/.test(row))
        .map(cells);
      const body = rows.map((row) =>
        h(
          'tr',
          null,
          row.map((cell) => h('td', null, inline(cell))),
        ),
      );
      const named = head.some((cell) => cell !== '');
      box.append(
        h(
          'div',
          { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': above },
          h(
            'table',
            null,
            named &&
              h(
                'thead',
                null,
                h(
                  'tr',
                  null,
                  head.map((cell) => h(cell ? 'th' : 'td', cell ? { scope: 'col' } : null, inline(cell))),
                ),
              ),
            h('tbody', null, body),
          ),
        ),
      );
    } else if (/^\s*[-*]\s+/.test(line)) {
      const items = [];
      for (; at < lines.length && lines[at].trim() !== ''; at += 1) {
        if (/^\s*[-*]\s+/.test(lines[at])) items.push(lines[at].replace(/^\s*[-*]\s+/, ''));
        else items[items.length - 1] += ` ${lines[at].trim()}`;
      }
      box.append(
        h(
          'ul',
          null,
          items.map((item) => h('li', null, inline(item))),
        ),
      );
    } else if (line.trim() !== '') {
      const from = at;
      while (at + 1 < lines.length && lines[at + 1].trim() !== '' && !/^(#|\||\s*[-*]\s|\s*```)/.test(lines[at + 1]))
        at += 1;
      box.append(h('p', null, inline(lines.slice(from, at + 1).join(' '))));
    }
  }
  return box;
}
