// A bundle checked as `trapstreet check` does, step by step: app/protocol/bundle.py.
//   1. nothing is missing or extra     2. every entry is in the log     3. the evidence list is the one that the verdict names
//   4. all checks of transcript.js     5. verdict and figures come out the same
// Gives {outcome, summary, checked, notChecked}; outcome is "verified" or, where something was not checked here, "consistent".

import { canonicalJson, equal, fromHex, hex, sha256 as slowSha256, utf8 } from "../protocol.js";
import { unpack } from "./archive.js";
import { MAX_FILE_BYTES, isObject, parseCanonical, parseRecord, refuse } from "./canonical.js";
import { challengeOrder, saltOf, seedOf } from "./challenge.js";
import { reportOf } from "./figures.js";
import { sha256 } from "./hash.js";
import { checkEntries, checkNames, fingerprintOf } from "./log.js";
import * as records from "./records.js";
import { expect, findFault } from "./transcript.js";
import { assess } from "./verdict.js";

// `logKey` is the pinned key in hex, or "" for none; `arbiterKeys` are those believed, in hex.
export async function checkBundle(data, { logKey, arbiterKeys }, onProgress) {
  const checked = [];
  const files = unpack(data, (at, of) => onProgress("reading the file", at, of));
  checked.push("the file is a bundle exactly as bundles are written");
  const index = parseRecord(records.bundleIndex, files.get("bundle.json") ?? refuse("the bundle lacks bundle.json"));
  const listed = parseRecord(records.evidenceList, files.get("evidence.json") ?? refuse("the bundle lacks evidence.json")).files;
  checkNames(files, index, listed);
  const pinned = logKey || index.log_key;
  if (index.log_key !== pinned) refuse(`the bundle names the log key ${fingerprintOf(fromHex(index.log_key))}, not ${fingerprintOf(fromHex(pinned))}`);
  const { entries, checkpoint } = await checkEntries(files, index, (at, of) => onProgress("entries of the log", at, of));
  checked.push(`${entries.size} entries are in the log ${index.log}, by their inclusion proofs and one signed checkpoint of ${checkpoint.size} entries`);
  const verdict = entries.get(index.verdict);
  if (!["verdict", "withdrawal"].includes(records.kindOf(verdict.value))) refuse(`entry ${index.verdict} is no verdict`);
  await checkDigests(files, listed, verdict.value);
  checked.push("every file of evidence is the one whose digest stands in the log");
  const evidence = readEvidence(files, index, entries, verdict.value, arbiterKeys);
  if (evidence.statement.log !== index.log) refuse(`the statement is for the log ${evidence.statement.log}, not ${index.log}`);
  const assessment = await checkVerdict(evidence, index, verdict.value, entries, onProgress);
  checked.push(...whatHeld(evidence, assessment.fault));
  const report = checkReport(files.get("report.json"), evidence, assessment, onProgress);
  checked.push("the verdict follows from the evidence, and the report's figures are the same to the last digit");
  const notChecked = [...evidence.notChecked];
  notChecked.push("the two counts over the whole log in the report: they are the service's word, and whoever doubts them reads the log");
  if (evidence.priorModel) notChecked.push("how many answers the delivered weights repeated: it is the service's word, and whoever has the weights asks them again");
  if (!logKey) notChecked.push("whether the log's key is genuine: none was pinned");
  const isWhole = evidence.notChecked.size === 0 && logKey !== "";
  return { outcome: isWhole ? "verified" : "consistent", isAuthenticated: logKey !== "", summary: summaryOf(verdict.value, report, checkpoint, index), checked, notChecked };
}

async function checkDigests(files, listed, verdict) {
  const digestOf = async (name) => hex(await slowSha256(files.get(name)));
  if ((await digestOf("evidence.json")) !== verdict.bundle) refuse("evidence.json is not the evidence list that the verdict entry names");
  for (const [name, digest] of Object.entries(listed)) {
    if ((await digestOf(name)) !== digest) refuse(`${name} was changed: its SHA-256 is not the one in evidence.json`);
  }
}

function linesOf(data, problem) {
  if (data.at(-1) !== 0x0a && data.length) refuse(problem);
  const lines = [];
  for (let at = 0; at < data.length; ) {
    const end = data.indexOf(0x0a, at);
    lines.push(data.subarray(at, end));
    at = end + 1;
  }
  return lines;
}

function readEvidence(files, index, entries, verdict, arbiterKeys) {
  const course = parseRecord(records.course, files.get("course.json"));
  const openings = parseRecord(records.openings, files.get("openings.json"), MAX_FILE_BYTES);
  const lines = linesOf(files.get("queries.jsonl"), "queries.jsonl does not end with a newline");
  const { record } = verdict;
  if (index.interface !== record.interface_origin.entry) refuse("the bundle names the entry of the interface that the filing record names, or none");
  if (files.has("derivation.jsonl") !== (record.interface_origin.kind === "derived")) refuse("the bundle holds a derivation exactly if the interface was derived");
  if ((course.prior_model === null) !== (index.prior_model === null)) refuse("delivered weights need both their log entry and their comparison");
  const evidence = {
    registration: entries.get(index.registration),
    registrationBeacon: entries.get(index.registration_beacon),
    filing: entries.get(index.filing),
    filingBeacon: entries.get(index.filing_beacon),
    blocks: index.blocks.map((number) => entries.get(number)),
    interfaceEntry: index.interface === null ? null : entries.get(index.interface),
    record,
    blind: verdict.blind,
    course,
    openings,
    queries: lines.map((line) => parseRecord(records.askedQuery, line, MAX_FILE_BYTES)),
    priorModel: course.prior_model && { entry: entries.get(index.prior_model), ...course.prior_model },
    covers: readCovers(files.get("covers.json")),
    derivation: readDerivation(files.get("derivation.jsonl")),
    logKey: index.log_key,
    arbiterKeys,
    notChecked: new Set(),
  };
  return withDrawn(evidence);
}

