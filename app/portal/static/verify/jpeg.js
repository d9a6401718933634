// A JPEG as this project writes them, decoded bit for bit as libjpeg does: app/suspects/adapters/jpeg.py. Browsers decode each
// in their own way, so this is a decoder of our own: baseline, no subsampling, the integer transform.
// What the program refuses is refused; what it takes, but we would not have written, is not decoded here: other decoders might
// read it otherwise.
// Source: ITU-T T.81, annexes A to F and K; JFIF 1.02; the "islow" transform of Loeffler, Ligtenberg and Moschytz 1989.

import { equal, utf8 } from "../protocol.js";
import { NotHere, refuse } from "./canonical.js";

const [APP0, DQT, SOF0, DHT, SOS] = [0xe0, 0xdb, 0xc0, 0xc4, 0xda];
const JFIF = Uint8Array.of(...utf8("JFIF"), 0, 1, 1, 0, 0, 1, 0, 1, 0, 0);
// The tables of a grey and of a colour picture: kind and number, in order.
const TABLES = { 1: `${DHT}.0 ${DHT}.16 ${DQT}.0`, 3: `${DHT}.0 ${DHT}.1 ${DHT}.16 ${DHT}.17 ${DQT}.0 ${DQT}.1` };

const notOurs = () => {
  throw new NotHere("a request carries a JPEG that is written otherwise than ours, and decoders differ on such");
};

// --- segments -----------------------------------------------------------------------------------------------------------

// Of the difference between two averages of pixels of 8 bits.
const MOST_BITS = 11;

const u16 = (bytes, at) => bytes[at] * 256 + bytes[at + 1];
const sum = (bytes) => bytes.reduce((total, byte) => total + byte, 0);

// Gives [marker, content] of everything before the scan, and the scan: nothing else may stand there.
function segmentsOf(data, channels) {
  const isWhole = data.length >= 4 && u16(data, 0) === 0xffd8 && u16(data, data.length - 2) === 0xffd9;
  if (!isWhole) refuse("the request does not hold exactly one JPEG");
  const segments = [];
  let at = 2;
  for (let marker = 0; marker !== SOS; ) {
    if (at + 4 > data.length || data[at] !== 0xff) refuse("the request's JPEG has no scan");
    marker = data[at + 1];
    const length = u16(data, at + 2);
    const content = data.subarray(at + 4, Math.max(at + 4, at + 2 + length));
    if (![APP0, DQT, SOF0, DHT, SOS].includes(marker) || (marker === APP0 && !equal(content, JFIF))) refuse("the request's JPEG holds something other than a picture");
    const expected = { [DQT]: 65, [DHT]: 17 + sum(content.subarray(1, 17)) }[marker] ?? content.length;
    if (content.length !== expected) refuse("the request's JPEG holds more or less than one table where a table stands");
    segments.push([marker, content]);
    at += 2 + length;
  }
  const tables = segments.filter(([marker]) => marker === DQT || marker === DHT).map(([marker, content]) => `${marker}.${content[0]}`);
  if (tables.sort().join(" ") !== TABLES[channels]) refuse("the request's JPEG holds other tables than its picture needs");
  const scan = data.subarray(Math.min(at, data.length - 2), data.length - 2);
  if (scan.some((byte, n) => byte === 0xff && scan[n + 1] !== 0)) refuse("the request's JPEG goes on after its scan");
  return { segments, scan };
}

const only = (segments, marker) => {
  const found = segments.filter(([each]) => each === marker);
  return found.length === 1 ? found[0][1] : notOurs();
};

