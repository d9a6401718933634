// Which interfaces the rule of derivation compares: app/suspects/{candidates,descriptions}.py, in their order.
// Names are taken from what a stranger's server says of itself; what an adapter would not take is left out.
// Source: docs/protocol.md section 7.1.

import { canonicalJson, fromHex } from "../protocol.js";
import { frameOf } from "./adapters.js";
import { MAX_DEPTH, depthOf } from "./answers.js";
import { Refused, has, refuse } from "./canonical.js";
import { checkEncoding } from "./inputs.js";
import { Float, NotJson, parseLoose } from "./loose_json.js";
import { interfaceForm } from "./records.js";

const MAX_NAMES = 4;
const MAX_NAME_CHARACTERS = 200;
const MAX_METADATA_BYTES = 64 * 1024;
const SEGMENT = /^[A-Za-z0-9_~-][A-Za-z0-9._~-]*$/;
const UNMAPPED = { by: "name" };

// --- what a description says ----------------------------------------------------------------------------------------------

function told(bytes) {
  if (bytes.length <= MAX_METADATA_BYTES && depthOf(bytes) <= MAX_DEPTH) {
    try {
      return parseLoose(bytes, { areConstants: false });
    } catch (error) {
      if (!(error instanceof NotJson)) throw error;
    }
  }
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(0, MAX_NAME_CHARACTERS));
}

const fieldIn = (value, name) => (value instanceof Map ? (value.get(name) ?? null) : null);
const list = (value) => (Array.isArray(value) ? value : []);
const strip = (text, prefix) => (text.startsWith(prefix) ? text.slice(prefix.length) : text);
const isName = (value) => typeof value === "string" && value !== "" && [...value].length <= MAX_NAME_CHARACTERS;
const names = (values) => values.filter(isName).slice(0, MAX_NAMES);
const isSegment = (value) => typeof value === "string" && value.length <= MAX_NAME_CHARACTERS && SEGMENT.test(value);
const segments = (values) => [...new Set(values.filter(isSegment))].slice(0, MAX_NAMES);
const addressIn = (at, ...keys) => Object.fromEntries(keys.filter((key) => has(at, key)).map((key) => [key, at[key]]));

function bentoml(schema) {
  return list(fieldIn(schema, "routes"))
    .slice(0, MAX_NAMES)
    .flatMap((route) => {
      const fields = fieldIn(fieldIn(route, "input"), "properties");
      const path = fieldIn(route, "route");
      if (typeof path !== "string" || !(fields instanceof Map) || fields.size === 0) return [];
      const [name, form] = fields.entries().next().value;
      const options = { ...(path === "/predict" ? {} : { route: strip(path, "/") }), ...(name === "image" ? {} : { input_name: name }) };
      if (fieldIn(form, "type") === "file") return [options];
      return [{ ...options, encoding: "nested", batch: true }, { ...options, encoding: "nested" }];
    });
}

function gradio(info) {
  const functions = fieldIn(info, "named_endpoints");
  if (!(functions instanceof Map)) return [];
  return segments([...functions.keys()].map((key) => strip(key, "/"))).map((name) => {
    const first = list(fieldIn(functions.get(`/${name}`) ?? null, "parameters"))[0] ?? null;
    const route = `gradio_api/call/${name}`;
    const options = route === "gradio_api/call/predict" ? {} : { route };
    return fieldIn(first, "component") === "Image" ? options : { ...options, encoding: "nested" };
  });
}

function litserve(info) {
  const routes = fieldIn(fieldIn(info, "server"), "stream");
  if (!(routes instanceof Map)) return [];
  return segments([...routes.keys()].map((path) => strip(path, "/"))).map((route) => (route === "predict" ? {} : { route }));
}

function rayServe(routes) {
  if (!(routes instanceof Map)) return [];
  return [...routes.keys()].slice(0, MAX_NAMES).map((prefix) => {
    const route = prefix.replace(/^\/+|\/+$/g, "");
    return route ? { route } : {};
  });
}

function isMlflowVersion(version) {
  if (version instanceof Float) return version.value >= 1 && version.value < 1000;
  return typeof version === "string" && /^[ \t\r\n]*[0-9]/.test(version);
}

// --- each server ----------------------------------------------------------------------------------------------------------

const routed = (path, read) => ({
  paths: () => [path],
  options: (at, [said]) => read(said).filter((options) => !has(at, "route") || options.route === at.route),
});

