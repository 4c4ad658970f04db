// The page's words in three languages, and numbers and dates as each of them writes them.

export const LANGUAGES = { en: 'English', de: 'Deutsch', zh: '中文' };
const CHOICE = 'vitrine.language';

let words = {};
let language = 'en';
/** How numbers and dates are written: as in the browser's country, where it has the language. */
let locale = 'en';

/** The language that was chosen here before, else the first of the browser's that the page has. */
export function preferred() {
  const chosen = remembered();
  const wanted = [...(chosen ? [chosen] : []), ...navigator.languages];
  return wanted.map((tag) => tag.toLowerCase().split('-')[0]).find((tag) => tag in LANGUAGES) ?? 'en';
}

function remembered() {
  try {
    return localStorage.getItem(CHOICE);
  } catch {
    return null; // Storage is switched off: the browser's language it is.
  }
}

/** Loads a language; `keep` remembers it for the next visit. */
export async function use(code, keep = false) {
  const answer = await fetch(new URL(`page/${code}.json`, document.baseURI));
  if (!answer.ok) throw new Error(`${code}.json: ${answer.status}`);
  words = await answer.json();
  language = code;
  locale = navigator.languages.find((tag) => tag.toLowerCase().split('-')[0] === code) ?? code;
  document.documentElement.lang = code === 'zh' ? 'zh-Hans' : code;
  if (keep) {
    try {
      localStorage.setItem(CHOICE, code);
    } catch {
      // It is used now and asked for again next time.
    }
  }
}

export const current = () => language;

/**
 * The sentence called `key`. `{name}` becomes the value of that name, numbers as the language writes them; where the
 * sentence has plural forms, `n` chooses among them.
 */
export function t(key, values = {}) {
  let sentence = words[key];
  if (sentence === undefined) throw new Error(`no words for ${key}`);
  if (typeof sentence === 'object')
    sentence = sentence[new Intl.PluralRules(language).select(values.n)] ?? sentence.other;
  return sentence.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === 'number' ? number(value) : String(value);
  });
}

/** Sentences one after the other: Chinese has no spaces between them. */
export const joined = (sentences) => sentences.join(language === 'zh' ? '' : ' ');

/** Whether there are words called `key`: those of kinds that the service may add to. */
export const has = (key) => key in words;

export const number = (value, options) => new Intl.NumberFormat(locale, options).format(value);

/** A similarity, -1 to 1, with the four digits of all our reports. */
export const similarity = (value) => number(value, { minimumFractionDigits: 4, maximumFractionDigits: 4 });

/** A share, 0 to 1. */
export const percent = (value) => number(value, { style: 'percent', maximumSignificantDigits: 3 });

/** Days and times of the service are in UTC; people read them in their own time. */
export function time(text) {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return String(text);
  return new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' }).format(at);
}

/** How long ago, in the largest unit that fits. */
export function ago(text) {
  const seconds = (new Date(text).getTime() - Date.now()) / 1000;
  const units = [
    ['day', 86400],
    ['hour', 3600],
    ['minute', 60],
  ];
  const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) ?? ['second', 1];
  return new Intl.RelativeTimeFormat(locale, { numeric: 'auto' }).format(Math.round(seconds / size), unit);
}

/** A number of bytes. */
export function bytes(count) {
  const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte'];
  const step = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log(Math.max(count, 1)) / Math.log(1000))));
  const shown = count / 1000 ** step;
  return number(shown, { style: 'unit', unit: units[step], maximumSignificantDigits: 3 });
}
