// An RFB 3.8 viewer (RFC 6143 and the community's rfbproto) on a WebSocket and a canvas. Only the protocol is here; what
// the user sees around the picture is told through `events`.

import { respond } from "./des.js";

const RAW = 0, COPY_RECT = 1, TIGHT_PNG = -260;
const DESKTOP_SIZE = -223, LAST_RECT = -224, CURSOR = -239, EXT_KEY = -258, DESKTOP_NAME = -307;
const EXT_DESKTOP_SIZE = -308, ALPHA_CURSOR = -314;

/** What we understand, the best first. No quality level among them: the picture stays exact. */
const ENCODINGS = [TIGHT_PNG, COPY_RECT, RAW, ALPHA_CURSOR, CURSOR, EXT_DESKTOP_SIZE, DESKTOP_SIZE, LAST_RECT,
  DESKTOP_NAME, EXT_KEY];

/** The wrong password, or none given. */
export class Denied extends Error {}

/** The bytes of a socket's messages, in order. */
class Input {
  constructor(socket) {
    this.chunks = [];
    this.length = 0;
    this.ended = null;
    this.wake = () => {};
    socket.onmessage = (event) => {
      this.chunks.push(new Uint8Array(event.data));
      this.length += event.data.byteLength;
      this.wake();
    };
    socket.onclose = (event) => {
      this.ended = event.reason || "the console closed the connection";
      this.wake();
    };
  }

  /** The next `count` bytes, in memory of their own. */
  async take(count) {
    while (this.length < count) {
      if (this.ended) throw new Error(this.ended);
      await new Promise((wake) => { this.wake = wake; });
    }
    const bytes = new Uint8Array(count);
    for (let at = 0; at < count;) {
      const part = this.chunks[0].subarray(0, count - at);
      bytes.set(part, at);
      at += part.length;
      if (part.length === this.chunks[0].length) this.chunks.shift();
      else this.chunks[0] = this.chunks[0].subarray(part.length);
    }
    this.length -= count;
    return bytes;
  }

  async view(count) { return new DataView((await this.take(count)).buffer); }
  async u8() { return (await this.take(1))[0]; }
  async u32() { return (await this.view(4)).getUint32(0); }
  async text() { return new TextDecoder().decode(await this.take(await this.u32())); }
}

/** Big-endian bytes of [size in bytes, value] pairs. */
function pack(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [size]) => sum + size, 0)));
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 1) view.setUint8(at, value);
    else if (size === 2) view.setUint16(at, value);
    else view.setUint32(at, value);
    at += size;
  }
  return view.buffer;
}

export class Rfb {
  /**
   * `events`: password() gives a promise of one; opened(); resized(width, height); named(text); refused(status) of a
   * size asked for; cursor(ImageData or null, x, y).
   */
  constructor(socket, canvas, events) {
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.input = new Input(socket);
    this.context = canvas.getContext("2d", { alpha: false });
    this.events = events;
    this.scancodes = false;
    this.screen = null;
  }

  /** Speaks until the connection ends; throws what it ended with. */
  async run() {
    try {
      await this.handshake();
      for (;;) await this.message();
    } finally {
      this.open = false;
      this.socket.close();
    }
  }

