// Checks in a thread of its own, so that the page stays alive. All modules are loaded before it says that it is ready; from
// then on it needs no network.

import { fromHex } from "../protocol.js";
import { checkBundle } from "./bundle.js";
import { Refused } from "./canonical.js";
import { verifierOf, verifyReceipt } from "./log.js";

const EVERY_MILLISECONDS = 100;

function progressTo(id) {
  let last = 0;
  return (what, done, of) => {
    const now = performance.now();
    if (now - last < EVERY_MILLISECONDS) return;
    last = now;
    postMessage({ id, what, done, of });
  };
}

async function check({ id, file, entry, origin, logKey, arbiterKeys }) {
  if (entry === null) return checkBundle(file, { logKey, arbiterKeys }, progressTo(id));
  const held = await verifyReceipt(file, entry, verifierOf(origin, fromHex(logKey)));
  return { outcome: "verified", isAuthenticated: true, receipt: { index: held.index, origin: held.origin, size: held.size } };
}

onmessage = async ({ data }) => {
  try {
    postMessage({ id: data.id, result: await check(data) });
  } catch (error) {
    // Whatever this checker stumbles over was not checked, and is never taken for verified.
    const message = error instanceof Refused ? error.message : `this checker could not go on: ${error.message}`;
    postMessage({ id: data.id, refused: message, isOurs: !(error instanceof Refused) });
  }
};

postMessage({ ready: true });
