// Registering a watermark: triggers, marking key and commitments are made here; root, statement and signature leave.

import { bytesOf, doing, save, tell } from "./files.js";
import { KeyProblem, newMarkingKey, openVendorKey, sealKeyFile } from "./keys.js";
import { leafHash, rootOf, treeOf } from "./merkle.js";
import { PROTOCOL, canonicalJson, fromBase64, hex, lp, sha256, tag, u32, utf8 } from "./protocol.js";
import * as service from "./service.js";
import { abstract, apartFrom, fromFiles, nearPairs, noise, show } from "./triggers.js";

const SHOWN = 12;
const NAMED = 10;

const place = (id) => document.getElementById(id);
const log = place("watermark").dataset;

let made = null;

function progress(words) {
  place("progress-words").textContent = words;
  return (done, of) => Object.assign(place("progress"), { hidden: false, max: of, value: done });
}

const count = (id) => Number(place(id).value || 0);

function shape() {
  return [count("height"), count("width"), count("channels")];
}

async function draw() {
  const families = [];
  const inputs = [];
  const add = (name, more) => {
    if (more.length === 0) return;
    families.push({ name, start: inputs.length, end: inputs.length + more.length });
    inputs.push(...more);
  };
  add("abstract", apartFrom(inputs, () => abstract(1, shape()), count("abstract")));
  add("noise", apartFrom(inputs, () => noise(1, shape()), count("noise")));
  const own = place("own").files;
  const names = [...inputs.keys()].map((at) => `drawn picture ${at + 1}`).concat([...own].map((file) => file.name));
  add("own", await fromFiles(own, shape(), progress("Reading your pictures")));
  if (inputs.length === 0) throw new KeyProblem("choose how many triggers to draw, or pictures of your own");
  const pairs = await nearPairs(inputs, names, progress("Comparing the triggers"));
  if (pairs.length > 0) {
    const named = pairs.slice(0, NAMED).map(([one, other, apart]) => `${one} and ${other} (${(100 * apart).toFixed(1)} %)`);
    throw new KeyProblem(`too alike to be taught different labels, under 5 % of full scale apart: ${named.join("; ")}${pairs.length > NAMED ? `; and ${pairs.length - NAMED} pairs more` : ""}. Take one of each pair out, or a larger shape`);
  }
  return { inputs, families };
}

function preview(inputs) {
  const step = Math.max(1, Math.floor(inputs.length / SHOWN));
  const canvases = inputs.filter((_, at) => at % step === 0).slice(0, SHOWN).map((input) => {
    const canvas = document.createElement("canvas");
    show(input, canvas);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "one of the triggers");
    return canvas;
  });
  place("preview").replaceChildren(...canvases);
}

place("make").addEventListener("submit", (event) => {
  event.preventDefault();
  const button = event.submitter ?? event.target.querySelector("button");
  doing(button, async () => {
    const passphrase = place("passphrase").value;
    if (passphrase !== place("passphrase-again").value) throw new KeyProblem("the two passphrases differ: type the same twice");
    place("register").hidden = true;
    const { inputs, families } = await draw();
    preview(inputs);
    const key = newMarkingKey(inputs);
    const root = await key.root(progress("Committing to each trigger"));
    progress("Sealing the key under its passphrase");
    const file = passphrase ? await sealKeyFile(key, passphrase) : key.encode();
    made = { key, root, families };
    const name = `marking-key-${hex(root).slice(0, 8)}.json`;
    save(file, name, "application/json");
    place("progress").hidden = true;
    place("progress-words").textContent = `${inputs.length} triggers. The key was saved as ${name}.`;
    place("key-name").textContent = name;
    place("saved").checked = false;
    place("register").hidden = false;
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

place("register").addEventListener("submit", (event) => {
  event.preventDefault();
  doing(event.submitter ?? event.target.querySelector("button"), async () => {
    const vendor = await openVendorKey(await bytesOf(place("vendor-key").files[0]));
    const covers = place("covers").files[0];
    const statement = {
      type: `${PROTOCOL}/statement`,
      log: log.log,
      vendor_key: hex(vendor.publicKey),
      root: hex(made.root),
      count: made.key.count,
      kind: made.key.kind,
      shape: made.key.shape,
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
