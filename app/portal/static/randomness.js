// Randomness that a seed of 32 bytes draws again: AES-256 in counter mode from block 0 over zeros, in large pieces.

const BLOCK_BYTES = 16;
const PIECE_BYTES = 1 << 20;
export const SEED_BYTES = 32;

export const newSeed = () => crypto.getRandomValues(new Uint8Array(SEED_BYTES));

export class Randomness {
  #key;
  #piece = new Uint8Array(0);
  #taken = 0;
  #blocks = 0;

  constructor(key) {
    this.#key = key;
  }

  static async from(seed) {
    return new Randomness(await crypto.subtle.importKey("raw", seed, "AES-CTR", false, ["encrypt"]));
  }

  // The next bytes of the stream; what it gives does not depend on how it is cut.
  async bytes(count) {
    const taken = new Uint8Array(count);
    for (let filled = 0; filled < count; ) {
      if (this.#taken === this.#piece.length) await this.#draw();
      const more = this.#piece.subarray(this.#taken, this.#taken + count - filled);
      taken.set(more, filled);
      filled += more.length;
      this.#taken += more.length;
    }
    return taken;
  }

  // So many numbers in [0, 1), each of four bytes, highest first.
  async fractions(count) {
    const view = new DataView((await this.bytes(4 * count)).buffer);
    return Float64Array.from({ length: count }, (_, at) => view.getUint32(4 * at) / 2 ** 32);
  }

  async #draw() {
    const counter = new Uint8Array(BLOCK_BYTES);
    new DataView(counter.buffer).setBigUint64(8, BigInt(this.#blocks));
    const zeros = new Uint8Array(PIECE_BYTES);
    this.#piece = new Uint8Array(await crypto.subtle.encrypt({ name: "AES-CTR", counter, length: 64 }, this.#key, zeros));
    this.#blocks += PIECE_BYTES / BLOCK_BYTES;
    this.#taken = 0;
  }
}
