// Keys that never leave the browser: the marking key with its commitments and openings, and the vendor's signing key.
// The files are those of the command line, byte for byte (app/keys/key_file.py, app/cli/files.py).
// Source: docs/protocol.md section 3; RFC 5869, RFC 8032.

import { inclusionPath, leafHash, rootOf, treeOf } from "./merkle.js";
import { PROTOCOL, base64, canonicalJson, concat, fromBase64, fromHex, hex, hmac, lp, sha256, tag, u32, u64, utf8 } from "./protocol.js";

export const MIN_ITERATIONS = 600_000;
const MAX_ITERATIONS = 10_000_000;
const KEY_BYTES = 32;
const LIMITS = { triggers: 65_536, rank: 8, dimension: 65_535, inputBytes: 16 * 1024 * 1024 };

// An error that a person can act on: the page shows its message as it stands.
export class KeyProblem extends Error {}

const refuse = (message) => {
  throw new KeyProblem(message);
};

// --- inputs ---------------------------------------------------------------------------------------------------------

// `shape` is height, width, channels; `pixels` are bytes in row, column, channel order.
export function imageInput(shape, pixels) {
  checkShape("image", shape);
  if (pixels.length !== shape.reduce((product, size) => product * size, 1)) refuse("the pixels do not fill the shape");
  return lp(tag("input"), "image", concat(...shape.map(u32)), pixels);
}

function checkShape(kind, shape) {
  if (shape.length < 1 || shape.length > LIMITS.rank) refuse(`a shape has 1 to ${LIMITS.rank} dimensions`);
  if (!shape.every((size) => size >= 1 && size <= LIMITS.dimension)) refuse(`dimensions lie between 1 and ${LIMITS.dimension}`);
  if (kind === "image" && (shape.length !== 3 || ![1, 3].includes(shape[2]))) refuse("an image has height, width and 1 or 3 channels");
}

// Reads an input's canonical bytes: {kind, shape, values}.
export function parseInput(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const items = [];
  for (let at = 0; at < data.length; ) {
    const end = at + 4 <= data.length ? at + 4 + view.getUint32(at) : Infinity;
    if (end > data.length) refuse("not a canonical input: an item is cut short");
    items.push(data.subarray(at + 4, end));
    at = end;
  }
  const [name, kindBytes, size, values] = items;
  const kind = kindBytes && new TextDecoder().decode(kindBytes);
  if (items.length !== 4 || hex(name) !== hex(tag("input")) || !["image", "tensor"].includes(kind) || size.length % 4) refuse("not a canonical input");
  if (data.length > LIMITS.inputBytes) refuse(`an input may have ${LIMITS.inputBytes} bytes`);
  const dimensions = new DataView(size.buffer, size.byteOffset, size.byteLength);
  const shape = Array.from({ length: size.length / 4 }, (_, at) => dimensions.getUint32(4 * at));
  checkShape(kind, shape);
  const count = shape.reduce((product, each) => product * each, 1);
  if (values.length !== count * (kind === "image" ? 1 : 4)) refuse("the values of an input do not fill its shape");
  return { kind, shape, values };
}

// --- the marking key ------------------------------------------------------------------------------------------------

export class MarkingKey {
  #master;
  #tree = null;

  constructor(master, inputs, labels = null) {
    if (master.length !== KEY_BYTES) refuse(`the master has ${KEY_BYTES} bytes`);
    if (inputs.length < 1 || inputs.length > LIMITS.triggers) refuse(`a marking key has 1 to ${LIMITS.triggers} inputs`);
    if (labels !== null && labels.length !== inputs.length) refuse("the labels do not fit the inputs");
    const first = parseInput(inputs[0]);
    for (const [index, data] of inputs.entries()) {
      const other = parseInput(data);
      if (other.kind !== first.kind || `${other.shape}` !== `${first.shape}`) refuse(`input ${index} is of another kind or shape than the first`);
    }
    this.#master = master;
    this.inputs = inputs;
    this.labels = labels;
    this.kind = first.kind;
    this.shape = first.shape;
  }

  get count() {
    return this.inputs.length;
  }

  inputKey = (index) => this.#expand("input-key", index);

