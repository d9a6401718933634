// The agent in a tab: answers the openings of one dispute from a marking key, exactly as app/cli/agent.py does.
// Before an input is opened: the registered vendor key signed the filing record, the log's filing entry hides exactly that
// record, registration, filing and the filing's beacon are in the log, the beacon follows the rule, and the triggers asked for
// are exactly the block of the challenge that the service names. Before a label key is opened: the head of its block is in the
// log, after the beacon. What was proven holds for exactly what was shown then; anything shown otherwise is proven anew, so
// that a service which later lies, about the size of blocks for instance, gets nothing.

import { verifySignature } from "./keys.js";
import { ProofError, expect } from "./log_view.js";
import { PROTOCOL, canonicalJson, fromHex, hex, hmac, lp, sha256, tag, u32, u64, utf8 } from "./protocol.js";
import { verifyBeacon } from "./verify/beacon.js";
import { Refused } from "./verify/canonical.js";

export { ProofError };

// As the service's own limits: a block's number, and its triggers.
const MAX_BLOCK = 65536;
const MAX_BLOCK_SIZE = 256;

const isIndex = (value, most = Number.MAX_SAFE_INTEGER) => Number.isSafeInteger(value) && value >= 0 && value <= most;

function bytes(said, length) {
  if (typeof said !== "string" || said.length !== 2 * length) throw new ProofError(`not ${length} bytes in hex`);
  return fromHex(said);
}

// The part of a dispute that the log must prove, by name, so that nothing else gets into what is remembered.
function readFiling({ record, signature, blind, filing_index: filing, beacon_index: beacon }) {
  if (typeof record !== "string" || record.length > 1000000 || !isIndex(filing) || !isIndex(beacon)) throw new ProofError("the service shows no filing");
  bytes(signature, 64);
  bytes(blind, 32);
  return { record, signature, blind, filing, beacon };
}

function readNeed({ block, indices, entry_index: entry }) {
  if (!isIndex(block, MAX_BLOCK) || !Array.isArray(indices) || indices.length < 1 || indices.length > MAX_BLOCK_SIZE || !indices.every((index) => isIndex(index))) {
    throw new ProofError("the service asks for no block");
  }
  return { block, indices, entry };
}

function readRecord(said) {
  const record = JSON.parse(said);
  if (canonicalJson(record) !== said || record.type !== `${PROTOCOL}/filing-record`) throw new ProofError("the filing record is not canonical");
  const { registration, family, policy } = record;
  const isWhole = isIndex(registration) && typeof family === "string" && isIndex(policy?.max_triggers, MAX_BLOCK) && isIndex(policy?.block_size, MAX_BLOCK_SIZE);
  if (!isWhole || policy.max_triggers < 1 || policy.block_size < 1) throw new ProofError("the filing record lacks something");
  return record;
}

// HMAC of every index of the family under the seed, sorted: which trigger is asked when.
async function challengeOrder(seed, family) {
  const keyed = [];
  for (let index = family.start; index < family.end; index += 1) keyed.push([hex(await hmac(seed, lp(tag("challenge"), u32(index)))), index]);
  return keyed.sort(([one], [other]) => (one < other ? -1 : 1)).map(([, index]) => index);
}

async function verifyBeaconOf(filing, beacon, source) {
  const entry = expect(beacon, "beacon");
  if (entry.entry !== filing.index || beacon.index <= filing.index) throw new ProofError(`entry ${beacon.index} is not the beacon of entry ${filing.index}`);
  if (hex(await sha256(bytes(entry.nonce, 32))) !== filing.value.nonce_hash) throw new ProofError(`beacon ${beacon.index} does not open the nonce of entry ${filing.index}`);
  if (entry.source !== source) throw new ProofError(`beacon ${beacon.index} is of source ${entry.source}, registered is another`);
  if (!isIndex(entry.round) || typeof entry.randomness !== "string" || typeof entry.signature !== "string") throw new ProofError("the beacon lacks something");
  try {
    verifyBeacon(entry, { index: filing.index, time: filing.value.time });
  } catch (error) {
    throw error instanceof Refused ? new ProofError(error.message) : error;
  }
  return entry;
}

