// The labels of a registration, computed here from the key file and the beacon.

import { bytesOf, doing, save } from "./files.js";
import { KeyProblem, openKeyFile, saltOf } from "./keys.js";
import { pictureOf } from "./pictures.js";
import { fromHex, hex, sha256, utf8 } from "./protocol.js";

const PAGE = 50;

const place = (id) => document.getElementById(id);
const form = place("labels");

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  doing(form.querySelector("button"), async () => {
    const { statement, entry, beacon } = JSON.parse(place("facts").textContent);
    const key = await openKeyFile(await bytesOf(place("key").files[0]), place("key-passphrase").value);
    const root = await key.root();
    if (hex(root) !== statement.root) throw new KeyProblem("this marking key does not open the registered root: choose the file of this registration");
    const opened = { source: beacon.source, round: beacon.round, randomness: fromHex(beacon.randomness), nonce: fromHex(beacon.nonce) };
    const salt = await saltOf(opened, root, await sha256(utf8(entry)));
    const labels = await Promise.all(key.inputs.map((_, at) => key.labels?.[at] ?? key.drawLabel(salt, at, statement.classes.length)));
    const counts = statement.classes.map((name, at) => [name, labels.filter((label) => label === at).length]);
    place("drawn").replaceChildren(...counts.map(([name, many]) => row(name, `${many}`)));
    turnTo(0, key, labels, statement.classes);
    place("drawn-table").hidden = false;
    place("save-labels").onclick = () => save(utf8(`${JSON.stringify(labels)}\n`), "labels.json", "application/json");
  });
});

// Shows the triggers from `start` on, one page of them.
function turnTo(start, key, labels, classes) {
  const end = Math.min(start + PAGE, labels.length);
  const shown = Array.from({ length: end - start }, (_, at) => start + at);
  place("each").replaceChildren(...shown.map((at) => row(`${at}`, seen(key, at), classes[labels[at]])));
  place("page-words").textContent = `Triggers ${start} to ${end - 1} of ${labels.length}, counted from 0.`;
  for (const [id, next] of [["earlier", start - PAGE], ["later", start + PAGE]]) {
    place(id).disabled = next < 0 || next >= labels.length;
    place(id).onclick = () => turnTo(next, key, labels, classes);
  }
}

const seen = (key, at) => (key.kind === "image" ? pictureOf(key.inputs[at], `trigger ${at}`) : "numbers, not a picture");

function row(...cells) {
  const made = document.createElement("tr");
  made.append(...cells.map((content) => {
    const cell = document.createElement("td");
    cell.append(content);
    return cell;
  }));
  return made;
}
