// The Merkle tree of the log and of key commitments: RFC 9162 section 2.1. Each check throws an Error that says what does not fit.

import { concat, equal, sha256 } from "./protocol.js";

export const leafHash = (data) => sha256(concat(Uint8Array.of(0), data));
export const nodeHash = (left, right) => sha256(concat(Uint8Array.of(1), left, right));

// All levels of complete subtrees over leaf hashes, lowest first.
export async function treeOf(leaves) {
  const levels = [leaves];
  while (levels.at(-1).length > 1) {
    const below = levels.at(-1);
    const above = [];
    for (let at = 0; at + 1 < below.length; at += 2) above.push(await nodeHash(below[at], below[at + 1]));
    levels.push(above);
  }
  return levels;
}

// The largest power of two below `size`.
function leftSize(size) {
  let left = 1;
  while (left * 2 < size) left *= 2;
  return left;
}

async function subtree(levels, start, size) {
  const level = Math.log2(size);
  if (Number.isInteger(level)) return levels[level][start / size];
  const left = leftSize(size);
  return nodeHash(await subtree(levels, start, left), await subtree(levels, start + left, size - left));
}

export const rootOf = (levels) => subtree(levels, 0, levels[0].length);

export async function inclusionPath(levels, index) {
  const downwards = [];
  let start = 0;
  let size = levels[0].length;
  while (size > 1) {
    const left = leftSize(size);
    if (index < start + left) {
      downwards.push(await subtree(levels, start + left, size - left));
      size = left;
    } else {
      downwards.push(await subtree(levels, start, left));
      start += left;
      size -= left;
    }
  }
  return downwards.reverse();
}

// Names and steps of section 2.1.3.2: fn is the position of r on its level, sn that of the last node there.
export async function verifyInclusion(leaf, index, size, path, root) {
  if (!(index >= 0 && index < size)) throw new Error(`there is no leaf ${index} in a tree of ${size}`);
  let fn = BigInt(index);
  let sn = BigInt(size) - 1n;
  let r = leaf;
  for (const p of path) {
    if (sn === 0n) throw new Error(`the inclusion proof is longer than one for leaf ${index} of ${size}`);
    if (fn % 2n || fn === sn) {
      r = await nodeHash(p, r);
      while (fn % 2n === 0n && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else {
      r = await nodeHash(r, p);
    }
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  if (sn !== 0n) throw new Error(`the inclusion proof is shorter than one for leaf ${index} of ${size}`);
  if (!equal(r, root)) throw new Error(`the inclusion proof leads from leaf ${index} of ${size} to another root`);
}
