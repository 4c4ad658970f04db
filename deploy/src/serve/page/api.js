// What is asked of the service. The key stays in this tab: in sessionStorage, sent in a header, never in an address.

import { has, number, t } from './text.js';

const KEY = 'vitrine.key';
let key = null;
try {
  key = sessionStorage.getItem(KEY);
} catch {
  // Storage is switched off: the key is kept until the page is left.
}

export const hasKey = () => key !== null;

export function setKey(value) {
  key = value;
  pictures.clear();
  try {
    if (value === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, value);
  } catch {
    // As above.
  }
}

/** An answer that is no answer. */
export class Refused extends Error {
  constructor(status, error = {}, wait = null) {
    super(error.what ?? `${status}`);
    this.status = status;
    this.error = error;
    this.wait = wait;
  }

  headline() {
    if (this.status === 0) return t('error.offline');
    if (this.status === 429 && this.wait) return t('error.429.wait', { n: this.wait });
    const named = `error.${this.status}`;
    return has(named) ? t(named) : t('error.other', { status: String(this.status) });
  }

  /** The service's own words: what, where, what was found and what is allowed. */
  details() {
    const { what, where, found, allowed, flag } = this.error;
    const text = (value) =>
      typeof value === 'number' ? number(value) : typeof value === 'string' ? value : JSON.stringify(value);
    const parts = [
      ['where', where],
      ['found', found],
      ['allowed', allowed],
      ['flag', flag && `\`${flag}\``],
    ];
    const named = parts
      .filter(([, value]) => value !== undefined && value !== null && value !== '')
      .map(([label, value]) => `${label}: ${text(value)}`);
    return [what, named.join(' · ')].filter(Boolean);
  }
}

/** `path` is relative, so that the page also works below a prefix of a proxy. */
async function send(method, path, { query = {}, json, form, signal } = {}) {
  const url = new URL(path.replace(/^\//, ''), document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== '') url.searchParams.set(name, value);
  }
  const headers = {};
  if (key !== null) headers.Authorization = `Bearer ${key}`;
  if (json !== undefined) headers['Content-Type'] = 'application/json';
  const body = json !== undefined ? JSON.stringify(json) : form;
  let answer;
  try {
    answer = await fetch(url, { method, headers, body, signal, cache: 'no-store', redirect: 'error' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Refused(0);
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    const wait = Number(answer.headers.get('Retry-After')) || null;
    throw new Refused(
      answer.status,
      typeof told.error === 'object' && told.error ? told.error : { what: told.error },
      wait,
    );
  }
  return answer;
}

const ask = async (...request) => (await send(...request)).json();

export const info = () => ask('GET', 'v1/info');
export const thresholds = () => ask('GET', 'v1/thresholds');
export const setThreshold = (similarity, store) => ask('PUT', 'v1/threshold', { json: { similarity, store } });
export const search = (form, query) => ask('POST', 'v1/search', { form, query });
export const subjects = (query, signal) => ask('GET', 'v1/subjects', { query, signal });
export const subject = (id) => ask('GET', `v1/subjects/${encodeURIComponent(id)}`);
export const enrol = (form) => ask('POST', 'v1/subjects', { form });
export const merge = (into, from) => ask('POST', `v1/subjects/${encodeURIComponent(into)}/merge`, { json: { from } });
export const removeSubject = (id) => ask('DELETE', `v1/subjects/${encodeURIComponent(id)}`);
export const removeTemplate = (id) => ask('DELETE', `v1/templates/${encodeURIComponent(id)}`);
export const matches = (limit) => ask('GET', 'v1/matches', { query: { limit } });
export const review = (id, verdict, subject) =>
  ask('POST', `v1/matches/${encodeURIComponent(id)}/review`, { json: { verdict, subject } });
export const metrics = async () => (await send('GET', 'metrics')).text();

/** Pictures of a long list may be too many at once for the service: it is asked once more, later. */
async function patient(path) {
  try {
    return await send('GET', path);
  } catch (error) {
    if (error.status !== 429 && error.status !== 503) throw error;
    await new Promise((later) => setTimeout(later, 1000 * Math.min(10, error.wait ?? 1)));
    return send('GET', path);
  }
}

const pictures = new Map();
const KEPT = 300;

/** A thumbnail as a bitmap. The last few hundred are kept: going back costs nothing. */
export function thumbnail(path) {
  let found = pictures.get(path);
  if (!found) {
    found = patient(path)
      .then((answer) => answer.blob())
      .then((blob) => createImageBitmap(blob));
    found.catch(() => pictures.delete(path));
    if (pictures.size >= KEPT) pictures.delete(pictures.keys().next().value);
    pictures.set(path, found);
  }
  return found;
}
