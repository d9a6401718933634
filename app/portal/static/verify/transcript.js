// The checks that make a verdict VOID, or a bundle a forgery: app/protocol/faults.py, in its order and its words.
//   1. beacons follow the rule and open their nonces      2. the vendor key signed; the filing entry hides that record
//   3. the interface and the covers are what they are said to be      4. openings fit the registered root
//   5. blocks are slices of the challenge; heads chain over exactly the queries shown
//   6. each query's role opens its commitment, its request holds that input, its labels are what the response says
//   7. weights that the accused delivered do not show older answers
// What cannot be checked in a browser is noted in `evidence.notChecked` and never counts as checked.
// Source: docs/protocol.md section 9.2; Adi et al. 2018 section 4 (Verify, step 2).

import { verifyInclusion } from "../merkle.js";
import { PROTOCOL, canonicalJson, concat, equal, fromHex, hex, hmac as slowHmac, lp, sha256 as slowSha256, tag, u32, utf8 } from "../protocol.js";
import { decodeRequest, readAnswer } from "./adapters.js";
import { verifyBeacon } from "./beacon.js";
import { NotHere, OpeningInvalid, Refused, refuse } from "./canonical.js";
import { isRepeated, lookAlike, parseInput } from "./challenge.js";
import { checkRule } from "./derivation.js";
import { hmac, sha256 } from "./hash.js";
import { checkSignature } from "./log.js";
import { kindOf } from "./records.js";
import { nameOf } from "./verdict.js";

// Below this WebCrypto's promise costs more than hashing here.
const LARGE_BYTES = 16 * 1024;
const hashOf = async (bytes) => hex(bytes.length > LARGE_BYTES ? await slowSha256(bytes) : sha256(bytes));

const CLASS_NAMES = { registration: "RegistrationEntry", beacon: "BeaconEntry", filing: "FilingEntry", block: "BlockEntry", model: "ModelEntry" };

export function expect(logged, kind) {
  if (kindOf(logged.value) !== kind) refuse(`entry ${logged.index} is no ${CLASS_NAMES[kind]}`);
  return logged.value;
}

const encoded = (record) => utf8(canonicalJson(record));

// Gives `reason: what was found`, or "" if nothing was.
export async function findFault(evidence, onProgress) {
  try {
    checkBeacons(evidence);
    await checkSignatures(evidence);
    await checkInterfaceOrigin(evidence, onProgress);
    await checkOpenings(evidence, onProgress);
    await checkBlocks(evidence);
    for (const [at, query] of evidence.queries.entries()) {
      await checkQuery(evidence, query);
      if (at % 64 === 0) onProgress("questions and answers", at, evidence.queries.length);
    }
    return isPriorModel(evidence) ? "prior_model: the accused's weights are older than the beacon and give these answers" : "";
  } catch (error) {
    if (error instanceof OpeningInvalid) return `opening_invalid: ${error.message}`;
    if (error instanceof Refused) return `check_failed: ${error.message}`;
    throw error;
  }
}

// --- 1 and 2 ------------------------------------------------------------------------------------------------------------

function checkBeaconOf(evidence, logged, nonceHash, beacon) {
  const { entry, nonce, source } = expect(beacon, "beacon");
  const registered = evidence.statement.beacon;
  if (entry !== logged.index || beacon.index <= logged.index) refuse(`entry ${beacon.index} is not the beacon of entry ${logged.index}`);
  if (hex(sha256(fromHex(nonce))) !== nonceHash) refuse(`beacon ${beacon.index} does not open the nonce of entry ${logged.index}`);
  if (source !== registered) refuse(`beacon ${beacon.index} is of source ${source}, registered is another`);
  verifyBeacon(beacon.value, { index: logged.index, time: logged.value.time });
}

function checkBeacons(evidence) {
  const { registration, filing } = evidence;
  checkBeaconOf(evidence, registration, expect(registration, "registration").nonce_hash, evidence.registrationBeacon);
  checkBeaconOf(evidence, filing, expect(filing, "filing").nonce_hash, evidence.filingBeacon);
}

