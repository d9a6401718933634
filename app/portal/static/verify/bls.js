// BLS signatures in G1 over BLS12-381, as drand's quicknet makes them: app/protocol/bls.py. A signature passes only if it is a
// point of the group of prime order and fits key and message. Plain BigInt and plain formulas: nothing here is secret, so
// nothing need take the same time, and a bundle holds two signatures. Held to the recorded rounds by tests/portal.
// Source: draft-irtf-cfrg-bls-signature-05 section 2.7 (CoreVerify); RFC 9380 (hash to curve), sections 5.3, 6.6.2, 8.8.1, E.2;
// Vercauteren 2010 (optimal ate pairing); the twist and the tower are the usual ones of the curve.

import { concat, utf8 } from "../protocol.js";
import { refuse } from "./canonical.js";
import { sha256 } from "./hash.js";

const P = 0x1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaabn;
// The order of the groups in which signatures and keys lie, and the curve's parameter without its sign.
const ORDER = 0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001n;
const PARAMETER = 0xd201000000010000n;

const SIGNATURE_BYTES = 48;
const DST = utf8("BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_");

// --- numbers modulo P ---------------------------------------------------------------------------------------------------

function mod(value) {
  const rest = value % P;
  return rest < 0n ? rest + P : rest;
}

function power(base, exponent) {
  let result = 1n;
  for (const bit of exponent.toString(2)) {
    result = (result * result) % P;
    if (bit === "1") result = (result * base) % P;
  }
  return result;
}

// By Euclid; of zero zero, as RFC 9380 wants it.
function inverse(value) {
  let [low, high] = [mod(value), P];
  let [factor, last] = [1n, 0n];
  while (low) {
    const whole = high / low;
    [low, high] = [high - whole * low, low];
    [factor, last] = [last - whole * factor, factor];
  }
  return mod(last);
}

function rootOf(square) {
  const root = power(square, (P + 1n) / 4n);
  return (root * root) % P === square ? root : null;
}

const numberOf = (bytes) => bytes.reduce((total, byte) => total * 256n + BigInt(byte), 0n);

// --- points of G1: y^2 = x^3 + 4; null is the point at infinity ---------------------------------------------------------

function add(one, other) {
  if (one === null || other === null) return one ?? other;
  const [x, y] = one;
  const [otherX, otherY] = other;
  if (x === otherX && (y + otherY) % P === 0n) return null;
  const slope = x === otherX ? 3n * x * x * inverse(2n * y) : (otherY - y) * inverse(otherX - x);
  const sum = mod(slope * slope - x - otherX);
  return [sum, mod(slope * (x - sum) - y)];
}

function times(point, count) {
  let result = null;
  for (const bit of count.toString(2)) {
    result = add(result, result);
    if (bit === "1") result = add(result, point);
  }
  return result;
}

function pointOf(signature) {
  const none = () => refuse("the signature of the drand round is not a point of the curve");
  const [isCompressed, isInfinite, isHigher] = [0x80, 0x40, 0x20].map((flag) => (signature[0] & flag) !== 0);
  const x = BigInt.asUintN(381, numberOf(signature));
  if (!isCompressed || isInfinite !== (x === 0n)) none();
  if (isInfinite) return isHigher ? none() : null;
  if (x >= P) none();
  const y = rootOf(mod(x * x * x + 4n)) ?? none();
  return [x, 2n * y > P === isHigher ? y : mod(-y)];
}

// --- hash to G1 ---------------------------------------------------------------------------------------------------------

// 128 bytes: expand_message_xmd.
function expand(message) {
  const name = concat(DST, Uint8Array.of(DST.length));
  const start = sha256(concat(new Uint8Array(64), message, Uint8Array.of(0, 128, 0), name));
  const blocks = [];
  for (let at = 1; at <= 4; at += 1) {
    const before = blocks.at(-1) ?? new Uint8Array(32);
    blocks.push(sha256(concat(start.map((byte, n) => byte ^ before[n]), Uint8Array.of(at), name)));
  }
  return concat(...blocks);
}

