// The page around the picture: what the user does goes to the guest, what the guest shows goes to the canvas.

import { keysym, scancode } from "./keys.js";
import { Denied, Rfb } from "./rfb.js";

const [state, size, fit, resize, attention, full, view, screen, ask, why, password] =
  ["state", "size", "fit", "resize", "attention", "full", "view", "screen", "ask", "why", "password"]
    .map((id) => document.getElementById(id));

/** Longest pause between two attempts to connect, in seconds. */
const LONGEST_PAUSE = 10;
/** How far a wheel turns for one click of an RFB wheel, in CSS pixels. */
const WHEEL_STEP = 50;

let rfb = null;
let secret = null;

function say(text, bad = false) {
  state.textContent = text;
  state.classList.toggle("bad", bad);
  view.classList.toggle("off", bad);
}

const sleep = (seconds) => new Promise((done) => { setTimeout(done, seconds * 1000); });

/** Asks for the password, unless it is known. */
async function askPassword() {
  if (secret === null) {
    ask.showModal();
    await new Promise((closed) => { ask.addEventListener("close", closed, { once: true }); });
    secret = password.value;
    password.value = "";
    screen.focus();
  }
  return secret;
}

const events = {
  password: askPassword,
  opened() {
    say("connected");
    screen.focus();
  },
  resized(width, height) {
    if (rfb?.open) say("connected");
    size.textContent = `${width} × ${height}`;
    layout();
  },
  named(name) { document.title = name || "Console"; },
  refused(status) { say(`connected; no such size: ${["", "not allowed", "too large", "not understood"][status] ?? status}`); },
  cursor(image, x, y) {
    pointerImage = image && { image, x, y };
    showPointer();
  },
};

