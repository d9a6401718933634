// The public randomness of a log entry: which round it is, and whether a recorded one is genuine. app/protocol/beacon.py.
// Source: docs/protocol.md section 5; drand's scheme bls-unchained-g1-rfc9380.

import { fromHex, hex, u64 } from "../protocol.js";
import { verifyQuicknet } from "./bls.js";
import { refuse } from "./canonical.js";
import { sha256 } from "./hash.js";

const QUICKNET = { source: "drand:52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971", genesis: 1692803367, period: 3 };
const DELAY_SECONDS = 60;

function requiredRound(source, { index, time }) {
  if (source === "local") return index;
  if (source !== QUICKNET.source) refuse(`no beacon source '${source}': use 'local' or '${QUICKNET.source}'`);
  const waited = Date.parse(time) / 1000 + DELAY_SECONDS - QUICKNET.genesis;
  return 1 + Math.max(0, Math.ceil(waited / QUICKNET.period));
}

// Refuses a value that is not the beacon of the entry with this index and time; randomness and signature are in hex.
export function verifyBeacon({ source, round, randomness, signature }, entry) {
  const required = requiredRound(source, entry);
  if (round !== required) refuse(`the beacon of entry ${entry.index} is round ${required} of ${source}, not ${round}`);
  if (source === "local") {
    if (randomness !== "00".repeat(32) || signature !== "") refuse("a local beacon has 32 zero bytes as randomness and no signature");
    return;
  }
  if (randomness !== hex(sha256(fromHex(signature)))) refuse("the randomness of a drand round is SHA-256 of its signature");
  verifyQuicknet(sha256(u64(round)), fromHex(signature));
}
