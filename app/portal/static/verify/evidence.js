// The walk of the evidence in exact whole numbers: app/protocol/evidence.py and ranking.py. A fraction is [above, below].
// A step is {outcome, group, classes, rank, ranked}; outcomes are "match", "mismatch", "no-answer" and "withheld".
// Source: docs/protocol.md section 8.1; Waudby-Smith and Ramdas 2020 (betting).

import { add, decimal, decimalText, divide, fractionOf, multiply, power, subtract } from "./decimal.js";

const BET_DENOMINATOR = 398;
const BETS = Array.from({ length: 199 }, (_, at) => 2 * at + 1);
const FUTILITY_BOUND = 1000n;

const isMatch = (step) => step.outcome === "match";
export const isAnswered = (step) => isMatch(step) || step.outcome === "mismatch";

// T = 2^(bits + interface bits) * families * ordinal * (ordinal + 1), for rankings times families again.
export function threshold({ bits, interfaceBits, families, ordinal, isRanking }) {
  const bound = (1n << BigInt(bits + interfaceBits)) * BigInt(families) * BigInt(ordinal) * (BigInt(ordinal) + 1n);
  return isRanking ? bound * BigInt(families) : bound;
}

// Walks the steps until E reaches the bound, F falls to 1/1000, or there are no more.
export function walk(steps, bound, path = evidencePath) {
  let [asked, matches] = [0, 0];
  let [evidence, futility] = [[1n, 1n], [1n, 1n]];
  const [futilities, evidences] = [futilityPath(steps), path(steps)];
  for (const step of steps) {
    asked += 1;
    matches += Number(isMatch(step));
    evidence = evidences.next().value;
    futility = futilities.next().value;
    if (evidence[0] >= bound * evidence[1]) return { end: "CONFIRMED", asked, matches, evidence, futility };
    if (futility[0] * FUTILITY_BOUND <= futility[1]) return { end: "NOT_SUPPORTED", asked, matches, evidence, futility };
  }
  return { end: null, asked, matches, evidence, futility };
}

export function* evidencePath(steps) {
  const bets = BETS.map(() => 1n);
  let denominator = BigInt(BETS.length);
  for (const step of steps) {
    let total = 0n;
    BETS.forEach((t, at) => {
      // 1 - t/398 + (t/398) X K/g, times the denominator 398 (and g, where X = 1)
      const factor = isMatch(step) ? step.group * (BET_DENOMINATOR - t) + t * step.classes : BET_DENOMINATOR - t;
      bets[at] *= BigInt(factor);
      total += bets[at];
    });
    denominator *= BigInt(BET_DENOMINATOR * (isMatch(step) ? step.group : 1));
    yield [total, denominator];
  }
}

function* futilityPath(steps) {
  let [above, below] = [1n, 1n];
  for (const step of steps) {
    const [up, down] = futilityFactor(step);
    above *= BigInt(up);
    below *= BigInt(down);
    yield [above, below];
  }
}

// 7/9 + (2/9) X K/g; a missing answer is the endpoint's failure, not evidence for it.
function futilityFactor(step) {
  if (isMatch(step)) return [7 * step.group + 2 * step.classes, 9 * step.group];
  return step.outcome === "no-answer" ? [1, 1] : [7, 9];
}

// --- evidence from rankings, in decimals of 60 digits ---------------------------------------------------------------------

const THETAS = BETS.map((t) => divide(decimal(t), decimal(BET_DENOMINATOR)));
const ONE = decimal(1);

export function* rankingPath(steps) {
  const factorsOf = rankingFactors();
  let bets = THETAS.map(() => ONE);
  for (const step of steps) {
    const factors = factorsOf(step);
    bets = bets.map((bet, at) => multiply(bet, factors[at]));
    yield fractionOf(divide(bets.reduce(add, decimal(0)), decimal(THETAS.length)));
  }
}

function rankingFactors() {
  const known = new Map();
  const once = (name, make) => {
    if (!known.has(name)) known.set(name, make());
    return known.get(name);
  };
  const powers = (exponent) => once(`power ${exponent}`, () => THETAS.map((theta) => power(theta, exponent)));
  const rests = (classes) => once(`rest ${classes}`, () => powers(classes).map((each) => subtract(ONE, each)));
  // K q(R), q(r) = (1 - theta) theta^(r-1) / (1 - theta^K)
  const ofRank = (rank, classes) =>
    once(`rank ${rank} ${classes}`, () => THETAS.map((theta, at) => multiply(decimal(classes), divide(multiply(subtract(ONE, theta), powers(rank - 1)[at]), rests(classes)[at]))));
  // K (1 - q(1) - ... - q(m)) / (K - m); the sum is (1 - theta^m) / (1 - theta^K)
  const ofMissing = (ranked, classes) =>
    once(`missing ${ranked} ${classes}`, () => {
      const share = divide(decimal(classes), decimal(classes - ranked));
      return THETAS.map((_, at) => multiply(share, divide(subtract(powers(ranked)[at], powers(classes)[at]), rests(classes)[at])));
    });
  return (step) => {
    if (!isAnswered(step)) return ofRank(step.classes, step.classes);
    return step.rank === null ? ofMissing(step.ranked, step.classes) : ofRank(step.rank, step.classes);
  };
}

// --- figures --------------------------------------------------------------------------------------------------------------

export function binomial(n, k) {
  if (k < 0 || k > n) return 0n;
  let value = 1n;
  for (let at = 1; at <= Math.min(k, n - k); at += 1) value = (value * BigInt(n - at + 1)) / BigInt(at);
  return value;
}

// P[at least so many matches] of an independent endpoint, had the number of questions been fixed beforehand.
export function exactTail(steps, matches) {
  let counts = [1n];
  let denominator = 1n;
  for (const step of steps.filter(isAnswered)) {
    const [miss, hit] = [BigInt(step.classes - step.group), BigInt(step.group)];
    counts = [...counts, 0n].map((count, at) => miss * count + (at ? hit * counts[at - 1] : 0n));
    denominator *= BigInt(step.classes);
  }
  return [counts.slice(matches).reduce((total, each) => total + each, 0n), denominator];
}

const SCALE = 1n << 32n;
const RISK = 1_000_000n;

// The one-sided lower confidence bound of the match rate at 1 - 10^-6, rounded down to 2^-32.
export function clopperPearsonLower(matches, asked) {
  let [low, high] = [0n, SCALE];
  const whole = SCALE ** BigInt(asked);
  while (high - low > 1n && matches) {
    const middle = (low + high) / 2n;
    if (binomialTail(matches, asked, middle, SCALE - middle) * RISK <= whole) low = middle;
    else high = middle;
  }
  return decimalText(low, SCALE);
}

// Each term from the one before; the division is exact.
function binomialTail(matches, asked, hit, miss) {
  let term = binomial(asked, matches) * hit ** BigInt(matches) * miss ** BigInt(asked - matches);
  let total = term;
  for (let j = matches; j < asked; j += 1) {
    term = (term * BigInt(asked - j) * hit) / (BigInt(j + 1) * miss);
    total += term;
  }
  return total;
}

// The one-sided exact p-value that the first rate is higher than the second by chance.
export function fisherTail(hits, of, otherHits, otherOf) {
  const total = hits + otherHits;
  let ways = 0n;
  for (let j = hits; j <= Math.min(of, total); j += 1) ways += binomial(of, j) * binomial(otherOf, total - j);
  return [ways, binomial(of + otherOf, total)];
}
