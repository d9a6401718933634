// Registering a watermark: triggers, marking key and commitments are made here; root, statement and signature leave.

import { bytesOf, doing, save, tell } from "./files.js";
import { checkEnough } from "./families.js";
import { KeyProblem, openVendorKey } from "./keys.js";
import { leafHash, rootOf, treeOf } from "./merkle.js";
import { pictureOf } from "./pictures.js";
import { PROTOCOL, canonicalJson, fromBase64, hex, lp, sha256, tag, u32, utf8 } from "./protocol.js";
import * as service from "./service.js";

const SHOWN = 12;

const place = (id) => document.getElementById(id);
const log = place("watermark").dataset;

let made = null;

const count = (id) => Number(place(id).value || 0);

function told({ words, done, of }) {
  place("progress-words").textContent = words;
  Object.assign(place("progress"), { hidden: false, max: Math.max(of, 1), value: done });
}

// Lets the worker make triggers and key; ends with what it made, with its problem, or when the person cancels it.
async function makeKey(order) {
  const worker = new Worker(new URL("registration_worker.js", import.meta.url), { type: "module" });
  const cancel = place("cancel");
  cancel.hidden = false;
  try {
    return await new Promise((resolve, reject) => {
      cancel.onclick = () => reject(new KeyProblem("cancelled: no key was made"));
      worker.onerror = () => reject(new KeyProblem("the browser ended the making of the key: reload the page, or take fewer triggers"));
      worker.onmessage = ({ data }) => {
        if (data.made) resolve(data.made);
        else if (data.problem) reject(new KeyProblem(data.problem));
        else told(data);
      };
      worker.postMessage(order);
    });
  } finally {
    worker.terminate();
    cancel.hidden = true;
    place("progress").hidden = true;
    place("progress-words").textContent = "";
  }
}

function preview(inputs) {
  const step = Math.max(1, Math.floor(inputs.length / SHOWN));
  const chosen = inputs.filter((_, at) => at % step === 0).slice(0, SHOWN);
  place("preview").replaceChildren(...chosen.map((input) => pictureOf(input, "one of the triggers")));
}

place("make").addEventListener("submit", (event) => {
  event.preventDefault();
  doing(event.target.querySelector("button[type=submit]"), async () => {
    const passphrase = place("passphrase").value;
    if (passphrase !== place("passphrase-again").value) throw new KeyProblem("the two passphrases differ: type the same twice");
    place("register").hidden = true;
    const order = {
      shape: [count("height"), count("width"), count("channels")],
      abstract: count("abstract"),
      noise: count("noise"),
      own: [...place("own").files],
      passphrase,
    };
    const { inputs, file, ...rest } = await makeKey(order).finally(() => {
      // What was made before is still good, and its file was saved.
      place("register").hidden = made === null;
    });
    made = rest;
    preview(inputs);
    const name = `marking-key-${hex(made.root).slice(0, 8)}.json`;
    save(file, name, "application/json");
    place("progress-words").textContent = `${made.count} triggers. The key was saved as ${name}.`;
    place("key-name").textContent = name;
    place("saved").checked = false;
    place("allow-few").checked = false;
    place("register").hidden = false;
    tellEnough();
  });
});

// Root and count of labelled covers, as `trapstreet covers --labels` wrote them.
async function coverCommitment(file) {
  let covers;
  try {
    covers = JSON.parse(new TextDecoder().decode(await bytesOf(file)));
  } catch {
    throw new KeyProblem(`${file.name} is no cover file`);
  }
  if (covers?.type !== `${PROTOCOL}/labelled-cover-set`) throw new KeyProblem(`${file.name} holds no labelled covers: make them with trapstreet covers --labels`);
  const leaves = await Promise.all(covers.inputs.map(async (input, at) => leafHash(lp(tag("cover"), u32(at), await sha256(fromBase64(input)), u32(covers.labels[at])))));
  return { root: hex(await rootOf(await treeOf(leaves))), count: leaves.length };
}

function classNames() {
  return place("classes").value.split("\n").map((name) => name.trim()).filter((name) => name !== "");
}

// Says beside the class names what is too few for them; gives why to refuse, or nothing.
function tellEnough() {
  const { refused, warned } = checkEnough(made.families, classNames().length);
  place("enough").textContent = refused || warned;
  place("few").hidden = refused === "";
  return place("allow-few").checked ? "" : refused;
}

place("classes").addEventListener("input", tellEnough);

place("register").addEventListener("submit", (event) => {
  event.preventDefault();
  doing(event.target.querySelector("button[type=submit]"), async () => {
    const refused = tellEnough();
    if (refused) throw new KeyProblem(refused);
    const vendor = await openVendorKey(await bytesOf(place("vendor-key").files[0]));
    const covers = place("covers").files[0];
    const statement = {
      type: `${PROTOCOL}/statement`,
      log: log.log,
      vendor_key: hex(vendor.publicKey),
      root: hex(made.root),
      count: made.count,
      kind: made.kind,
      shape: made.shape,
      classes: classNames(),
      families: made.families,
      label_source: "beacon",
      beacon: log.beacon,
      covers: covers ? await coverCommitment(covers) : null,
      unmarked_model: null,
    };
    const text = canonicalJson(statement);
    const signature = hex(await vendor.sign(utf8(text)));
    const answer = await service.post("/v1/registrations", { statement: text, signature });
    window.location.assign(`/registrations/${answer.id}`);
  });
});

// A key that was made and not registered would be lost with the page.
window.addEventListener("beforeunload", (event) => {
  if (made !== null && !place("saved").checked) event.preventDefault();
});

tell("");
