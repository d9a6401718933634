// Every record of a bundle and every entry of the log, as forms: app/protocol/records.py, bundle.py, transcript.py,
// cross_test.py and app/keys/{statement,commitment,cover_set}.py. Bytes stay hex, as they stand in the records.
// Source: docs/protocol.md sections 2 to 8.

import { PROTOCOL } from "../protocol.js";
import { Refused, choice, flag, has, integer, isObject, jsonObject, nullable, octets, parseCanonical, record, refuse, sequence, text, timestamp } from "./canonical.js";

export const MAX_TRIGGERS = 65_536;
const ORIGIN = "[!-*,-~]{1,200}";
const BEACON = "local|drand:[0-9a-f]{64}";
const MAX_INPUT_BYTES = 16 * 1024 * 1024;
const bytes32 = octets(32);
const index = integer(0);

// --- the statement ------------------------------------------------------------------------------------------------------

const family = record("", { name: text(1, 200), start: integer(0, MAX_TRIGGERS), end: integer(1, MAX_TRIGGERS) });

function checkShape(kind, shape) {
  if (kind === "image" && (shape.length !== 3 || ![1, 3].includes(shape[2]))) refuse("an image's shape is height, width, channels with 1 or 3 channels");
  const header = 4 * 4 + `${PROTOCOL}/input`.length + kind.length + 4 * shape.length;
  const values = shape.reduce((product, size) => product * size, kind === "image" ? 1 : 4);
  if (header + values > MAX_INPUT_BYTES) refuse(`an input may have ${MAX_INPUT_BYTES} bytes`);
}

function checkFamilies(families, count) {
  let at = 0;
  for (const { start, end } of families) {
    if (start !== at || end <= start) refuse(`families follow each other without gap or overlap: this one must start at ${at}`);
    at = end;
  }
  if (at !== count) refuse(`families must cover all ${count} triggers; they end at ${at}`);
  if (new Set(families.map(({ name }) => name)).size !== families.length) refuse("two families have one name");
}

// Python's str.strip takes these, and not those that JavaScript's trim takes.
const SPACE = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const ENDS = new RegExp(`^${SPACE}+|${SPACE}+$`, "gu");

// Unicode's full case folding, letter by letter: lower case of upper case, but for these. Cherokee folds to capitals.
const FOLDED = new Map([["\u0131", "\u0131"], ["\u1e9e", "ss"]]);
function foldLetter(letter) {
  if (FOLDED.has(letter)) return FOLDED.get(letter);
  const upper = letter.toUpperCase();
  if (/[\u13a0-\u13f5\u13f8-\u13fd\uab70-\uabbf]/u.test(letter)) return upper;
  return [...upper].map((each) => each.toLowerCase()).join("");
}

// The form in which class names and endpoint labels are compared.
export function foldName(name) {
  if (/^[\x21-\x7e]*$/.test(name)) return name.toLowerCase();
  return [...name.normalize("NFC").replace(ENDS, "")].map(foldLetter).join("").normalize("NFC");
}

const covers = record("", { root: bytes32, count: integer(1, MAX_TRIGGERS) });

export const statement = record(
  "statement",
  {
    log: text(1, 200, ORIGIN),
    vendor_key: bytes32,
    root: bytes32,
    count: integer(1, MAX_TRIGGERS),
    kind: choice("image", "tensor"),
    shape: sequence(integer(1, 65_535), 1, 8),
    classes: sequence(text(1, 200), 2, 65_536),
    families: sequence(family, 1, 64),
    label_source: choice("beacon", "vendor"),
    beacon: text(1, 100, BEACON),
    covers: nullable(covers),
    unmarked_model: nullable(bytes32),
  },
  (value) => {
    checkShape(value.kind, value.shape);
    checkFamilies(value.families, value.count);
    const seen = new Set();
    for (const name of value.classes) {
      const folded = foldName(name);
      if (seen.has(folded)) refuse(`class names must differ after NFC, trim and casefold: '${name}' stands twice`);
      seen.add(folded);
    }
  },
);

// --- interface and filing -----------------------------------------------------------------------------------------------

function checkMap({ label_map: map }) {
  const keys = Object.keys(map).length;
  if (has(map, "by") && ["index", "name"].includes(map.by) && keys === 1) return;
  if (!(has(map, "by") && map.by === "explicit" && has(map, "map") && isObject(map.map) && keys === 2)) {
    refuse('a label map is {"by": "index"}, {"by": "name"} or {"by": "explicit", "map": {label: [class, …]}}');
  }
  const entries = Object.values(map.map);
  if (entries.length < 1 || entries.length > 65_536) refuse("a map names 1 to 65536 endpoint labels");
  for (const names of entries) {
    if (!Array.isArray(names) || !names.length || !names.every((name) => typeof name === "string")) refuse("each endpoint label maps to a non-empty array of class names");
    if (new Set(names).size !== names.length) refuse("a class stands twice");
  }
}