// Gives the tables of each component.
function componentsOf(segments, [height, width, channels]) {
  only(segments, APP0);
  const [frame, scan] = [only(segments, SOF0), only(segments, SOS)];
  if (frame.length !== 6 + 3 * frame[5] || frame[0] !== 8 || ![1, 3].includes(frame[5])) notOurs();
  if (frame[5] !== channels || u16(frame, 1) !== height || u16(frame, 3) !== width) refuse(`the request does not hold a JPEG of shape (${height}, ${width}, ${channels})`);
  const end = Uint8Array.of(0, 63, 0);
  if (scan.length !== 4 + 2 * channels || scan[0] !== channels || !equal(scan.subarray(-3), end)) notOurs();
  const tableOf = (marker, number) => segments.find(([each, content]) => each === marker && content[0] === number)?.[1] ?? notOurs();
  return Array.from({ length: channels }, (_, n) => {
    const [id, sampling, quantisation] = frame.subarray(6 + 3 * n);
    const [same, tables] = scan.subarray(1 + 2 * n);
    if (id !== n + 1 || same !== id || sampling !== 0x11) notOurs();
    return {
      steps: tableOf(DQT, quantisation).subarray(1),
      dc: codesOf(tableOf(DHT, tables >> 4), MOST_BITS),
      ac: codesOf(tableOf(DHT, 16 + (tables & 15)), 255),
      last: 0,
    };
  });
}

// Huffman codes by their length: the greatest of each, and what to add to a code for its symbol's place.
function codesOf(table, greatest) {
  const symbols = table.subarray(17);
  if (symbols.length > 256 || symbols.some((symbol) => symbol > greatest)) notOurs();
  const [most, offset] = [new Int32Array(17).fill(-1), new Int32Array(17)];
  let [code, at] = [0, 0];
  for (let length = 1; length <= 16; length += 1) {
    offset[length] = at - code;
    if (table[length]) most[length] = code + table[length] - 1;
    code += table[length];
    at += table[length];
    // A code of ones only is not allowed.
    if (code >= 1 << length) notOurs();
    code <<= 1;
  }
  return { symbols, most, offset };
}

// --- the scan -----------------------------------------------------------------------------------------------------------

class Bits {
  constructor(scan) {
    const bytes = new Uint8Array(scan.length);
    let count = 0;
    for (let at = 0; at < scan.length; at += 1) {
      bytes[count] = scan[at];
      count += 1;
      // A stuffed zero follows.
      if (scan[at] === 0xff) at += 1;
    }
    this.bytes = bytes.subarray(0, count);
    this.at = 0;
  }

  bit() {
    const byte = this.at >> 3;
    if (byte >= this.bytes.length) notOurs();
    const bit = (this.bytes[byte] >> (7 - (this.at & 7))) & 1;
    this.at += 1;
    return bit;
  }

  symbol({ symbols, most, offset }) {
    let code = 0;
    for (let length = 1; length <= 16; length += 1) {
      code = (code << 1) | this.bit();
      if (code <= most[length]) return symbols[offset[length] + code];
    }
    return notOurs();
  }

  // A number of so many bits; those that begin with 0 are negative.
  number(size) {
    let value = 0;
    for (let n = 0; n < size; n += 1) value = (value << 1) | this.bit();
    return size && value < 1 << (size - 1) ? value - (1 << size) + 1 : value;
  }

  // Only the ones that fill the last byte may be left.
  end() {
    if (this.bytes.length * 8 - this.at > 7) notOurs();
    while (this.at < this.bytes.length * 8) if (!this.bit()) notOurs();
  }
}

const ZIGZAG = [];
for (let line = 0; line < 15; line += 1) {
  for (let step = 0; step <= line; step += 1) {
    const [y, x] = line % 2 ? [step, line - step] : [line - step, step];
    if (y < 8 && x < 8) ZIGZAG.push(8 * y + x);
  }
}

// What pixels of 8 bits give stays well within; beyond it decoders overflow, each in its own way.
const MOST = 8191;
const within = (value, most) => (value > most || value < -most - 1 ? notOurs() : value);

