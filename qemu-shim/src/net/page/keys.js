// From a browser's key events to the two names RFB has for a key: the physical one (an XT scancode, for the QEMU extended
// key event) and the symbol (an X11 keysym).

/** KeyboardEvent.code by XT scancode, from 1 on; "-" where there is none. */
const PLAIN = `Escape Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal Backspace Tab
  KeyQ KeyW KeyE KeyR KeyT KeyY KeyU KeyI KeyO KeyP BracketLeft BracketRight Enter ControlLeft
  KeyA KeyS KeyD KeyF KeyG KeyH KeyJ KeyK KeyL Semicolon Quote Backquote ShiftLeft Backslash
  KeyZ KeyX KeyC KeyV KeyB KeyN KeyM Comma Period Slash ShiftRight NumpadMultiply AltLeft Space CapsLock
  F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 NumLock ScrollLock Numpad7 Numpad8 Numpad9 NumpadSubtract
  Numpad4 Numpad5 Numpad6 NumpadAdd Numpad1 Numpad2 Numpad3 Numpad0 NumpadDecimal - - IntlBackslash F11 F12
  NumpadEqual`.split(/\s+/);

/** The rest. 0x80 stands for the prefix 0xe0, as the extended key event has it. */
const OTHERS = {
  KanaMode: 0x70, IntlRo: 0x73, Convert: 0x79, NonConvert: 0x7b, IntlYen: 0x7d, NumpadComma: 0x7e,
  NumpadEnter: 0x9c, ControlRight: 0x9d, NumpadDivide: 0xb5, PrintScreen: 0xb7, AltRight: 0xb8, Pause: 0xc6,
  Home: 0xc7, ArrowUp: 0xc8, PageUp: 0xc9, ArrowLeft: 0xcb, ArrowRight: 0xcd, End: 0xcf, ArrowDown: 0xd0,
  PageDown: 0xd1, Insert: 0xd2, Delete: 0xd3, MetaLeft: 0xdb, MetaRight: 0xdc, ContextMenu: 0xdd,
};

const SCANCODES = new Map([...PLAIN.map((code, n) => [code, n + 1]), ...Object.entries(OTHERS)]);

/** Keysyms of keys without a character, by KeyboardEvent.key (X11's keysymdef.h). */
const NAMED = {
  Backspace: 0xff08, Tab: 0xff09, Enter: 0xff0d, Pause: 0xff13, ScrollLock: 0xff14, Escape: 0xff1b, Home: 0xff50,
  ArrowLeft: 0xff51, ArrowUp: 0xff52, ArrowRight: 0xff53, ArrowDown: 0xff54, PageUp: 0xff55, PageDown: 0xff56,
  End: 0xff57, PrintScreen: 0xff61, Insert: 0xff63, ContextMenu: 0xff67, NumLock: 0xff7f, CapsLock: 0xffe5,
  Delete: 0xffff, AltGraph: 0xfe03, Shift: 0xffe1, Control: 0xffe3, Meta: 0xffeb, Alt: 0xffe9,
};

/** Modifiers come in two; the right one's keysym is the next. */
const PAIRS = ["Shift", "Control", "Meta", "Alt"];

/** On the keypad with NumLock off. */
const KEYPAD = {
  Home: 0xff95, ArrowLeft: 0xff96, ArrowUp: 0xff97, ArrowRight: 0xff98, ArrowDown: 0xff99, PageUp: 0xff9a,
  PageDown: 0xff9b, End: 0xff9c, Clear: 0xff9d, Insert: 0xff9e, Delete: 0xff9f, Enter: 0xff8d,
};

/** The XT scancode of a key event, 0 if the key has none. */
export const scancode = (event) => SCANCODES.get(event.code) ?? 0;

/** The keysym of a key event, 0 if it has none (a dead key, say). */
export function keysym(event) {
  const { key, location } = event;
  const keypad = location === 3;
  if ([...key].length === 1) {
    const point = key.codePointAt(0);
    // The keypad's characters are 0xff80 above ASCII's: "*" to "9".
    if (keypad && point >= 0x2a && point <= 0x39) return 0xff80 + point;
    return point < 0x100 ? point : 0x01000000 + point;
  }
  if (keypad && KEYPAD[key]) return KEYPAD[key];
  if (/^F([1-9]|1[0-9]|2[0-4])$/.test(key)) return 0xffbd + Number(key.slice(1));
  const symbol = NAMED[key] ?? 0;
  return symbol && location === 2 && PAIRS.includes(key) ? symbol + 1 : symbol;
}
