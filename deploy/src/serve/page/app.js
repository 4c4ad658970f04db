// The frame of the page: language, key and role, and which view is shown.

import * as api from './api.js';
import { button, field, h, problem, say, warn } from './dom.js';
import { calibration } from './meaning.js';
import * as search from './search.js';
import * as subjects from './subjects.js';
import { LANGUAGES, current, preferred, t, use } from './text.js';

const ROLES = ['read', 'match', 'enrol', 'admin'];
/** A view whose file is fetched when it is first looked at. */
const later = (file) => async (given) => {
  let view;
  try {
    view = await import(file);
  } catch {
    // A browser may remember for good that it could not fetch a file.
    view = await import(`${file}?${performance.now()}`).catch(() => {
      throw new api.Refused(0);
    });
  }
  return view.view(given);
};

/** Views in the order of the menu: address, who may see it, what shows it; `bare` also without a gallery. */
const VIEWS = [
  { at: 'search', role: 'match', title: 'search.title', label: 'nav.search', show: search.view },
  { at: 'enrol', role: 'enrol', title: 'enrol.title', label: 'nav.enrol', show: later('./enrol.js') },
  { at: 'people', role: 'read', title: 'people.title', label: 'nav.people', show: subjects.view, one: subjects.one },
  { at: 'matches', role: 'match', title: 'matches.title', label: 'nav.matches', show: later('./matches.js') },
  { at: 'threshold', role: 'read', title: 'threshold.title', label: 'nav.threshold', show: later('./threshold.js') },
  {
    at: 'service',
    role: 'read',
    title: 'service.title',
    label: 'nav.service',
    bare: true,
    show: later('./service.js'),
  },
];

const main = document.getElementById('main');
const nav = document.getElementById('nav');
const tools = document.getElementById('tools');

const app = {
  info: null,
  answer: null,
  /** What is to be enrolled: `{files, name}` from a search or of a person. */
  given: null,
  can: (role) => ROLES.indexOf(app.info?.role) >= ROLES.indexOf(role),
  /** The thresholds of the service and what was calibrated; asked for once until something changes. */
  async thresholds() {
    app.answer ??= await api.thresholds();
    return { answer: app.answer, calibrated: calibration(app.answer) };
  },
  /** After a change: counts and thresholds are asked for again. */
  async changed() {
    app.answer = null;
    app.info = await api.info();
    footer();
  },
  go(hash) {
    if (location.hash === hash) show();
    else location.hash = hash;
  },
  enrolWith(files, name) {
    app.given = { files, name };
    app.go('#/enrol');
  },
};

/** Forgets what was shown: with another key, or in another language. */
function forget() {
  search.forget();
  subjects.forget();
  app.given = null;
}

const allowed = () => VIEWS.filter((view) => app.can(view.role) && (view.bare || app.info.gallery));

