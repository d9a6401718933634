// The figures reported with a verdict, computed again so that the report can be compared byte by byte: app/protocol/figures.py.
// None of them changes a verdict.
// Source: docs/protocol.md sections 8.4 and 10.

import { fromHex, lp, tag, u32 } from "../protocol.js";
import { labelDrawer } from "./challenge.js";
import { decimalText, log2Text } from "./decimal.js";
import { clopperPearsonLower, exactTail, isAnswered } from "./evidence.js";
import { flagsOf } from "./flags.js";
import { sha256 } from "./hash.js";
import { boundOf, cooperationTests, isPaperRuleMet } from "./verdict.js";
import { ASSUMES, DOES_NOT_SAY, SAYS } from "./words.js";

const PLACEBOS = 1000;

const minusLog2 = ([above, below]) => (above === 0n ? "inf" : log2Text(below, above));

// Gives the report's value; `standing` is what the service counted in the whole log.
export function reportOf(evidence, assessment, standing, onProgress) {
  const { case: found, decision } = assessment;
  const ended = decision.walk;
  const trials = found.trials.slice(0, ended.asked);
  const steps = trials.map((each) => each.step);
  const count = (outcome) => steps.filter((step) => step.outcome === outcome).length;
  const common = {
    verdict: decision.verdict,
    reason: decision.reason,
    assurance_class: found.assuranceClass,
    evidence: found.isRanking ? "ranking" : "label",
    asked: ended.asked,
    matches: ended.matches,
    answered: steps.filter(isAnswered).length,
    no_answer: count("no-answer"),
    withheld: count("withheld"),
    covers_asked: found.coversAsked,
    covers_answered: found.coversAnswered,
    paper_rule: { met: isPaperRuleMet(ended.matches, ended.asked), natural_class_check: "not made" },
    cooperation: Object.fromEntries(Object.entries(cooperationTests(found)).map(([name, p]) => [name, minusLog2(p)])),
    bits: found.bits,
    interface_bits: found.interfaceBits,
    families: found.families,
    ordinal: found.ordinal,
    end: found.end,
    standing,
    trust: {
      beacon: evidence.statement.beacon,
      time: "operator trusted for time",
      interface_origin: evidence.record.interface_origin.kind,
      queriers: 1,
      egresses: evidence.course.egresses,
    },
    says: SAYS[decision.verdict],
    assumes: ASSUMES,
    does_not_say: DOES_NOT_SAY,
    flags: flagsOf(evidence, assessment.map),
  };
  if (found.assuranceClass === "B") return common;
  const answered = trials.filter(({ step }) => isAnswered(step)).map(({ index }) => ({ index, group: assessment.groups.get(index) }));
  const counts = placeboMatches(evidence, found.classes, answered, onProgress);
  return { ...common, ...classA(found, ended, steps, standing), placebos: placebosOf(counts, answered, found.classes) };
}

function classA(found, ended, steps, { registrations, filings }) {
  const tail = exactTail(steps, ended.matches);
  const [above, below] = ended.evidence;
  const seen = BigInt(registrations) * BigInt(filings);
  return {
    log2_e: log2Text(above, below),
    log2_threshold: log2Text(boundOf(found), 1n),
    log2_f: log2Text(...ended.futility),
    log2_e_corrected: log2Text(above, below * (seen > 1n ? seen : 1n)),
    tail: {
      fraction: `0x${tail[0].toString(16)}/0x${tail[1].toString(16)}`,
      minus_log2: minusLog2(tail),
      note: "valid only had n been fixed beforehand",
    },
    match_rate_lower: clopperPearsonLower(ended.matches, ended.asked),
  };
}

// Matches of 1,000 placebo beacons on the same answers.
function placeboMatches(evidence, classes, answered, onProgress) {
  const keys = new Map(evidence.openings.labels.map(({ index, label_key: key }) => [index, fromHex(key)]));
  return Array.from({ length: PLACEBOS }, (_, number) => {
    if (number % 50 === 0) onProgress("placebo beacons", number, PLACEBOS);
    const draw = labelDrawer(sha256(lp(tag("placebo"), evidence.salt, u32(number))), classes);
    return answered.filter(({ index, group }) => group.has(draw(keys.get(index), index))).length;
  });
}

function squareRoot(value) {
  if (value < 2n) return value;
  let root = 1n << BigInt(Math.ceil(value.toString(2).length / 2));
  for (;;) {
    const next = (root + value / root) / 2n;
    if (next >= root) return root;
    root = next;
  }
}

function placebosOf(counts, answered, classes) {
  const highest = counts.reduce((most, each) => Math.max(most, each), 0);
  const histogram = Array.from({ length: highest + 1 }, (_, matches) => counts.filter((each) => each === matches).length);
  // Chances are g/K: their sum over K, and the sum of p (1 - p) over K^2.
  const all = BigInt(classes);
  const mean = answered.reduce((total, { group }) => total + BigInt(group.size), 0n);
  const variance = answered.reduce((total, { group }) => total + BigInt(group.size) * (all - BigInt(group.size)), 0n);
  const sum = counts.reduce((total, each) => total + BigInt(each), 0n);
  const many = BigInt(PLACEBOS);
  const distance = sum * all - many * mean;
  const million = 10n ** 6n;
  return {
    histogram,
    expected_mean: decimalText(mean, all),
    expected_deviation: decimalText(squareRoot((variance * million * million) / (all * all)), million),
    is_odd: distance * distance > 36n * many * variance,
  };
}
