// JSON of strangers, read as Python reads it, so that both say the same of any bytes: whole numbers and fractions are told
// apart (1 is a class, 1.0 a score), objects keep the order of their keys and repeat none, NaN and Infinity are numbers.
// Values: Map for objects, arrays, strings, booleans, null, whole numbers (bigint where they are large), Float for fractions.

export class Float {
  constructor(value) {
    this.value = value;
  }
}

export class NotJson extends Error {}

// Python refuses whole numbers of more digits.
const MAX_DIGITS = 4300;
// Far above what any request or response of ours may nest, and below what a browser's stack takes.
const MAX_DEPTH = 900;

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
// A stretch of a string without escapes; control characters end it, and so are refused.
const STRETCH = /[^"\\\u0000-\u001f]*/y;
const SPACE = /[ \t\n\r]*/y;
const ESCAPES = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };
const WORDS = [["true", true], ["false", false], ["null", null]];
const NUMBERS = [["NaN", Number.NaN], ["Infinity", Infinity], ["-Infinity", -Infinity]];

// Without `areConstants`, NaN and Infinity are no values, as in JSON of our own.
export function parseLoose(bytes, { areConstants = true } = {}) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new NotJson("not UTF-8");
  }
  const reader = new Reader(text, areConstants);
  const value = reader.value(0);
  reader.space();
  if (reader.at !== text.length) throw new NotJson("something follows the value");
  return value;
}

class Reader {
  constructor(text, areConstants) {
    this.constants = areConstants ? NUMBERS : [];
    this.text = text;
    this.at = 0;
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at = pattern.lastIndex;
    return found;
  }

  space() {
    const code = this.text.charCodeAt(this.at);
    if (code <= 32) this.match(SPACE);
  }

  value(depth) {
    if (depth > MAX_DEPTH) throw new NotJson("nested too deep");
    this.space();
    switch (this.text[this.at]) {
      case "{":
        return this.object(depth);
      case "[":
        return this.array(depth);
      case '"':
        return this.string();
      default:
        return this.scalar();
    }
  }

  take(character) {
    this.space();
    if (this.text[this.at] !== character) return false;
    this.at += 1;
    return true;
  }

  expect(character) {
    if (!this.take(character)) throw new NotJson(`${character} expected at ${this.at}`);
  }

  object(depth) {
    const made = new Map();
    this.at += 1;
    if (this.take("}")) return made;
    do {
      this.space();
      if (this.text[this.at] !== '"') throw new NotJson(`a key expected at ${this.at}`);
      const key = this.string();
      this.expect(":");
      if (made.has(key)) throw new NotJson("an object repeats a key");
      made.set(key, this.value(depth + 1));
    } while (this.take(","));
    this.expect("}");
    return made;
  }

  array(depth) {
    const made = [];
    this.at += 1;
    if (this.take("]")) return made;
    do made.push(this.value(depth + 1)); while (this.take(","));
    this.expect("]");
    return made;
  }

  string() {
    this.at += 1;
    let made = "";
    for (;;) {
      made += this.match(STRETCH)[0];
      const next = this.text[this.at];
      this.at += 1;
      if (next === '"') return made;
      if (next !== "\\") throw new NotJson("a string does not end, or holds a control character");
      made += this.escape();
    }
  }

  escape() {
    const letter = this.text[this.at];
    this.at += 1;
    if (letter !== "u") {
      if (!Object.hasOwn(ESCAPES, letter ?? "")) throw new NotJson("no such escape");
      return ESCAPES[letter];
    }
    const digits = this.text.slice(this.at, this.at + 4);
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw new NotJson("no such escape");
    this.at += 4;
    return String.fromCharCode(parseInt(digits, 16));
  }

  scalar() {
    const start = this.at;
    const found = this.match(NUMBER);
    if (found) {
      if (found[1] !== undefined || found[2] !== undefined) return new Float(Number(found[0]));
      if (found[0].replace("-", "").length > MAX_DIGITS) throw new NotJson("a number has too many digits");
      const value = Number(found[0]);
      return Number.isSafeInteger(value) ? value + 0 : BigInt(found[0]);
    }
    for (const [word, value] of this.constants) {
      if (this.text.startsWith(word, start)) {
        this.at += word.length;
        return new Float(value);
      }
    }
    for (const [word, value] of WORDS) {
      if (this.text.startsWith(word, start)) {
        this.at += word.length;
        return value;
      }
    }
    throw new NotJson(`no value at ${start}`);
  }
}

export const isWhole = (value) => typeof value === "number" || typeof value === "bigint";
export const isNumber = (value) => isWhole(value) || value instanceof Float;
// As a plain number or bigint, for comparing: both compare exactly.
export const plain = (value) => (value instanceof Float ? value.value : value);

const MOST = 2n ** 1000n;

// Whether all are finite numbers; whole numbers beyond 2^1000 are none.
export function areFiniteNumbers(values) {
  return values.every((value) => {
    if (typeof value === "number") return true;
    if (value instanceof Float) return Number.isFinite(value.value) && Math.abs(value.value) < 2 ** 1000;
    return typeof value === "bigint" && value > -MOST && value < MOST;
  });
}
