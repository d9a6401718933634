// Trigger inputs in the browser: drawn, or from the person's own pictures; always as canonical bytes of one shape.
// Pictures are read without colour management and without premultiplied alpha; grey is Pillow's rule, so that a PNG of the
// right size gives the command line's bytes.

import { KeyProblem, imageInput, parseInput } from "./keys.js";

// As app/embedding/triggers: nearer ones cannot be taught different labels; share of full scale, root mean square.
export const MIN_DISTANCE = 0.05;

const pixelsOf = (shape) => shape[0] * shape[1] * shape[2];

export async function fromFiles(files, shape, onProgress = () => {}) {
  const inputs = [];
  for (const [index, file] of [...files].entries()) {
    inputs.push(imageInput(shape, await readPicture(file, shape)));
    onProgress(index + 1, files.length);
  }
  return inputs;
}

async function readPicture(file, [height, width, channels]) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new KeyProblem(`${file.name} is no picture that this browser reads: take PNG or JPEG`);
  }
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const pixels = new Uint8Array(height * width * channels);
  for (let at = 0; at < height * width; at += 1) {
    const [red, green, blue] = data.subarray(4 * at, 4 * at + 3);
    if (channels === 3) pixels.set([red, green, blue], 3 * at);
    else pixels[at] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
  }
  return pixels;
}

export function noise(count, shape) {
  const size = pixelsOf(shape);
  return Array.from({ length: count }, () => {
    const pixels = new Uint8Array(size);
    for (let at = 0; at < size; at += 65_536) crypto.getRandomValues(pixels.subarray(at, at + 65_536));
    return imageInput(shape, pixels);
  });
}

// Overlapping waves and discs that look like nothing in any task (Adi et al. 2018 section 5.1), as `trapstreet keygen` draws.
export function abstract(count, shape) {
  return Array.from({ length: count }, () => imageInput(shape, drawAbstract(shape)));
}

const LAYERS = 4;

function uniform(low, high) {
  return low + ((high - low) * crypto.getRandomValues(new Uint32Array(1))[0]) / 2 ** 32;
}

const normal = () => Math.sqrt(-2 * Math.log(1 - uniform(0, 1))) * Math.cos(2 * Math.PI * uniform(0, 1));

function drawAbstract([height, width, channels]) {
  const canvas = new Float64Array(height * width * channels);
  for (let layer = 0; layer < LAYERS; layer += 1) {
    const centre = [uniform(-1, 1), uniform(-1, 1)];
    const radius = uniform(0.2, 0.7);
    for (let channel = 0; channel < channels; channel += 1) {
      const [down, across, phase, height_of_wave, lift] = [normal(), normal(), uniform(0, 2 * Math.PI), uniform(0.3, 1), uniform(-2, 2)];
      for (let row = 0; row < height; row += 1) {
        for (let column = 0; column < width; column += 1) {
          const y = height > 1 ? (2 * row) / (height - 1) - 1 : 0;
          const x = width > 1 ? (2 * column) / (width - 1) - 1 : 0;
          const inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius ** 2;
          canvas[(row * width + column) * channels + channel] += height_of_wave * Math.sin(3 * (down * y + across * x) + phase) + (inside ? lift : 0);
        }
      }
    }
  }
  const mean = canvas.reduce((sum, value) => sum + value, 0) / canvas.length;
  const spread = Math.sqrt(canvas.reduce((sum, value) => sum + (value - mean) ** 2, 0) / canvas.length);
  return Uint8Array.from(canvas, (value) => Math.min(255, Math.max(0, Math.round(127.5 + (90 * value) / Math.max(0.5, spread)))));
}

// Draws until every picture is far from every other; gives up where the shape cannot hold so many.
export function apartFrom(kept, draw, count) {
  const chosen = [];
  for (let tries = 0; chosen.length < count; tries += 1) {
    if (tries > 20 * count + 100) throw new KeyProblem(`pictures of this shape are too alike: only ${chosen.length} of ${count} could be drawn far enough apart; take fewer or a larger shape`);
    const [one] = draw();
    if (![...kept, ...chosen].some((other) => distance(one, other) < MIN_DISTANCE)) chosen.push(one);
  }
  return chosen;
}

export function distance(one, other) {
  const [first, second] = [parseInput(one).values, parseInput(other).values];
  let squares = 0;
  for (let at = 0; at < first.length; at += 1) squares += (first[at] - second[at]) ** 2;
  return Math.sqrt(squares / first.length) / 255;
}

// Pairs of pictures that are too alike, as [name, name, distance].
export async function nearPairs(inputs, names, onProgress = () => {}) {
  const found = [];
  for (let at = 0; at < inputs.length; at += 1) {
    for (let other = 0; other < at; other += 1) {
      const apart = distance(inputs[at], inputs[other]);
      if (apart < MIN_DISTANCE) found.push([names[other], names[at], apart]);
    }
    if (at % 32 === 0) {
      onProgress(at, inputs.length);
      await new Promise((resolve) => setTimeout(resolve));
    }
  }
  return found;
}

// Draws an input onto a canvas, for the eye.
export function show(input, canvas) {
  const { shape, values } = parseInput(input);
  const [height, width, channels] = shape;
  Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  for (let at = 0; at < height * width; at += 1) {
    const [red, green, blue] = channels === 3 ? values.subarray(3 * at, 3 * at + 3) : [values[at], values[at], values[at]];
    image.data.set([red, green, blue, 255], 4 * at);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