// What the beacons draw: salt, seed, and the order of the challenge.
function withDrawn(evidence) {
  const { statement } = expect(evidence.registration, "registration");
  const salt = saltOf(expect(evidence.registrationBeacon, "beacon"), fromHex(statement.root), sha256(evidence.registration.data));
  const seed = seedOf(expect(evidence.filingBeacon, "beacon"), sha256(evidence.filing.data));
  const { policy, family: wanted } = evidence.record;
  const names = statement.families.map(({ name }) => name).join(", ");
  const family = statement.families.find(({ name }) => name === wanted) ?? refuse(`this registration has no family '${wanted}'; it has ${names}`);
  const order = challengeOrder(seed, family).slice(0, policy.max_triggers);
  return {
    ...evidence,
    statement,
    salt,
    seed,
    family,
    order,
    positions: new Map(order.map((index, position) => [index, position])),
    inputs: new Map(evidence.openings.inputs.map((opening) => [opening.index, opening])),
    due: order.slice(0, evidence.course.blocks_done * policy.block_size),
  };
}

function readCovers(data) {
  if (data === undefined) return null;
  const covers = parseRecord(records.coverTable, data, MAX_FILE_BYTES);
  const inputs = new Map(covers.shown.map(({ index, input }) => [index, fromHex(input)]));
  for (const [index, input] of inputs) if (covers.digests[index] !== hex(sha256(input))) refuse("not the input of this index");
  return { ...covers, inputs };
}

function readDerivation(data) {
  if (data === undefined) return null;
  const [head, ...queries] = linesOf(data, "a derivation ends with a newline");
  if (head === undefined) refuse("a derivation ends with a newline");
  return {
    head: parseRecord(records.derivationHead, head, MAX_FILE_BYTES),
    queries: queries.map((line) => parseRecord(records.derivationQuery, line, MAX_FILE_BYTES)),
    sha256: hex(sha256(data)),
  };
}

const shown = ([verdict, reason, asked, matches]) => `${verdict} (${reason}), ${matches} of ${asked}`;

async function checkVerdict(evidence, index, verdict, entries, onProgress) {
  const fault = await findFault(evidence, onProgress);
  if (fault && verdict.verdict !== "VOID") refuse(fault.slice(fault.indexOf(": ") + 2));
  const younger = [...entries.keys()].some((number) => number > index.verdict);
  if (verdict.filing !== index.filing || younger) refuse("the verdict is of another filing, or older than what it rests on");
  if (!fault && verdict.verdict === "VOID" && evidence.notChecked.size) refuse("the verdict is VOID, and the check that made it so is none of those made here: use trapstreet check");
  onProgress("the walk of the evidence", 0, 1);
  const assessment = assess(evidence, fault);
  const { decision } = assessment;
  const found = [decision.verdict, decision.reason, decision.walk.asked, decision.walk.matches];
  const stated = [verdict.verdict, verdict.reason, verdict.asked, verdict.matches];
  if (`${found}` !== `${stated}`) refuse(`recomputed ${shown(found)}, but the log says ${shown(stated)}`);
  const isWithdrawn = evidence.course.end === "withdrawn" && decision.verdict === "INCONCLUSIVE";
  if ((records.kindOf(verdict) === "withdrawal") !== isWithdrawn) refuse("a withdrawal is logged as one, and nothing else is");
  if (!fault && !isEndTrue(evidence, assessment)) refuse(`the course says that the dispute ended: ${evidence.course.end}, but the evidence does not`);
  return { ...assessment, fault };
}

// Whether the evidence shows the reason for which no further block was asked.
function isEndTrue({ course, order, family }, { case: found, decision }) {
  const isDone = found.trials.length === order.length;
  const isCut = order.length < family.end - family.start;
  return {
    walk: decision.walk.end !== null,
    exhausted: isDone && !isCut,
    budget: isDone && isCut,
    withheld: found.trials.at(-1)?.step.outcome === "withheld",
    withdrawn: true,
  }[course.end];
}

function checkReport(data, evidence, assessment, onProgress) {
  const report = parseCanonical(data);
  records.standing(isObject(report) ? report.standing : null);
  const found = utf8(canonicalJson(reportOf(evidence, assessment, report.standing, onProgress)));
  if (!equal(found, data)) refuse("report.json does not hold the figures that come out of the evidence");
  return report;
}

function whatHeld(evidence, fault) {
  if (fault) return [`the check that made it void fails here, too: ${fault}`];
  const { inputs, labels } = evidence.openings;
  return [
    "both beacons follow the rule and open the nonces that were committed to",
    "the vendor signed the statement and the filing, and the filing is the one that the log hid",
    `${inputs.length} opened inputs and ${labels.length} opened label keys fit the registered root`,
    `${evidence.blocks.length} blocks are slices of the challenge, and their heads chain over exactly the ${evidence.queries.length} questions shown`,
    "labels were drawn again from the beacon, and the evidence was walked again in whole numbers",
  ];
}

function summaryOf(verdict, report, checkpoint, index) {
  return {
    verdict: verdict.verdict,
    reason: verdict.reason,
    says: report.says,
    asked: verdict.asked,
    matches: verdict.matches,
    log2_e: report.log2_e ?? null,
    log2_threshold: report.log2_threshold ?? null,
    assurance_class: report.assurance_class,
    endpoint: verdict.record.endpoint,
    decided_at: verdict.time,
    log: index.log,
    log_size: checkpoint.size,
    fingerprint: fingerprintOf(fromHex(index.log_key)),
  };
}
