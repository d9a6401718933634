// The canonical input read back out of a request: numbers and pictures, as app/suspects/adapters/{codec,inputs,png}.py.

import { base64, concat, equal, fromBase64, lp, tag, u32, utf8 } from "../protocol.js";
import { Refused, choice, integer, nullable, record, refuse, sequence } from "./canonical.js";
import { decodeJpeg } from "./jpeg.js";
import { areFiniteNumbers, plain } from "./loose_json.js";

export const NUMBER_ENCODINGS = ["nested", "flat", "pixels_nested", "pixels_flat", "floats_nested", "floats_flat"];
export const TEXT_ENCODINGS = ["png_base64", "jpeg_base64", "png_data_url", "jpeg_data_url"];
export const BODY_ENCODINGS = ["png", "jpeg"];

const PIXEL_TOLERANCE = 1e-3;
const product = (sizes) => sizes.reduce((total, size) => total * size, 1);

// --- preprocessing ------------------------------------------------------------------------------------------------------

const DEFAULTS = { scale: "0..255", layout: "hwc", mean: null, std: null, dtype: "uint8", size: null };
const millis = (least) => nullable(sequence(integer(least, 255_000), 1, 3));
const imageRules = record(
  "",
  {
    scale: choice("0..255", "0..1"),
    layout: choice("hwc", "chw", "flat"),
    mean: millis(0),
    std: millis(1),
    dtype: choice("uint8", "float32"),
    size: nullable(sequence(integer(1, 2048), 2, 2)),
  },
  ({ dtype, scale, mean, std }) => {
    if (dtype === "uint8" && !(scale === "0..255" && mean === null && std === null)) refuse("uint8 carries plain pixels only: use float32");
  },
);
const tensorRules = record("", { layout: choice("nested", "flat"), dtype: choice("float32") });

export function parsePreprocessing(given, kind, shape) {
  if (kind === "tensor") {
    const known = { layout: "nested", dtype: "float32", ...given };
    tensorRules(known);
    return { ...DEFAULTS, layout: known.layout === "flat" ? "flat" : "hwc", dtype: "float32" };
  }
  const known = { ...DEFAULTS, ...given };
  imageRules(known);
  if ([known.mean, known.std].some((each) => each !== null && each.length !== shape[2])) refuse(`needs one number a channel: ${shape[2]}`);
  const [height, width] = sentSize(known, shape);
  if (height < shape[0] || width < shape[1]) refuse(`pixels are repeated, never dropped: at least ${shape[0]} by ${shape[1]}, or register smaller inputs`);
  return known;
}

const sentSize = (rules, shape) => rules.size ?? shape.slice(0, 2);
const isPlain = (rules) => Object.keys(DEFAULTS).every((key) => key === "size" || rules[key] === DEFAULTS[key]);
// What carries an input where no encoding is named: this picture, or numbers where no picture can.
export const usualEncoding = (picture, rules, kind) => (kind === "image" && isPlain(rules) ? picture : "nested");

// Refuses an encoding that cannot carry what the preprocessing makes of an input.
export function checkEncoding(encoding, rules, kind) {
  if (!NUMBER_ENCODINGS.includes(encoding)) {
    if (kind !== "image" || !isPlain(rules)) refuse("a picture carries an image's plain pixels: only `size` may stand beside it");
  } else if (encoding.startsWith("pixels") && rules.dtype !== "uint8") refuse("pixels are whole numbers: use floats, or the dtype uint8");
  else if (encoding.startsWith("floats") && rules.dtype !== "float32") refuse("floats need the dtype float32 in the preprocessing");
}

export function sentShape(rules, kind, shape) {
  const sizes = kind === "image" ? [...sentSize(rules, shape), shape[2]] : shape;
  if (rules.layout === "flat") return [product(sizes)];
  return kind === "image" && rules.layout === "chw" ? [sizes[2], sizes[0], sizes[1]] : sizes;
}

// --- numbers ------------------------------------------------------------------------------------------------------------

