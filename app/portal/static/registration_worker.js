// Makes a marking key away from the page, so that the page stays usable and can end it. Speaks to its page alone and sends nothing:
// {words, done, of} on the way, then {made} or {problem}.

import { KeyProblem, newMarkingKey, sealKeyFile } from "./keys.js";
import { fromFiles } from "./pictures.js";
import { Randomness, newSeed } from "./randomness.js";
import { MAX_DRAWN, MAX_PIXEL_BYTES, abstract, apartFrom, nearPairs, noise, sizeOf } from "./triggers.js";

const NAMED = 10;

const progress = (words) => (done, of) => self.postMessage({ words, done, of });

function checkSize(order) {
  const count = order.abstract + order.noise + order.own.length;
  if (count === 0) throw new KeyProblem("choose how many triggers to draw, or pictures of your own");
  const most = Math.min(MAX_DRAWN, Math.floor(MAX_PIXEL_BYTES / sizeOf(order.shape)));
  if (count > most) throw new KeyProblem(`${count} triggers of this shape are too many for a browser: take at most ${most} together, or trapstreet keygen`);
}

async function drawTriggers(order) {
  checkSize(order);
  const randomness = await Randomness.from(newSeed());
  const families = [];
  const inputs = [];
  const add = (name, more) => {
    if (more.length === 0) return;
    families.push({ name, start: inputs.length, end: inputs.length + more.length });
    inputs.push(...more);
  };
  for (const [name, draw, words] of [["abstract", abstract, "Drawing abstract pictures"], ["noise", noise, "Drawing noise"]]) {
    add(name, await apartFrom(inputs, () => draw(order.shape, randomness), order[name], order.shape, progress(words)));
  }
  const drawn = inputs.length;
  const names = [...inputs.keys()].map((at) => `drawn picture ${at + 1}`).concat(order.own.map((file) => file.name));
  add("own", await fromFiles(order.own, order.shape, progress("Reading your pictures")));
  const pairs = nearPairs(inputs, names, drawn, progress("Comparing your pictures"));
  if (pairs.length > 0) {
    const named = pairs.slice(0, NAMED).map(([one, other, apart]) => `${one} and ${other} (${(100 * apart).toFixed(1)} %)`);
    throw new KeyProblem(`too alike to be taught different labels, under 5 % of full scale apart: ${named.join("; ")}${pairs.length > NAMED ? `; and ${pairs.length - NAMED} pairs more` : ""}. Take one of each pair out, or a larger shape`);
  }
  return { inputs, families };
}

self.onmessage = async ({ data: order }) => {
  try {
    const { inputs, families } = await drawTriggers(order);
    const key = newMarkingKey(inputs);
    const root = await key.root(progress("Committing to each trigger"));
    progress("Sealing the key")(0, 1);
    const file = order.passphrase ? await sealKeyFile(key, order.passphrase) : key.encode();
    self.postMessage({ made: { root, families, inputs, file, count: key.count, kind: key.kind, shape: key.shape } });
  } catch (error) {
    self.postMessage({ problem: error.message });
  }
};
