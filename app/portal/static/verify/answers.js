// Labels read out of a response that may be anything at all: app/suspects/adapters/answers.py. What is wrong with a response
// is one word of a closed list, the same word that the service recorded.

import { utf8 } from "../protocol.js";
import { Float, NotJson, areFiniteNumbers, isNumber, isWhole, parseLoose, plain } from "./loose_json.js";

export class Misbehaved extends Error {
  constructor(reason) {
    super(reason);
    this.reason = reason;
  }
}

export const misbehaved = (reason) => {
  throw new Misbehaved(reason);
};

export const MAX_DEPTH = 32;
const MAX_LABELS = 1000;
const MAX_LABEL_CHARACTERS = 200;
const isMap = (value) => value instanceof Map;

export function parseAnswerBody(status, body, statuses = [200]) {
  if (!statuses.includes(status)) misbehaved(`status_${status}`);
  if (depthOf(body) > MAX_DEPTH) misbehaved("too_deep");
  try {
    return parseLoose(body);
  } catch (error) {
    if (error instanceof NotJson) misbehaved("not_json");
    throw error;
  }
}

// Counted on the bytes, outside of strings.
export function depthOf(body) {
  let [deepest, depth, inside] = [0, 0, false];
  for (let at = 0; at < body.length; at += 1) {
    const byte = body[at];
    if (inside) {
      if (byte === 0x5c) at += 1;
      else if (byte === 0x22) inside = false;
    } else if (byte === 0x22) inside = true;
    else if (byte === 0x5b || byte === 0x7b) deepest = Math.max(deepest, (depth += 1));
    else if (byte === 0x5d || byte === 0x7d) depth -= 1;
  }
  return deepest;
}

export const fieldOf = (value, name) => (isMap(value) && value.has(name) ? value.get(name) : misbehaved("missing_field"));

export const itemOf = (value, index) => (Array.isArray(value) && index < value.length ? value[index] : misbehaved("missing_field"));

export function onlyItemOf(value) {
  if (!Array.isArray(value)) misbehaved("wrong_shape");
  return value.length === 1 ? value[0] : misbehaved("wrong_count");
}

// What Python takes for true.
function isTrue(value) {
  if (isMap(value)) return value.size > 0;
  if (Array.isArray(value) || typeof value === "string") return value.length > 0;
  if (value instanceof Float) return value.value !== 0;
  return Boolean(value);
}

export function refuseReportedError(value) {
  if (isMap(value) && value.has("error") && isTrue(value.get("error"))) misbehaved("reported_error");
}