async function checkSignatures(evidence) {
  const { registration, filing, record, statement } = evidence;
  const vendorKey = fromHex(statement.vendor_key);
  await checkSignature(vendorKey, fromHex(registration.value.signature), encoded(statement));
  await checkSignature(vendorKey, fromHex(evidence.course.signature), encoded(record));
  const entry = expect(filing, "filing");
  if (hex(sha256(lp(tag("filing"), fromHex(evidence.blind), encoded(record)))) !== entry.record_hash) refuse("the filing entry hides another record than the one revealed");
  if (entry.registration !== registration.index || record.registration !== registration.index) refuse("the filing is of another registration");
  if (filing.index <= evidence.registrationBeacon.index) refuse("the filing is older than the registration's beacon");
}

// --- 3 ----------------------------------------------------------------------------------------------------------------

async function checkInterfaceOrigin(evidence, onProgress) {
  const { record, interfaceEntry: logged } = evidence;
  const { interface: made, interface_origin: origin } = record;
  if (origin.kind === "countersigned") {
    if (!evidence.arbiterKeys.includes(origin.key)) refuse(`the interface is countersigned by ${origin.key}, which is no arbiter's known here`);
    await checkSignature(fromHex(origin.key), fromHex(origin.signature), encoded(made));
  }
  if (origin.kind === "logged") {
    if (logged === null || logged.index !== origin.entry) refuse("the log entry of the interface is missing");
    const entry = expect(logged, "model");
    if (entry.sha256 !== hex(sha256(encoded(made))) || logged.index >= evidence.registrationBeacon.index) refuse("the interface was not logged before the registration's beacon");
  }
  if (evidence.covers !== null) await checkCovers(evidence);
  if (origin.kind === "derived") await checkDerivation(evidence, origin, onProgress);
}

async function checkCovers({ covers, statement }) {
  const invalid = (message) => {
    throw new OpeningInvalid(message);
  };
  if (statement.covers === null) invalid("the registration commits to no covers: use covers without labels, or register with these");
  const leaves = covers.digests.map((digest, at) => leafHash(lp(tag("cover"), u32(at), fromHex(digest), u32(covers.labels[at]))));
  if (covers.digests.length !== statement.covers.count || hex(rootOf(leaves)) !== statement.covers.root) {
    invalid("these are not the covers that the registration commits to: inputs, labels or order differ");
  }
  const highest = covers.labels.reduce((most, label) => Math.max(most, label));
  if (highest >= statement.classes.length) invalid(`the covers' label ${highest} names no class`);
}

async function checkDerivation(evidence, origin, onProgress) {
  const { derivation, covers, record, interfaceEntry: logged } = evidence;
  if (derivation === null || covers === null || logged === null || logged.index !== origin.entry) refuse("the derivation of the interface, its log entry or its covers are missing");
  const entry = expect(logged, "model");
  if (entry.owner_key !== evidence.logKey || entry.sha256 !== derivation.sha256) refuse("the log does not hold this derivation as the service's own");
  const signed = { type: `${PROTOCOL}/model-commitment`, owner_key: entry.owner_key, sha256: entry.sha256 };
  await checkSignature(fromHex(evidence.logKey), fromHex(entry.signature), encoded(signed));
  const { head } = derivation;
  const isOurs = head.registration === evidence.registration.index && head.endpoint === record.endpoint && canonicalJson(head.interface) === canonicalJson(record.interface);
  if (!isOurs || logged.index >= evidence.filing.index) refuse("the derivation is of another endpoint, registration or interface, or younger than the filing");
  await checkRule(derivation, evidence.statement, covers, onProgress);
}

// --- 4 ----------------------------------------------------------------------------------------------------------------

const leafHash = (data) => sha256(concat(Uint8Array.of(0), data));

// The root of RFC 9162 section 2.1.1 over leaf hashes.
function rootOf(leaves) {
  let level = leaves;
  while (level.length > 1) {
    const above = [];
    for (let at = 0; at < level.length; at += 2) above.push(at + 1 < level.length ? sha256(concat(Uint8Array.of(1), level[at], level[at + 1])) : level[at]);
    level = above;
  }
  return level[0];
}

