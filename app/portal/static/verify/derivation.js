// A derivation checked: the rule run again on what was recorded, asking nobody.
// As app/protocol/{derivation,derivation_price,rederivation}.py, in their order and their words.
// Source: docs/protocol.md section 7.1.

import { canonicalJson, fromHex, hex, sha256 as slowSha256 } from "../protocol.js";
import { decodeRequest, readAnswer } from "./adapters.js";
import { candidatesOf, metadataPaths } from "./candidates.js";
import { MAX_FILE_BYTES, refuse } from "./canonical.js";
import { sha256 } from "./hash.js";

const MIN_ANSWERS = 20;
const ASKED_A_CLASS = 40;
const MAX_ASKED = 20_000;
const FIRST_CLASSES = 20;
const FIRST_OF_A_CLASS = 5;
const FIRST_COVERS = 50;
const SCREENED = 5;
const MAX_REQUESTED_BYTES = (MAX_FILE_BYTES / 4) * 3;
const NAMED_BITS = 12;
const REFUSALS = new Set([400, 404, 405, 406, 410, 411, 413, 414, 415, 422, 500, 501]);
// Every number of classes that may share a label divides it, so that purities compare as whole numbers.
const SHARES = 232_792_560;
const LARGE_BYTES = 16 * 1024;

const bitLength = (number) => (number ? number.toString(2).length : 0);
const setBits = (count, of) => Math.min(count * bitLength(of), of);
const isRefusal = (status) => status !== null && (status < 400 || REFUSALS.has(status));

// --- the rule -------------------------------------------------------------------------------------------------------------

class Rule {
  constructor(statement, covers, candidates) {
    this.statement = statement;
    this.covers = covers;
    this.candidates = candidates;
    const members = new Map();
    covers.labels.forEach((label, cover) => members.set(label, [...(members.get(label) ?? []), cover]));
    this.members = [...members].sort(([one], [other]) => one - other).map(([, list]) => list);
    const classes = this.members.filter((list) => list.length >= MIN_ANSWERS).slice(0, FIRST_CLASSES);
    if (!classes.length) refuse(`no class has ${MIN_ANSWERS} committed covers, so none can be mapped`);
    const first = Math.max(FIRST_OF_A_CLASS, Math.ceil(FIRST_COVERS / classes.length));
    this.first = Array.from({ length: first }, (_, at) => classes.flatMap((list) => list.slice(at, at + 1))).flat();
    const count = Math.max(MIN_ANSWERS, Math.min(ASKED_A_CLASS, Math.floor(MAX_ASKED / Math.max(1, this.members.length))));
    this.askedOfBest = this.members.flatMap((list) => list.slice(0, count)).sort((one, other) => one - other);
  }

  requestedBytes() {
    const { kind, shape } = this.statement;
    const numbers = shape.reduce((product, size) => product * size, 1);
    const sizes = this.candidates.map(({ preprocessing }) => numbers * (kind === "tensor" || preprocessing.dtype === "float32" ? 13 : 4));
    const asked = this.first.length * sizes.reduce((sum, size) => sum + size, 0) + this.askedOfBest.length * Math.max(0, ...sizes);
    return Math.floor((asked * 4) / 3);
  }

  nextPairs(answers) {
    const every = this.candidates.map((_, candidate) => candidate);
    const missing = (candidates, covers) =>
      candidates.flatMap((candidate) => covers.map((cover) => [candidate, cover])).filter((pair) => !answers.has(nameOf(pair)));
    const screening = missing(every, this.first.slice(0, SCREENED));
    if (screening.length) return screening;
    const compared = missing(this.speaking(answers), this.first);
    if (compared.length) return compared;
    const best = this.best(answers);
    return best === null ? [] : missing([best], this.askedOfBest);
  }

  speaking(answers) {
    const heard = (candidate) => this.first.slice(0, SCREENED).some((cover) => answers.get(nameOf([candidate, cover]))?.labels.length);
    return this.candidates.map((_, candidate) => candidate).filter(heard);
  }

  best(answers) {
    let [best, most] = [null, -1];
    for (const candidate of this.speaking(answers)) {
      const purity = this.purity(answers, candidate);
      if (purity > most) [best, most] = [candidate, purity];
    }
    return best;
  }

  purity(answers, candidate) {
    const found = this.classesFound(answers, candidate, this.first).filter(({ answered }) => answered);
    const sharing = new Map();
    for (const { label } of found) sharing.set(label, (sharing.get(label) ?? 0) + 1);
    return found.reduce((sum, { label, agreeing }) => sum + (agreeing * SHARES) / sharing.get(label), 0);
  }

