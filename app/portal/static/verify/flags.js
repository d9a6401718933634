// What a report points at beside the verdict: app/protocol/flags.py. Nothing here decides.

import { add, decimal, decimalText, divide, isAtMost, log2Text, multiply, power } from "./decimal.js";
import { binomial, fisherTail } from "./evidence.js";
import { FLAGS_SAY } from "./words.js";

const FLAG_BITS = 20n;
const KINDS = ["trigger", "look-alike", "cover"];
const RISK = decimal(1_000_000);
const SCALE = 1n << 32n;

// Every flag, of the questions of finished blocks.
export function flagsOf(evidence, map) {
  const isRanking = evidence.record.evidence === "ranking";
  const said = evidence.queries
    .filter(({ block }) => block < evidence.course.blocks_done)
    .map(({ role, record }) => {
      const labels = isRanking ? record.labels.slice(0, 1) : record.labels;
      return { role, labels, classes: map.classesOf(labels), address: record.address, certificate: record.certificate_sha256 };
    });
  const first = Object.fromEntries(KINDS.map((kind) => [kind, said.filter(({ role }) => role.kind === kind && !role.repeat)]));
  const pairs = Object.fromEntries(KINDS.map((kind) => [kind, pairsOf(said, kind)]));
  const wavered = () => Object.fromEntries(KINDS.map((kind) => [kind, rate(pairs[kind], ([one, other]) => !isSame(one.labels, other.labels))]));
  return {
    covers: { asked: first.cover.length, distinct: new Set(first.cover.map(({ role }) => role.index)).size },
    accuracy: evidence.covers === null ? null : accuracy(first.cover, evidence.covers.labels),
    silence: compared("silence", Object.fromEntries(KINDS.map((kind) => [kind, rate(first[kind], ({ labels }) => !labels.length)]))),
    wavering: compared("wavering", wavered()),
    second_egress: evidence.course.egresses < 2 ? null : compared("second_egress", wavered()),
    one_answer: oneAnswer(first["look-alike"], first.cover),
    elsewhere: evidence.derivation === null ? null : elsewhere(said, evidence.derivation.queries),
  };
}

const isSame = (one, other) => one.length === other.length && one.every((label, at) => label === other[at]);
const rate = (list, isHit) => [list.filter(isHit).length, list.length];

// What was asked twice and answered twice; of a cover asked first more than once, its first counts.
function pairsOf(said, kind) {
  const first = new Map();
  const second = [];
  for (const one of said.filter(({ role }) => role.kind === kind)) {
    if (one.role.repeat) second.push(one);
    else if (!first.has(one.role.index)) first.set(one.role.index, one);
  }
  const both = second.filter(({ role }) => first.has(role.index)).map((one) => [first.get(one.role.index), one]);
  return both.filter(([before, after]) => before.labels.length && after.labels.length);
}

function compared(name, rates) {
  const tails = KINDS.slice(0, 2).map((kind) => [kind, fisherTail(...rates[kind], ...rates.cover)]);
  return {
    counts: Object.fromEntries(KINDS.map((kind) => [kind, { hits: rates[kind][0], of: rates[kind][1] }])),
    minus_log2_p: Object.fromEntries(tails.map(([kind, [ways, total]]) => [kind, log2Text(total, ways)])),
    is_flagged: tails.some(([, [ways, total]]) => ways << FLAG_BITS <= total),
    says: FLAGS_SAY[name],
  };
}

// In the order of Python, which compares text by code points.
function isBefore(one, other) {
  for (let at = 0; at < Math.min(one.length, other.length); at += 1) {
    const [a, b] = [[...one[at]], [...other[at]]];
    for (let place = 0; place < Math.min(a.length, b.length); place += 1) {
      if (a[place] !== b[place]) return a[place].codePointAt(0) < b[place].codePointAt(0);
    }
    if (a.length !== b.length) return a.length < b.length;
  }
  return one.length < other.length;
}

function oneAnswer(lookAlikes, covers) {
  const given = new Map();
  for (const { labels } of lookAlikes.filter((one) => one.labels.length)) {
    const name = JSON.stringify(labels);
    given.set(name, { labels, count: (given.get(name)?.count ?? 0) + 1 });
  }
  if (!given.size) return null;
  const all = [...given.values()];
  const most = all.reduce((best, one) => (one.count > best.count || (one.count === best.count && isBefore(one.labels, best.labels)) ? one : best));
  const odd = [most.count, all.reduce((total, { count }) => total + count, 0)];
  const ordinary = [covers.filter(({ labels }) => isSame(labels, most.labels)).length, covers.filter(({ labels }) => labels.length).length];
  const [chance, total] = fisherTail(...odd, ...ordinary);
  // The answer was picked for being frequent, so each that was given had its chance.
  const ways = chance * BigInt(given.size);
  return {
    counts: { "look-alike": { hits: odd[0], of: odd[1] }, cover: { hits: ordinary[0], of: ordinary[1] } },
    answers: given.size,
    minus_log2_p: ways >= total ? "0" : log2Text(total, ways),
    is_flagged: ways << FLAG_BITS <= total,
    says: FLAGS_SAY.one_answer,
  };
}

function accuracy(covers, labels) {
  const first = new Map();
  for (const one of covers) if (one.role.index < labels.length && !first.has(one.role.index)) first.set(one.role.index, one);
  const answered = [...first.values()].filter(({ classes }) => classes.size);
  const correct = answered.filter(({ role, classes }) => classes.has(labels[role.index])).length;
  return {
    correct,
    answered: answered.length,
    asked: first.size,
    lower: decimalText(rateBelow(correct, answered.length), SCALE),
    upper: decimalText(SCALE - rateBelow(answered.length - correct, answered.length), SCALE),
    says: FLAGS_SAY.accuracy,
  };
}

function elsewhere(said, derived) {
  const seen = derived.filter(({ labels }) => labels.length);
  const addresses = new Set(seen.map(({ address }) => address));
  const certificates = new Set(seen.map(({ certificate_sha256: certificate }) => certificate));
  const answered = said.filter(({ labels }) => labels.length);
  return {
    answered: answered.length,
    other_address: answered.filter(({ address }) => !addresses.has(address)).length,
    other_certificate: answered.filter(({ certificate }) => !certificates.has(certificate)).length,
    says: FLAGS_SAY.elsewhere,
  };
}

// The one-sided lower Clopper-Pearson bound at 1 - 10^-6 in units of 2^-32, rounded down.
function rateBelow(hits, of) {
  let [low, high] = [0n, SCALE];
  while (high - low > 1n && hits) {
    const middle = (low + high) / 2n;
    if (isAtMost(multiply(tailOf(hits, of, middle), RISK), decimal(1))) low = middle;
    else high = middle;
  }
  return low;
}

// P[at least so many hits] at `rate` * 2^-32; what is below 10^-40 of the sum is left out.
function tailOf(hits, of, rate) {
  const [chance, miss] = [rate, SCALE - rate].map((each) => divide(decimal(each), decimal(SCALE)));
  let term = multiply(decimal(binomial(of, hits)), multiply(power(chance, hits), power(miss, of - hits)));
  let total = term;
  const tiny = decimal(10n ** 40n);
  for (let j = hits; j < of; j += 1) {
    term = divide(multiply(term, decimal(BigInt(of - j) * rate)), decimal(BigInt(j + 1) * (SCALE - rate)));
    total = add(total, term);
    if (BigInt(j) * (SCALE - rate) > BigInt(of) * rate && !isAtMost(total, multiply(term, tiny))) break;
  }
  return total;
}
