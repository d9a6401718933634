// The protocol's notation for browsers: bytes, hashes, records. Every script that computes with keys or evidence starts here.
// Source: docs/protocol.md section 1 (lp, tag, u32, u64, canonical JSON by RFC 8785 without floats). Vectors: tests/portal.

export const PROTOCOL = "trapstreet/v1";

const encoder = new TextEncoder();

export const utf8 = (text) => encoder.encode(text);

const PAIRS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

export function hex(bytes) {
  let text = "";
  for (const byte of bytes) text += PAIRS[byte];
  return text;
}

// Requests of a bundle are megabytes of hex, so no pattern of pairs: it would exhaust the stack.
export function fromHex(text) {
  if (text.length % 2 || /[^0-9a-f]/.test(text)) throw new Error("not lower-case hex");
  const bytes = new Uint8Array(text.length / 2);
  const digit = (at) => (text.charCodeAt(at) < 58 ? text.charCodeAt(at) - 48 : text.charCodeAt(at) - 87);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = 16 * digit(2 * at) + digit(2 * at + 1);
  return bytes;
}

export function base64(bytes) {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 0x8000) binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(binary);
}

export const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

export function concat(...parts) {
  const joined = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

export function equal(one, other) {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

function unsigned(value, bytes) {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt(value));
  return new Uint8Array(view.buffer).slice(8 - bytes);
}

export const u32 = (value) => unsigned(value, 4);
export const u64 = (value) => unsigned(value, 8);

// Each item with its length before it, so that two lists of items never give the same bytes.
export function lp(...items) {
  return concat(...items.flatMap((item) => {
    const bytes = typeof item === "string" ? utf8(item) : item;
    return [u32(bytes.length), bytes];
  }));
}

export const tag = (name) => utf8(`${PROTOCOL}/${name}`);

export async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

export async function hmac(key, bytes) {
  const usable = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", usable, bytes));
}

// Canonical JSON of a value without floats: keys in the order of their UTF-16 code units, as JavaScript sorts them.
export function canonicalJson(value) {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const pairs = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonicalJson(value[key])}`);
    return `{${pairs.join(",")}}`;
  }
  if (typeof value === "number" && !Number.isSafeInteger(value)) throw new Error("a record holds no such number");
  return JSON.stringify(value);
}