// The 64 coefficients of a component's next block.
function coefficientsOf(bits, component) {
  const block = new Int32Array(64);
  component.last += bits.number(bits.symbol(component.dc));
  block[0] = within(component.last * component.steps[0], MOST);
  for (let at = 1; at < 64; at += 1) {
    const symbol = bits.symbol(component.ac);
    const [run, bitCount] = [symbol >> 4, symbol & 15];
    if (!bitCount && run !== 15) {
      if (run) notOurs();
      break;
    }
    at += run;
    if (at > 63) notOurs();
    if (bitCount) block[ZIGZAG[at]] = within(bits.number(bitCount) * component.steps[at], MOST);
  }
  return block;
}

// --- the transform ------------------------------------------------------------------------------------------------------

const [even, odd] = [new Int32Array(4), new Int32Array(4)];

// One dimension of eight values, `stride` apart; numbers in 2^-13.
function transform(values, from, stride, shift, most) {
  const [s0, s1, s2, s3] = [values[from], values[from + stride], values[from + 2 * stride], values[from + 3 * stride]];
  const [s4, s5, s6, s7] = [values[from + 4 * stride], values[from + 5 * stride], values[from + 6 * stride], values[from + 7 * stride]];
  const z1 = (s2 + s6) * 4433;
  const [low, high] = [z1 - s6 * 15137, z1 + s2 * 6270];
  const [plus, minus] = [(s0 + s4) * 8192, (s0 - s4) * 8192];
  even[0] = plus + high;
  even[1] = minus + low;
  even[2] = minus - low;
  even[3] = plus - high;
  const z5 = (s7 + s3 + s5 + s1) * 9633;
  const [a, b] = [(s7 + s1) * -7373, (s5 + s3) * -20995];
  const [c, d] = [(s7 + s3) * -16069 + z5, (s5 + s1) * -3196 + z5];
  odd[0] = s1 * 12299 + a + d;
  odd[1] = s3 * 25172 + b + c;
  odd[2] = s5 * 16819 + b + d;
  odd[3] = s7 * 2446 + a + c;
  const half = 1 << (shift - 1);
  for (let at = 0; at < 4; at += 1) {
    values[from + at * stride] = within((even[at] + odd[at] + half) >> shift, most);
    values[from + (7 - at) * stride] = within((even[at] - odd[at] + half) >> shift, most);
  }
}

const clamped = (value) => (value < 0 ? 0 : value > 255 ? 255 : value);

// The 64 samples of a block, in its place.
function samplesOf(block) {
  for (let column = 0; column < 8; column += 1) transform(block, column, 8, 11, MOST);
  for (let row = 0; row < 8; row += 1) transform(block, 8 * row, 1, 18, 511);
  for (let at = 0; at < 64; at += 1) block[at] = clamped(block[at] + 128);
  return block;
}

// Brightness and two differences of colour as red, green and blue; numbers in 2^-16.
function writeColour(pixels, at, y, blue, red) {
  const [cb, cr] = [blue - 128, red - 128];
  pixels[at] = clamped(y + ((91881 * cr + 32768) >> 16));
  pixels[at + 1] = clamped(y + ((-22554 * cb - 46802 * cr + 32768) >> 16));
  pixels[at + 2] = clamped(y + ((116130 * cb + 32768) >> 16));
}

// Gives the pixels of a JPEG of exactly this height, width and number of channels.
export function decodeJpeg(data, shape) {
  const [height, width, channels] = shape;
  const { segments, scan } = segmentsOf(data, channels);
  const components = componentsOf(segments, shape);
  const bits = new Bits(scan);
  const pixels = new Uint8Array(height * width * channels);
  for (let top = 0; top < height; top += 8) {
    for (let left = 0; left < width; left += 8) {
      const blocks = components.map((component) => samplesOf(coefficientsOf(bits, component)));
      for (let at = 0; at < 64; at += 1) {
        const [y, x] = [top + (at >> 3), left + (at & 7)];
        if (y >= height || x >= width) continue;
        if (channels === 3) writeColour(pixels, (y * width + x) * 3, blocks[0][at], blocks[1][at], blocks[2][at]);
        else pixels[y * width + x] = blocks[0][at];
      }
    }
  }
  bits.end();
  return { height, width, pixels };
}
