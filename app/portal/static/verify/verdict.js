// From evidence to a verdict with its reason: app/protocol/assessment.py, verdict.py, interface.py. The order in which verdicts
// apply is the protocol's.
// Source: docs/protocol.md sections 7 and 8.2; Adi et al. 2018 section 4 (Verify step 3).

import { canonicalJson, fromHex, utf8 } from "../protocol.js";
import { has, refuse } from "./canonical.js";
import { labelDrawer } from "./challenge.js";
import { evidencePath, fisherTail, rankingPath, threshold, walk } from "./evidence.js";
import { foldName } from "./records.js";

const COOPERATION_BITS = 20n;
const MAX_INTERFACE_BITS = 4096;

// --- the label map and its price ------------------------------------------------------------------------------------------

export class LabelMap {
  constructor({ label_map: map }, classes) {
    this.map = map;
    this.count = classes.length;
    this.byName = new Map(classes.map((name, at) => [name, at]));
    this.byFolded = new Map(classes.map((name, at) => [foldName(name), at]));
    for (const names of Object.values(map.map ?? {})) {
      for (const name of names) if (!this.byName.has(name)) refuse(`'${name}' is no registered class`);
    }
  }

  classesOfOne(label) {
    if (this.map.by === "index") {
      const index = /^(0|[1-9][0-9]{0,8})$/.test(label) ? Number(label) : -1;
      return index >= 0 && index < this.count ? [index] : [];
    }
    if (this.map.by === "name") {
      const index = this.byFolded.get(foldName(label));
      return index === undefined ? [] : [index];
    }
    return has(this.map.map, label) ? this.map.map[label].map((name) => this.byName.get(name)) : [];
  }

  // The union over the labels returned.
  classesOf(labels) {
    return new Set(labels.flatMap((label) => this.classesOfOne(label)));
  }

  // The classes that the labels rank, each where it stands first.
  rankingOf(labels) {
    const ranked = new Set();
    for (const label of labels) {
      const classes = this.classesOfOne(label);
      if (classes.length > 1) refuse(`'${label}' stands for ${classes.length} classes, and a ranking wants one each: use label evidence`);
      classes.forEach((each) => ranked.add(each));
    }
    return [...ranked];
  }
}

const bitLength = (value) => (value === 0n ? 0 : value.toString(2).length);

// What interface and address cost in bits of evidence.
export function priceOf(evidence) {
  const { record, statement } = evidence;
  const query = record.endpoint.match(/(?:[?;]|%(?:25|3[fb]))(.*)$/is)?.[1] ?? "";
  const price = 8 * utf8(query).length + priceOfInterface(evidence, record, statement.classes.length);
  if (price > MAX_INTERFACE_BITS) refuse(`an interface of ${price} bits leaves nothing to prove`);
  return price;
}

function priceOfInterface(evidence, { interface: made, interface_origin: origin }, classes) {
  if (origin.kind === "countersigned") return 0;
  if (origin.kind === "derived") return evidence.derivation === null ? 0 : evidence.derivation.head.bits;
  if (origin.kind === "logged") return bitLength(BigInt(evidence.registrationBeacon.index));
  const options = Object.fromEntries(Object.entries(made.options).filter(([name]) => !["model", "version", "route"].includes(name)));
  const map = has(made.label_map, "map") ? made.label_map.map : null;
  if (!Object.keys(options).length && !Object.keys(made.preprocessing).length && map === null) return 8;
  const size = utf8(canonicalJson(options)).length + utf8(canonicalJson(made.preprocessing)).length;
  return 8 * size + (map === null ? 0 : mapBits(map, classes));
}

function mapBits(map, classes) {
  const entries = Object.values(map);
  if (entries.some((names) => names.length > 1)) return entries.length * classes;
  if (entries.length === classes && new Set(entries.flat()).size === classes) {
    let permutations = 1n;
    for (let n = 2n; n <= BigInt(classes); n += 1n) permutations *= n;
    return bitLength(permutations - 1n);
  }
  return bitLength(BigInt(classes + 1) ** BigInt(entries.length) - 1n);
}

// --- trials and the case --------------------------------------------------------------------------------------------------

const isSame = (one, other) => one.length === other.length && one.every((label, at) => label === other[at]);
export const nameOf = ({ kind, index, repeat }) => `${kind} ${index} ${repeat}`;

