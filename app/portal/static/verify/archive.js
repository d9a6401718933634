// A bundle's one file: a zip with fixed order, times and no compression, read only if packing it again gives the same bytes,
// so not one byte of it is free (app/storage/archive.py).
// Source: PKWARE APPNOTE 6.3 (stored entries only).

import { MAX_FILE_BYTES, refuse } from "./canonical.js";
import { crc32 } from "./inputs.js";

const LOCAL = 30;
const END = 22;
const FIRST_DAY = 33; // 1980-01-01, as the format writes it
const OWNER_ONLY = 0o600 * 2 ** 16; // as Python's zipfile writes the mode of a file without one
const MAX_ENTRIES = 65_534;

const broken = (why) => refuse(`not a bundle: ${why}`);
const changed = () => refuse("not a bundle as it was written: the archive around its files was changed");

// Gives a Map from names to bytes, which are views of `data`.
export function unpack(data, onProgress = () => {}) {
  if (data.length > MAX_FILE_BYTES) broken(`${data.length} bytes, over the limit of ${MAX_FILE_BYTES}`);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (data.length < END || view.getUint32(data.length - END, true) !== 0x06054b50) broken("File is not a zip file");
  const count = view.getUint16(data.length - END + 10, true);
  const directory = view.getUint32(data.length - END + 16, true);
  if (count > MAX_ENTRIES || directory > data.length - END) changed();
  const files = new Map();
  const listed = [];
  let at = 0;
  while (at < directory) {
    const entry = readEntry(data, view, at, directory);
    if (files.size && entry.name <= listed.at(-1).name) changed();
    files.set(entry.name, entry.bytes);
    listed.push(entry);
    at = entry.end;
    onProgress(at, data.length);
  }
  checkDirectory(data, listed, directory, count);
  return files;
}

function readEntry(data, view, at, limit) {
  if (at + LOCAL > limit || view.getUint32(at, true) !== 0x04034b50) changed();
  if (view.getUint16(at + 8, true) !== 0) refuse("a bundle's files are stored, not compressed");
  const [crc, size, again] = [14, 18, 22].map((place) => view.getUint32(at + place, true));
  const nameBytes = view.getUint16(at + 26, true);
  const start = at + LOCAL + nameBytes;
  const end = start + size;
  if (end > limit || size !== again) changed();
  const name = new TextDecoder("latin1").decode(data.subarray(at + LOCAL, start));
  // Names of a bundle are plain; any other would be written otherwise.
  if (!/^[ -~]+$/.test(name)) changed();
  const bytes = data.subarray(start, end);
  if (crc32(bytes) !== crc) broken(`Bad CRC-32 for file '${name}'`);
  const entry = { name, bytes, crc, at, end };
  if (!isSame(data, at, localHeader(entry))) changed();
  return entry;
}

function checkDirectory(data, listed, directory, count) {
  let at = directory;
  for (const entry of listed) {
    const written = centralHeader(entry);
    if (!isSame(data, at, written)) changed();
    at += written.length;
  }
  const end = fields([[4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, at - directory], [4, directory], [2, 0]]);
  if (count !== listed.length || !isSame(data, at, end) || at + END !== data.length) changed();
}

const isSame = (data, at, written) => at + written.length <= data.length && written.every((byte, place) => data[at + place] === byte);

function fields(list, text = "") {
  const size = list.reduce((total, [bytes]) => total + bytes, 0);
  const made = new Uint8Array(size + text.length);
  const view = new DataView(made.buffer);
  let at = 0;
  for (const [bytes, value] of list) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
  made.set(Uint8Array.from(text, (character) => character.charCodeAt(0)), size);
  return made;
}

const shared = ({ name, bytes, crc }) => [[2, 20], [2, 0], [2, 0], [2, 0], [2, FIRST_DAY], [4, crc], [4, bytes.length], [4, bytes.length], [2, name.length], [2, 0]];

const localHeader = (entry) => fields([[4, 0x04034b50], ...shared(entry)], entry.name);

// Made by version 2.0 on Unix.
const centralHeader = (entry) => fields([[4, 0x02014b50], [2, 0x0314], ...shared(entry), [2, 0], [2, 0], [2, 0], [4, OWNER_ONLY], [4, entry.at]], entry.name);