export const interfaceForm = record(
  "",
  { adapter: text(1, 40, "[a-z][a-z0-9_]*"), options: jsonObject(), preprocessing: jsonObject(), label_map: jsonObject() },
  checkMap,
);

const ORIGIN_FIELDS = { claimant: "000", logged: "100", countersigned: "011", derived: "100" };

const origin = record(
  "",
  {
    kind: choice(...Object.keys(ORIGIN_FIELDS)),
    entry: nullable(index),
    key: octets(32, { orEmpty: true }),
    signature: octets(64, { orEmpty: true }),
  },
  (value) => {
    const given = `${Number(value.entry !== null)}${Number(value.key !== "")}${Number(value.signature !== "")}`;
    if (given !== ORIGIN_FIELDS[value.kind]) refuse("claimant takes nothing, logged and derived take entry, countersigned takes key and signature");
  },
);

const policy = record("", {
  bits: choice(64, 80),
  max_triggers: integer(1, MAX_TRIGGERS),
  covers_per_trigger: integer(0, 100),
  block_size: integer(1, 256),
  attempts: integer(1, 5),
  answer: choice("first"),
  opening_seconds: integer(1, 7 * 24 * 3600),
  lookahead: integer(0, 1),
});

export const filingRecord = record("filing-record", {
  registration: index,
  family: text(1, 200),
  endpoint: text(1, 2000),
  interface: interfaceForm,
  interface_origin: origin,
  evidence: choice("label", "ranking"),
  policy,
});

// --- entries of the log -------------------------------------------------------------------------------------------------

const time = timestamp();
const decided = {
  time,
  filing: index,
  blind: bytes32,
  record: filingRecord,
  verdict: choice("VOID", "CONFIRMED", "NON_COOPERATIVE", "NOT_SUPPORTED", "INCONCLUSIVE", "INDICATIVE"),
  reason: text(1, 64),
  asked: integer(0, MAX_TRIGGERS),
  matches: integer(0, MAX_TRIGGERS),
  bundle: bytes32,
};

// One side of a test of two registrants' models: a model comes with its digest and counts of both transcripts.
const repeated = record("", { repeated: index, answered: index }, (value) => {
  if (value.repeated > value.answered) refuse("more was repeated than answered");
});
const mark = record("", { asked: index, matches: index, is_carried: flag() }, (value) => {
  if (value.matches > value.asked) refuse("more matched than was asked");
});
const party = record(
  "",
  {
    filing: index,
    verdict: index,
    model: nullable(index),
    sha256: octets(32, { orEmpty: true }),
    covers: sequence(repeated, 0, 2),
    marks: sequence(mark, 0, 2),
    is_first: flag(),
  },
  ({ model, sha256, covers: alike, marks }) => {
    const wanted = model === null ? [0, 0, 0] : [64, 2, 2];
    if ([sha256.length, alike.length, marks.length].some((size, place) => size !== wanted[place])) refuse("a model comes with its digest and counts of both transcripts");
  },
);

function checkParties({ parties, result }) {
  if (parties[0].filing === parties[1].filing) refuse("two filings are tested with each other");
  if (parties.filter((each) => each.is_first).length !== (result === "first" ? 1 : 0)) refuse("one party is first if the test was decided, and else none");
}

const ENTRIES = {
  registration: { time, statement, signature: octets(64), nonce_hash: bytes32 },
  beacon: {
    time,
    entry: index,
    nonce: bytes32,
    source: text(1, 100, BEACON),
    round: index,
    randomness: bytes32,
    signature: octets(48, { orEmpty: true }),
  },
  filing: { time, registration: index, ordinal: integer(1), record_hash: bytes32, nonce_hash: bytes32 },
  block: { time, filing: index, block: integer(0, MAX_TRIGGERS), head: bytes32 },
  model: { time, owner_key: bytes32, sha256: bytes32, signature: octets(64) },
  "worker-key": { time, public_key: octets(64), queue: text(1, 40, "[a-z][a-z0-9.]{0,39}"), signature: octets(64, { orEmpty: true }) },
  "vendor-key": { time, public_key: bytes32, vendor: text(1, 64), signature: octets(64, { orEmpty: true }) },
  verdict: decided,
  withdrawal: decided,
  notice: { time, filing: index, record_hash: bytes32 },
  answer: { time, filing: index, number: integer(1, 10), record_hash: bytes32 },
  "second-run": { time, filing: index, verdict: index },
  "cross-test": { time, parties: sequence(party, 2, 2), result: choice("first", "not_decided"), reason: text(1, 64) },
};
const CHECKS = { "cross-test": checkParties };

export const kindOf = (entry) => entry.type.slice(PROTOCOL.length + 1);