  labelKey = (index) => this.#expand("label-key", index);

  async labelCommitment(index) {
    const label = this.labels === null ? [] : [u32(this.labels[index])];
    return sha256(lp(tag("label-key-commitment"), await this.labelKey(index), ...label));
  }

  // `onProgress(done, of)` is told of every 64th trigger: large sets take seconds.
  async root(onProgress = () => {}) {
    return rootOf(await this.#levels(onProgress));
  }

  async openInput(index) {
    return {
      type: `${PROTOCOL}/input-opening`,
      index,
      input_key: hex(await this.inputKey(index)),
      input: hex(this.inputs[index]),
      label_commitment: hex(await this.labelCommitment(index)),
      path: (await inclusionPath(await this.#levels(), index)).map(hex),
    };
  }

  async openLabel(index) {
    const label = this.labels === null ? null : this.labels[index];
    return { type: `${PROTOCOL}/label-opening`, index, label_key: hex(await this.labelKey(index)), label };
  }

  // The label that a salt draws, as docs/protocol.md section 4 says: HKDF with the salt, expanded to one block.
  async drawLabel(salt, index, classes) {
    const extracted = await hmac(salt, await this.labelKey(index));
    const block = await hmac(extracted, concat(lp(tag("label"), u32(index), u32(classes)), Uint8Array.of(1)));
    return Number(BigInt(`0x${hex(block)}`) % BigInt(classes));
  }

  // The plain file's canonical bytes: the secret itself.
  encode() {
    const record = {
      type: `${PROTOCOL}/${this.labels === null ? "marking-key" : "marking-key-b"}`,
      count: this.count,
      kind: this.kind,
      shape: this.shape,
      inputs: this.inputs.map(base64),
      master: hex(this.#master),
      ...(this.labels === null ? {} : { labels: this.labels }),
    };
    return utf8(canonicalJson(record));
  }

  // HKDF-Expand of RFC 5869 for one block; the master is already uniform, so there is nothing to extract.
  #expand(purpose, index) {
    return hmac(this.#master, concat(lp(tag(purpose), u32(index)), Uint8Array.of(1)));
  }

  async #leaf(index) {
    const inputCommitment = await hmac(await this.inputKey(index), this.inputs[index]);
    return leafHash(lp(tag("trigger"), u32(index), inputCommitment, await this.labelCommitment(index)));
  }

  async #levels(onProgress = () => {}) {
    if (this.#tree === null) {
      const leaves = [];
      for (let index = 0; index < this.count; index += 1) {
        leaves.push(await this.#leaf(index));
        if (index % 64 === 0) onProgress(index, this.count);
      }
      this.#tree = await treeOf(leaves);
      onProgress(this.count, this.count);
    }
    return this.#tree;
  }
}

export const newMarkingKey = (inputs) => new MarkingKey(crypto.getRandomValues(new Uint8Array(KEY_BYTES)), inputs);

// The salt of a registration's labels, from its opened beacon {source, round, randomness, nonce}, its root and entry hash.
export function saltOf(beacon, root, entryHash) {
  return sha256(lp(tag("beacon"), beacon.source, u64(beacon.round), beacon.randomness, beacon.nonce, root, entryHash));
}

// --- the marking key's file ------------------------------------------------------------------------------------------

// Reads a key file, plain or sealed; throws KeyProblem with what to change.
export async function openKeyFile(bytes, passphrase = "") {
  const record = parseCanonical(bytes, "this is no key file");
  switch (record.type) {
    case `${PROTOCOL}/sealed-key`:
      return openKeyFile(await unseal(record, passphrase));
    case `${PROTOCOL}/marking-key`:
    case `${PROTOCOL}/marking-key-b`:
      return keyOf(record);
    default:
      return refuse("this is no marking key of ours: choose the file that was saved when the watermark was registered");
  }
}

function keyOf(record) {
  let inputs;
  let master;
  try {
    inputs = record.inputs.map(fromBase64);
    master = fromHex(record.master);
  } catch {
    refuse("this key file is damaged");
  }
  const labels = record.type.endsWith("marking-key-b") ? record.labels : null;
  const key = new MarkingKey(master, inputs, labels);
  if (record.count !== key.count || record.kind !== key.kind || `${record.shape}` !== `${key.shape}`) refuse("this key file's count, kind or shape is not that of its inputs");
  return key;
}

// Seals a marking key under a passphrase, as the file that the command line reads.
export async function sealKeyFile(key, passphrase) {
  const header = {
    type: `${PROTOCOL}/sealed-key`,
    kdf: "PBKDF2-HMAC-SHA256",
    iterations: MIN_ITERATIONS,
    salt: hex(crypto.getRandomValues(new Uint8Array(16))),
    nonce: hex(crypto.getRandomValues(new Uint8Array(12))),
  };
  const cipher = await cipherKey(header, passphrase, "encrypt");
  const ciphertext = await crypto.subtle.encrypt(parametersOf(header), cipher, key.encode());
  return utf8(canonicalJson({ ...header, ciphertext: base64(new Uint8Array(ciphertext)) }));
}

export function isSealed(bytes) {
  return new TextDecoder().decode(bytes.slice(-64)).includes(`${PROTOCOL}/sealed-key`);
}

async function unseal(record, passphrase) {
  const { ciphertext, ...header } = record;
  if (!passphrase) refuse("this key file is sealed: type its passphrase");
  if (!(header.kdf === "PBKDF2-HMAC-SHA256" && header.iterations >= MIN_ITERATIONS && header.iterations <= MAX_ITERATIONS)) refuse("this key file is sealed in a way that we do not read");
  try {
    const cipher = await cipherKey(header, passphrase, "decrypt");
    return new Uint8Array(await crypto.subtle.decrypt(parametersOf(header), cipher, fromBase64(ciphertext)));
  } catch {
    return refuse("the passphrase does not open this key file, or the file was changed");
  }
}

async function cipherKey(header, passphrase, use) {
  const secret = await crypto.subtle.importKey("raw", utf8(passphrase), "PBKDF2", false, ["deriveKey"]);
  const kdf = { name: "PBKDF2", hash: "SHA-256", salt: fromHex(header.salt), iterations: header.iterations };
  return crypto.subtle.deriveKey(kdf, secret, { name: "AES-GCM", length: 256 }, false, [use]);
}

const parametersOf = (header) => ({ name: "AES-GCM", iv: fromHex(header.nonce), additionalData: utf8(canonicalJson(header)) });

function parseCanonical(bytes, what) {
  let value;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    value = JSON.parse(text);
    if (canonicalJson(value) !== text) refuse(`${what}: it is not canonical JSON`);
  } catch (error) {
    if (error instanceof KeyProblem) throw error;
    refuse(`${what}: it is not JSON`);
  }
  if (value === null || typeof value !== "object") refuse(what);
  return value;
}

// --- the vendor's key -----------------------------------------------------------------------------------------------

// What stands before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410).
const PKCS8 = fromHex("302e020100300506032b657004220420");

// Reads the vendor's key file: 64 hex digits.
export async function openVendorKey(bytes) {
  const text = new TextDecoder().decode(bytes).trim();
  if (!/^[0-9a-fA-F]{64}$/.test(text)) refuse("this is no vendor key: a file with 64 hex digits is expected");
  return vendorKeyOf(fromHex(text.toLowerCase()));
}

export const newVendorKey = () => vendorKeyOf(crypto.getRandomValues(new Uint8Array(KEY_BYTES)));

async function vendorKeyOf(seed) {
  const importing = (extractable) => crypto.subtle.importKey("pkcs8", concat(PKCS8, seed), "Ed25519", extractable, ["sign"]);
  const shown = await crypto.subtle.exportKey("jwk", await importing(true));
  const usable = await importing(false);
  return {
    publicKey: fromBase64(shown.x.replaceAll("-", "+").replaceAll("_", "/")),
    sign: async (data) => new Uint8Array(await crypto.subtle.sign("Ed25519", usable, data)),
    // The file to save: as the command line writes it.
    encode: () => utf8(`${hex(seed)}\n`),
  };
}

export async function verifySignature(publicKey, signature, data) {
  const key = await crypto.subtle.importKey("raw", publicKey, "Ed25519", false, ["verify"]);
  return crypto.subtle.verify("Ed25519", key, signature, data);
}
