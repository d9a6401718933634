// Receipts and the entries of a bundle against the log's key: app/merkle/receipt.py and checkpoint.py, app/protocol/bundle.py.
// Nothing here asks anybody.
// Source: RFC 9162 section 2.1.3.2; C2SP tlog-proof, tlog-checkpoint, signed-note.

import { verifySignature } from "../keys.js";
import { LogView, ProofError } from "../log_view.js";
import { concat, fromHex, hex, utf8 } from "../protocol.js";
import { Refused, refuse, utf8Text } from "./canonical.js";
import { sha256 } from "./hash.js";
import { parseEntry } from "./records.js";

const MAX_RECEIPT_BYTES = 256 * 1024 + 4096;

export const fingerprintOf = (publicKey) => hex(sha256(publicKey));

// What a checkpoint is held to: {origin, keyId, publicKey}.
export function verifierOf(origin, publicKey) {
  const keyId = sha256(concat(utf8(`${origin}\n`), Uint8Array.of(1), publicKey)).slice(0, 4);
  return { origin, keyId, publicKey };
}

export async function checkSignature(publicKey, signature, data) {
  let holds;
  try {
    holds = await verifySignature(publicKey, signature, data);
  } catch {
    // Bytes that are no key at all.
    holds = false;
  }
  if (!holds) refuse("the signature does not fit this key and these bytes");
}

// Reads a receipt without believing it: {index, note}.
function readReceipt(receipt) {
  if (receipt.length > MAX_RECEIPT_BYTES) refuse(`a receipt has at most ${MAX_RECEIPT_BYTES} bytes`);
  const text = utf8Text(receipt, "not a receipt");
  const found = /^c2sp\.org\/tlog-proof@v1\nindex (0|[1-9][0-9]{0,15})\n/.exec(text) ?? refuse("not a receipt: it begins with the line c2sp.org/tlog-proof@v1 and the entry's index");
  return { index: Number(found[1]), note: text.slice(text.indexOf("\n\n") + 2) };
}

// Checks that these bytes are the entry at the receipt's place; gives {index, origin, size, note}.
export async function verifyReceipt(receipt, entry, verifier) {
  const { index, note } = readReceipt(receipt);
  const view = new LogView(() => refuse("nobody is asked here"), verifier);
  try {
    await view.verify(index, entry, receipt);
  } catch (error) {
    // Errors of the proof itself say what does not fit; any other is of the text's form.
    if (error instanceof Refused) throw error;
    refuse(error instanceof ProofError || error.constructor === Error ? error.message : `not a receipt: ${error.message}`);
  }
  return { index, origin: verifier.origin, size: view.seen.size, note };
}

const numbersOf = (index) => {
  const { registration, registration_beacon: its, filing, filing_beacon: own, blocks, verdict } = index;
  const extra = [index.interface, index.prior_model].filter((number) => number !== null);
  return [...new Set([registration, its, filing, own, ...blocks, verdict, ...extra])].sort((one, other) => one - other);
};

// Checks that nothing is missing or extra in a bundle.
export function checkNames(files, index, listed) {
  const expected = new Set(["bundle.json", "evidence.json", ...Object.keys(listed)]);
  for (const number of numbersOf(index)) expected.add(`entries/${number}.json`).add(`receipts/${number}.txt`);
  const all = [...new Set([...expected, ...files.keys()])].sort();
  const odd = all.find((name) => expected.has(name) !== files.has(name));
  if (odd !== undefined) refuse(expected.has(odd) ? `the bundle lacks ${odd}` : `${odd} does not belong in this bundle`);
}

// Checks every entry of a bundle; gives a Map from index to {index, value, data}, and the one checkpoint.
export async function checkEntries(files, index, onProgress) {
  const verifier = verifierOf(index.log, fromHex(index.log_key));
  const entries = new Map();
  const notes = new Set();
  let checkpoint;
  const numbers = numbersOf(index);
  for (const [at, number] of numbers.entries()) {
    const data = files.get(`entries/${number}.json`);
    const receipt = files.get(`receipts/${number}.txt`);
    const { index: its } = readReceipt(receipt);
    if (its !== number) refuse(`receipts/${number}.txt is a receipt for entry ${its}`);
    try {
      checkpoint = await verifyReceipt(receipt, data, verifier);
    } catch (error) {
      refuse(`entry ${number}: ${error.message}`);
    }
    notes.add(checkpoint.note);
    entries.set(number, { index: number, value: parseEntry(data), data });
    onProgress(at + 1, numbers.length);
  }
  if (notes.size !== 1 || checkpoint.note.split("\n\n")[1].split("\n").length !== 2) refuse("the receipts are not all of one checkpoint with the log's own signature alone");
  const times = numbers.map((number) => entries.get(number).value.time);
  if (times.some((time, at) => at && time < times[at - 1])) refuse("the entries' times go back");
  if (checkpoint.size !== index.verdict + 1) refuse("the checkpoint is not the first that holds the verdict");
  return { entries, checkpoint };
}
