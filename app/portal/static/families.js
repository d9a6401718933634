// Whether families are large enough to be confirmed, in exact integers: app/protocol/evidence.py can_reach, app/cli/keygen.py.

// The least evidence that a policy may ask for, for a vendor's first dispute: 1 x 2 is its place in the threshold.
const CONFIRMED_BITS = 64n;
const FIRST_DISPUTE = 2n;

const BET_DENOMINATOR = 398n;
const BETS = Array.from({ length: 199 }, (_, at) => BigInt(2 * at + 1));

// With two classes a match says one bit at most.
const ROOM_FOR_TWO_CLASSES = 512;

export const boundOf = (families) => (1n << CONFIRMED_BITS) * BigInt(families) * FIRST_DISPUTE;

// Tells whether so many triggers reach the bound if every one matches.
export function canReach(bound, triggers, classes) {
  const steps = BigInt(Math.min(triggers, 2 * bound.toString(2).length + 64));
  const bets = BETS.reduce((sum, t) => sum + (BET_DENOMINATOR - t + t * BigInt(classes)) ** steps, 0n);
  return bets >= bound * BigInt(BETS.length) * BET_DENOMINATOR ** steps;
}

export function leastTriggers(bound, classes) {
  let least = 1;
  while (!canReach(bound, least, classes)) least += 1;
  return least;
}

const listed = (families) => families.map(({ name, start, end }) => `${name} (${end - start} triggers)`).join(", ");

// What is wrong with families for so many classes: {refused, warned}, each in words or empty.
export function checkEnough(families, classes) {
  if (classes < 2) return { refused: "", warned: "" };
  const least = leastTriggers(boundOf(families.length), classes);
  const small = families.filter(({ start, end }) => end - start < least);
  if (small.length > 0) {
    return { refused: `${listed(small)}: a dispute asks one family, and with ${classes} classes fewer than ${least} triggers cannot be confirmed at 2^-${CONFIRMED_BITS} even if all match. Make the triggers again in step 1 with more (128 leave room for misses), or tick that too few will do`, warned: "" };
  }
  const scant = families.filter(({ start, end }) => classes === 2 && end - start < ROOM_FOR_TWO_CLASSES);
  const warned = `${listed(scant)}: with two classes a match says little; a thief that keeps 95 % takes some 94 triggers, one that keeps 80 % some 240: ${ROOM_FOR_TWO_CLASSES} leave room`;
  return { refused: "", warned: scant.length > 0 ? warned : "" };
}