// `service` reads and sends: get(path) and post(path, body) speak JSON and throw errors with a `status`.
export class Agent {
  constructor(service, log, key, root, disputeId, registration) {
    Object.assign(this, { service, log, key, root: hex(root), disputeId, registration });
    this.proven = new Map();
  }

  // Answers what is asked for now; gives the openings sent and where the dispute stands.
  async answer() {
    const dispute = await this.service.get(`/v1/disputes/${this.disputeId}`);
    const labels = dispute.needs.labels && readNeed(dispute.needs.labels);
    const inputs = dispute.needs.inputs && readNeed(dispute.needs.inputs);
    const sent = [];
    if (labels || inputs) {
      const proven = await this.provenOf(readFiling(dispute));
      if (labels) {
        this.checkBlock(proven, labels);
        await this.checkHead(proven, labels);
        sent.push(await this.send("label", labels, (index) => this.key.openLabel(index)));
      }
      if (inputs) {
        this.checkBlock(proven, inputs);
        sent.push(await this.send("input", inputs, (index) => this.key.openInput(index)));
      }
    }
    return { sent, state: dispute.state, verdict: dispute.verdict };
  }

  async provenOf(shown) {
    const name = canonicalJson(shown);
    if (!this.proven.has(name)) this.proven.set(name, await this.prove(shown));
    return this.proven.get(name);
  }

  async prove(shown) {
    const record = readRecord(shown.record);
    if (record.registration !== this.registration) throw new ProofError(`the filing is of registration ${record.registration}, not of ${this.registration}`);
    const registration = await this.log.entry(record.registration);
    const { statement } = expect(registration, "registration");
    if (statement.root !== this.root || statement.count !== this.key.count) throw new ProofError("this key is not the one that was registered: choose the key file of this watermark");
    const [filing, beacon] = [await this.log.entry(shown.filing), await this.log.entry(shown.beacon)];
    const data = utf8(shown.record);
    if (!(await verifySignature(bytes(statement.vendor_key, 32), bytes(shown.signature, 64), data))) throw new ProofError("the vendor key's signature does not fit the filing record");
    const entry = expect(filing, "filing");
    if (hex(await sha256(lp(tag("filing"), bytes(shown.blind, 32), data))) !== entry.record_hash) throw new ProofError("the filing entry hides another record than the one shown");
    if (entry.registration !== registration.index) throw new ProofError("the filing is of another registration");
    const drawn = await verifyBeaconOf(filing, beacon, statement.beacon);
    const seed = await sha256(lp(tag("challenge-seed"), drawn.source, u64(drawn.round), fromHex(drawn.randomness), fromHex(drawn.nonce), await sha256(filing.data)));
    const family = statement.families.find(({ name }) => name === record.family);
    if (!family) throw new ProofError("the registration has no such family");
    const order = (await challengeOrder(seed, family)).slice(0, record.policy.max_triggers);
    return { filing: filing.index, beacon: beacon.index, order, size: record.policy.block_size };
  }

  checkBlock({ order, size }, { block, indices }) {
    const due = order.slice(block * size, (block + 1) * size);
    if (due.length !== indices.length || due.some((index, at) => index !== indices[at])) throw new ProofError(`the triggers asked for are not block ${block} of the challenge`);
  }

  async checkHead(proven, need) {
    if (!isIndex(need.entry)) throw new ProofError("the service names no head");
    const logged = await this.log.entry(need.entry);
    const head = expect(logged, "block");
    if (head.filing !== proven.filing || head.block !== need.block || logged.index <= proven.beacon) throw new ProofError(`entry ${logged.index} is not the head of block ${need.block}`);
  }

  async send(what, need, open) {
    const openings = [];
    for (const index of need.indices) openings.push(await open(index));
    await this.service.post(`/v1/disputes/${this.disputeId}/${what}-openings`, { block: need.block, openings });
    return { what, block: need.block, count: openings.length };
  }
}
