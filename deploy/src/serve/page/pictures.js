// Where pictures come from: dropped, chosen, pasted or taken with the camera; and whether they look good enough.

import { button, dialog, h, id, picture, say } from './dom.js';
import { has, number, t } from './text.js';

/** What the parts of a form are called: `picture`, or the names of both inputs of a network that takes a pair. */
export const parts = (inputs) => (inputs.length > 1 ? inputs.map((input) => input.name) : ['picture']);

/** What people call an input. */
export const partName = (part) => (has(`part.${part}`) ? t(`part.${part}`) : part);

/** A form with these pictures: `[[part, file], …]`. */
export function form(files, fields = {}) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value !== null && value !== undefined && value !== '') form.append(name, value);
  }
  for (const [part, file] of files) form.append(part, file, file.name);
  return form;
}

/** Whether files are among what is dragged. */
const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
const arePictures = (files) =>
  [...files].filter((file) => file.type.startsWith('image/') || /\.(jpe?g|png|webp|bmp|tiff?|gif)$/i.test(file.name));

// A picture that misses its place would replace the page.
for (const kind of ['dragover', 'drop']) {
  window.addEventListener(kind, (event) => {
    if (carriesFiles(event)) event.preventDefault();
  });
}

/** Why there is no camera, or `null`. */
function noCamera() {
  if (!window.isSecureContext) return t('camera.insecure');
  if (!navigator.mediaDevices?.getUserMedia) return t('camera.missing');
  return null;
}

const CAMERA_ERRORS = {
  NotAllowedError: 'camera.denied',
  SecurityError: 'camera.denied',
  NotFoundError: 'camera.none',
  OverconstrainedError: 'camera.none',
  NotReadableError: 'camera.busy',
  AbortError: 'camera.busy',
};

/** A picture taken with the camera, or `undefined`. */
async function take(title) {
  let stream = null;
  let stopped = false;
  const stop = () => stream?.getTracks().forEach((track) => track.stop());
  const file = await dialog(
    title,
    (close) => {
      const video = h('video', {
        class: 'viewfinder',
        autoplay: true,
        playsinline: true,
        'aria-label': t('camera.view'),
      });
      video.muted = true;
      const note = h('p', { class: 'hint', role: 'status' }, t('camera.starting'));
      const shoot = button(
        t('camera.take'),
        async () => {
          const canvas = h('canvas', { width: video.videoWidth, height: video.videoHeight });
          canvas.getContext('2d').drawImage(video, 0, 0);
          const blob = await new Promise((done) => canvas.toBlob(done, 'image/jpeg', 0.95));
          const name = `camera-${new Date().toISOString().slice(0, 19).replace(/:/g, '-')}.jpg`;
          close(new File([blob], name, { type: 'image/jpeg' }));
        },
        { class: 'primary', disabled: true },
      );
      const choice = h('select', {
        'aria-label': t('camera.which'),
        hidden: true,
        onchange: () => start(choice.value),
      });
      const start = async (device) => {
        stop();
        shoot.disabled = true;
        try {
          const video_ = {
            width: { ideal: 1280 },
            height: { ideal: 720 },
            ...(device ? { deviceId: { exact: device } } : {}),
          };
          const started = await navigator.mediaDevices.getUserMedia({ video: video_, audio: false });
          stream = started;
          // The dialog may be closed before the camera has started.
          if (stopped) return stop();
          video.srcObject = started;
          await video.play();
          shoot.disabled = false;
          note.textContent = t('camera.ready');
          const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((one) => one.kind === 'videoinput');
          if (cameras.length > 1 && choice.options.length === 0) {
            const used = started.getVideoTracks()[0]?.getSettings().deviceId;
            choice.append(
              ...cameras.map((one, at) =>
                h('option', { value: one.deviceId, selected: one.deviceId === used }, one.label || number(at + 1)),
              ),
            );
            choice.hidden = false;
          }
        } catch (error) {
          note.textContent = t(CAMERA_ERRORS[error.name] ?? 'camera.busy');
        }
      };
      start();
      return [
        video,
        note,
        choice,
        h(
          'div',
          { class: 'actions' },
          button(t('cancel'), () => close()),
          shoot,
        ),
      ];
    },
    {
      onclose: () => {
        stopped = true;
        stop();
      },
    },
  );
  return file;
}

