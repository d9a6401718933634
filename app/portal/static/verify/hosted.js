// What hosts ask and answer, and TorchServe: plain frames, each as the file of its name in app/suspects/adapters.

import { answerFrom, answerToOne, fieldOf, insideEnvelope, onlyItemOf, refuseReportedError, scoredAnswer, unwrapped } from "./answers.js";
import { choice, integer, nullable, record, refuse, text } from "./canonical.js";
import { HOLE, JSON_ENCODINGS, name, optionsOf, segment } from "./frames.js";
import { BODY_ENCODINGS, NUMBER_ENCODINGS, TEXT_ENCODINGS, usualEncoding } from "./inputs.js";

const MAX_LABELS = 1000;
const isBody = (encoding) => BODY_ENCODINGS.includes(encoding);
const predictionsIn = (response) => (response instanceof Map && response.has("predictions") ? response.get("predictions") : response);

const AZURE = record("", { version: nullable(text(3, 32, "[a-zA-Z][a-zA-Z0-9\\-]{2,31}")), encoding: choice(...JSON_ENCODINGS), envelope: choice("input_data", "data") });

const azure = {
  frame(given) {
    const { encoding, envelope } = optionsOf({ version: null, encoding: "png_base64", envelope: "input_data" }, AZURE, given);
    const isTable = TEXT_ENCODINGS.includes(encoding) && envelope === "input_data";
    return { body: { [envelope]: isTable ? { columns: ["image"], data: [HOLE] } : [HOLE] }, encoding };
  },
  read(_, said, scoreCount) {
    const response = unwrapped(said);
    refuseReportedError(response);
    return answerToOne(predictionsIn(response), scoreCount);
  },
};

const HUGGING = record("", { top_k: nullable(integer(1, MAX_LABELS)), encoding: nullable(choice(...BODY_ENCODINGS, "png_base64", "jpeg_base64")) }, ({ top_k: most, encoding }) => {
  if (most !== null && isBody(encoding)) refuse("top_k needs an encoding in base64");
});

const huggingface = {
  frame(given) {
    const known = optionsOf({ top_k: null, encoding: null }, HUGGING, given);
    const encoding = known.encoding ?? (known.top_k === null ? "png" : "png_base64");
    if (isBody(encoding)) return { body: null, encoding };
    return { body: { inputs: HOLE, ...(known.top_k === null ? {} : { parameters: { top_k: known.top_k } }) }, encoding };
  },
  read(_, response, scoreCount) {
    refuseReportedError(response);
    const answer = answerToOne(response, scoreCount);
    // What transformers calls the classes of a model that names none.
    if (scoreCount === null || !answer.labels.every((label) => /^LABEL_(?:0|[1-9][0-9]*)$/.test(label))) return answer;
    return { ...answer, labels: answer.labels.map((label) => label.slice("LABEL_".length)) };
  },
};

const ROBOFLOW = record("", { encoding: choice("png_base64", "jpeg_base64") });

const roboflow = {
  frame: (given) => ({ body: null, encoding: optionsOf({ encoding: "png_base64" }, ROBOFLOW, given).encoding }),
  read(_, response, scoreCount) {
    refuseReportedError(response);
    const predictions = fieldOf(response, "predictions");
    if (predictions instanceof Map) return scoredAnswer([...predictions].map(([label, scored]) => [label, fieldOf(scored, "confidence")]));
    return Array.isArray(predictions) && !predictions.length ? scoredAnswer([]) : answerFrom(predictions, scoreCount);
  },
};

const sageName = () => nullable(text(1, 63, "[a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62}"));
const SAGE_ENVELOPES = { bare: [HOLE], instances: { instances: [HOLE] }, inputs: { inputs: HOLE } };
const SAGE = record(
  "",
  { model: sageName(), version: sageName(), encoding: choice(...BODY_ENCODINGS, ...JSON_ENCODINGS), envelope: nullable(choice(...Object.keys(SAGE_ENVELOPES))), media_type: nullable(choice("application/x-image")) },
  ({ encoding, envelope, media_type: type }) => {
    if (envelope !== null && isBody(encoding)) refuse("a picture as the whole body has no envelope");
    if (type !== null && !isBody(encoding)) refuse("only a picture as the whole body is sent as x-image");
  },
);

const sagemaker = {
  frame(given) {
    const { encoding, envelope } = optionsOf({ model: null, version: null, encoding: "png", envelope: null, media_type: null }, SAGE, given);
    return { body: isBody(encoding) ? null : SAGE_ENVELOPES[envelope ?? (NUMBER_ENCODINGS.includes(encoding) ? "instances" : "inputs")], encoding };
  },
  read: (_, response, scoreCount) => answerToOne(predictionsIn(response), scoreCount),
};

const TORCH_ENVELOPES = { instances: { instances: [HOLE] }, data: { data: HOLE }, body: { body: HOLE } };
const TORCH = record(
  "",
  { model: segment(), version: nullable(segment()), encoding: nullable(choice(...BODY_ENCODINGS, ...JSON_ENCODINGS)), envelope: nullable(choice(...Object.keys(TORCH_ENVELOPES))) },
  ({ encoding, envelope }) => {
    if (envelope !== null && isBody(encoding)) refuse("a picture as the whole body has no envelope");
  },
);

const torchserve = {
  frame(given, rules, kind) {
    const known = optionsOf({ version: null, encoding: null, envelope: null }, TORCH, given);
    const encoding = known.encoding ?? usualEncoding(known.envelope === null ? "png" : "png_base64", rules, kind);
    return { body: isBody(encoding) ? null : known.envelope === null ? HOLE : TORCH_ENVELOPES[known.envelope], encoding };
  },
  read: (_, response, scoreCount) => answerToOne(insideEnvelope(response), scoreCount),
};

const VERTEX = record("", { encoding: choice(...JSON_ENCODINGS), input_name: nullable(name()) });

const vertex = {
  frame(given) {
    const { encoding, input_name: field } = optionsOf({ encoding: "png_base64", input_name: null }, VERTEX, given);
    if (field !== null) return { body: { instances: [{ [field]: HOLE }] }, encoding };
    if (NUMBER_ENCODINGS.includes(encoding)) return { body: { instances: [HOLE] }, encoding };
    return { body: { instances: [{ content: HOLE }], parameters: { confidenceThreshold: 0, maxPredictions: MAX_LABELS } }, encoding };
  },
  read(_, response, scoreCount) {
    refuseReportedError(response);
    return answerFrom(onlyItemOf(fieldOf(response, "predictions")), scoreCount);
  },
};

export const HOSTED = { azure_ml: azure, huggingface, roboflow, sagemaker, torchserve, vertex };
