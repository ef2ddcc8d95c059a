// DES for VNC authentication (RFC 6143 section 7.2.2), which browsers do not have. Tables as in FIPS 46-3, where bits
// are counted from 1; a block is an array of 64 bits. Two blocks per connection: clear rather than fast.

const PC1 = [
  57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36,
  63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4,
];
const PC2 = [
  14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2,
  41, 52, 31, 37, 47, 55, 30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32,
];
const SHIFTS = [1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1];
const P = [
  16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10,
  2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4, 25,
];
// Each S-box: four rows of sixteen, a hexadecimal digit each.
const S = [
  "e4d12fb83a6c59070f74e2d1a6cb953841e8d62bfc973a50fc8249175b3ea06d",
  "f18e6b34972dc05a3d47f28ec01a69b50e7ba4d158c6932fd8a13f42b67c05e9",
  "a09e63f51dc7b428d709346a285ecbf1d6498f30b12c5ae71ad069874fe3b52c",
  "7de3069a1285bc4fd8b56f03472c1ae9a690cb7df13e52843f06a1d8945bc72e",
  "2c417ab6853fd0e9eb2c47d150fa3986421bad78f9c5630eb8c71e2d6f09a453",
  "c1af92680d34e75baf427c9561de0b389ef528c3704a1db6432c95fabe17608d",
  "4b2ef08d3c975a61d0b7491ae35c2f8614bdc37eaf6805926bd814a7950fe23c",
  "d2846fb1a93e50c71fd8a374c56b0e927b419ce206adf35821e74a8dfc90356b",
];

/** Bits of bytes, the highest first. */
const bits = (bytes) => [...bytes].flatMap((byte) => [7, 6, 5, 4, 3, 2, 1, 0].map((n) => (byte >> n) & 1));

const permute = (block, table) => table.map((from) => block[from - 1]);

/** The initial permutation: even bits from the last byte to the first, then odd ones; and its inverse. */
const IP = [2, 4, 6, 8, 1, 3, 5, 7].flatMap((bit) => [7, 6, 5, 4, 3, 2, 1, 0].map((byte) => byte * 8 + bit));
const FP = IP.map((_, n) => IP.indexOf(n + 1) + 1);

function roundKeys(key) {
  const halves = permute(bits(key), PC1);
  let [c, d] = [halves.slice(0, 28), halves.slice(28)];
  return SHIFTS.map((shift) => {
    [c, d] = [c, d].map((half) => [...half.slice(shift), ...half.slice(0, shift)]);
    return permute([...c, ...d], PC2);
  });
}

/** The cipher's function f: expand by the neighbours of each four bits, mix the key in, substitute, permute. */
function f(right, key) {
  const out = [];
  for (let box = 0; box < 8; box++) {
    const six = [-1, 0, 1, 2, 3, 4].map((n, i) => right[(box * 4 + n + 32) % 32] ^ key[box * 6 + i]);
    const row = six[0] * 2 + six[5];
    const column = six[1] * 8 + six[2] * 4 + six[3] * 2 + six[4];
    const value = parseInt(S[box][row * 16 + column], 16);
    out.push(value >> 3, (value >> 2) & 1, (value >> 1) & 1, value & 1);
  }
  return permute(out, P);
}

/** Encrypts one block of 8 bytes under a key of 8 bytes. */
export function encrypt(key, block) {
  const start = permute(bits(block), IP);
  let [left, right] = [start.slice(0, 32), start.slice(32)];
  for (const round of roundKeys(key)) {
    const mixed = f(right, round);
    [left, right] = [right, left.map((bit, n) => bit ^ mixed[n])];
  }
  const end = permute([...right, ...left], FP);
  return Uint8Array.from({ length: 8 }, (_, n) => end.slice(n * 8, n * 8 + 8).reduce((byte, bit) => byte * 2 + bit, 0));
}

/** The answer to VNC's challenge of 16 bytes: the key is the password's first 8 bytes, the bits of each reversed. */
export function respond(password, challenge) {
  const reverse = (byte) => [0, 1, 2, 3, 4, 5, 6, 7].reduce((sum, n) => sum | (((byte >> n) & 1) << (7 - n)), 0);
  const key = new Uint8Array(8);
  key.set(new TextEncoder().encode(password).slice(0, 8).map(reverse));
  return Uint8Array.from([...encrypt(key, challenge.slice(0, 8)), ...encrypt(key, challenge.slice(8, 16))]);
}
