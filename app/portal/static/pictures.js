// A person's own pictures as trigger inputs, and inputs as pictures for the eye. They are read without colour management,
// turned as the camera noted, opaque, grey by Pillow's rule: docs/portal.md says when that gives the command line's bytes.

import { KeyProblem, imageInput, parseInput } from "./keys.js";

// Where a PNG says how many bits a channel has.
const PNG_DEPTH_AT = 24;
const PNG = [0x89, 0x50, 0x4e, 0x47];

export async function fromFiles(files, shape, onProgress = () => {}) {
  const inputs = [];
  for (const [index, file] of [...files].entries()) {
    inputs.push(imageInput(shape, await readPicture(file, shape)));
    onProgress(index + 1, files.length);
  }
  return inputs;
}

async function decoded(file) {
  try {
    return await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" });
  } catch {
    throw new KeyProblem(`${file.name} is no picture that this browser reads: take PNG or JPEG`);
  }
}

async function readPicture(file, [height, width, channels]) {
  const head = new Uint8Array(await file.slice(0, PNG_DEPTH_AT + 1).arrayBuffer());
  if (PNG.every((byte, at) => head[at] === byte) && head[PNG_DEPTH_AT] === 16) throw new KeyProblem(`${file.name} has 16 bits a channel, which programs round differently: save it with 8`);
  const bitmap = await decoded(file);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const pixels = new Uint8Array(height * width * channels);
  for (let at = 0; at < height * width; at += 1) {
    const [red, green, blue, alpha] = data.subarray(4 * at, 4 * at + 4);
    if (alpha !== 255) throw new KeyProblem(`${file.name} is transparent in places, and what shows there depends on the program: save it without transparency`);
    if (channels === 3) pixels.set([red, green, blue], 3 * at);
    else pixels[at] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
  }
  return pixels;
}

// A small picture of an input, with words for who does not see it.
export function pictureOf(input, words) {
  const { shape, values } = parseInput(input);
  const [height, width, channels] = shape;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const image = new ImageData(width, height);
  for (let at = 0; at < height * width; at += 1) {
    const [red, green, blue] = channels === 3 ? values.subarray(3 * at, 3 * at + 3) : [values[at], values[at], values[at]];
    image.data.set([red, green, blue, 255], 4 * at);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", words);
  return canvas;
}
