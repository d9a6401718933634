// The Open Inference Protocol v2, over JSON, and with tensors as raw bytes behind it:
// app/suspects/adapters/{oip_v2,raw_tensors}.py.
// Source: Open Inference Protocol, "binary tensor data extension": little-endian, rows first; BYTES are four bytes of length and
// the bytes.

import { canonicalJson, utf8 } from "../protocol.js";
import { fieldOf, labelAnswer, labelsAnswer, misbehaved, parseAnswerBody, scoresAnswer } from "./answers.js";
import { choice, flag, has, nullable, record, refuse } from "./canonical.js";
import { HOLE, name, optionsOf, segment } from "./frames.js";
import { sentShape } from "./inputs.js";
import { Float, isWhole } from "./loose_json.js";

const OIP = record("", { model: segment(), version: nullable(segment()), input_name: name(), output_name: nullable(name()), datatype: nullable(choice("FP32", "UINT8")), binary: flag() });
const optionsIn = (given) => optionsOf({ version: null, input_name: "input", output_name: null, datatype: null, binary: false }, OIP, given);

function rawHeader({ inputs: [{ name: input, shape, datatype }], outputs = [] }, size) {
  const named = outputs.map((output) => ({ ...output, parameters: { binary_data: true } }));
  const asked = named.length ? { outputs: named } : { parameters: { binary_data_output: true } };
  return utf8(canonicalJson({ inputs: [{ name: input, shape, datatype, parameters: { binary_data_size: size } }], ...asked }));
}

// --- raw outputs --------------------------------------------------------------------------------------------------------

const whole = (value) => (typeof value === "bigint" && Number.isSafeInteger(Number(value)) ? Number(value) : value);

function half(view, at) {
  const bits = view.getUint16(at, true);
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? Number.NaN : sign * Infinity;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
}

const READERS = {
  FP16: [2, (view, at) => new Float(half(view, at))],
  FP32: [4, (view, at) => new Float(view.getFloat32(at, true))],
  FP64: [8, (view, at) => new Float(view.getFloat64(at, true))],
  INT8: [1, (view, at) => view.getInt8(at)],
  INT16: [2, (view, at) => view.getInt16(at, true)],
  INT32: [4, (view, at) => view.getInt32(at, true)],
  INT64: [8, (view, at) => whole(view.getBigInt64(at, true))],
  UINT8: [1, (view, at) => view.getUint8(at)],
  UINT16: [2, (view, at) => view.getUint16(at, true)],
  UINT32: [4, (view, at) => view.getUint32(at, true)],
  UINT64: [8, (view, at) => whole(view.getBigUint64(at, true))],
};

const viewOf = (data) => new DataView(data.buffer, data.byteOffset, data.byteLength);

function itemsIn(datatype, data) {
  if (datatype === "BYTES") return textsIn(data);
  if (typeof datatype !== "string" || !has(READERS, datatype)) misbehaved("wrong_shape");
  const [size, read] = READERS[datatype];
  if (data.length % size) misbehaved("wrong_shape");
  const view = viewOf(data);
  return Array.from({ length: data.length / size }, (_, at) => read(view, at * size));
}

function textsIn(data) {
  const texts = [];
  for (let at = 0; at < data.length; ) {
    const end = at + 4 <= data.length ? at + 4 + viewOf(data).getUint32(at, true) : Infinity;
    if (end > data.length) misbehaved("wrong_shape");
    try {
      texts.push(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data.subarray(at + 4, end)));
    } catch {
      misbehaved("bad_label");
    }
    at = end;
  }
  return texts;
}

