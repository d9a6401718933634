// Trigger inputs drawn in the browser, as canonical bytes of one shape, and how far apart they are. All that is drawn follows from
// one seed (randomness.js): noise to the byte; abstract pictures as far as two browsers agree on the last bit of a sine.

import { KeyProblem, imageInput, parseInput } from "./keys.js";

// As app/embedding/triggers: nearer ones cannot be taught different labels; share of full scale, root mean square.
export const MIN_DISTANCE = 0.05;

// What is measured to work in a browser (docs/portal.md): so many triggers, and so many bytes of pixels.
export const MAX_DRAWN = 4096;
export const MAX_PIXEL_BYTES = 64 * 1024 * 1024;

const LAYERS = 4;
const NUMBERS_A_WAVE = 7;
const PROGRESS_EVERY = 32;

export const sizeOf = (shape) => shape[0] * shape[1] * shape[2];
export const valuesOf = (input) => parseInput(input).values;

export const noise = async (shape, randomness) => randomness.bytes(sizeOf(shape));

// Overlapping waves and discs that look like nothing in any task (Adi et al. 2018 section 5.1), as `trapstreet keygen` draws.
export async function abstract([height, width, channels], randomness) {
  const numbers = (await randomness.fractions(LAYERS * (3 + NUMBERS_A_WAVE * channels))).values();
  const uniform = (low, high) => low + (high - low) * numbers.next().value;
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform(0, 1))) * Math.cos(2 * Math.PI * uniform(0, 1));
  const canvas = new Float64Array(height * width * channels);
  for (let layer = 0; layer < LAYERS; layer += 1) {
    const centre = [uniform(-1, 1), uniform(-1, 1)];
    const radius = uniform(0.2, 0.7);
    for (let channel = 0; channel < channels; channel += 1) {
      const wave = [normal(), normal(), uniform(0, 2 * Math.PI), uniform(0.3, 1), uniform(-2, 2)];
      addWave(canvas, [height, width, channels], channel, centre, radius, wave);
    }
  }
  return toPixels(canvas);
}

function addWave(canvas, [height, width, channels], channel, centre, radius, [down, across, phase, amplitude, lift]) {
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      const y = height > 1 ? (2 * row) / (height - 1) - 1 : 0;
      const x = width > 1 ? (2 * column) / (width - 1) - 1 : 0;
      const inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius ** 2;
      canvas[(row * width + column) * channels + channel] += amplitude * Math.sin(3 * (down * y + across * x) + phase) + (inside ? lift : 0);
    }
  }
}

function toPixels(canvas) {
  const mean = canvas.reduce((sum, value) => sum + value, 0) / canvas.length;
  const spread = Math.sqrt(canvas.reduce((sum, value) => sum + (value - mean) ** 2, 0) / canvas.length);
  return Uint8Array.from(canvas, (value) => Math.min(255, Math.max(0, Math.round(127.5 + (90 * value) / Math.max(0.5, spread)))));
}

// Draws until every picture is far from all of `kept` and from every other; gives up where the shape cannot hold so many.
export async function apartFrom(kept, draw, count, shape, onProgress = () => {}) {
  const chosen = [];
  const seen = kept.map(valuesOf);
  for (let tries = 0; chosen.length < count; tries += 1) {
    if (tries > 20 * count + 100) throw new KeyProblem(`pictures of this shape are too alike: only ${chosen.length} of ${count} could be drawn far enough apart; take fewer or a larger shape`);
    const pixels = await draw();
    if (tries % PROGRESS_EVERY === 0) onProgress(chosen.length, count);
    if (seen.some((other) => isNear(pixels, other))) continue;
    seen.push(pixels);
    chosen.push(imageInput(shape, pixels));
  }
  return chosen;
}

export function distance(first, second) {
  let squares = 0;
  for (let at = 0; at < first.length; at += 1) squares += (first[at] - second[at]) ** 2;
  return Math.sqrt(squares / first.length) / 255;
}

// Most pairs are far apart after a few values already: the rest of them is not looked at.
function isNear(first, second) {
  const enough = (MIN_DISTANCE * 255) ** 2 * first.length;
  let squares = 0;
  for (let at = 0; at < first.length; ) {
    const end = Math.min(at + 64, first.length);
    for (; at < end; at += 1) squares += (first[at] - second[at]) * (first[at] - second[at]);
    if (squares > enough) return false;
  }
  return distance(first, second) < MIN_DISTANCE;
}

// Pairs of pictures that are too alike, as [name, name, distance]; those before `start` are known to be apart from each other.
export function nearPairs(inputs, names, start, onProgress = () => {}) {
  const seen = inputs.map(valuesOf);
  const found = [];
  for (let at = start; at < seen.length; at += 1) {
    for (let other = 0; other < at; other += 1) {
      if (isNear(seen[at], seen[other])) found.push([names[other], names[at], distance(seen[at], seen[other])]);
    }
    if (at % PROGRESS_EVERY === 0) onProgress(at - start, seen.length - start);
  }
  return found;
}
