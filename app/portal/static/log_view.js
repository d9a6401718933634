// The log under a pinned key, as app/cli/client.py LogView: every entry read here is proven to be in it, and it never shrinks
// or forks while this tab is open. Nothing here believes the service; what it says counts only where the log's key signed it.
// Source: C2SP tlog-checkpoint, signed-note and tlog-proof; RFC 9162 sections 2.1.3.2 and 2.1.4.2.

import { verifySignature } from "./keys.js";
import { leafHash, nodeHash, verifyInclusion } from "./merkle.js";
import { PROTOCOL, base64, canonicalJson, concat, equal, fromBase64, fromHex, hex, sha256, utf8 } from "./protocol.js";

export class ProofError extends Error {}

const text = (bytes) => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);

function decimal(said) {
  if (!/^(0|[1-9][0-9]{0,15})$/.test(said) || !Number.isSafeInteger(Number(said))) throw new ProofError("not a number as the log writes it");
  return Number(said);
}

function bytesOf(said, length) {
  const bytes = fromBase64(said);
  if (base64(bytes) !== said || (length !== undefined && bytes.length !== length)) throw new ProofError("not base64 as the log writes it");
  return bytes;
}

// A verifier key: origin+key id+base64 of byte 1 and the Ed25519 key.
export async function parseVerifierKey(said) {
  const [origin, id, encoded, ...rest] = said.split(/\+(.{8})\+/);
  if (rest.length || !/^[!-*,-~]{1,200}$/.test(origin) || encoded === undefined) throw new ProofError("this is no log key: it reads origin+id+key");
  const typed = bytesOf(encoded, 33);
  const keyId = (await sha256(concat(utf8(`${origin}\n`), typed))).slice(0, 4);
  if (typed[0] !== 1 || hex(keyId) !== id) throw new ProofError("this is no log key: its id does not fit it");
  return { origin, keyId, publicKey: typed.slice(1) };
}

// `ask(path)` gives the bytes of an answer of the service, or throws.
export class LogView {
  constructor(ask, verifier) {
    this.ask = ask;
    this.verifier = verifier;
    this.seen = null;
  }

  // Gives {index, data, value}: an entry's exact bytes and what they say.
  async entry(index) {
    const data = await this.ask(`/v1/log/entries/${index}`);
    const receipt = await this.ask(`/v1/log/entries/${index}/receipt`);
    await this.verify(index, data, receipt);
    const value = JSON.parse(text(data));
    if (canonicalJson(value) !== text(data)) throw new ProofError(`entry ${index} is not canonical`);
    return { index, data, value };
  }

  async verify(index, data, receipt) {
    const [head, ...notes] = text(receipt).split("\n\n");
    const [first, place, ...lines] = head.split("\n");
    if (first !== "c2sp.org/tlog-proof@v1" || !place?.startsWith("index ") || lines.length > 53) throw new ProofError("not a receipt");
    if (decimal(place.slice(6)) !== index) throw new ProofError(`asked for entry ${index}, got a receipt for another`);
    const checkpoint = await this.checkpoint(notes.join("\n\n"));
    await verifyInclusion(await leafHash(data), index, checkpoint.size, lines.map((line) => bytesOf(line, 32)), checkpoint.root);
    await this.follow(checkpoint);
  }

  async checkpoint(note) {
    const [body, signatures, ...more] = note.split("\n\n");
    const lines = body.split("\n");
    if (more.length || lines.length !== 3 || !signatures?.endsWith("\n")) throw new ProofError("not a checkpoint");
    if (lines[0] !== this.verifier.origin) throw new ProofError(`a checkpoint of the log ${lines[0]}, not of ${this.verifier.origin}`);
    const checkpoint = { size: decimal(lines[1]), root: bytesOf(lines[2], 32) };
    const own = [];
    for (const line of signatures.slice(0, -1).split("\n")) {
      const parts = line.split(" ");
      if (parts.length !== 3 || parts[0] !== "\u2014") throw new ProofError("not a checkpoint's signature");
      const data = bytesOf(parts[2]);
      if (parts[1] === this.verifier.origin && equal(data.slice(0, 4), this.verifier.keyId)) own.push(data.slice(4));
    }
    if (!own.length) throw new ProofError("the checkpoint is not signed with the log key that is pinned here");
    for (const signature of own) {
      if (!(await verifySignature(this.verifier.publicKey, signature, utf8(`${body}\n`)))) throw new ProofError("the log's signature does not fit the checkpoint");
    }
    return checkpoint;
  }

  // Every checkpoint must extend those seen before.
  async follow(checkpoint) {
    let [older, newer] = [this.seen ?? checkpoint, checkpoint];
    if (older.size > newer.size) [older, newer] = [newer, older];
    if (older.size === newer.size) {
      if (!equal(older.root, newer.root)) throw new ProofError(`the log shows two trees of size ${newer.size}`);
    } else {
      const answer = JSON.parse(text(await this.ask(`/v1/log/consistency?from=${older.size}&to=${newer.size}`)));
      await verifyConsistency(older, newer, answer.path.map(fromHex));
    }
    // Another proof may have gone further meanwhile.
    if (!this.seen || this.seen.size < newer.size) this.seen = newer;
  }
}

// Names and steps of the RFC. Sizes go beyond 32 bits, so there is no bit arithmetic.
const half = (value) => Math.floor(value / 2);
const isOdd = (value) => value % 2 === 1;

function rise(fn, sn) {
  while (!isOdd(fn) && fn !== 0) [fn, sn] = [half(fn), half(sn)];
  return [fn, sn];
}

export async function verifyConsistency(older, newer, path) {
  if (older.size === 0 || path.some((value) => value.length !== 32)) throw new ProofError("not a consistency proof");
  const isWhole = Number.isInteger(Math.log2(older.size)) && 2 ** Math.round(Math.log2(older.size)) === older.size;
  const [start, ...rest] = isWhole ? [older.root, ...path] : path;
  if (start === undefined || !path.length) throw new ProofError("a consistency proof cannot be empty");
  let [fn, sn] = [older.size - 1, newer.size - 1];
  while (isOdd(fn)) [fn, sn] = [half(fn), half(sn)];
  let [fr, sr] = [start, start];
  for (const c of rest) {
    if (sn === 0) throw new ProofError("the consistency proof is too long");
    if (isOdd(fn) || fn === sn) {
      [fr, sr] = [await nodeHash(c, fr), await nodeHash(c, sr)];
      [fn, sn] = rise(fn, sn);
    } else {
      sr = await nodeHash(sr, c);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  if (sn !== 0 || !equal(fr, older.root) || !equal(sr, newer.root)) throw new ProofError("the log was rewritten: its sizes are not of one growing log");
}

// An entry as the kind it must be.
export function expect(logged, kind) {
  if (logged.value?.type !== `${PROTOCOL}/${kind}`) throw new ProofError(`entry ${logged.index} is no ${kind}`);
  return logged.value;
}

const PINNED = "trapstreet log key";

// The key given; else the one that this browser saw first: another one later is a fork, or another log.
export async function pinnedKey(ask, given) {
  const named = text(await ask("/v1/log/key")).trim();
  const known = given || localStorage.getItem(PINNED) || named;
  if (named !== known) throw new ProofError("the service names another log key than the one pinned here: nothing is opened");
  const verifier = await parseVerifierKey(known);
  localStorage.setItem(PINNED, known);
  return verifier;
}
