// The page that checks evidence in the browser: takes files and keys, hands them to the worker, and says what came out.

import { parseVerifierKey } from "../log_view.js";
import { fromHex, hex } from "../protocol.js";
import { MAX_FILE_BYTES } from "./canonical.js";
import { fingerprintOf } from "./log.js";

const place = (id) => document.getElementById(id);
const form = place("verify");
const button = form.querySelector("button");
const said = place("said");
const bar = place("progress");
const named = form.dataset.logKey;

const ZIP = [0x50, 0x4b];
const PROOF = [0x63, 0x32]; // c2sp.org/tlog-proof

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
let asked = 0;
let waiting = null;

// --- what is asked --------------------------------------------------------------------------------------------------------

function kindOf(bytes) {
  const begins = (start) => start.every((byte, at) => bytes[at] === byte);
  if (begins(ZIP)) return "bundle";
  return begins(PROOF) ? "receipt" : null;
}

async function bytesIn(id) {
  const [file] = place(id).files;
  if (!file) return null;
  if (file.size > MAX_FILE_BYTES) throw new Error(`${file.name} is larger than any bundle may be`);
  return new Uint8Array(await file.arrayBuffer());
}

async function question() {
  const file = await bytesIn("file");
  if (file === null) throw new Error("choose an evidence bundle or a receipt first");
  const kind = kindOf(file);
  if (kind === null) throw new Error("this is neither an evidence bundle (a zip file) nor a receipt (a C2SP tlog-proof)");
  const typed = place("log-key").value.trim();
  const key = typed ? await parseVerifierKey(typed) : null;
  const arbiterKeys = place("arbiter-keys").value.split(/\s+/).filter(Boolean);
  if (!arbiterKeys.every((each) => /^[0-9a-f]{64}$/.test(each))) throw new Error("an arbiter's key is 64 lower-case hex digits");
  const entry = kind === "receipt" ? await bytesIn("entry") : null;
  if (kind === "receipt" && entry === null) throw new Error("a receipt proves an entry: choose the entry's file as well");
  if (kind === "receipt" && key === null) throw new Error("a receipt says nothing without the log's key: paste one that you know");
  return { kind, typed, file, entry, origin: key?.origin ?? "", logKey: key ? hex(key.publicKey) : "", arbiterKeys };
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  asked += 1;
  place("result").hidden = true;
  button.disabled = true;
  said.className = "";
  said.textContent = "Reading the file…";
  try {
    const made = await question();
    bar.hidden = false;
    bar.removeAttribute("value");
    waiting = made;
    worker.postMessage({ id: asked, ...made }, [made.file.buffer]);
  } catch (error) {
    finish();
    said.className = "problem";
    said.textContent = error.message;
  }
});

function finish() {
  button.disabled = false;
  bar.hidden = true;
}

// --- what is answered -----------------------------------------------------------------------------------------------------

worker.onerror = () => {
  finish();
  button.disabled = true;
  said.className = "problem";
  said.textContent = "This browser cannot run the checker (it needs Ed25519 in WebCrypto and modules in workers). Use a newer one, or the offline program.";
};

worker.onmessage = ({ data }) => {
  if (data.ready) {
    button.disabled = false;
    said.textContent = "Ready. From here on nothing is fetched and nothing is sent: you may cut the network.";
    return;
  }
  if (data.id !== asked) return;
  if (data.what) {
    said.textContent = `Checking: ${data.what}…`;
    bar.max = data.of;
    bar.value = data.done;
    return;
  }
  finish();
  said.textContent = "Done.";
  show(data);
};

function show({ result, refused, isOurs }) {
  const [heading, sentence, state] = headline(result, refused, isOurs);
  place("outcome").textContent = heading;
  place("outcome").className = state;
  place("sentence").textContent = visible(sentence);
  list("facts", result ? factsOf(result) : [], (parts) => parts);
  list("checked", result?.checked ?? []);
  list("not-checked", [...(result?.notChecked ?? []), ...(result ? vouching() : [])]);
  place("result").hidden = false;
  place("outcome").focus();
}

function headline(result, refused, isOurs) {
  if (refused !== undefined) {
    if (isOurs) return ["Not checked", `${refused}. Nothing is said about the file: use trapstreet check.`, "open"];
    return ["Refused", `${refused}.`, "problem"];
  }
  if (result.receipt) return ["Verified", `These bytes are entry ${result.receipt.index} of ${result.receipt.size} in the log ${result.receipt.origin}.`, "good"];
  const { summary } = result;
  const verdict = `The verdict is ${summary.verdict} (${summary.reason}). ${summary.says}`;
  if (result.outcome === "verified") return ["Verified", verdict, "good"];
  if (!result.isAuthenticated) return ["Consistent, log not authenticated", `${verdict} Nobody's key was pinned: whoever made the file could have made the log in it.`, "open"];
  return ["Consistent as far as checked here", `${verdict} Not everything could be checked in a browser: see below.`, "open"];
}

function vouching() {
  if (waiting.typed !== named) return [];
  return ["whether this service's log key is genuine: this page brought it along, so compare the fingerprint with one from elsewhere"];
}

function factsOf({ summary, receipt }) {
  if (receipt) return [["Log", receipt.origin], ["Fingerprint of the log's key", fingerprintOf(fromHex(waiting.logKey))]];
  return [
    ["Verdict", `${summary.verdict} (${summary.reason})`],
    ["Matches", `${summary.matches} of ${summary.asked}`],
    ["Assurance class", summary.assurance_class],
    ["log2 E, and the threshold", summary.log2_e === null ? "none in class B" : `${summary.log2_e}, ${summary.log2_threshold}`],
    ["Endpoint", summary.endpoint],
    ["Decided", summary.decided_at.replace("T", " ").replace("Z", " UTC")],
    ["Log", `${summary.log}, ${summary.log_size} entries`],
    ["Fingerprint of the log's key", summary.fingerprint],
  ];
}

// Fills a list, or hides it with its heading where there is nothing.
function list(id, items, partsOf = null) {
  const made = items.flatMap((item) => (partsOf ? partsOf(item).map((text, at) => element(at ? "dd" : "dt", text)) : [element("li", item)]));
  place(id).replaceChildren(...made);
  place(id).closest("section").hidden = made.length === 0;
}

function element(name, text) {
  return Object.assign(document.createElement(name), { textContent: visible(text) });
}

// Characters that nobody sees, and that turn text around, as escapes: names in a bundle are strangers'.
const visible = (text) => String(text).replaceAll(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => `\\u{${character.codePointAt(0).toString(16)}}`);