function route() {
  const [at, rest] = location.hash.replace(/^#\/?/, '').split('/');
  const view = allowed().find((one) => one.at === at) ?? allowed()[0];
  try {
    return { view, rest: rest ? decodeURIComponent(rest) : null };
  } catch {
    // An address that somebody has mistyped.
    return { view, rest: null };
  }
}

let shown = 0;
async function show({ focus = true } = {}) {
  if (!app.info) return;
  const mine = (shown += 1);
  // What a dialog asks is about the view that is left.
  document.querySelectorAll('dialog').forEach((one) => one.close());
  const { view, rest } = route();
  menu(view);
  main.setAttribute('aria-busy', 'true');
  let content;
  try {
    content = await (rest !== null && view.one ? view.one(app, rest) : view.show(app));
  } catch (error) {
    if (error.status === 401) return signIn(error);
    content = [h('h1', null, t(view.title)), problem(error), button(t('again'), () => show(), { class: 'primary' })];
  }
  // Somebody was quicker than the service.
  if (mine !== shown) return undefined;
  main.replaceChildren(...[content].flat(Infinity).filter(Boolean));
  main.removeAttribute('aria-busy');
  const heading = main.querySelector('h1');
  heading.tabIndex = -1;
  document.title = `${heading.textContent} – Vitrine`;
  performance.mark('vitrine-view');
  if (focus) heading.focus({ preventScroll: true });
  if (focus) window.scrollTo(0, 0);
  return undefined;
}

function menu(chosen) {
  nav.hidden = false;
  nav.setAttribute('aria-label', t('nav'));
  nav.replaceChildren(
    h(
      'ul',
      null,
      allowed().map((view) =>
        h('li', null, h('a', { href: `#/${view.at}`, 'aria-current': view === chosen ? 'page' : null }, t(view.label))),
      ),
    ),
  );
}

function header() {
  const skip = document.getElementById('skip');
  skip.textContent = t('skip');
  skip.hidden = false;
  const language = h(
    'select',
    {
      'aria-label': t('language'),
      onchange: async () => {
        await use(language.value, true);
        forget();
        header();
        footer();
        if (app.info) await show({ focus: false });
        else await connect();
        document.querySelector('#tools select')?.focus();
      },
    },
    Object.entries(LANGUAGES).map(([code, name]) =>
      h('option', { value: code, lang: code, selected: code === current() }, name),
    ),
  );
  tools.replaceChildren(
    ...[
      app.info && h('span', { class: 'role' }, t(`role.${app.info.role}`)),
      api.hasKey() &&
        button(
          t('key.forget'),
          () => {
            api.setKey(null);
            forget();
            say(t('key.forgotten'));
            connect();
          },
          { class: 'quiet' },
        ),
      language,
    ].filter(Boolean),
  );
}

function footer() {
  const place = document.getElementById('footer');
  place.replaceChildren(
    ...(app.info
      ? [
          h('p', null, `Vitrine ${app.info.version} · ${app.info.model.name}`),
          h('p', null, h('a', { href: 'openapi.json' }, 'OpenAPI')),
        ]
      : []),
  );
}

/** Asks for a key. It is tried before it is kept. */
function signIn(error) {
  app.info = null;
  shown += 1;
  nav.hidden = true;
  const key = h('input', {
    type: 'password',
    required: true,
    autocomplete: 'off',
    spellcheck: 'false',
    autocapitalize: 'off',
  });
  const place = h('div');
  const submit = h('button', { type: 'submit', class: 'primary' }, t('key.use'));
  const hadKey = api.hasKey();
  api.setKey(null);
  header();
  footer();
  const heading = h('h1', { tabindex: '-1' }, t('key.title'));
  main.removeAttribute('aria-busy');
  main.replaceChildren(
    heading,
    h('p', { class: 'lead' }, t('key.lead')),
    h(
      'form',
      {
        class: 'key',
        onsubmit: async (event) => {
          event.preventDefault();
          place.replaceChildren();
          submit.disabled = true;
          // Others cannot even be sent.
          const text = key.value.trim();
          try {
            if (!/^[\x21-\x7e]+$/.test(text)) throw new api.Refused(401);
            api.setKey(text);
            app.info = await api.info();
            start();
          } catch (refused) {
            api.setKey(null);
            place.replaceChildren(refused.status === 401 ? warn(t('key.wrong')) : problem(refused));
            key.focus();
            submit.disabled = false;
          }
        },
      },
      field(t('key.label'), key, t('key.hint')),
      h('div', { class: 'actions' }, submit),
    ),
    place,
  );
  document.title = `${t('key.title')} – Vitrine`;
  if (hadKey && error?.status === 401) place.replaceChildren(warn(t('key.wrong')));
  key.focus();
}

function start(options) {
  app.answer = null;
  header();
  footer();
  return show(options);
}

async function connect() {
  header();
  try {
    app.info = await api.info();
    await start({ focus: false });
  } catch (error) {
    if (error.status === 401) return signIn(error);
    app.info = null;
    nav.hidden = true;
    main.replaceChildren(
      h('h1', { tabindex: '-1' }, 'Vitrine'),
      problem(error),
      button(t('again'), connect, { class: 'primary' }),
    );
  }
  return undefined;
}

document.getElementById('skip').addEventListener('click', (event) => {
  // The part after # in the address says which view is shown.
  event.preventDefault();
  main.focus();
});
window.addEventListener('hashchange', () => show());
await use(preferred());
await connect();