const DESCRIBED = {
  kserve_v1: {
    paths: (at) => (has(at, "model") ? [] : ["/v1/models"]),
    options: (at, [said]) => (has(at, "model") ? [{ model: at.model }] : names(list(fieldIn(said, "models"))).map((model) => ({ model }))),
  },
  oip_v2: {
    paths: (at) => (has(at, "model") ? [`/v2/models/${at.model}${has(at, "version") ? `/versions/${at.version}` : ""}`] : []),
    options(at, [said]) {
      if (!has(at, "model")) return [];
      const address = addressIn(at, "model", "version");
      const [inputs, outputs] = [fieldIn(said, "inputs"), fieldIn(said, "outputs")];
      if (!Array.isArray(inputs) || inputs.length !== 1) return [address];
      const tensor = {};
      const [input] = names([fieldIn(inputs[0], "name")]);
      if (input !== undefined) tensor.input_name = input;
      if (["FP32", "UINT8"].includes(fieldIn(inputs[0], "datatype"))) tensor.datatype = fieldIn(inputs[0], "datatype");
      const [output] = Array.isArray(outputs) && outputs.length === 1 ? names([fieldIn(outputs[0], "name")]) : [];
      if (output !== undefined) tensor.output_name = output;
      return [{ ...address, ...tensor }];
    },
  },
  tf_serving: {
    paths: (at) => (has(at, "model") ? [`/v1/models/${at.model}`, `/v1/models/${at.model}/metadata`] : []),
    options(at, [status, metadata]) {
      if (!has(at, "model") || !Array.isArray(fieldIn(status, "model_version_status"))) return [];
      const address = addressIn(at, "model", "version");
      const inputs = ["metadata", "signature_def", "signature_def", "serving_default", "inputs"].reduce(fieldIn, metadata);
      const only = inputs instanceof Map && inputs.size === 1 ? inputs.values().next().value : null;
      return [fieldIn(only, "dtype") === "DT_STRING" ? { ...address, encoding: "png_base64" } : address];
    },
  },
  torchserve: {
    paths: (at) => (has(at, "model") ? ["/ping"] : []),
    options: (at, [said]) =>
      has(at, "model") && typeof fieldIn(said, "status") === "string" ? [{ model: at.model }, { model: at.model, encoding: "nested" }] : [],
  },
  mlflow: {
    paths: () => ["/version"],
    options: (_, [said]) => (isMlflowVersion(said) ? [{}, { envelope: "dataframe_split", encoding: "png_base64" }] : []),
  },
  bentoml: routed("/schema.json", bentoml),
  litserve: routed("/info", litserve),
  ray_serve: routed("/-/routes", rayServe),
  gradio: routed("/gradio_api/info", gradio),
};

const FORMS = [{}, { encoding: "nested" }, { encoding: "nested", batch: true }, { encoding: "png_base64" }];

// Adapter and path of every request for metadata.
export function metadataPaths({ at, adapter }) {
  if (adapter !== null) return [];
  return Object.entries(DESCRIBED).flatMap(([name, described]) => described.paths(at).map((path) => [name, path]));
}

const USUAL_ROUTES = { bentoml: "predict", litserve: "predict", gradio: "gradio_api/call/predict" };

// --- candidates -----------------------------------------------------------------------------------------------------------

const FLOATS = { dtype: "float32", scale: "0..1" };
const CHW = { ...FLOATS, layout: "chw" };
const NORMALISED = {
  1: [{ ...CHW, mean: [131], std: [308] }, { ...CHW, mean: [500], std: [500] }],
  3: [{ ...CHW, mean: [485, 456, 406], std: [229, 224, 225] }, { ...CHW, mean: [491, 482, 447], std: [247, 243, 262] }, { ...CHW, mean: [500, 500, 500], std: [500, 500, 500] }],
};

function preprocessings({ kind, shape }) {
  if (kind === "tensor") return [{}, { layout: "flat" }];
  return [{}, FLOATS, CHW, ...NORMALISED[shape[2]], { layout: "chw" }, { dtype: "float32" }, { ...FLOATS, layout: "flat" }, { layout: "flat" }];
}

function* proposed({ at, adapter, metadata }) {
  if (adapter !== null) {
    if (adapter !== "generic_json") for (const form of FORMS) yield [adapter, { ...at, ...form }];
    return;
  }
  for (const [name, described] of Object.entries(DESCRIBED)) {
    const said = metadata.filter((one) => one.adapter === name).map((one) => told(one.status === 200 ? fromHex(one.response) : new Uint8Array(0)));
    while (said.length < described.paths(at).length) said.push("");
    for (const options of described.options(at, said)) yield [name, options];
  }
}

// Tells by what a request differs from others, or null if the adapter does not take this.
function sentBy(candidate, statement) {
  try {
    interfaceForm(candidate);
    if (!Object.values(candidate.options).every((value) => typeof value !== "string" || value.isWellFormed())) refuse("no text");
    const { rules, frame } = frameOf(candidate, statement);
    checkEncoding(frame.encoding, rules, statement.kind);
    const { model, version, route } = candidate.options;
    return canonicalJson([candidate.adapter, model ?? "", version ?? "", route ?? USUAL_ROUTES[candidate.adapter] ?? "", frame.body ?? "", frame.file ?? "", frame.encoding, candidate.preprocessing]);
  } catch (error) {
    if (error instanceof Refused) return null;
    throw error;
  }
}

export function candidatesOf(head, statement) {
  const found = new Map();
  for (const [adapter, options] of proposed(head)) {
    for (const preprocessing of preprocessings(statement)) {
      const candidate = { adapter, options, preprocessing, label_map: UNMAPPED };
      const sent = sentBy(candidate, statement);
      if (sent !== null && !found.has(sent)) found.set(sent, candidate);
    }
  }
  return [...found.values()];
}