/** A place for one kind of picture: files are dropped on it or chosen, or the camera takes one. */
function place({ label, multiple, onfiles }) {
  const input = h('input', {
    type: 'file',
    class: 'unseen',
    id: id('files'),
    accept: 'image/*',
    multiple,
    onchange: () => {
      accept(input.files);
      input.value = '';
    },
  });
  const note = h('p', { class: 'hint', role: 'status' });
  const accept = (files) => {
    const pictures = arePictures(files);
    note.textContent = pictures.length < files.length ? t('drop.others', { n: files.length - pictures.length }) : '';
    if (pictures.length > 0) onfiles(pictures);
  };
  const camera = button(t('camera.use'), async () => {
    const reason = noCamera();
    if (reason) {
      note.textContent = reason;
      return;
    }
    const file = await take(label ?? t('camera.use'));
    if (file) onfiles([file]);
  });
  let depth = 0;
  const zone = h(
    'div',
    {
      class: 'drop',
      ondragenter: (event) => {
        if (!carriesFiles(event)) return;
        depth += 1;
        zone.classList.add('over');
      },
      ondragleave: () => {
        depth = Math.max(0, depth - 1);
        if (depth === 0) zone.classList.remove('over');
      },
      ondrop: (event) => {
        depth = 0;
        zone.classList.remove('over');
        if (carriesFiles(event)) accept(event.dataTransfer.files);
      },
    },
    label && h('p', { class: 'part' }, label),
    h('p', { class: 'invitation' }, t(multiple ? 'drop.pictures' : 'drop.picture')),
    h(
      'div',
      { class: 'actions' },
      input,
      h(
        'label',
        { for: input.id, class: 'button primary' },
        t(multiple ? 'drop.choose.many' : 'drop.choose'),
        label && h('span', { class: 'unseen' }, ` (${label})`),
      ),
      camera,
    ),
    note,
  );
  return { zone, accept, input };
}

/**
 * Where pictures are given: as many as wanted for networks of one input, one of each kind for those of a pair.
 * `onprobe` is called with the files of each probe that is complete, `[[part, file], …]`. Returns the element;
 * `clear()` forgets half a pair.
 */
export function picker({ inputs, onprobe }) {
  const names = parts(inputs);
  if (names.length === 1) {
    const { zone, accept } = place({
      multiple: true,
      onfiles: (files) => files.forEach((file) => onprobe([[names[0], file]])),
    });
    pasted = { zone, accept };
    return { element: zone, clear: () => {} };
  }
  const chosen = new Map();
  const previews = names.map(() => h('div', { class: 'preview' }));
  const clear = () => {
    chosen.clear();
    previews.forEach((preview) => preview.replaceChildren());
  };
  const put = (at, file) => {
    chosen.set(names[at], file);
    previews[at].replaceChildren(
      picture(() => createImageBitmap(file), file.name),
      h('span', null, file.name),
    );
  };
  const places = names.map((part, at) =>
    place({
      label: partName(part),
      multiple: false,
      onfiles: (files) => {
        // Both pictures of a pair may be dropped at once: what the other is called tells which is which.
        const mine = files.find((file) => file.name.toLowerCase().includes(part.toLowerCase())) ?? files[0];
        const other = files.find((file) => file !== mine);
        put(at, mine);
        if (other) put((at + 1) % names.length, other);
        const missing = names.filter((name) => !chosen.has(name));
        if (missing.length > 0) return say(t('drop.missing', { part: partName(missing[0]) }));
        onprobe(names.map((name) => [name, chosen.get(name)]));
        return undefined;
      },
    }),
  );
  return {
    element: h(
      'div',
      { class: 'pair' },
      places.map((place, at) => h('div', null, place.zone, previews[at])),
    ),
    clear,
  };
}

/** Where pictures of the clipboard go while it is on the page. */
let pasted = null;
document.addEventListener('paste', (event) => {
  const files = arePictures(event.clipboardData?.files ?? []);
  if (files.length > 0 && pasted?.zone.isConnected) pasted.accept(files);
});

// The limits of the service's own check, deploy/src/quality.rs, which has the last word.
const TINY = 16;
const DARK = 25;
const BLURRED = 2;

/**
 * What is wrong with a picture for an input of `[height, width]`: kinds `tiny`, `dark`, `blurred`; `unreadable` where
 * this browser cannot show it, which says nothing about the service.
 */
export async function problems(file, [height, width]) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return ['unreadable'];
  }
  const canvas = h('canvas', { width, height });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const luma = new Float64Array(width * height);
  for (let at = 0; at < luma.length; at += 1)
    luma[at] = 0.299 * data[4 * at] + 0.587 * data[4 * at + 1] + 0.114 * data[4 * at + 2];
  const edges = [];
  for (let row = 1; row < height - 1; row += 1) {
    for (let column = 1; column < width - 1; column += 1) {
      const at = row * width + column;
      edges.push(4 * luma[at] - luma[at - 1] - luma[at + 1] - luma[at - width] - luma[at + width]);
    }
  }
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
  const middle = mean(edges);
  const found = [];
  if (bitmap.width * bitmap.height * TINY < width * height) found.push('tiny');
  if (mean(luma) < DARK) found.push('dark');
  if (mean(edges.map((edge) => (edge - middle) ** 2)) < BLURRED) found.push('blurred');
  bitmap.close();
  return found;
}