async function connect() {
  for (let pause = 1; ; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
    say("connecting", rfb !== null);
    const url = new URL("/websockify", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    rfb = new Rfb(new WebSocket(url, "binary"), screen, {
      ...events,
      opened() {
        pause = 1;
        events.opened();
      },
    });
    try {
      await rfb.run();
    } catch (error) {
      held.clear();
      if (error instanceof Denied) {
        secret = null;
        why.textContent = `${error.message || "Wrong password"}. Try again:`;
      }
      say(`${error.message}; connecting again in ${pause} s`, true);
      await sleep(pause);
    }
  }
}

// The picture: one guest pixel is one pixel of the display, or as large as the window allows.

/** Pixels of the display that the view has. */
const room = () => [view.clientWidth, view.clientHeight].map((length) => Math.floor(length * devicePixelRatio));

/** CSS pixels for one guest pixel. */
const scale = () => (fit.checked
  ? Math.min(view.clientWidth / screen.width, view.clientHeight / screen.height)
  : 1 / devicePixelRatio);

function layout() {
  view.classList.toggle("fit", fit.checked);
  screen.style.width = `${screen.width * scale()}px`;
  screen.style.height = `${screen.height * scale()}px`;
  showPointer();
}

/** The guest's pointer, once it told of one: null if it shows none. */
let pointerImage;

function showPointer() {
  if (!pointerImage) {
    screen.style.cursor = pointerImage === null ? "none" : "default";
    return;
  }
  const { image, x, y } = pointerImage;
  const source = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
  source.getContext("2d").putImageData(image, 0, 0);
  const [width, height] = [image.width, image.height].map((length) => Math.max(1, Math.round(length * scale())));
  const scaled = Object.assign(document.createElement("canvas"), { width, height });
  scaled.getContext("2d").drawImage(source, 0, 0, width, height);
  screen.style.cursor = `url(${scaled.toDataURL()}) ${Math.floor(x * scale())} ${Math.floor(y * scale())}, default`;
}

let resizing = 0;

/** Asks for the window's size when the window has kept it for a moment. Widths of modes are multiples of eight. */
function follow() {
  clearTimeout(resizing);
  if (!resize.checked) return;
  resizing = setTimeout(() => {
    const [width, height] = room();
    rfb.resize(Math.max(width & ~7, 64), Math.max(height, 64));
  }, 300);
}

new ResizeObserver(() => {
  layout();
  follow();
}).observe(view);

/** A window that moves to a denser display keeps its size in CSS pixels. */
function watchDensity() {
  matchMedia(`(resolution: ${devicePixelRatio}dppx)`).addEventListener("change", () => {
    layout();
    follow();
    watchDensity();
  }, { once: true });
}
watchDensity();

// The keyboard. A key goes up as what it went down as, whatever the modifiers are by then.

const held = new Map();

function key(event) {
  if (event.isComposing) return;
  event.preventDefault();
  if (event.type === "keydown") held.set(event.code, [keysym(event), scancode(event)]);
  const names = held.get(event.code);
  if (!names) return;
  rfb.key(event.type === "keydown" ? 1 : 0, ...names);
  if (event.type === "keyup") {
    held.delete(event.code);
    // macOS tells nothing of keys that go up while Command is down.
    if (event.key === "Meta") releaseKeys();
  }
}

function releaseKeys() {
  for (const names of held.values()) rfb.key(0, ...names);
  held.clear();
}

screen.addEventListener("keydown", key);
screen.addEventListener("keyup", key);
screen.addEventListener("blur", releaseKeys);

// The pointer.

let wheel = [0, 0];
let moved = null;

/** A browser's mask (left, right, middle, back) as RFB's (left, middle, right, wheels, back). */
const mask = (b) => (b & 1) | ((b & 4) >> 1) | ((b & 2) << 1) | ((b & 8) << 4);

function place(event) {
  const box = screen.getBoundingClientRect();
  return [((event.clientX - box.left) * screen.width) / box.width,
    ((event.clientY - box.top) * screen.height) / box.height];
}

/** Moves go once a frame: nobody sees more, and slow lines do not fill up with them. */
function move(event) {
  if (!moved) {
    requestAnimationFrame(() => {
      if (moved) rfb.pointer(...moved);
      moved = null;
    });
  }
  moved = [...place(event), mask(event.buttons)];
}

function press(event) {
  event.preventDefault();
  screen.focus();
  if (event.type === "pointerdown") screen.setPointerCapture(event.pointerId);
  moved = null;
  rfb.pointer(...place(event), mask(event.buttons));
}

screen.addEventListener("pointermove", (event) => {
  // A second button that goes down or up comes as a move.
  if (event.button === -1) move(event);
  else press(event);
});
for (const type of ["pointerdown", "pointerup", "pointercancel"]) screen.addEventListener(type, press);
screen.addEventListener("contextmenu", (event) => event.preventDefault());
screen.addEventListener("wheel", (event) => {
  event.preventDefault();
  const unit = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : WHEEL_STEP;
  wheel = [wheel[0] + event.deltaY * unit, wheel[1] + event.deltaX * unit];
  const at = place(event);
  const buttons = mask(event.buttons);
  // Buttons 4 to 7: up, down, left, right.
  for (const [axis, back, on] of [[0, 8, 16], [1, 32, 64]]) {
    for (; Math.abs(wheel[axis]) >= WHEEL_STEP; wheel[axis] -= Math.sign(wheel[axis]) * WHEEL_STEP) {
      rfb.pointer(...at, buttons | (wheel[axis] < 0 ? back : on));
      rfb.pointer(...at, buttons);
    }
  }
}, { passive: false });

// The bar.

fit.addEventListener("change", () => {
  layout();
  screen.focus();
});
resize.addEventListener("change", () => {
  follow();
  screen.focus();
});
attention.addEventListener("click", () => {
  const keys = [["Control", "ControlLeft"], ["Alt", "AltLeft"], ["Delete", "Delete"]]
    .map(([name, code]) => ({ key: name, code, location: 0 }));
  for (const event of keys) rfb.key(1, keysym(event), scancode(event));
  for (const event of keys.reverse()) rfb.key(0, keysym(event), scancode(event));
  screen.focus();
});
full.addEventListener("click", async () => {
  await (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen());
  await navigator.keyboard?.lock?.();
  screen.focus();
});

connect();
