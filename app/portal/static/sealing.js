// Seals a marking key to the workers of one queue: HPKE (RFC 9180) in base mode with X25519, HKDF-SHA256, AES-256-GCM.
// As app/keys/sealing.py; the test vectors are what that opens.

import { concat, hmac, lp, tag, utf8 } from "./protocol.js";

const KEM = Uint8Array.of(...utf8("KEM"), 0x00, 0x20);
const HPKE = Uint8Array.of(...utf8("HPKE"), 0x00, 0x20, 0x00, 0x01, 0x00, 0x02);
const VERSION = utf8("HPKE-v1");
const NOTHING = new Uint8Array(0);

// An absent salt is as many zero bytes as the hash is long (RFC 5869).
const extract = (suite, salt, label, material) => hmac(salt.length ? salt : new Uint8Array(32), concat(VERSION, suite, utf8(label), material));

// One block: nothing here is longer than the hash.
async function expand(suite, key, label, info, length) {
  const block = await hmac(key, concat(Uint8Array.of(0, length), VERSION, suite, utf8(label), info, Uint8Array.of(1)));
  return block.slice(0, length);
}

// A fresh pair's public half, and what it has in common with the recipient. The browser's own errors have no words.
async function agree(recipientBytes) {
  let pair;
  try {
    pair = await crypto.subtle.generateKey("X25519", true, ["deriveBits"]);
  } catch {
    throw new Error("this browser cannot seal (it lacks X25519): use a newer one, or the command line");
  }
  try {
    const recipient = await crypto.subtle.importKey("raw", recipientBytes, "X25519", false, []);
    const shared = new Uint8Array(await crypto.subtle.deriveBits({ name: "X25519", public: recipient }, pair.privateKey, 256));
    return { sent: new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)), shared };
  } catch {
    throw new Error("this is no queue's public key: nothing sealed to it would be secret");
  }
}

// `queueKey` is the queue's 64 public bytes (Ed25519, then X25519); `root` binds the key to its registration.
export async function seal(queueKey, plaintext, root) {
  const recipientBytes = queueKey.slice(32);
  const { sent, shared } = await agree(queueKey.length === 64 ? recipientBytes : NOTHING);
  const agreed = await extract(KEM, NOTHING, "eae_prk", shared);
  const secretOfPair = await expand(KEM, agreed, "shared_secret", concat(sent, recipientBytes), 32);

  const info = lp(tag("sealed-to-queue"), root);
  const context = concat(Uint8Array.of(0), await extract(HPKE, NOTHING, "psk_id_hash", NOTHING), await extract(HPKE, NOTHING, "info_hash", info));
  const secret = await extract(HPKE, secretOfPair, "secret", NOTHING);
  const key = await crypto.subtle.importKey("raw", await expand(HPKE, secret, "key", context, 32), "AES-GCM", false, ["encrypt"]);
  const nonce = await expand(HPKE, secret, "base_nonce", context, 12);
  return concat(sent, new Uint8Array(await crypto.subtle.encrypt({ name: "AES-GCM", iv: nonce }, key, plaintext)));
}