async function checkOpenings(evidence, onProgress) {
  const { inputs, labels } = evidence.openings;
  const opened = new Set(labels.map(({ index }) => index));
  if (evidence.inputs.size !== inputs.length || opened.size !== labels.length) refuse("a trigger is opened twice");
  const strangers = [...evidence.inputs.keys(), ...opened].filter((index) => !evidence.positions.has(index));
  if (strangers.length) refuse(`trigger ${Math.min(...strangers)} was opened outside the challenge`);
  for (const [at, opening] of inputs.entries()) {
    await checkInputOpening(evidence.statement, opening);
    if (at % 16 === 0) onProgress("openings", at, inputs.length);
  }
  for (const opening of labels) {
    const input = evidence.inputs.get(opening.index);
    if (!input) refuse(`trigger ${opening.index}: the label was opened without its input`);
    checkLabelOpening(evidence.statement, input.label_commitment, opening);
  }
}

async function checkInputOpening(statement, opening) {
  const { index } = opening;
  const input = fromHex(opening.input);
  const invalid = (message) => {
    throw new OpeningInvalid(message);
  };
  let read;
  try {
    read = parseInput(input);
  } catch (error) {
    invalid(`trigger ${index}: ${error.message}`);
  }
  if (read.kind !== statement.kind || `${read.shape}` !== `${statement.shape}`) invalid(`trigger ${index} is ${read.kind} (${read.shape}); registered is ${statement.kind} (${statement.shape})`);
  const key = fromHex(opening.input_key);
  const commitment = input.length > LARGE_BYTES ? await slowHmac(key, input) : hmac(key, input);
  const leaf = leafHash(lp(tag("trigger"), u32(index), commitment, fromHex(opening.label_commitment)));
  try {
    await verifyInclusion(leaf, index, statement.count, opening.path.map(fromHex), fromHex(statement.root));
  } catch (error) {
    invalid(`trigger ${index} does not open the registered root: ${error.message}`);
  }
}

function checkLabelOpening(statement, commitment, { index, label, label_key: key }) {
  const invalid = (message) => {
    throw new OpeningInvalid(`trigger ${index}: ${message}`);
  };
  if ((label === null) !== (statement.label_source === "beacon")) invalid("a label is opened in class B and only there");
  if (label !== null && label >= statement.classes.length) invalid(`label ${label} names no class`);
  const committed = sha256(lp(tag("label-key-commitment"), fromHex(key), ...(label === null ? [] : [u32(label)])));
  if (hex(committed) !== commitment) invalid("the label key does not open its commitment");
}

// --- 5 ----------------------------------------------------------------------------------------------------------------

async function checkBlocks(evidence) {
  const asked = new Map(evidence.queries.map(({ block }) => [block, []]));
  for (const query of evidence.queries) asked.get(query.block).push(query);
  if (evidence.queries.some((query, at) => query.record.n !== at)) refuse("queries are not numbered from 0 without gaps");
  const logged = new Map(evidence.blocks.map((block) => [expect(block, "block").block, block]));
  const isSame = logged.size === asked.size && [...asked.keys()].every((number) => logged.has(number));
  if (!isSame || logged.size !== evidence.blocks.length) refuse("the blocks in the log are not the blocks that were asked");
  let head = new Uint8Array(32);
  let index = evidence.filingBeacon.index;
  for (const number of [...asked.keys()].sort((one, other) => one - other)) {
    const queries = asked.get(number);
    head = sha256(lp(tag("block"), head, u32(number), ...queries.map(({ record }) => encoded(record))));
    const block = logged.get(number);
    if (block.value.head !== hex(head) || block.value.filing !== evidence.filing.index || block.index <= index) refuse(`the head of block ${number} in the log is not the head of the queries shown`);
    index = block.index;
    checkRoles(evidence, number, queries.map(({ role }) => role));
  }
  for (const opening of evidence.openings.labels) {
    const block = Math.floor(evidence.positions.get(opening.index) / evidence.record.policy.block_size);
    if (!asked.has(block)) refuse(`trigger ${opening.index}: the label was opened before a head over its block was logged`);
  }
}