// Parts a body where the object with which it begins closes; all is JSON where it does not.
function splitJson(body) {
  let [depth, inside] = [0, false];
  for (let at = 0; at < body.length && body[0] === 0x7b; at += 1) {
    const byte = body[at];
    if (inside) {
      if (byte === 0x5c) at += 1;
      else if (byte === 0x22) inside = false;
    } else if (byte === 0x22) inside = true;
    else if (byte === 0x7b) depth += 1;
    else if (byte === 0x7d && (depth -= 1) === 0) return [body.subarray(0, at + 1), body.subarray(at + 1)];
  }
  return [body, new Uint8Array(0)];
}

function sizeOf(output) {
  const parameters = output instanceof Map ? output.get("parameters") : null;
  if (!(parameters instanceof Map) || !parameters.has("binary_data_size")) return null;
  const size = parameters.get("binary_data_size");
  if (!isWhole(size) || size < 0 || output.has("data")) misbehaved("wrong_shape");
  return size;
}

// Puts the raw bytes of each output that has some into its `data`.
function withRawData(response, data) {
  const outputs = fieldOf(response, "outputs");
  if (!Array.isArray(outputs)) misbehaved("wrong_shape");
  let at = 0;
  const filled = outputs.map((output) => {
    const size = sizeOf(output);
    if (size === null) return output;
    if (size > data.length - at) misbehaved("wrong_count");
    at += size;
    return new Map([...output, ["data", itemsIn(fieldOf(output, "datatype"), data.subarray(at - size, at))]]);
  });
  if (at !== data.length) misbehaved("wrong_count");
  return new Map([["outputs", filled]]);
}

// --- answers ------------------------------------------------------------------------------------------------------------

function valuesIn(output) {
  const [shape, data] = [fieldOf(output, "shape"), fieldOf(output, "data")];
  if (!Array.isArray(shape) || !shape.every((size) => isWhole(size) && size > 0 && size <= 65_536)) misbehaved("wrong_shape");
  if ((shape.length > 1 && shape[0] !== 1) || shape.filter((size) => size > 1).length > 1) misbehaved("wrong_shape");
  const isNested = Array.isArray(data) && data.length > 0 && Array.isArray(data[0]);
  let level = [data];
  for (const size of isNested ? shape : [shape.reduce((product, each) => product * each, 1)]) {
    if (!level.every((item) => Array.isArray(item) && item.length === size)) misbehaved("wrong_shape");
    level = level.flat(1);
  }
  return level;
}

export const oip = {
  frame(given, rules, kind, shape) {
    const known = optionsIn(given);
    const datatype = rules.dtype === "uint8" ? "UINT8" : "FP32";
    if (known.datatype !== null && known.datatype !== datatype) refuse(`the preprocessing gives ${datatype}: change its dtype or this`);
    const body = { inputs: [{ name: known.input_name, shape: [1, ...sentShape(rules, kind, shape)], datatype, data: HOLE }] };
    if (known.output_name !== null) body.outputs = [{ name: known.output_name }];
    return { body, encoding: "flat", ...(known.binary ? { rawHeader: (size) => rawHeader(body, size) } : {}) };
  },
  parse(given, status, body) {
    if (status !== 200 || !optionsIn(given).binary) return parseAnswerBody(status, body);
    const [header, data] = splitJson(body);
    return withRawData(parseAnswerBody(status, header), data);
  },
  read(given, response, scoreCount) {
    const { output_name: wanted } = optionsIn(given);
    const outputs = fieldOf(response, "outputs");
    if (!Array.isArray(outputs)) misbehaved("wrong_shape");
    const chosen = wanted === null ? outputs : outputs.filter((item) => fieldOf(item, "name") === wanted);
    if (chosen.length !== 1) misbehaved(chosen.length ? "wrong_count" : "missing_field");
    const datatype = fieldOf(chosen[0], "datatype");
    const values = valuesIn(chosen[0]);
    if (datatype === "BYTES") return labelsAnswer(values);
    if (values.length === 1 && typeof datatype === "string" && datatype.replace(/^U/, "").startsWith("INT")) return labelAnswer(values[0]);
    return scoresAnswer(values, scoreCount);
  },
};
