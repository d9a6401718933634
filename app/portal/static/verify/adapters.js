// The served protocols: what surrounds an input in a request, and where the answer stands in a response. One entry an adapter
// of app/suspects/adapters.

import { equal, utf8 } from "../protocol.js";
import { Misbehaved, answerFrom, answerToOne, fieldOf, insideEnvelope, itemOf, labelAnswer, labelsAnswer, misbehaved, onlyItemOf, parseAnswerBody, refuseReportedError, saidIn, scoresAnswer } from "./answers.js";
import { choice, flag, has, isObject, jsonObject, nullable, record, refuse, text } from "./canonical.js";
import { HOLE, JSON_ENCODINGS, ROUTE, name, optionsOf, segment } from "./frames.js";
import { HOSTED } from "./hosted.js";
import { BODY_ENCODINGS, NUMBER_ENCODINGS, TEXT_ENCODINGS, imageOf, parsePreprocessing, readBody, readInput, readRaw, toleranceOf, usualEncoding } from "./inputs.js";
import { LATER } from "./later.js";
import { NotJson, parseLoose } from "./loose_json.js";
import { oip } from "./oip.js";

// --- servers whose owner writes route and JSON ----------------------------------------------------------------------------

const ROUTED = record("", {
  route: nullable(text(0, 200, `(?:${ROUTE})?`)),
  input_name: nullable(text(0, 200, '[^\\x00-\\x1f\\x7f"\\\\]*')),
  batch: flag(),
  encoding: nullable(choice(...JSON_ENCODINGS, ...BODY_ENCODINGS, "png_file", "jpeg_file")),
});

const routed = (usualName, usualPicture) => ({
  frame(given, rules, kind) {
    const known = optionsOf({ route: null, input_name: null, batch: false, encoding: null }, ROUTED, given);
    const encoding = known.encoding ?? usualEncoding(usualPicture, rules, kind);
    if (encoding.endsWith("_file")) {
      if (known.input_name === "" || known.batch) refuse("a form's file has a name and no array");
      return { body: null, encoding: encoding.slice(0, -5), file: known.input_name || usualName };
    }
    if (BODY_ENCODINGS.includes(encoding)) {
      if (known.input_name !== null || known.batch) refuse("a picture as the whole body has neither name nor array");
      return { body: null, encoding };
    }
    const field = known.input_name ?? usualName;
    const value = known.batch ? [HOLE] : HOLE;
    return { body: field ? { [field]: value } : value, encoding };
  },
  read(options, response, scoreCount) {
    refuseReportedError(response);
    return answerToOne(insideEnvelope(response), scoreCount);
  },
});

// --- any JSON ---------------------------------------------------------------------------------------------------------------

const GENERIC = record("", { template: jsonObject(), path: text(1, 1000), result: choice("scores", "label", "labels", "any") });
const PLACEHOLDERS = [...NUMBER_ENCODINGS.slice(2), ...TEXT_ENCODINGS];
const FORBIDDEN = ["||", "&&", "(", "[?", "`", "'", "|", "{", "[]", ".*", ":", "[-"];
const STEP = /(?:(?:^|(?<!^)\.)(?:(?<name>[A-Za-z_][A-Za-z0-9_]*)|(?<quoted>"(?:[^"\\]|\\.)*"))|\[(?:(?<index>0|[1-9][0-9]{0,5})|(?<each>\*))\])/y;

function placeholderOf(value, found = []) {
  if (Array.isArray(value)) value.forEach((item) => placeholderOf(item, found));
  else if (isObject(value)) {
    if (Object.keys(value).some((key) => key.startsWith("$"))) {
      if (Object.keys(value).length !== 1 || !PLACEHOLDERS.includes(value.$input)) refuse(`a placeholder is {"$input": TYPE}, TYPE one of ${PLACEHOLDERS.join(", ")}`);
      found.push(value);
    } else Object.values(value).forEach((item) => placeholderOf(item, found));
  }
  return found;
}

function encodingIn(template) {
  const found = placeholderOf(template);
  if (found.length !== 1) refuse(`must hold exactly one input placeholder, not ${found.length}`);
  return found[0].$input;
}

function withHole(value) {
  if (Array.isArray(value)) return value.map(withHole);
  if (!isObject(value)) return value;
  return has(value, "$input") ? HOLE : Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withHole(item)]));
}