  classesFound(answers, candidate, covers) {
    const asked = new Map();
    for (const cover of covers) {
      const label = this.covers.labels[cover];
      if (!asked.has(label)) asked.set(label, []);
      asked.get(label).push(answers.get(nameOf([candidate, cover]))?.labels ?? []);
    }
    return [...asked].sort(([one], [other]) => one - other).map(([index, got]) => {
      const counts = new Map();
      for (const [label] of got.filter((labels) => labels.length)) counts.set(label, (counts.get(label) ?? 0) + 1);
      let [label, agreeing] = ["", 0];
      for (const [name, count] of counts) if (count > agreeing) [label, agreeing] = [name, count];
      const answered = got.filter((labels) => labels.length).length;
      const isMapped = answered >= MIN_ANSWERS && 2 * agreeing > got.length;
      const isOpen = got.length >= MIN_ANSWERS && 2 * (agreeing + got.length - answered) > got.length && !isMapped;
      return { index, answered, label, agreeing, isMapped, isOpen };
    });
  }

  interface(answers) {
    const best = this.best(answers);
    if (best === null) return null;
    const names = new Map();
    for (const { index, label, isMapped } of this.classesFound(answers, best, this.askedOfBest)) {
      if (isMapped) names.set(label, [...(names.get(label) ?? []), this.statement.classes[index]]);
    }
    const { adapter, options, preprocessing } = this.candidates[best];
    return names.size ? { adapter, options, preprocessing, label_map: { by: "explicit", map: Object.fromEntries(names) } } : null;
  }

  openClasses(answers) {
    const best = this.best(answers);
    return best === null ? 0 : this.classesFound(answers, best, this.askedOfBest).filter(({ isOpen }) => isOpen).length;
  }
}

const nameOf = ([candidate, cover]) => `${candidate} ${cover}`;

// --- the price ------------------------------------------------------------------------------------------------------------

function priceOf({ ordinal, adapter, metadata }, rule, answers) {
  const unsaid = metadata.filter(({ status }) => !isRefusal(status)).length;
  const open = rule.openClasses(answers);
  const later = ordinal === 1 ? 0 : 6 + 2 * bitLength(ordinal - 1);
  const named = adapter === null ? 0 : NAMED_BITS;
  const hidden = unsaid ? 10 + setBits(unsaid, metadata.length) : 0;
  const unheard = isAnyUnheard(rule, answers) ? 8 + bitLength(rule.candidates.length) : 0;
  return later + named + hidden + unheard + (open ? 9 + setBits(open, rule.statement.classes.length) : 0);
}

function isAnyUnheard(rule, answers) {
  return rule.candidates.some((_, candidate) => {
    const got = rule.first.map((cover) => answers.get(nameOf([candidate, cover]))).filter(Boolean);
    const silent = got.filter(({ labels }) => !labels.length);
    return silent.some(({ status }) => !isRefusal(status)) || (silent.length > 0 && silent.length < got.length);
  });
}

// --- the check ------------------------------------------------------------------------------------------------------------

function ruleOf(head, statement, covers) {
  const found = candidatesOf(head, statement);
  let rule = new Rule(statement, covers, found);
  while (rule.candidates.length > 1 && rule.requestedBytes() > MAX_REQUESTED_BYTES) rule = new Rule(statement, covers, rule.candidates.slice(0, -1));
  return rule;
}

// Refuses a derivation whose questions, interface or price are not the rule's.
export async function checkRule({ head, queries }, statement, covers, onProgress) {
  const paths = head.metadata.map(({ adapter, path }) => [adapter, path]);
  if (canonicalJson(paths) !== canonicalJson(metadataPaths(head))) refuse("the derivation did not ask for metadata as the rule says");
  const rule = ruleOf(head, statement, covers);
  const answers = new Map();
  for (let pairs = rule.nextPairs(answers); pairs.length; pairs = rule.nextPairs(answers)) {
    const lot = queries.slice(answers.size, answers.size + pairs.length);
    const isAsked = lot.length === pairs.length && lot.every(({ candidate, cover }, at) => candidate === pairs[at][0] && cover === pairs[at][1]);
    if (!isAsked) refuse("the derivation asked otherwise than the rule says");
    for (const query of lot) {
      await checkQuery(query, rule);
      answers.set(nameOf([query.candidate, query.cover]), query);
      if (answers.size % 64 === 0) onProgress("the derivation's questions", answers.size, queries.length);
    }
  }
  if (answers.size !== queries.length) refuse("the derivation asked more than the rule says");
  if (canonicalJson(rule.interface(answers)) !== canonicalJson(head.interface)) refuse("the rule gives another interface");
  if (head.bits !== priceOf(head, rule, answers)) refuse("the derivation costs something else by the rule");
}

async function checkQuery({ candidate, cover, request, response, status, labels, error }, rule) {
  const asked = rule.candidates[candidate];
  const sent = await decodeRequest(asked, fromHex(request), rule.statement);
  const digest = hex(sent.length > LARGE_BYTES ? await slowSha256(sent) : sha256(sent));
  if (digest !== rule.covers.digests[cover]) refuse(`the derivation asked something else than cover ${cover}`);
  if (status === null || !response) {
    if (labels.length || !error) refuse("the derivation records an answer without its response");
    return;
  }
  const read = readAnswer(asked, rule.statement.classes.length, status, fromHex(response), false);
  if (read.error !== error || canonicalJson(read.labels) !== canonicalJson(labels)) refuse("the derivation's labels are not what the response says");
}
