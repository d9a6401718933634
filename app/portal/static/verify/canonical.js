// Canonical JSON read strictly, and the forms that say what a record must be: the browser's app/canonical.py, in the same words.
// Source: docs/protocol.md section 2; RFC 8785.

import { PROTOCOL, canonicalJson } from "../protocol.js";

// What is not as it must be. The message is what `trapstreet check` says.
export class Refused extends Error {}

// What this checker does not read; the result then says so.
export class NotHere extends Error {}

// A claimant's opening that does not fit its commitment: a fault of another kind (docs/protocol.md section 9.2).
export class OpeningInvalid extends Refused {}

export const MAX_RECORD_BYTES = 4 * 1024 * 1024;
export const MAX_FILE_BYTES = 1024 * 1024 * 1024;
const MAX_DEPTH = 32;

export const refuse = (message) => {
  throw new Refused(message);
};

export function utf8Text(bytes, what = "not JSON") {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return refuse(`${what}: it is not UTF-8`);
  }
}

// Reads one value's one byte string; its objects are plain ones, so a key is looked up with `has`.
export function parseCanonical(bytes, maxBytes = MAX_RECORD_BYTES) {
  if (bytes.length > maxBytes) refuse(`${bytes.length} bytes, over the limit of ${maxBytes}`);
  const text = utf8Text(bytes);
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    refuse(`not JSON: ${error.message}`);
  }
  refuseForeign(value, 0);
  if (canonicalJson(value) !== text) refuse("not canonical: encode it as RFC 8785 says (sorted keys, no spaces, shortest strings)");
  return value;
}

function refuseForeign(value, depth) {
  if (depth > MAX_DEPTH) refuse("nested deeper than 32 levels");
  if (typeof value === "number") {
    if (!Number.isSafeInteger(value) || value < 0) refuse("integers lie between 0 and 2^53-1");
  } else if (typeof value === "string") {
    if (!value.isWellFormed()) refuse("a string holds a lone surrogate");
  } else if (Array.isArray(value)) {
    for (const item of value) refuseForeign(item, depth + 1);
  } else if (value !== null && typeof value === "object") {
    for (const key of Object.keys(value)) {
      refuseForeign(key, depth + 1);
      refuseForeign(value[key], depth + 1);
    }
  }
}

// --- forms: functions that refuse what they do not take ---------------------------------------------------------------

export const has = (value, key) => Object.hasOwn(value, key);
export const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

const lengthOf = (text) => {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
};

export const text = (minimum, maximum, pattern = "") => {
  const known = pattern && new RegExp(`^(?:${pattern})$`, "u");
  return (value) => {
    if (typeof value !== "string") refuse("must be a string");
    const length = lengthOf(value);
    if (length < minimum || length > maximum) refuse(`must have ${minimum} to ${maximum} characters`);
    if (known && !known.test(value)) refuse(`must match ${pattern}`);
  };
};

export const integer = (minimum, maximum = Number.MAX_SAFE_INTEGER) => (value) => {
  if (typeof value !== "number") refuse("must be an integer");
  if (value < minimum || value > maximum) refuse(`must lie between ${minimum} and ${maximum}`);
};

export const octets = (length, { orEmpty = false } = {}) => (value) => {
  if (typeof value !== "string" || value.length % 2 || /[^0-9a-f]/.test(value)) refuse("must be lower-case hex");
  const size = value.length / 2;
  if (length !== undefined && size !== length && !(orEmpty && size === 0)) refuse(`must be ${length} bytes of hex, not ${size}`);
};

export const choice = (...values) => (value) => {
  if (!values.includes(value)) refuse(`must be one of ${values.join(", ")}`);
};

export const flag = () => choice(true, false);

export const nullable = (form) => (value) => {
  if (value !== null) form(value);
};

export const sequence = (form, minimum, maximum) => (value) => {
  if (!Array.isArray(value)) refuse("must be an array");
  if (value.length < minimum || value.length > maximum) refuse(`must have ${minimum} to ${maximum} items`);
  value.forEach((item) => form(item));
};

export const jsonObject = () => (value) => {
  if (!isObject(value)) refuse("must be an object");
};

export const timestamp = () => (value) => {
  if (typeof value !== "string" || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(value)) refuse("must be a UTC time like 2026-01-31T12:00:00Z");
  const moment = new Date(value);
  if (Number.isNaN(moment.getTime()) || value < "0001" || `${moment.toISOString().slice(0, 19)}Z` !== value) refuse("no such time");
};

// A record of exactly these keys; `name`, if given, is its type. `check(value)` refuses fields that do not fit each other.
export const record = (name, fields, check = () => {}) => (value) => {
  if (!isObject(value)) refuse("must be an object");
  const expected = [...Object.keys(fields), ...(name ? ["type"] : [])].sort();
  const missing = expected.find((key) => !has(value, key));
  if (missing !== undefined) refuse(`the key '${missing}' is missing`);
  const extra = Object.keys(value).sort().find((key) => !expected.includes(key));
  if (extra !== undefined) refuse(`the key '${extra}' does not belong here`);
  if (name && value.type !== `${PROTOCOL}/${name}`) refuse(`must be ${PROTOCOL}/${name}`);
  for (const [key, form] of Object.entries(fields)) form(value[key]);
  check(value);
};

// Reads a record's one byte string.
export function parseRecord(form, bytes, maxBytes = MAX_RECORD_BYTES) {
  const value = parseCanonical(bytes, maxBytes);
  form(value);
  return value;
}