function stepsOf(path) {
  if (path === "@") return [];
  const outside = path.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""');
  if (FORBIDDEN.some((sign) => outside.includes(sign))) refuse("not allowed: only field names, indices and [*]");
  const steps = [];
  for (let at = 0; at < path.length; at = STEP.lastIndex) {
    STEP.lastIndex = at;
    const found = STEP.exec(path)?.groups ?? refuse(`cannot be read from character ${at}`);
    if (found.each) steps.push(null);
    else if (found.index) steps.push(Number(found.index));
    else steps.push(found.name ?? JSON.parse(found.quoted));
  }
  return steps;
}

function follow(value, steps) {
  let here = value;
  for (const [at, step] of steps.entries()) {
    if (step === null) {
      if (!Array.isArray(here)) misbehaved("wrong_shape");
      return here.map((item) => follow(item, steps.slice(at + 1)));
    }
    here = typeof step === "number" ? itemOf(here, step) : fieldOf(here, step);
  }
  return here;
}

const generic = {
  rules(options, preprocessing, kind, shape) {
    GENERIC(options);
    const isFloats = encodingIn(options.template).startsWith("floats") && kind === "image";
    return parsePreprocessing({ ...(isFloats ? { dtype: "float32" } : {}), ...preprocessing }, kind, shape);
  },
  frame: ({ template }) => ({ body: withHole(template), encoding: encodingIn(template) }),
  read({ path, result }, response, scoreCount) {
    const value = follow(response, stepsOf(path));
    return { scores: scoresAnswer, label: labelAnswer, labels: labelsAnswer, any: answerFrom }[result](value, scoreCount);
  },
};

// --- protocols ----------------------------------------------------------------------------------------------------------------

const KSERVE = record("", { model: segment(), encoding: choice(...JSON_ENCODINGS) });
const MLFLOW = record("", { envelope: choice("inputs", "instances", "dataframe_split"), input_name: nullable(name()), encoding: choice(...JSON_ENCODINGS) });
const TF = record("", { model: segment(), version: nullable(segment()), columnar: flag(), signature_name: nullable(name()), input_name: nullable(name()), output_name: nullable(name()), encoding: choice(...NUMBER_ENCODINGS, "png_base64", "jpeg_base64") });
const TF_DEFAULTS = { version: null, columnar: false, signature_name: null, input_name: null, output_name: null, encoding: "nested" };

const tensorflow = {
  frame(given) {
    const known = optionsOf(TF_DEFAULTS, TF, given);
    const value = known.encoding.endsWith("base64") ? { b64: HOLE } : HOLE;
    const named = (item) => (known.input_name === null ? item : { [known.input_name]: item });
    const body = known.columnar ? { inputs: named([value]) } : { instances: [named(value)] };
    if (known.signature_name !== null) body.signature_name = known.signature_name;
    return { body, encoding: known.encoding };
  },
  read(given, response, scoreCount) {
    const known = optionsOf(TF_DEFAULTS, TF, given);
    if (known.columnar) {
      const outputs = fieldOf(response, "outputs");
      const chosen = known.output_name === null ? outputs : fieldOf(outputs, known.output_name);
      if (chosen instanceof Map) return answerFrom(new Map([...chosen].map(([key, column]) => [key, onlyItemOf(column)])), scoreCount);
      return answerFrom(onlyItemOf(chosen), scoreCount);
    }
    const prediction = onlyItemOf(fieldOf(response, "predictions"));
    return answerToOne(known.output_name === null ? prediction : fieldOf(prediction, known.output_name), scoreCount);
  },
};

const ADAPTERS = {
  ...HOSTED,
  ...LATER,
  bentoml: routed("image", "png_file"),
  generic_json: generic,
  kserve_v1: {
    frame: (given) => ({ body: { instances: [HOLE] }, encoding: optionsOf({ encoding: "nested" }, KSERVE, given).encoding }),
    read: (given, response, scoreCount) => answerFrom(onlyItemOf(fieldOf(response, "predictions")), scoreCount),
  },
  litserve: routed("input", "nested"),
  mlflow: {
    frame(given) {
      const { envelope, input_name: field, encoding } = optionsOf({ envelope: "inputs", input_name: null, encoding: "nested" }, MLFLOW, given);
      const rows = {
        dataframe_split: () => ({ columns: [field ?? "image"], data: [[HOLE]] }),
        instances: () => [field === null ? HOLE : { [field]: HOLE }],
        inputs: () => (field === null ? [HOLE] : { [field]: [HOLE] }),
      }[envelope]();
      return { body: { [envelope]: rows }, encoding };
    },
    read(given, response, scoreCount) {
      const predictions = fieldOf(response, "predictions");
      return answerToOne(predictions instanceof Map && predictions.size === 1 ? [...predictions.values()][0] : predictions, scoreCount);
    },
  },
  oip_v2: oip,
  ray_serve: routed("image", "png"),
  tf_serving: tensorflow,
};