// `fault` is what was found wrong: its word before the colon is a VOID verdict's reason.
export function assess(evidence, fault) {
  const { statement, record } = evidence;
  const isRanking = record.evidence === "ranking";
  const classes = statement.classes.length;
  const map = new LabelMap(record.interface, statement.classes);
  const said = new Map(evidence.queries.filter(({ role }) => role.kind !== "cover").map((query) => [nameOf(query.role), query.record.labels]));
  const labels = openedLabels(evidence, classes);
  const groups = new Map();
  const stepOf = (index) => {
    const answer = said.get(nameOf({ kind: "trigger", index, repeat: 0 }));
    const ranking = isRanking && answer ? map.rankingOf(answer) : [];
    const group = isRanking ? new Set(ranking.slice(0, 1)) : map.classesOf(answer ?? []);
    groups.set(index, group);
    return step(labels.get(index), group, ranking, classes);
  };
  // A second asking is held against the first by the highest label: a ranking's tail wavers with the machine.
  const answers = new Map([...said].map(([name, answer]) => [name, isRanking ? answer.slice(0, 1) : answer]));
  const trials = evidence.due.map((index) => trial(index, answers, stepOf(index)));
  const covers = evidence.queries.filter((query) => query.role.kind === "cover" && query.block < evidence.course.blocks_done);
  const found = {
    assuranceClass: statement.label_source === "beacon" ? "A" : "B",
    classes,
    bits: record.policy.bits,
    interfaceBits: priceOf(evidence),
    families: statement.families.length,
    ordinal: evidence.filing.value.ordinal,
    trials,
    coversAsked: covers.length,
    coversAnswered: covers.filter((query) => query.record.labels.length).length,
    end: evidence.course.end,
    void: fault.split(":")[0],
    isRanking,
  };
  return { case: found, decision: decide(found), groups, map };
}

function openedLabels(evidence, classes) {
  const draw = labelDrawer(evidence.salt, classes);
  return new Map(evidence.openings.labels.map(({ index, label_key: key, label }) => [index, label === null ? draw(fromHex(key), index) : label]));
}

function step(label, group, ranking, classes) {
  const nothing = { group: 1, classes, rank: null, ranked: 0 };
  if (label === undefined) return { outcome: "withheld", ...nothing };
  if (!group.size) return { outcome: "no-answer", ...nothing };
  const place = ranking.indexOf(label);
  return { outcome: group.has(label) ? "match" : "mismatch", group: group.size, classes, rank: place < 0 ? null : place + 1, ranked: ranking.length };
}

function trial(index, said, itsStep) {
  const answerTo = (kind, repeat) => said.get(nameOf({ kind, index, repeat })) ?? [];
  const differs = (kind) => {
    const [first, second] = [answerTo(kind, 0), answerTo(kind, 1)];
    return first.length && second.length ? !isSame(first, second) : null;
  };
  return {
    index,
    step: itsStep,
    // A pair that the claimant kept back counts for the endpoint: it could have kept back those that speak for it.
    answered: said.has(nameOf({ kind: "trigger", index, repeat: 0 })) ? answerTo("trigger", 0).length > 0 : true,
    lookAlikeAnswered: answerTo("look-alike", 0).length > 0,
    differs: [differs("trigger"), differs("look-alike")],
  };
}

// --- the verdict ------------------------------------------------------------------------------------------------------------

export const boundOf = (found) => threshold(found);

function walkOf(found) {
  const steps = found.trials.map((each) => each.step);
  if (found.assuranceClass === "A") return walk(steps, boundOf(found), found.isRanking ? rankingPath : evidencePath);
  return { end: null, asked: steps.length, matches: steps.filter(({ outcome }) => outcome === "match").length, evidence: [1n, 1n], futility: [1n, 1n] };
}

export const isPaperRuleMet = (matches, asked) => asked > 0 && 10 * matches >= 9 * asked;

export function decide(found) {
  const ended = walkOf(found);
  const [verdict, reason] = verdictOf(found, ended);
  return { verdict, reason, walk: ended };
}

function verdictOf(found, ended) {
  if (found.void) return ["VOID", found.void];
  if (ended.end === "CONFIRMED") return ["CONFIRMED", "evidence"];
  const uncooperative = Object.entries(cooperationTests(found)).find(([, [ways, total]]) => ways << COOPERATION_BITS <= total);
  if (uncooperative) return ["NON_COOPERATIVE", uncooperative[0]];
  if (ended.end === "NOT_SUPPORTED") return ["NOT_SUPPORTED", "futile"];
  if (2 * found.coversAnswered < found.coversAsked) return ["INCONCLUSIVE", "unreachable"];
  if (found.assuranceClass === "A" || ["withheld", "withdrawn"].includes(found.end)) return ["INCONCLUSIVE", found.end];
  return [isPaperRuleMet(ended.matches, ended.asked) ? "INDICATIVE" : "NOT_SUPPORTED", "paper_rule"];
}

// The p-values of both tests: triggers less often answered, or less steadily, than their look-alikes.
export function cooperationTests({ trials }) {
  const count = (list) => list.filter(Boolean).length;
  const twice = [0, 1].map((which) => trials.map(({ differs }) => differs[which]).filter((each) => each !== null));
  return {
    selective_silence: fisherTail(count(trials.map((each) => !each.answered)), trials.length, count(trials.map((each) => !each.lookAlikeAnswered)), trials.length),
    selective_wavering: fisherTail(count(twice[0]), twice[0].length, count(twice[1]), twice[1].length),
  };
}
