// Endpoints that answer later: app/suspects/adapters/{gradio,replicate}.py. What was recorded is the last response only.

import { answerFrom, answerToOne, fieldOf, itemOf, misbehaved, parseAnswerBody, unwrapped } from "./answers.js";
import { choice, nullable, record, refuse, text } from "./canonical.js";
import { HOLE, JSON_ENCODINGS, ROUTE, SEGMENT, name, optionsOf } from "./frames.js";
import { NUMBER_ENCODINGS, usualEncoding } from "./inputs.js";

// --- Gradio -------------------------------------------------------------------------------------------------------------

const PICTURES = ["png_data_url", "jpeg_data_url"];
const GRADIO = record("", { route: text(1, 200, ROUTE), encoding: nullable(choice(...PICTURES, ...NUMBER_ENCODINGS)) });
// One event: its name and its data on one line each, as Gradio writes them.
const EVENT = /event: ([a-z_]{1,20})\r?\ndata: ?([^\r\n]*)\r?\n(?:\r?\n|$)/dy;
const WAITING = ["heartbeat", "generating"];

// Gives the data of the event `complete`, with which a stream ends.
function completedData(body) {
  // One character a byte; which one is the same to the pattern.
  const stream = new TextDecoder("latin1").decode(body);
  for (EVENT.lastIndex = 0; EVENT.lastIndex < body.length; ) {
    const event = EVENT.exec(stream) ?? misbehaved("wrong_shape");
    if (event[1] === "complete" && EVENT.lastIndex === body.length) return body.subarray(...event.indices[2]);
    if (event[1] === "error") misbehaved("reported_error");
    if (!WAITING.includes(event[1])) misbehaved("wrong_shape");
  }
  return misbehaved("unfinished");
}

const EVENT_STREAM = [0x65, 0x76, 0x65, 0x6e, 0x74, 0x3a]; // event:

const gradio = {
  frame(given, rules, kind) {
    const known = optionsOf({ route: "gradio_api/call/predict", encoding: null }, GRADIO, given);
    const encoding = known.encoding ?? usualEncoding("png_data_url", rules, kind);
    return { body: { data: [PICTURES.includes(encoding) ? { url: HOLE, meta: { _type: "gradio.FileData" } } : HOLE] }, encoding };
  },
  parse(_, status, body) {
    if (status === 200 && EVENT_STREAM.every((byte, at) => body[at] === byte)) return parseAnswerBody(status, completedData(body));
    const event = fieldOf(parseAnswerBody(status, body), "event_id");
    return misbehaved(typeof event === "string" && /^[A-Za-z0-9_-]{8,64}$/.test(event) ? "unfinished" : "wrong_shape");
  },
  read(_, response, scoreCount) {
    if (response instanceof Map && response.has("event_id")) misbehaved("unfinished");
    const output = itemOf(response, 0);
    const shown = output instanceof Map ? output.get("confidences") : null;
    return answerFrom(Array.isArray(shown) ? shown : output, scoreCount);
  },
};

// --- Replicate ----------------------------------------------------------------------------------------------------------

const STATUSES = [200, 201, 202];
const STARTED = ["starting", "processing"];
const FAILED = ["failed", "canceled", "aborted"];
const REPLICATE = record(
  "",
  { version: nullable(text(64, 64, "[0-9a-f]{64}")), model: nullable(text(3, 200, `${SEGMENT}/${SEGMENT}`)), input_name: name(), encoding: choice(...JSON_ENCODINGS) },
  ({ version, model }) => {
    if ((version === null) === (model === null)) refuse("name the version (64 hex digits) or the model (OWNER/NAME)");
  },
);

const replicate = {
  frame(given) {
    const known = optionsOf({ version: null, model: null, input_name: "image", encoding: "png_data_url" }, REPLICATE, given);
    return { body: { input: { [known.input_name]: HOLE }, ...(known.version === null ? {} : { version: known.version }) }, encoding: known.encoding };
  },
  parse(_, status, body) {
    const prediction = parseAnswerBody(status, body, STATUSES);
    if (!STARTED.includes(fieldOf(prediction, "status"))) return prediction;
    const id = fieldOf(prediction, "id");
    return misbehaved(typeof id === "string" && /^[A-Za-z0-9]{8,64}$/.test(id) ? "unfinished" : "wrong_shape");
  },
  read(_, response, scoreCount) {
    const status = fieldOf(response, "status");
    if (status === "succeeded") return answerToOne(unwrapped(fieldOf(response, "output")), scoreCount);
    return misbehaved(FAILED.includes(status) ? "reported_error" : "wrong_shape");
  },
};

export const LATER = { gradio, replicate };