function adapterOf({ adapter }) {
  if (!has(ADAPTERS, adapter)) refuse(`must be one of ${Object.keys(ADAPTERS).sort().join(", ")}`);
  return ADAPTERS[adapter];
}

// Finds what stands where the frame has its hole; the rest must be the frame and nothing else.
function sentValue(frame, sent) {
  const holes = [];
  const other = () => refuse("the request holds something other than the input and its fixed frame");
  const compare = (expected, value) => {
    if (expected === HOLE) holes.push(value);
    else if (Array.isArray(expected)) {
      if (!Array.isArray(value) || value.length !== expected.length) other();
      expected.forEach((item, at) => compare(item, value[at]));
    } else if (isObject(expected)) {
      const keys = Object.keys(expected);
      if (!(value instanceof Map) || value.size !== keys.length || !keys.every((key) => value.has(key))) other();
      keys.forEach((key) => compare(expected[key], value.get(key)));
    } else if (expected !== value) other();
  };
  compare(frame, sent);
  return holes[0];
}

const BOUNDARY = "trapstreet-7d1c5a0e93b84f62";

function fileIn(body, field, encoding) {
  const head = utf8(`--${BOUNDARY}\r\nContent-Disposition: form-data; name="${field}"; filename="image.${encoding}"\r\nContent-Type: image/${encoding}\r\n\r\n`);
  const tail = utf8(`\r\n--${BOUNDARY}--\r\n`);
  const isFramed = body.length >= head.length + tail.length && head.every((byte, at) => body[at] === byte) && tail.every((byte, at) => body[body.length - tail.length + at] === byte);
  return isFramed ? body.subarray(head.length, body.length - tail.length) : refuse("the request is not a form with the picture and nothing else");
}

// Gives what surrounds the input in a request: {body, encoding, file}, and the preprocessing as it is understood.
export function frameOf(filed, { kind, shape }) {
  const adapter = adapterOf(filed);
  const rules = (adapter.rules ?? ((_, given) => parsePreprocessing(given, kind, shape)))(filed.options, filed.preprocessing, kind, shape);
  return { rules, frame: adapter.frame(filed.options, rules, kind, shape) };
}

// Reads the canonical input out of a request's body; gives `expected` itself where a JPEG holds it as nearly as JPEG can.
export async function decodeRequest(filed, body, { kind, shape }, expected = null) {
  const { rules, frame } = frameOf(filed, { kind, shape });
  const sent = await readFrame(frame, rules, body, kind, shape);
  const slack = toleranceOf(frame.encoding);
  return expected !== null && slack && isNearly(sent, expected, slack, shape) ? expected : sent;
}

function isNearly(sent, expected, slack, shape) {
  const head = imageOf(shape, new Uint8Array(0)).length;
  if (expected.length !== sent.length || !equal(sent.subarray(0, head), expected.subarray(0, head))) refuse("only images are sent as pictures");
  return sent.every((byte, at) => at < head || Math.abs(byte - expected[at]) <= slack);
}

async function readFrame(frame, rules, body, kind, shape) {
  if (frame.rawHeader) return readRaw(frame.rawHeader, rules, body, kind, shape);
  if (frame.body === null) return readBody(frame.encoding, rules, frame.file ? fileIn(body, frame.file, frame.encoding) : body, kind, shape);
  let sent;
  try {
    sent = parseLoose(body);
  } catch (error) {
    if (error instanceof NotJson) refuse(`the request is not JSON: ${error.message}`);
    throw error;
  }
  return readInput(frame.encoding, rules, sentValue(frame.body, sent), kind, shape);
}

// Gives {labels, error}: the endpoint labels in a response, or the word for why there are none.
export function readAnswer(filed, classCount, status, body, isRanking) {
  const adapter = adapterOf(filed);
  const scoreCount = filed.label_map.by === "index" ? classCount : null;
  try {
    const parse = adapter.parse ?? ((_, ...said) => parseAnswerBody(...said));
    const answer = adapter.read(filed.options, parse(filed.options, status, body), scoreCount);
    return { labels: isRanking ? answer.labels : saidIn(answer), error: "" };
  } catch (error) {
    if (error instanceof Misbehaved) return { labels: [], error: error.reason };
    throw error;
  }
}