// The curve from which a map of degree 11 leads to ours, y^2 = x^3 + ax + b, and the number that is no square there.
const A = 0x144698a3b8e9433d693a02c96d4982b0ea985383ee66a8d8e8981aefd881ac98936f8da0e0f97f5cf428082d584c1dn;
const B = 0x12e2908d11688030018b12e8753eee3b2016c1f0f24f4070a0b9c14fcef35ef55a23215a316ceaa5d1cc48e98e172be0n;
const Z = 11n;

function mapped(number) {
  const scaled = mod(Z * number * number);
  const below = inverse(scaled * scaled + scaled);
  const first = below ? mod(-B * inverse(A) * (1n + below)) : mod(B * inverse(Z * A));
  const squareAt = (x) => mod(x * x * x + A * x + B);
  const root = rootOf(squareAt(first));
  const x = root === null ? mod(scaled * first) : first;
  const y = root ?? rootOf(squareAt(x));
  return toOurs(x, (y ^ number) & 1n ? mod(-y) : y);
}

function toOurs(x, y) {
  const valueOf = (coefficients) => coefficients.reduceRight((value, each) => mod(value * x + each), 0n);
  const [xAbove, xBelow, yAbove, yBelow] = [MAP.xAbove, MAP.xBelow, MAP.yAbove, MAP.yBelow].map(valueOf);
  if (!xBelow || !yBelow) return null;
  return [mod(xAbove * inverse(xBelow)), mod(y * yAbove * inverse(yBelow))];
}

export function hashToCurve(message) {
  const bytes = expand(message);
  const [one, other] = [bytes.subarray(0, 64), bytes.subarray(64)].map((half) => mapped(mod(numberOf(half))));
  return times(add(one, other), PARAMETER + 1n);
}

// --- numbers a + bu, u^2 = -1 -------------------------------------------------------------------------------------------

const times2 = ([a, b], [c, d]) => [mod(a * c - b * d), mod(a * d + b * c)];
const minus2 = ([a, b], [c, d]) => [mod(a - c), mod(b - d)];

function over2(above, [c, d]) {
  const scale = inverse(c * c + d * d);
  return times2(above, [c * scale, -d * scale]);
}

// --- polynomials in w over these, w^6 = 1 + u ---------------------------------------------------------------------------

function times12(one, other) {
  const [real, unreal] = [new Array(12).fill(0n), new Array(12).fill(0n)];
  one.forEach(([a, b], i) => {
    if (!a && !b) return;
    other.forEach(([c, d], j) => {
      if (!c && !d) return;
      const [ac, bd] = [a * c, b * d];
      real[i + j] += ac - bd;
      unreal[i + j] += (a + b) * (c + d) - ac - bd;
    });
  });
  return Array.from({ length: 6 }, (_, k) => [mod(real[k] + real[k + 6] - unreal[k + 6]), mod(unreal[k] + real[k + 6] + unreal[k + 6])]);
}

const ONE = [[1n, 0n], ...Array.from({ length: 5 }, () => [0n, 0n])];

function power12(base, exponent) {
  let result = ONE;
  for (const bit of exponent.toString(2)) {
    result = times12(result, result);
    if (bit === "1") result = times12(result, base);
  }
  return result;
}

// w^(P^2) = w times this.
const TWICE = power(2n, (P - 1n) / 6n);
const twiceConjugate = (value) => value.map(([a, b], at) => [a, b].map((each) => mod(each * TWICE ** BigInt(at))));

// --- the pairing --------------------------------------------------------------------------------------------------------

// The line through points of the twist with this slope, at a point of G1, and where it meets the twist again, mirrored. Its
// factor w^-3 is left out: it lies in a smaller field, so the last power makes it 1.
function step([x, y], otherX, slope, [atX, atY]) {
  const sum = minus2(minus2(times2(slope, slope), x), otherX);
  const line = [minus2(times2(slope, x), y), [0n, 0n], [mod(-slope[0] * atX), mod(-slope[1] * atX)], [atY, 0n], [0n, 0n], [0n, 0n]];
  return { line, sum: [sum, minus2(times2(slope, minus2(x, sum)), y)] };
}

