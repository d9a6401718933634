// Placing an order for the workers: the marking key is opened here and sealed to the queue's key that the log proves; data goes
// up as it is, with its progress.

import { bytesOf, doing } from "./files.js";
import { KeyProblem, openKeyFile } from "./keys.js";
import { LogView, expect, pinnedKey } from "./log_view.js";
import { base64, fromHex, hex } from "./protocol.js";
import { seal } from "./sealing.js";
import * as service from "./service.js";

const form = document.getElementById("order");
const place = (id) => document.getElementById(id);

// Sends a file as an artifact and gives its digest; fetch tells nothing of how far it is.
function upload(file, what) {
  const bar = place("progress");
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/v1/artifacts");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => {
      Object.assign(bar, { hidden: false, max: event.total, value: event.loaded });
      place("progress-words").textContent = `Uploading ${what}: ${Math.floor((100 * event.loaded) / event.total)} %`;
    };
    request.onload = () => {
      let said = null;
      try {
        said = JSON.parse(request.responseText);
      } catch {
        said = null;
      }
      if (request.status === 201) resolve(said.sha256);
      else reject(new Error(request.status === 401 ? service.SESSION_ENDED : (said?.detail ?? `${what} was refused with status ${request.status}`)));
    };
    request.onerror = () => reject(new Error(`${what} did not arrive: check the connection and try again`));
    request.send(file);
  });
}

// An uploaded file, or the digest that the form holds already.
async function artifact(name, what) {
  const [file] = form.elements[name]?.files ?? [];
  return file ? upload(file, what) : form.elements[`${name}_sha256`]?.value || null;
}

async function sealedKey(registration, queue) {
  const key = await openKeyFile(await bytesOf(form.elements.key.files[0]), form.elements.passphrase.value);
  const root = await key.root();
  if (hex(root) !== JSON.parse(registration.statement).root) throw new KeyProblem("this marking key is not the registered one: choose the key file of this watermark");
  const { items } = await service.get("/v1/queues");
  const listed = items.find((item) => item.queue === queue);
  if (!listed) throw new Error(`no worker of ${queue} has announced itself yet: start one, or choose another queue`);
  const log = new LogView(service.read, await pinnedKey(service.read, ""));
  const entry = expect(await log.entry(listed.entry_index), "worker-key");
  if (entry.queue !== queue) throw new Error("the service names a key of another queue: nothing is sent");
  return base64(await seal(fromHex(entry.public_key), key.encode(), root));
}

const number = (name) => Number(form.elements[name].value);

function recipe() {
  const more = form.elements.more.value.trim();
  let options = {};
  try {
    options = more ? JSON.parse(more) : {};
  } catch {
    throw new Error("further options must be JSON: {\"crop_padding\": 4, \"flip\": true}");
  }
  const seeds = number("compare_seeds");
  return {
    network: form.elements.network.value.trim(),
    method: form.elements.method.value,
    epochs: number("epochs"),
    extra_epochs: number("extra_epochs"),
    batch_size: number("batch_size"),
    triggers_per_batch: number("triggers_per_batch"),
    learning_rate_micros: Math.round(1e6 * number("learning_rate")),
    schedule: form.elements.schedule.value,
    flip: form.elements.flip.checked,
    crop_padding: number("crop_padding"),
    resize: form.elements.resize.checked,
    seed: number("seed"),
    compare_plain: seeds > 0,
    compare_seeds: Math.max(seeds, 1),
    mode: form.elements.model.files.length ? "pretrained" : "scratch",
    ...options,
  };
}

// The data that trainings and attacks both read.
const data = async () => {
  const train_data = await artifact("train_data", "the training data");
  if (train_data === null) throw new Error("choose the training data");
  return { train_data, test_data: await artifact("test_data", "the test data") };
};

// What an order says besides registration, queue and key, by its kind; files go up on the way.
const orders = {
  embeddings: async () => ({ ...(await data()), recipe: recipe(), model: await artifact("model", "the weights") }),
  "survival-reports": async () => ({
    ...(await data()),
    suite: form.elements.suite.value,
    model: await artifact("model", "the marked weights"),
    plain_model: await artifact("plain_model", "the control"),
    program: await artifact("program", "the program"),
  }),
  "white-box-checks": async () => {
    const controls = [];
    const suspect = await artifact("suspect", "the suspect's weights");
    const head = form.elements.head.value || (await artifact("head_file", "your head"));
    for (const file of form.elements.controls.files) controls.push({ name: file.name, sha256: await upload(file, `the control ${file.name}`) });
    const since = form.elements.suspect_since.value;
    return {
      suspect,
      program: await artifact("program", "the program"),
      head,
      controls,
      suspect_since: since ? `${since}T00:00:00Z` : null,
      bits: number("bits"),
    };
  },
};

// What can be refused without sending anything: an upload of gigabytes comes last.
const checks = {
  embeddings: recipe,
  "survival-reports": () => {},
  "white-box-checks": () => {
    const { head, head_file: file, controls, suspect_since: since } = form.elements;
    const isWithHead = head.value !== "" || file.files.length > 0;
    if (isWithHead && !controls.files.length) throw new Error("a count with your head says nothing without a control: choose a network that never saw the mark");
    if (!isWithHead && (controls.files.length || since.value)) throw new Error("controls and a date go with a head: choose yours, or leave them empty");
  },
};

// What is wrong in a closed part must be seen, or a browser refuses the form without a word.
form.addEventListener("invalid", (event) => event.target.closest("details")?.setAttribute("open", ""), true);

form.addEventListener("submit", (event) => {
  event.preventDefault();
  doing(form.querySelector("button[type=submit]"), async () => {
    const { kind } = form.dataset;
    const registration = await service.get(`/v1/registrations/${form.elements.registration.value}`);
    const queue = form.elements.queue.value;
    checks[kind]();
    const sealed = await sealedKey(registration, queue);
    const order = { registration_id: registration.id, queue, sealed_key: sealed, ...(await orders[kind]()) };
    const placed = await service.post(`/v1/${kind}`, order);
    window.location.assign(`/${kind}/${placed.id}`);
  });
});