// Reads JSON that stands in a string; a lone surrogate in it is no UTF-8, whatever takes its place while brackets are counted.
export function unwrapped(value) {
  if (typeof value !== "string" || !/^[[{]/.test(value)) return value;
  if (!value.isWellFormed() && depthOf(utf8(value)) <= MAX_DEPTH) misbehaved("not_json");
  return parseAnswerBody(200, utf8(value));
}

const ENVELOPES = ["predictions", "prediction", "outputs", "output", "results", "result"];

export function insideEnvelope(value) {
  if (isMap(value)) {
    for (const name of ENVELOPES) if (value.has(name) && !(value.get(name) instanceof Float)) return value.get(name);
  }
  return value;
}

export function answerToOne(value, scoreCount) {
  const isBatch = Array.isArray(value) && value.length === 1 && !(value[0] instanceof Float);
  return answerFrom(isBatch ? value[0] : value, scoreCount);
}

// One prediction in any of the usual shapes.
export function answerFrom(value, scoreCount) {
  if (isMap(value)) return answerFromObject(value, scoreCount);
  if (!Array.isArray(value)) return labelAnswer(value);
  if (value.length && value.every(isMap)) return scoredAnswer(value.map((item) => [firstOf(item, LABEL_FIELDS), firstOf(item, SCORE_FIELDS)]));
  const isPair = (item) => Array.isArray(item) && [2, 3].includes(item.length) && typeof item.at(-2) === "string";
  if (value.length && value.every(isPair)) return scoredAnswer(value.map((item) => [item.at(-2), item.at(-1)]));
  if (value.length && value.every((item) => typeof item === "string")) return labelsAnswer(value);
  return scoresAnswer(value, scoreCount);
}

const LABEL_FIELDS = ["label", "class", "class_name", "displayName", "tagName", "name", "predicted_label"];
const SCORE_FIELDS = ["score", "confidence", "probability", "prob", "value"];
const LABEL_COLUMNS = ["labels", "displayNames", "classes", "class_names"];
const SCORE_COLUMNS = ["scores", "confidences", "probabilities", "probs", "score", "logits"];

function answerFromObject(value, scoreCount) {
  const [labels, scores] = [LABEL_COLUMNS, SCORE_COLUMNS].map((names) => names.map((name) => value.get(name)).find(Array.isArray));
  if (labels && scores) {
    if (labels.length !== scores.length) misbehaved("wrong_count");
    return scoredAnswer(labels.map((label, at) => [label, scores[at]]));
  }
  let named = LABEL_FIELDS.map((name) => value.get(name)).filter((item) => typeof item === "string");
  if (!named.length && !scores && SCORE_FIELDS.some((name) => value.has(name))) named = LABEL_FIELDS.map((name) => value.get(name)).filter(isWhole);
  if (named.length) return labelAnswer(named[0]);
  return scores ? scoresAnswer(scores, scoreCount) : scoredAnswer([...value.entries()]);
}

function firstOf(item, names) {
  const name = names.find((each) => item.has(each));
  return name === undefined ? misbehaved("missing_field") : item.get(name);
}

// Indices of scores, highest first, the lower index first among equals.
export function scoresAnswer(value, scoreCount) {
  if (!Array.isArray(value) || !value.every(isNumber)) misbehaved("wrong_shape");
  let scores = value;
  if (scoreCount === 2 && scores.length === 1 && plain(scores[0]) >= 0 && plain(scores[0]) <= 1) {
    // Python's 1 - x stays whole where x is.
    const rest = isWhole(scores[0]) ? 1 - scores[0] : new Float(1 - scores[0].value);
    scores = [rest, scores[0]];
  }
  if (scores.length < 2 || (scoreCount !== null && scores.length !== scoreCount)) misbehaved("wrong_count");
  return { kind: "scores", labels: descending(scores).slice(0, MAX_LABELS).map(String) };
}

export function scoredAnswer(pairs) {
  const scores = pairs.map(([, score]) => score);
  if (!scores.every(isNumber)) misbehaved("wrong_shape");
  const labels = descending(scores).slice(0, MAX_LABELS).map((at) => pairs[at][0]);
  return { kind: "ranking", labels: labelsOf(labels) };
}

function descending(scores) {
  if (!areFiniteNumbers(scores)) misbehaved("nan_score");
  const values = scores.map(plain);
  return values.map((_, at) => at).sort((one, other) => (values[one] > values[other] ? -1 : values[one] < values[other] ? 1 : one - other));
}

export const labelAnswer = (value) => ({ kind: "label", labels: value === null ? [] : [labelOf(value)] });

export function labelsAnswer(value) {
  if (!Array.isArray(value)) misbehaved("wrong_shape");
  if (value.length > MAX_LABELS) misbehaved("wrong_count");
  return { kind: "top-k", labels: labelsOf(value) };
}

function labelsOf(values) {
  const labels = values.map(labelOf);
  return new Set(labels).size === labels.length ? labels : misbehaved("duplicate_label");
}

function labelOf(value) {
  if (typeof value !== "string" && !isWhole(value)) misbehaved("wrong_shape");
  const label = String(value);
  return [...label].length > MAX_LABEL_CHARACTERS || !label.isWellFormed() ? misbehaved("bad_label") : label;
}

// What the endpoint answers with: the highest label, or a whole list that it gave without scores.
export const saidIn = (answer) => (answer.kind === "top-k" ? answer.labels : answer.labels.slice(0, 1));