const double = (point, at) => {
  const [x, [a, b]] = point;
  const [above, below] = times2(x, x);
  return step(point, x, over2([3n * above, 3n * below], [2n * a, 2n * b]), at);
};

const join = (one, other, at) => step(one, other[0], over2(minus2(other[1], one[1]), minus2(other[0], one[0])), at);

// Whether the product of the pairings of these pairs is 1; none of their points is at infinity.
function isOne(pairs) {
  let product = ONE;
  const points = pairs.map(([, key]) => key);
  for (const bit of PARAMETER.toString(2).slice(1)) {
    product = times12(product, product);
    pairs.forEach(([at, key], n) => {
      for (const move of bit === "1" ? [double, (point, of) => join(point, key, of)] : [double]) {
        const { line, sum } = move(points[n], at);
        product = times12(product, line);
        points[n] = sum;
      }
    });
  }
  // Raised to (P^12 - 1)/ORDER it must be 1. The last factor, P^6 - 1, makes 1 of exactly what w -> -w leaves as it is; the
  // product is not 0, for each line has the y of a point of odd order.
  const raised = power12(times12(twiceConjugate(product), product), (P ** 4n - P ** 2n + 1n) / ORDER);
  return raised.every(([a, b], at) => at % 2 === 0 || (!a && !b));
}

// The generator of the keys' group, and quicknet's key, decompressed.
const GENERATOR = [
  [
    0x24aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8n,
    0x13e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7en,
  ],
  [
    0xce5d527727d6e118cc9cdc6da2e351aadfd9baa8cbdd3a76d429a695160d12c923ac9cc3baca289e193548608b82801n,
    0x606c4a02ea734cc32acd2b02bc28b99cb3e287e85a763af267492ab572e99ab3f370d275cec1da1aaa9075ff05f79ben,
  ],
];
export const QUICKNET_KEY = [
  [
    0xd1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45an,
    0x3cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451n,
  ],
  [
    0xe5db2b6bfbb01c867749cadffca88b36c24f3012ba09fc4d3022c5c37dce0f977d3adb5d183c7477c442b1f04515273n,
    0x1a714f2edb74119a2f2b0d5a7c75ba902d163700a61bc224ededd8e63aef7be1aaf8e93d7a9718b047ccddb3eb5d68bn,
  ],
];

// Refuses what is not quicknet's signature over this message.
export function verifyQuicknet(message, signature) {
  if (signature.length !== SIGNATURE_BYTES) refuse(`the signature of a drand round has ${SIGNATURE_BYTES} bytes, not ${signature.length}`);
  const point = pointOf(signature);
  if (point === null || times(point, ORDER) !== null) refuse("the signature of the drand round is not in the group of prime order");
  const [x, y] = hashToCurve(message);
  if (!isOne([[point, GENERATOR], [[x, mod(-y)], QUICKNET_KEY]])) refuse("the signature is not the chain's over this round");
}

// --- RFC 9380 appendix E.2: the map of degree 11, coefficients from the lowest -------------------------------------------