function flatten(value, dimensions) {
  let level = [value];
  for (const size of dimensions) {
    if (!level.every((item) => Array.isArray(item) && item.length === size)) refuse(`the request does not hold an array of shape (${dimensions.join(", ")})`);
    level = level.flat(1);
  }
  if (!areFiniteNumbers(level)) refuse("the request holds something that is no finite number");
  return level;
}

function inputOf(numbers, rules, kind, shape) {
  if (kind === "tensor") return tensorOf(numbers, shape);
  const [height, width] = sentSize(rules, shape);
  const [channels, area] = [shape[2], height * width];
  const pixels = new Uint8Array(area * channels);
  for (let channel = 0; channel < channels; channel += 1) {
    for (let at = 0; at < area; at += 1) {
      const number = numbers[rules.layout === "chw" ? channel * area + at : at * channels + channel];
      pixels[at * channels + channel] = pixelOf(number, rules, channel);
    }
  }
  return imageOf(shape, reduce({ height, width, pixels }, shape));
}

function pixelOf(number, rules, channel) {
  const noPixel = "a number in the request is no pixel of an image";
  if (rules.dtype === "uint8") return typeof number === "number" && number >= 0 && number <= 255 ? number : refuse(noPixel);
  const unit = rules.scale === "0..1" ? 255 : 1;
  const offset = unit * (rules.mean ? rules.mean[channel] : 0);
  const divisor = unit * (rules.std ? rules.std[channel] : 1000);
  const exact = (Number(plain(number)) * divisor + offset) / 1000;
  if (!(exact > -0.5 && exact < 255.5 && Math.abs(exact - Math.round(exact)) <= PIXEL_TOLERANCE)) refuse(noPixel);
  return Math.round(exact);
}

function tensorOf(numbers, shape) {
  const values = new DataView(new ArrayBuffer(4 * numbers.length));
  numbers.forEach((number, at) => {
    const value = Math.fround(Number(plain(number)));
    if (!Number.isFinite(value)) refuse("not a float32 value");
    values.setFloat32(4 * at, value, true);
  });
  return lp(tag("input"), "tensor", concat(...shape.map(u32)), new Uint8Array(values.buffer));
}

export const imageOf = (shape, pixels) => lp(tag("input"), "image", concat(...shape.map(u32)), pixels);

// --- pictures -----------------------------------------------------------------------------------------------------------

// What a JPEG of ours loses at most, with room.
const JPEG_TOLERANCE = 16;
// How far a pixel read back may lie from the one sent.
export const toleranceOf = (encoding) => (encoding.startsWith("jpeg") ? JPEG_TOLERANCE : 0);

// Gives the pixels that were repeated until the picture had the size in which it is sent; repeated ones may differ by `slack`.
function reduce({ height, width, pixels }, [ownHeight, ownWidth, channels], slack = 0) {
  if (height === ownHeight && width === ownWidth) return pixels;
  const sources = (sent, own) => Array.from({ length: sent }, (_, at) => Math.floor((at * own) / sent));
  const [rows, columns] = [sources(height, ownHeight), sources(width, ownWidth)];
  const made = new Uint8Array(ownHeight * ownWidth * channels);
  const seen = new Uint8Array(ownHeight * ownWidth);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const to = rows[y] * ownWidth + columns[x];
      for (let channel = 0; channel < channels; channel += 1) {
        const value = pixels[(y * width + x) * channels + channel];
        if (!seen[to]) made[to * channels + channel] = value;
        else if (Math.abs(made[to * channels + channel] - value) > slack) refuse("the picture in the request is not the input with its pixels repeated");
      }
      seen[to] = 1;
    }
  }
  return made;
}

