// SHA-256 and HMAC that answer at once. A bundle asks for a million small hashes (1,000 placebo beacons alone); WebCrypto takes
// each by a promise, and minutes for all. Large files still go to WebCrypto. Held to it and to Python by tests/portal/test_verify.py.
// Source: FIPS 180-4, RFC 2104.

const PRIMES = [];
for (let n = 2; PRIMES.length < 64; n += 1) if (PRIMES.every((prime) => n % prime)) PRIMES.push(n);
const fraction = (root) => Math.floor((root % 1) * 2 ** 32) | 0;
const ROUND = Int32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)));
const START = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));
const BLOCK = 64;

const words = new Int32Array(64);

function compress(state, bytes, from) {
  for (let t = 0, at = from; t < 16; t += 1, at += 4) words[t] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
  for (let t = 16; t < 64; t += 1) {
    const x = words[t - 15];
    const y = words[t - 2];
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    words[t] = (words[t - 16] + s0 + words[t - 7] + s1) | 0;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let t = 0; t < 64; t += 1) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const one = (h + s1 + ((e & f) ^ (~e & g)) + ROUND[t] + words[t]) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const two = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g; g = f; f = e; e = (d + one) | 0;
    d = c; c = b; b = a; a = (one + two) | 0;
  }
  state[0] += a; state[1] += b; state[2] += c; state[3] += d;
  state[4] += e; state[5] += f; state[6] += g; state[7] += h;
}

// Hashes on from `start`, a state that has taken `taken` bytes.
function finish(start, taken, bytes) {
  const state = Int32Array.from(start);
  const whole = bytes.length - (bytes.length % BLOCK);
  for (let at = 0; at < whole; at += BLOCK) compress(state, bytes, at);
  const left = bytes.length - whole;
  const tail = new Uint8Array(left < 56 ? BLOCK : 2 * BLOCK);
  tail.set(bytes.subarray(whole));
  tail[left] = 0x80;
  const bits = (taken + bytes.length) * 8;
  const end = new DataView(tail.buffer);
  end.setUint32(tail.length - 8, Math.floor(bits / 2 ** 32));
  end.setUint32(tail.length - 4, bits % 2 ** 32);
  for (let at = 0; at < tail.length; at += BLOCK) compress(state, tail, at);
  const digest = new Uint8Array(32);
  const view = new DataView(digest.buffer);
  state.forEach((word, at) => view.setInt32(4 * at, word));
  return digest;
}

export const sha256 = (bytes) => finish(START, 0, bytes);

// A key made ready, for many messages.
export function hmacKey(key) {
  const padded = new Uint8Array(BLOCK);
  padded.set(key.length > BLOCK ? sha256(key) : key);
  const [inner, outer] = [0x36, 0x5c].map((pad) => {
    const state = Int32Array.from(START);
    compress(state, padded.map((byte) => byte ^ pad), 0);
    return state;
  });
  return (bytes) => finish(outer, BLOCK, finish(inner, BLOCK, bytes));
}

export const hmac = (key, bytes) => hmacKey(key)(bytes);