const MAP_TEXT = {
  xAbove: [
    "11a05f2b1e833340b809101dd99815856b303e88a2d7005ff2627b56cdb4e2c85610c2d5f2e62d6eaeac1662734649b7",
    "17294ed3e943ab2f0588bab22147a81c7c17e75b2f6a8417f565e33c70d1e86b4838f2a6f318c356e834eef1b3cb83bb",
    "d54005db97678ec1d1048c5d10a9a1bce032473295983e56878e501ec68e25c958c3e3d2a09729fe0179f9dac9edcb0",
    "1778e7166fcc6db74e0609d307e55412d7f5e4656a8dbf25f1b33289f1b330835336e25ce3107193c5b388641d9b6861",
    "e99726a3199f4436642b4b3e4118e5499db995a1257fb3f086eeb65982fac18985a286f301e77c451154ce9ac8895d9",
    "1630c3250d7313ff01d1201bf7a74ab5db3cb17dd952799b9ed3ab9097e68f90a0870d2dcae73d19cd13c1c66f652983",
    "d6ed6553fe44d296a3726c38ae652bfb11586264f0f8ce19008e218f9c86b2a8da25128c1052ecaddd7f225a139ed84",
    "17b81e7701abdbe2e8743884d1117e53356de5ab275b4db1a682c62ef0f2753339b7c8f8c8f475af9ccb5618e3f0c88e",
    "80d3cf1f9a78fc47b90b33563be990dc43b756ce79f5574a2c596c928c5d1de4fa295f296b74e956d71986a8497e317",
    "169b1f8e1bcfa7c42e0c37515d138f22dd2ecb803a0c5c99676314baf4bb1b7fa3190b2edc0327797f241067be390c9e",
    "10321da079ce07e272d8ec09d2565b0dfa7dccdde6787f96d50af36003b14866f69b771f8c285decca67df3f1605fb7b",
    "6e08c248e260e70bd1e962381edee3d31d79d7e22c837bc23c0bf1bc24c6b68c24b1b80b64d391fa9c8ba2e8ba2d229",
  ],
  xBelow: [
    "8ca8d548cff19ae18b2e62f4bd3fa6f01d5ef4ba35b48ba9c9588617fc8ac62b558d681be343df8993cf9fa40d21b1c",
    "12561a5deb559c4348b4711298e536367041e8ca0cf0800c0126c2588c48bf5713daa8846cb026e9e5c8276ec82b3bff",
    "b2962fe57a3225e8137e629bff2991f6f89416f5a718cd1fca64e00b11aceacd6a3d0967c94fedcfcc239ba5cb83e19",
    "3425581a58ae2fec83aafef7c40eb545b08243f16b1655154cca8abc28d6fd04976d5243eecf5c4130de8938dc62cd8",
    "13a8e162022914a80a6f1d5f43e7a07dffdfc759a12062bb8d6b44e833b306da9bd29ba81f35781d539d395b3532a21e",
    "e7355f8e4e667b955390f7f0506c6e9395735e9ce9cad4d0a43bcef24b8982f7400d24bc4228f11c02df9a29f6304a5",
    "772caacf16936190f3e0c63e0596721570f5799af53a1894e2e073062aede9cea73b3538f0de06cec2574496ee84a3a",
    "14a7ac2a9d64a8b230b3f5b074cf01996e7f63c21bca68a81996e1cdf9822c580fa5b9489d11e2d311f7d99bbdcc5a5e",
    "a10ecf6ada54f825e920b3dafc7a3cce07f8d1d7161366b74100da67f39883503826692abba43704776ec3a79a1d641",
    "95fc13ab9e92ad4476d6e3eb3a56680f682b4ee96f7d03776df533978f31c1593174e4b4b7865002d6384d168ecdd0a",
    "1",
  ],
  yAbove: [
    "90d97c81ba24ee0259d1f094980dcfa11ad138e48a869522b52af6c956543d3cd0c7aee9b3ba3c2be9845719707bb33",
    "134996a104ee5811d51036d776fb46831223e96c254f383d0f906343eb67ad34d6c56711962fa8bfe097e75a2e41c696",
    "cc786baa966e66f4a384c86a3b49942552e2d658a31ce2c344be4b91400da7d26d521628b00523b8dfe240c72de1f6",
    "1f86376e8981c217898751ad8746757d42aa7b90eeb791c09e4a3ec03251cf9de405aba9ec61deca6355c77b0e5f4cb",
    "8cc03fdefe0ff135caf4fe2a21529c4195536fbe3ce50b879833fd221351adc2ee7f8dc099040a841b6daecf2e8fedb",
    "16603fca40634b6a2211e11db8f0a6a074a7d0d4afadb7bd76505c3d3ad5544e203f6326c95a807299b23ab13633a5f0",
    "4ab0b9bcfac1bbcb2c977d027796b3ce75bb8ca2be184cb5231413c4d634f3747a87ac2460f415ec961f8855fe9d6f2",
    "987c8d5333ab86fde9926bd2ca6c674170a05bfe3bdd81ffd038da6c26c842642f64550fedfe935a15e4ca31870fb29",
    "9fc4018bd96684be88c9e221e4da1bb8f3abd16679dc26c1e8b6e6a1f20cabe69d65201c78607a360370e577bdba587",
    "e1bba7a1186bdb5223abde7ada14a23c42a0ca7915af6fe06985e7ed1e4d43b9b3f7055dd4eba6f2bafaaebca731c30",
    "19713e47937cd1be0dfd0b8f1d43fb93cd2fcbcb6caf493fd1183e416389e61031bf3a5cce3fbafce813711ad011c132",
    "18b46a908f36f6deb918c143fed2edcc523559b8aaf0c2462e6bfe7f911f643249d9cdf41b44d606ce07c8a4d0074d8e",
    "b182cac101b9399d155096004f53f447aa7b12a3426b08ec02710e807b4633f06c851c1919211f20d4c04f00b971ef8",
    "245a394ad1eca9b72fc00ae7be315dc757b3b080d4c158013e6632d3c40659cc6cf90ad1c232a6442d9d3f5db980133",
    "5c129645e44cf1102a159f748c4a3fc5e673d81d7e86568d9ab0f5d396a7ce46ba1049b6579afb7866b1e715475224b",
    "15e6be4e990f03ce4ea50b3b42df2eb5cb181d8f84965a3957add4fa95af01b2b665027efec01c7704b456be69c8b604",
  ],
  yBelow: [
    "16112c4c3a9c98b252181140fad0eae9601a6de578980be6eec3232b5be72e7a07f3688ef60c206d01479253b03663c1",
    "1962d75c2381201e1a0cbd6c43c348b885c84ff731c4d59ca4a10356f453e01f78a4260763529e3532f6102c2e49a03d",
    "58df3306640da276faaae7d6e8eb15778c4855551ae7f310c35a5dd279cd2eca6757cd636f96f891e2538b53dbf67f2",
    "16b7d288798e5395f20d23bf89edb4d1d115c5dbddbcd30e123da489e726af41727364f2c28297ada8d26d98445f5416",
    "be0e079545f43e4b00cc912f8228ddcc6d19c9f0f69bbb0542eda0fc9dec916a20b15dc0fd2ededda39142311a5001d",
    "8d9e5297186db2d9fb266eaac783182b70152c65550d881c5ecd87b6f0f5a6449f38db9dfa9cce202c6477faaf9b7ac",
    "166007c08a99db2fc3ba8734ace9824b5eecfdfa8d0cf8ef5dd365bc400a0051d5fa9c01a58b1fb93d1a1399126a775c",
    "16a3ef08be3ea7ea03bcddfabba6ff6ee5a4375efa1f4fd7feb34fd206357132b920f5b00801dee460ee415a15812ed9",
    "1866c8ed336c61231a1be54fd1d74cc4f9fb0ce4c6af5920abc5750c4bf39b4852cfe2f7bb9248836b233d9d55535d4a",
    "167a55cda70a6e1cea820597d94a84903216f763e13d87bb5308592e7ea7d4fbc7385ea3d529b35e346ef48bb8913f55",
    "4d2f259eea405bd48f010a01ad2911d9c6dd039bb61a6290e591b36e636a5c871a5c29f4f83060400f8b49cba8f6aa8",
    "accbb67481d033ff5852c1e48c50c477f94ff8aefce42d28c0f9a88cea7913516f968986f7ebbea9684b529e2561092",
    "ad6b9514c767fe3c3613144b45f1496543346d98adf02267d5ceef9a00d9b8693000763e3b90ac11e99b138573345cc",
    "2660400eb2e4f3b628bdd0d53cd76f2bf565b94e72927c1cb748df27942480e420517bd8714cc80d1fadc1326ed06f7",
    "e0fa1d816ddc03e6b24255e0d7819c171c40f65e273b853324efcd6356caa205ca2f570f13497804415473a1d634b8f",
    "1",
  ],
};
const MAP = Object.fromEntries(Object.entries(MAP_TEXT).map(([name, list]) => [name, list.map((each) => BigInt(`0x${each}`))]));
