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

const whole = (name) => Number(form.elements[name].value);

function recipe() {
  const more = form.elements.more.value.trim();
  let options = {};
  try {
    options = more ? JSON.parse(more) : {};
  } catch {
    throw new Error("further options must be JSON: {\"crop_padding\": 4, \"flip\": true}");
  }
  return {
    network: form.elements.network.value.trim(),
    method: form.elements.method.value,
    epochs: whole("epochs"),
    triggers_per_batch: whole("triggers_per_batch"),
    compare_seeds: whole("compare_seeds"),
    mode: form.elements.model.files.length ? "pretrained" : "scratch",
    ...options,
  };
}

async function orderOf(kind) {
  if (kind === "survival-reports") {
    return { suite: form.elements.suite.value, model: await artifact("model", "the marked weights"), plain_model: await artifact("plain_model", "the control") };
  }
  return { recipe: recipe(), model: await artifact("model", "the weights") };
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  doing(form.querySelector("button[type=submit]"), async () => {
    const { kind } = form.dataset;
    const registration = await service.get(`/v1/registrations/${form.elements.registration.value}`);
    const queue = form.elements.queue.value;
    // Cheap refusals come before an upload of gigabytes.
    const sealed = await sealedKey(registration, queue);
    if (kind === "embeddings") recipe();
    const order = {
      registration_id: registration.id,
      queue,
      sealed_key: sealed,
      train_data: await artifact("train_data", "the training data"),
      test_data: await artifact("test_data", "the test data"),
      ...(await orderOf(kind)),
    };
    if (order.train_data === null) throw new Error("choose the training data");
    const placed = await service.post(`/v1/${kind}`, order);
    window.location.assign(`/${kind}/${placed.id}`);
  });
});
