// The form of a dispute's page that answers its openings while the tab is open.

import * as service from "./service.js";
import { Agent } from "./agent.js";
import { openKeyFile } from "./keys.js";
import { LogView, pinnedKey } from "./log_view.js";
import { hex, sha256 } from "./protocol.js";

// After an opening the next is soon asked for: waits begin here and double, to those of a busy agent for a minute, then to an
// idle one's.
const [FIRST, BUSY, IDLE, IDLE_AFTER] = [100, 500, 2000, 60000];

const form = document.getElementById("agent");
const said = document.getElementById("agent-said");

const tell = (words, isProblem = false) => {
  said.textContent = words;
  said.className = isProblem ? "problem" : "";
};

async function makeAgent() {
  const [file] = form.querySelector("#key-file").files;
  const key = await openKeyFile(new Uint8Array(await file.arrayBuffer()), form.querySelector("#passphrase").value);
  const root = await key.root();
  const { dispute, root: registered, registration } = form.dataset;
  if (hex(root) !== registered) throw new Error("this key is not the one that was registered: choose the key file of this watermark");
  const verifier = await pinnedKey(service.read, form.querySelector("#log-key").value.trim());
  const fingerprint = hex(await sha256(verifier.publicKey));
  return { agent: new Agent(service, new LogView(service.read, verifier), key, root, dispute, Number(registration)), fingerprint };
}

async function answerUntilDecided({ agent, fingerprint }) {
  const held = `log key ${fingerprint.slice(0, 16)}…`;
  let [wait, idle, blocks] = [IDLE, 0, 0];
  tell(`Answering in this tab, held to ${held}. Keep it open.`);
  for (;;) {
    let sent = [];
    try {
      const answered = await agent.answer();
      if (answered.verdict !== null || !["filed", "asking"].includes(answered.state)) {
        tell("Nothing more is asked: the verdict follows.");
        return;
      }
      ({ sent } = answered);
    } catch (error) {
      // 409: another tab or agent was quicker, which is as well. What passes is tried again.
      if (error.status === 401) tell("Your session has ended: sign in again in another tab, and this one goes on.", true);
      else if (error.isPassing) tell(`${error.message}; trying again.`);
      else if (error.status !== 409) throw error;
    }
    for (const { what, block } of sent) {
      blocks += 1;
      tell(`Answering in this tab, held to ${held}. Last opened: ${what}s of block ${block + 1}; ${blocks} openings in all.`);
    }
    idle = sent.length ? 0 : idle + wait;
    wait = sent.length ? FIRST : Math.min(2 * wait, idle < IDLE_AFTER ? BUSY : IDLE);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  form.querySelector("button").disabled = true;
  tell("Opening the key file…");
  try {
    await answerUntilDecided(await makeAgent());
  } catch (error) {
    tell(`Nothing more is opened: ${error.message}`, true);
  }
  form.querySelector("button").disabled = false;
});

form.hidden = false;