const CRC = Uint32Array.from({ length: 256 }, (_, at) => {
  let value = at;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

export function crc32(bytes) {
  let value = -1;
  for (let at = 0; at < bytes.length; at += 1) value = CRC[(value ^ bytes[at]) & 0xff] ^ (value >>> 8);
  return (value ^ -1) >>> 0;
}

const chunk = (name, data) => concat(u32(data.length), utf8(name), data, u32(crc32(concat(utf8(name), data))));

// Only the plainest PNG is read, as only that is written: any other chunk could tell the endpoint which answer is wanted.
async function decodePng(data, [height, width, channels]) {
  const head = concat(u32(width), u32(height), Uint8Array.of(8, channels === 1 ? 0 : 2, 0, 0, 0));
  const start = concat(Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a), chunk("IHDR", head));
  const end = chunk("IEND", new Uint8Array(0));
  const isFramed = data.length >= start.length + end.length && equal(data.subarray(0, start.length), start) && equal(data.subarray(data.length - end.length), end);
  if (!isFramed) refuse(`the request does not hold a plain PNG of shape (${[height, width, channels].join(", ")})`);
  const body = data.subarray(start.length, data.length - end.length);
  const compressed = body.subarray(8, Math.max(8, body.length - 4));
  if (!equal(body, chunk("IDAT", compressed))) refuse("the PNG holds more than one chunk of pixels, or a wrong checksum");
  const stride = 1 + width * channels;
  const rows = await inflate(compressed, height * stride);
  const pixels = new Uint8Array(height * width * channels);
  for (let row = 0; row < height; row += 1) {
    if (rows[row * stride] !== 0) refuse("the PNG's rows are filtered");
    pixels.set(rows.subarray(row * stride + 1, (row + 1) * stride), row * (stride - 1));
  }
  return { height, width, pixels };
}

async function inflate(compressed, size) {
  const rows = new Uint8Array(size);
  let at = 0;
  try {
    const reader = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
    for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
      if (at + value.length > size) {
        await reader.cancel();
        refuse("the PNG does not hold exactly its pixels");
      }
      rows.set(value, at);
      at += value.length;
    }
  } catch (error) {
    if (error instanceof Refused) throw error;
    refuse("the PNG's pixels do not decompress");
  }
  return at === size ? rows : refuse("the PNG does not hold exactly its pixels");
}

// --- what stands in the hole --------------------------------------------------------------------------------------------

function pictureText(encoding, value) {
  const prefix = encoding.endsWith("data_url") ? `data:image/${encoding.split("_")[0]};base64,` : "";
  if (typeof value !== "string" || !value.startsWith(prefix)) refuse("the request holds no text where the picture should stand");
  const text = value.slice(prefix.length);
  let data;
  try {
    data = fromBase64(text);
  } catch {
    refuse("the request's picture is not base64");
  }
  return base64(data) === text ? data : refuse("the request's picture is not canonical base64");
}

// Reads a parsed JSON value, or the body's bytes for a picture, into the input's canonical bytes.
export async function readInput(encoding, rules, value, kind, shape) {
  if (NUMBER_ENCODINGS.includes(encoding)) {
    const dimensions = sentShape(rules, kind, shape);
    return inputOf(flatten(value, encoding.endsWith("flat") ? [product(dimensions)] : dimensions), rules, kind, shape);
  }
  const data = BODY_ENCODINGS.includes(encoding) ? value : pictureText(encoding, value);
  const sent = [...sentSize(rules, shape), shape[2]];
  const picture = encoding.startsWith("png") ? await decodePng(data, sent) : decodeJpeg(data, sent);
  return imageOf(shape, reduce(picture, shape, 2 * toleranceOf(encoding)));
}

// Reads what stands as raw little-endian items behind a request's header, which must be this one byte for byte.
export function readRaw(rawHeader, rules, body, kind, shape) {
  const count = product(sentShape(rules, kind, shape));
  const size = count * (rules.dtype === "uint8" ? 1 : 4);
  if (body.length < size) refuse("the request does not hold the input's bytes");
  const at = body.length - size;
  if (!equal(body.subarray(0, at), rawHeader(size))) refuse("the request holds something other than the input and its fixed frame");
  const view = new DataView(body.buffer, body.byteOffset + at, size);
  const numbers = Array.from({ length: count }, (_, n) => (rules.dtype === "uint8" ? view.getUint8(n) : view.getFloat32(4 * n, true)));
  return inputOf(numbers, rules, kind, shape);
}

// The body's text in which a picture stands without quotes.
export const readBody = (encoding, rules, body, kind, shape) =>
  readInput(encoding, rules, TEXT_ENCODINGS.includes(encoding) ? new TextDecoder("latin1").decode(body) : body, kind, shape);