// Reads any entry's one byte string.
export function parseEntry(bytes) {
  const value = parseCanonical(bytes);
  const kind = isObject(value) && typeof value.type === "string" && value.type.startsWith(`${PROTOCOL}/`) ? value.type.slice(PROTOCOL.length + 1) : "";
  if (!has(ENTRIES, kind)) refuse("not an entry of this log");
  record(kind, ENTRIES[kind], CHECKS[kind])(value);
  return value;
}

// --- files of a bundle --------------------------------------------------------------------------------------------------

export const bundleIndex = record("bundle", {
  log: text(1, 200, ORIGIN),
  log_key: bytes32,
  registration: index,
  registration_beacon: index,
  filing: index,
  filing_beacon: index,
  interface: nullable(index),
  prior_model: nullable(index),
  blocks: sequence(index, 0, MAX_TRIGGERS),
  verdict: index,
});

const EVIDENCE_FILES = ["course.json", "openings.json", "queries.jsonl", "report.json"];
const OPTIONAL_FILES = ["covers.json", "derivation.jsonl"];

export const evidenceList = record("evidence-list", {
  files: (value) => {
    if (!isObject(value) || !EVIDENCE_FILES.every((name) => has(value, name)) || !Object.keys(value).every((name) => [...EVIDENCE_FILES, ...OPTIONAL_FILES].includes(name))) {
      refuse(`must name ${EVIDENCE_FILES.join(", ")} and may name ${OPTIONAL_FILES.join(", ")}`);
    }
    Object.values(value).forEach(bytes32);
  },
});

export const course = record("course", {
  signature: octets(64),
  blocks_done: integer(0, MAX_TRIGGERS),
  end: choice("walk", "exhausted", "budget", "withheld", "withdrawn"),
  prior_model: nullable(record("", { repeated: index, answered: index })),
  egresses: integer(1, 16),
});

const inputOpening = record("input-opening", {
  index: integer(0, MAX_TRIGGERS - 1),
  input_key: bytes32,
  input: octets(),
  label_commitment: bytes32,
  path: sequence(bytes32, 0, 16),
});

const labelOpening = record("label-opening", { index: integer(0, MAX_TRIGGERS - 1), label_key: bytes32, label: nullable(integer(0, MAX_TRIGGERS - 1)) });

export const openings = record("openings", { inputs: sequence(inputOpening, 0, MAX_TRIGGERS), labels: sequence(labelOpening, 0, MAX_TRIGGERS) });

const role = record("", { kind: choice("trigger", "look-alike", "cover"), index: integer(0, 2 ** 32 - 1), repeat: integer(0, 1) });

const labels = sequence(text(0, 200), 0, 1000);

const query = record("", {
  n: integer(0, 2 ** 32 - 1),
  role_commitment: bytes32,
  attempt: integer(1, 5),
  sent_at: time,
  request_sha256: bytes32,
  status: nullable(integer(100, 999)),
  response_sha256: octets(32, { orEmpty: true }),
  labels,
  error: text(0, 64, "[a-z0-9_]*"),
  address: text(0, 64),
  certificate_sha256: octets(32, { orEmpty: true }),
});

export const askedQuery = record("asked-query", {
  block: integer(0, MAX_TRIGGERS),
  record: query,
  role,
  blind: bytes32,
  request: octets(),
  response: octets(),
});

const shownCover = record("", { index: integer(0, MAX_TRIGGERS - 1), input: octets() });

export const coverTable = record(
  "cover-table",
  { digests: sequence(bytes32, 1, MAX_TRIGGERS), labels: sequence(integer(0, 65_535), 1, MAX_TRIGGERS), shown: sequence(shownCover, 0, MAX_TRIGGERS) },
  (value) => {
    if (value.labels.length !== value.digests.length) refuse("digests and labels differ in number");
    if (value.shown.some((cover, at) => at > 0 && cover.index <= value.shown[at - 1].index)) refuse("shown covers stand in order, each once");
  },
);

const metadataAnswer = record("", {
  adapter: text(1, 40),
  path: text(1, 1000),
  status: nullable(integer(100, 999)),
  response: octets(),
  address: text(0, 64),
  certificate_sha256: octets(32, { orEmpty: true }),
});

export const derivationHead = record("derivation", {
  registration: index,
  ordinal: integer(1, 1024),
  bits: index,
  rule: choice(1),
  endpoint: text(1, 2000),
  at: jsonObject(),
  adapter: nullable(text(1, 40)),
  metadata: sequence(metadataAnswer, 0, 64),
  interface: nullable(interfaceForm),
});

export const derivationQuery = record("derivation-query", {
  candidate: integer(0, 1000),
  cover: integer(0, MAX_TRIGGERS - 1),
  sent_at: time,
  status: nullable(integer(100, 999)),
  labels,
  error: text(0, 64, "[a-z0-9_]*"),
  address: text(0, 64),
  certificate_sha256: octets(32, { orEmpty: true }),
  request: octets(),
  response: octets(),
});

export const standing = record("", { tree_size: index, registrations: index, filings: index });

export { Refused };