  send(...fields) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(pack(...fields));
  }

  async handshake() {
    const version = new TextDecoder().decode(await this.input.take(12));
    if (!version.startsWith("RFB 003.008")) throw new Error(`expected RFB 3.8, found ${version.trim()}`);
    this.socket.send(new TextEncoder().encode("RFB 003.008\n"));
    const types = await this.input.take(await this.input.u8());
    if (types.length === 0) throw new Error(await this.input.text());
    const type = [1, 2].find((known) => types.includes(known));
    if (!type) throw new Error(`expected security type 1 or 2, found ${[...types].join(", ")}`);
    this.send([1, type]);
    if (type === 2) {
      const challenge = await this.input.take(16);
      this.socket.send(respond(await this.events.password(), challenge));
    }
    if (await this.input.u32() !== 0) throw new Denied(await this.input.text());
    this.send([1, 1]); // shared: others may look too
    const init = await this.input.view(20);
    this.setSize(init.getUint16(0), init.getUint16(2))();
    this.events.named(await this.input.text());
    // 32 bits a pixel, little-endian, red lowest: the bytes of a canvas.
    this.send([4, 0], [4, 0x20180001], [4, 0x00ff00ff], [4, 0x00ff0008], [4, 0x10000000]);
    this.send([1, 2], [1, 0], [2, ENCODINGS.length], ...ENCODINGS.map((encoding) => [4, encoding]));
    this.open = true;
    this.events.opened();
    this.request(false);
  }

  request(incremental) {
    this.send([1, 3], [1, incremental ? 1 : 0], [2, 0], [2, 0], [2, this.width], [2, this.height]);
  }

  async message() {
    const type = await this.input.u8();
    switch (type) {
      case 0: return this.update();
      case 1: { // colour map: ours is true colour
        const head = await this.input.view(5);
        return this.input.take(head.getUint16(3) * 6);
      }
      case 2: return undefined; // bell
      case 3: // the guest's clipboard
        await this.input.take(3);
        return this.input.take(await this.input.u32());
      default: throw new Error(`expected a message of RFB, found type ${type}`);
    }
  }

  /** Reads an update whole, asks for the next, then draws it: pictures decode side by side and appear in order. */
  async update() {
    const count = (await this.input.view(3)).getUint16(1);
    const [width, height] = [this.width, this.height];
    const draw = [];
    for (let n = 0; n < count; n++) {
      const head = await this.input.view(12);
      const [x, y, w, h] = [0, 2, 4, 6].map((at) => head.getUint16(at));
      const encoding = head.getInt32(8);
      if (encoding === LAST_RECT) break;
      draw.push(await this.rectangle(encoding, x, y, w, h));
    }
    this.request(width === this.width && height === this.height);
    for (const step of draw) await step();
  }

  /** Reads one rectangle and returns what draws it. */
  async rectangle(encoding, x, y, w, h) {
    const { input, context } = this;
    switch (encoding) {
      case RAW: {
        const image = await this.pixels(w, h);
        return () => { if (image) context.putImageData(image, x, y); };
      }
      case COPY_RECT: {
        const from = await input.view(4);
        return () => context.drawImage(context.canvas, from.getUint16(0), from.getUint16(2), w, h, x, y, w, h);
      }
      case TIGHT_PNG: return this.tight(x, y, w, h);
      case CURSOR: {
        const image = await this.pixels(w, h);
        const stride = (w + 7) >> 3;
        const mask = await input.take(stride * h);
        for (let n = 0; n < w * h; n++) {
          const [column, row] = [n % w, Math.floor(n / w)];
          image.data[n * 4 + 3] = (mask[row * stride + (column >> 3)] << (column & 7)) & 0x80 ? 255 : 0;
        }
        return () => this.events.cursor(image, x, y);
      }
      case ALPHA_CURSOR: {
        const inner = await input.u32();
        if (inner !== RAW) throw new Error(`expected a raw cursor, found encoding ${inner}`);
        const data = new Uint8ClampedArray((await input.take(w * h * 4)).buffer);
        for (let n = 0; n < data.length; n += 4) { // premultiplied there, straight on a canvas
          for (let c = n; c < n + 3; c++) data[c] = data[n + 3] && (data[c] * 255) / data[n + 3];
        }
        return () => this.events.cursor(w && h ? new ImageData(data, w, h) : null, x, y);
      }
      case DESKTOP_SIZE: return this.setSize(w, h);
      case EXT_DESKTOP_SIZE: {
        const screens = await input.view(4 + (await input.u8()) * 16 - 1);
        this.screen = screens.byteLength > 3 ? [screens.getUint32(3), screens.getUint32(15)] : [0, 0];
        // Our own wish was refused, or (4) passed on to the guest, which may take its time.
        if (x === 1 && y !== 0) return () => { if (y !== 4) this.events.refused(y); };
        return this.setSize(w, h);
      }
      case DESKTOP_NAME: {
        const name = await input.text();
        return () => this.events.named(name);
      }
      case EXT_KEY:
        this.scancodes = true;
        return () => {};
      default: throw new Error(`expected an encoding we know, found ${encoding}`);
    }
  }

  /** Pixels as the server sends them, opaque; null if there are none. */
  async pixels(w, h) {
    const bytes = await this.input.take(w * h * 4);
    if (bytes.length === 0) return null;
    for (let n = 3; n < bytes.length; n += 4) bytes[n] = 255;
    return new ImageData(new Uint8ClampedArray(bytes.buffer), w, h);
  }

  /** A rectangle of TightPNG: one colour, a PNG or a JPEG. The low four bits would reset zlib streams that we have not. */
  async tight(x, y, w, h) {
    const { input, context } = this;
    const control = (await input.u8()) >> 4;
    if (control === 8) {
      const colour = `rgb(${(await input.take(3)).join(",")})`;
      return () => {
        context.fillStyle = colour;
        context.fillRect(x, y, w, h);
      };
    }
    const type = { 9: "image/jpeg", 10: "image/png" }[control];
    if (!type) throw new Error(`expected TightPNG's fill, JPEG or PNG, found ${control}`);
    // The length in up to three bytes, seven bits each, then eight.
    let length = 0;
    for (let shift = 0; shift <= 14; shift += 7) {
      const byte = await input.u8();
      length |= (shift < 14 ? byte & 127 : byte) << shift;
      if (byte < 128) break;
    }
    const picture = createImageBitmap(new Blob([await input.take(length)], { type }), { colorSpaceConversion: "none" });
    picture.catch(() => {}); // told by whoever draws it
    return async () => {
      const bitmap = await picture;
      context.drawImage(bitmap, x, y);
      bitmap.close();
    };
  }

  /** The size holds for the protocol at once, for the canvas when its turn comes. */
  setSize(width, height) {
    [this.width, this.height] = [width, height];
    return () => {
      const { canvas } = this.context;
      if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
      this.events.resized(width, height);
    };
  }

  key(down, keysym, scancode) {
    if (!this.open) return;
    if (this.scancodes && scancode) this.send([1, 255], [1, 0], [2, down], [4, keysym], [4, scancode]);
    else if (keysym) this.send([1, 4], [1, down], [2, 0], [4, keysym]);
  }

  pointer(x, y, buttons) {
    const within = (value, size) => Math.max(0, Math.min(size - 1, Math.floor(value)));
    if (this.open) this.send([1, 5], [1, buttons], [2, within(x, this.width)], [2, within(y, this.height)]);
  }

  /** Asks for another size; the guest may take a while, or another one. */
  resize(width, height) {
    if (!this.open || !this.screen || (width === this.width && height === this.height)) return;
    const [id, flags] = this.screen;
    this.send([1, 251], [1, 0], [2, width], [2, height], [1, 1], [1, 0], [4, id], [2, 0], [2, 0], [2, width],
      [2, height], [4, flags]);
  }
}
