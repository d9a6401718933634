// Decimals of 60 digits, rounded half to even, as Python's decimal makes them: value = number * 10^exponent. What is printed
// must be the same digit by digit on every machine, so nothing here is a float.

const DIGITS = 60;
// Digits of the logarithms inside: their own error must not reach the sixtieth digit.
const INSIDE = 100n;
const ONE = 10n ** INSIDE;

const powers = [1n];
const ten = (count) => {
  while (powers.length <= count) powers.push(powers.at(-1) * 10n);
  return powers[count];
};

const digitsOf = (number) => (number < 0n ? -number : number).toString().length;

// Cuts a number to 60 digits; `isMore` says that what was left out before is not zero.
function round(number, exponent, isMore = false) {
  const over = digitsOf(number) - DIGITS;
  if (over <= 0) return { number, exponent };
  const unit = ten(over);
  const sign = number < 0n ? -1n : 1n;
  const size = number * sign;
  let kept = size / unit;
  const twice = 2n * (size % unit);
  if (twice > unit || (twice === unit && (isMore || kept % 2n === 1n))) kept += 1n;
  return round(sign * kept, exponent + over);
}

export const decimal = (number) => ({ number: BigInt(number), exponent: 0 });

export const multiply = (one, other) => round(one.number * other.number, one.exponent + other.exponent);

export function add(one, other) {
  const exponent = Math.min(one.exponent, other.exponent);
  return round(one.number * ten(one.exponent - exponent) + other.number * ten(other.exponent - exponent), exponent);
}

export const subtract = (one, other) => add(one, { number: -other.number, exponent: other.exponent });

export function divide(one, other) {
  if (one.number === 0n) return { number: 0n, exponent: 0 };
  // Two digits more than are kept, and whether anything is left over.
  const shift = Math.max(0, DIGITS + 2 + digitsOf(other.number) - digitsOf(one.number));
  const above = one.number * ten(shift);
  const quotient = above / other.number;
  const isMore = quotient * other.number !== above;
  // A remainder is marked by a digit, so that no half is taken for exact.
  const marked = isMore ? quotient * 10n + (above < 0n === other.number < 0n ? 1n : -1n) : quotient * 10n;
  return round(marked, one.exponent - other.exponent - shift - 1);
}

// base^exponent by squaring from the exponent's highest bit (app/protocol/decimals.py).
export function power(base, exponent) {
  let result = decimal(1);
  for (const bit of exponent.toString(2)) {
    result = multiply(result, result);
    if (bit === "1") result = multiply(result, base);
  }
  return result;
}

export function isAtMost(one, other) {
  const { number } = subtractExactly(one, other);
  return number <= 0n;
}

function subtractExactly(one, other) {
  const exponent = Math.min(one.exponent, other.exponent);
  return { number: one.number * ten(one.exponent - exponent) - other.number * ten(other.exponent - exponent), exponent };
}

// As an exact fraction.
export const fractionOf = ({ number, exponent }) => (exponent >= 0 ? [number * ten(exponent), 1n] : [number, ten(-exponent)]);

// --- logarithms ---------------------------------------------------------------------------------------------------------

// ln of a positive fixed-point number near 1, by 2 artanh((x - 1)/(x + 1)).
function series(x) {
  const t = ((x - ONE) * ONE) / (x + ONE);
  const square = (t * t) / ONE;
  let [total, term] = [0n, t];
  for (let n = 1n; term !== 0n; n += 2n) {
    total += term / n;
    term = (term * square) / ONE;
  }
  return 2n * total;
}

const LN_2 = series(2n * ONE);

// ln of a positive whole number, rounded to 60 digits.
function ln(value) {
  if (value === 1n) return decimal(0);
  const bits = value.toString(2).length - 1;
  const near = (value * ONE) / (1n << BigInt(bits));
  return round(series(near) + BigInt(bits) * LN_2, -Number(INSIDE), true);
}

const bitLength = (value) => value.toString(16).length * 4 - Math.clz32(parseInt(value.toString(16)[0], 16)) + 28;

function log2(value) {
  const shift = Math.max(bitLength(value) - 256, 0);
  return add(divide(ln(value >> BigInt(shift)), ln(2n)), decimal(shift));
}

// log2 of a positive fraction as the protocol prints decimals; of zero `-inf`.
export const log2Text = (numerator, denominator) => (numerator === 0n ? "-inf" : cut(subtract(log2(numerator), log2(denominator))));

export const decimalText = (numerator, denominator) => cut(divide(decimal(numerator), decimal(denominator)));

const PRINTED_CHARACTERS = 24;

// Positional, cut to 24 characters, without zeros at the end.
function cut({ number, exponent }) {
  if (number === 0n) return "0";
  const sign = number < 0n ? "-" : "";
  let digits = (number < 0n ? -number : number).toString();
  if (exponent >= 0) return `${sign}${digits}${"0".repeat(exponent)}`;
  digits = digits.padStart(1 - exponent, "0");
  let text = `${sign}${digits.slice(0, exponent)}.${digits.slice(exponent)}`;
  const point = text.indexOf(".");
  text = text.slice(0, point < PRINTED_CHARACTERS ? PRINTED_CHARACTERS : point);
  if (text.includes(".")) text = text.replace(/0+$/, "").replace(/\.$/, "");
  return ["-0", ""].includes(text) ? "0" : text;
}