// Every trigger of the block is asked with its look-alike, as often as the rule says, among as many covers.
function checkRoles(evidence, number, roles) {
  const { block_size: size, covers_per_trigger: each } = evidence.record.policy;
  const block = evidence.order.slice(number * size, (number + 1) * size);
  const expected = new Set();
  let repeats = 0;
  block.forEach((index, at) => {
    repeats += Number(isRepeated(number * size + at));
    for (let repeat = 0; repeat <= Number(isRepeated(number * size + at)); repeat += 1) {
      for (const kind of ["trigger", "look-alike"]) expected.add(nameOf({ kind, index, repeat }));
    }
  });
  const found = roles.filter(({ kind }) => kind !== "cover").map(nameOf);
  if (found.length !== expected.size || new Set(found).size !== found.length || !found.every((name) => expected.has(name))) {
    refuse(`block ${number} does not ask exactly the triggers of the challenge and their look-alikes`);
  }
  const covers = roles.filter(({ kind }) => kind === "cover");
  if (covers.length !== each * block.length) refuse(`block ${number} does not ask as many covers as the policy says`);
  const first = new Set(covers.filter(({ repeat }) => !repeat).map(({ index }) => index));
  const again = covers.filter(({ repeat }) => repeat);
  if (again.length !== (each > 1 ? repeats : 0) || !again.every(({ index }) => first.has(index))) refuse(`block ${number} does not ask covers twice as often as the rule says`);
}

// --- 6 ----------------------------------------------------------------------------------------------------------------

async function checkQuery(evidence, { record, role, blind, request, response }) {
  const { n } = record;
  if (hex(sha256(lp(tag("role"), fromHex(blind), encoded(role)))) !== record.role_commitment) refuse(`query ${n}: the role does not open its commitment`);
  if (record.attempt > evidence.record.policy.attempts) refuse(`query ${n}: asked more often than the policy allows`);
  const body = fromHex(request);
  if ((await hashOf(body)) !== record.request_sha256) refuse(`query ${n}: the request is not the one recorded`);
  await checkRequest(evidence, n, role, body);
  await checkAnswer(evidence, record, fromHex(response));
}

async function checkRequest(evidence, n, role, body) {
  const { covers, record, statement } = evidence;
  const isCover = role.kind === "cover";
  if (isCover && covers !== null && role.index >= covers.digests.length) refuse(`cover ${role.index} was asked, but only ${covers.digests.length} are committed`);
  const expected = isCover ? (covers?.inputs.get(role.index) ?? null) : expectedInput(evidence, role);
  let sent;
  try {
    sent = await decodeRequest(record.interface, body, statement, expected);
  } catch (error) {
    if (!(error instanceof NotHere)) throw error;
    evidence.notChecked.add(`whether each request holds the input of its role: ${error.message}`);
    return;
  }
  if (expected !== null && !equal(sent, expected)) refuse(`query ${n}: the request does not hold the input of its role`);
  if (isCover && covers !== null && (await hashOf(sent)) !== covers.digests[role.index]) refuse(`query ${n}: the request does not hold the committed cover ${role.index}`);
}

function expectedInput(evidence, role) {
  const opening = evidence.inputs.get(role.index);
  if (!opening) refuse(`trigger ${role.index} was asked but its input is not opened`);
  const input = fromHex(opening.input);
  return role.kind === "trigger" ? input : lookAlike(evidence.seed, role.index, input);
}

async function checkAnswer(evidence, record, response) {
  const { n, status, response_sha256: digest, labels, error } = record;
  if (status === null || digest === "") {
    // Nothing arrived whole: there is no response to show, and so no answer.
    if (response.length || labels.length || !error) refuse(`query ${n}: an answer is recorded without its response`);
    return;
  }
  if ((await hashOf(response)) !== digest) refuse(`query ${n}: the response is not the one recorded`);
  const said = readAnswer(evidence.record.interface, evidence.statement.classes.length, status, response, evidence.record.evidence === "ranking");
  if (said.error !== error || said.labels.length !== labels.length || said.labels.some((label, at) => label !== labels[at])) refuse(`query ${n}: the labels recorded are not what the response says`);
}

// --- 7 ----------------------------------------------------------------------------------------------------------------

function isPriorModel(evidence) {
  if (evidence.priorModel === null) return false;
  const { entry, repeated, answered } = evidence.priorModel;
  expect(entry, "model");
  const counted = evidence.queries.filter(({ record }) => record.labels.length).length;
  if (answered !== counted || repeated > counted) refuse(`the delivered weights were compared on ${answered} answers; there are ${counted}`);
  const speaks = 100 * counted >= 90 * evidence.queries.length && evidence.queries.length > 0;
  return entry.index < evidence.registrationBeacon.index && speaks && 100 * repeated >= 99 * counted;
}
