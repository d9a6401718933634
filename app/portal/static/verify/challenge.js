// Which triggers are asked, in which order, with which labels, and their look-alikes: app/protocol/challenge.py and
// app/keys/labels.py.
// Source: docs/protocol.md sections 5 and 6; RFC 5869.

import { concat, fromHex, hex, lp, tag, u32, u64 } from "../protocol.js";
import { refuse } from "./canonical.js";
import { hmac, hmacKey, sha256 } from "./hash.js";

const TILE_PIXELS = 4;
const TILE_BYTES = 4 * 16;
const REPEAT_EVERY = 20;

const drawn = (purpose, beacon, ...rest) => sha256(lp(tag(purpose), beacon.source, u64(beacon.round), fromHex(beacon.randomness), fromHex(beacon.nonce), ...rest));

export const saltOf = (beacon, root, entryHash) => drawn("beacon", beacon, root, entryHash);
export const seedOf = (beacon, entryHash) => drawn("challenge-seed", beacon, entryHash);

// Draws labels of one salt: HKDF of RFC 5869 for one block.
export function labelDrawer(salt, classes) {
  const extract = hmacKey(salt);
  return (labelKey, index) => {
    const block = hmac(extract(labelKey), concat(lp(tag("label"), u32(index), u32(classes)), Uint8Array.of(1)));
    return remainder(block, classes);
  };
}

// A 256-bit number modulo a small one, in steps that a double holds exactly.
function remainder(bytes, classes) {
  let rest = 0;
  for (const byte of bytes) rest = (rest * 256 + byte) % classes;
  return rest;
}

function sortedBy(count, start, digest) {
  const keyed = Array.from({ length: count }, (_, at) => [hex(digest(start + at)), start + at]);
  return keyed.sort(([one], [other]) => (one < other ? -1 : 1)).map(([, index]) => index);
}

export function challengeOrder(seed, { start, end }) {
  const keyed = hmacKey(seed);
  return sortedBy(end - start, start, (index) => keyed(lp(tag("challenge"), u32(index))));
}

export const isRepeated = (position) => position % REPEAT_EVERY === 0;

// Reads an input's canonical bytes into {kind, shape, values}; throws what is wrong with it.
export function parseInput(data) {
  if (data.length > 16 * 1024 * 1024) refuse("an input may have 16777216 bytes");
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const items = [];
  for (let at = 0; at < data.length; ) {
    const end = at + 4 <= data.length ? at + 4 + view.getUint32(at) : Infinity;
    if (end > data.length) refuse("not a canonical input: an item is cut short");
    items.push(data.subarray(at + 4, end));
    at = end;
  }
  if (items.length !== 4 || hex(items[0]) !== hex(tag("input"))) refuse("not a canonical input");
  const [, kindBytes, size, values] = items;
  if (size.length % 4) refuse("not a canonical input: a dimension is cut short");
  const kind = new TextDecoder("latin1").decode(kindBytes);
  const shape = Array.from({ length: size.length / 4 }, (_, at) => new DataView(size.buffer, size.byteOffset + 4 * at, 4).getUint32(0));
  if (kind === "text") refuse("text inputs are not registered in trapstreet/v1");
  if (!["image", "tensor"].includes(kind)) refuse("inputs are of kind image or tensor");
  checkValues(kind, shape, values);
  return { kind, shape, values };
}

function checkValues(kind, shape, values) {
  if (shape.length < 1 || shape.length > 8) refuse("a shape has 1 to 8 dimensions");
  if (!shape.every((size) => size >= 1 && size <= 65_535)) refuse("dimensions lie between 1 and 65535");
  if (kind === "image" && (shape.length !== 3 || ![1, 3].includes(shape[2]))) refuse("an image's shape is height, width, channels with 1 or 3 channels");
  const count = shape.reduce((product, size) => product * size, 1);
  if (values.length !== count * (kind === "image" ? 1 : 4)) refuse(`${values.length} bytes do not fill the shape (${shape.join(", ")})`);
  if (kind === "image") return;
  const floats = new DataView(values.buffer, values.byteOffset, values.byteLength);
  for (let at = 0; at < values.length; at += 4) if (!Number.isFinite(floats.getFloat32(at, true))) refuse("tensor values must be finite");
}

// An opened input with its tiles of 4x4 pixels, or its blocks of 16 values, shuffled; what fills no tile stays in place.
export function lookAlike(seed, index, input) {
  const { kind, shape, values } = parseInput(input);
  const keyed = hmacKey(seed);
  const tiles = (count) => sortedBy(count, 0, (tile) => keyed(lp(tag("look-alike"), u32(index), u32(tile))));
  const shuffled = values.slice();
  if (kind === "tensor") {
    tiles(Math.floor(values.length / TILE_BYTES)).forEach((source, target) => shuffled.set(values.subarray(source * TILE_BYTES, (source + 1) * TILE_BYTES), target * TILE_BYTES));
  } else {
    const [height, width, channels] = shape;
    const columns = Math.floor(width / TILE_PIXELS);
    const placeOf = (tile, line) => ((Math.floor(tile / columns) * TILE_PIXELS + line) * width + (tile % columns) * TILE_PIXELS) * channels;
    tiles(columns * Math.floor(height / TILE_PIXELS)).forEach((source, target) => {
      for (let line = 0; line < TILE_PIXELS; line += 1) {
        const from = placeOf(source, line);
        shuffled.set(values.subarray(from, from + TILE_PIXELS * channels), placeOf(target, line));
      }
    });
  }
  return lp(tag("input"), kind, concat(...shape.map(u32)), shuffled);
}
