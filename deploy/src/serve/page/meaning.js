// What a similarity and a threshold mean, in words that follow from what was calibrated. Where nothing was, they say
// so.

import { joined, number, percent, similarity, t } from './text.js';

/**
 * What was calibrated for searches in a gallery of this size: points ascending in similarity, the people of the gallery
 * that they were measured with, and of how many strangers the pictures were. `null` if nothing was.
 */
export function calibration({ table, curve }) {
  if (curve.length === 0) return null;
  const points = [...curve].sort((one, other) => one.similarity - other.similarity);
  const first = points[0];
  const searches = table.filter((row) => row.kind === '1:N');
  const gallery =
    searches.find((row) => row.similarity === first.similarity && row.rate === first.fpir)?.gallery ??
    largest({ table });
  const own = searches.filter((row) => row.gallery === gallery);
  const trials = Math.max(0, ...own.map((row) => row.trials ?? 0));
  return { points, current: own.find((row) => row.current) ?? null, gallery, trials };
}

/** The people of the largest gallery that was measured; 0 if none was. */
export const largest = ({ table }) => Math.max(0, ...table.map((row) => row.gallery ?? 0));

/**
 * The rates at a similarity: between measured points those of the line through them, outside of them only a bound.
 * `bound` is `null`, `below` (before the first point: rates are at least, misses at most) or `above`.
 */
export function ratesAt(calibrated, at) {
  const { points } = calibrated;
  const [first, last] = [points[0], points[points.length - 1]];
  if (at <= first.similarity) return { ...first, bound: at < first.similarity ? 'below' : null };
  if (at >= last.similarity) return { ...last, bound: at > last.similarity ? 'above' : null };
  const next = points.findIndex((point) => point.similarity >= at);
  const [low, high] = [points[next - 1], points[next]];
  const part = (at - low.similarity) / (high.similarity - low.similarity || 1);
  // Rates of strangers fall by powers of ten.
  const fpir =
    low.fpir > 0 && high.fpir > 0
      ? Math.exp(Math.log(low.fpir) * (1 - part) + Math.log(high.fpir) * part)
      : low.fpir * (1 - part) + high.fpir * part;
  return { fpir, fnir: low.fnir * (1 - part) + high.fnir * part, bound: null };
}

/** A rate as a count of a power of ten, with its interval rounded outwards, as the reports of `deploy search` count. */
export function share(rate, [low, high] = [rate, rate]) {
  const leading = rate > 0 ? rate : high;
  let of = 100;
  const whole = () => {
    const exact = leading * of;
    const count = Math.round(exact);
    return count >= 1 && (count < of || leading >= 1) && Math.abs(count - exact) <= 0.02 * exact;
  };
  while (of < 1e12 && !whole()) of *= 10;
  return {
    n: Math.round(rate * of),
    of,
    low: Math.max(0, Math.floor(low * of + 1e-6)),
    high: Math.min(of, Math.ceil(high * of - 1e-6)),
  };
}

/** `{key}.none`, `.some` or `.every` with the counts, and the interval where there is one. */
function told(key, rate, interval) {
  const counts = share(rate, interval ?? undefined);
  const which = counts.n === 0 ? 'none' : rate >= 1 ? 'every' : 'some';
  const sentence = t(`${key}.${which}`, counts);
  return interval ? joined([sentence, t(`interval.${which}`, counts)]) : sentence;
}

/** A rate as people say it: one in so many where it is small, so many of a hundred where it is not. */
export function about(key, rate) {
  if (rate <= 0) return t(`${key}.none`);
  if (rate >= 0.1) return t(`${key}.some`, { n: Math.round(100 * rate), of: 100 });
  const of = 1 / rate;
  const step = 10 ** Math.max(0, Math.floor(Math.log10(of)) - 1);
  return t(`${key}.one`, { of: Math.round(of / step) * step });
}

/** What the threshold of the service means, a sentence each. */
export function meaning(threshold, { answer, calibrated }) {
  const most = largest(answer);
  const unknown = most > 0 ? t('meaning.larger', { n: most }) : t('meaning.unknown');
  if (typeof threshold !== 'number')
    return [t('meaning.none'), t('meaning.none.hint'), most > 0 && !calibrated && unknown].filter(Boolean);
  const sentences = [t('meaning.from', { similarity: similarity(threshold) })];
  if (!calibrated) return [...sentences, unknown, t('meaning.unknown.hint')];
  const { current, gallery, trials } = calibrated;
  if (current && Math.abs(current.similarity - threshold) < 1e-6) {
    const where = t('people.count', { n: gallery });
    const strangers = told('strangers', current.rate, current.interval);
    const missed = told('missed', current.fnir);
    sentences.push(t('live.within', { where, strangers, missed }));
  } else {
    sentences.push(live(ratesAt(calibrated, threshold), calibrated));
  }
  if (trials > 0) sentences.push(t('meaning.trials', { n: trials }));
  return sentences;
}

/** Rates at any similarity in words, with `at least` and `at most` where nothing was measured. */
export function live({ fpir, fnir, bound }, { gallery }) {
  const strangers = about('strangers', fpir);
  const missed = about('missed', fnir);
  const where = t('people.count', { n: gallery });
  return t(`live.${bound ?? 'within'}`, { where, strangers, missed });
}

/** Why the best of the people found is above or below the threshold, and how often a stranger comes as far. */
export function why(value, threshold, calibrated, first) {
  const parts = [];
  if (typeof threshold === 'number') {
    const by = similarity(Math.abs(value - threshold));
    parts.push(t(value >= threshold ? 'why.above' : 'why.below', { by, threshold: similarity(threshold) }));
  }
  // Only for the first: what was measured is how often strangers find anybody.
  if (first && calibrated) {
    const { fpir, bound } = ratesAt(calibrated, value);
    if (fpir > 0 && bound === 'above') parts.push(t('why.rarer', { of: Math.floor(1 / fpir) }));
    else if (bound === 'below') parts.push(t('why.common', { percent: percent(fpir) }));
    else if (fpir > 0) parts.push(about('why', fpir));
    else if (calibrated.trials > 0) parts.push(t('why.nobody', { n: calibrated.trials }));
  }
  return parts;
}

/** A rate with its interval, for tables. */
export const rate = (value, interval) =>
  interval ? `${percent(value)} (${interval.map(percent).join('–')})` : percent(value);

/** Cameras are counted from 0 by the service and from 1 by people. */
export const camera = (value) =>
  typeof value === 'number' ? t('camera.number', { camera: number(value + 1, { useGrouping: false }) }) : null;
