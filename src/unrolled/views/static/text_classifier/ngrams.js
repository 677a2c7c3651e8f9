// @ts-check
// Hashed n-grams of a text, as `tables/ngrams.py` numbers them: its words, pairs of words, and runs of characters.

/**
 * Which n-grams there are: the longest run, the characters of a text of which runs are taken, and the words that are counted.
 * From `caseVersion` on, case counts, and short runs are counted.
 * @typedef {{ version: number, caseVersion: number, maxRun: number, maxCharacters: number, maxWords: number, maxCountedRun: number,
 *   maxCount: number }} NgramRules
 */

const MASK = (1n << 64n) - 1n;
const MULTIPLIER = 0x9e3779b97f4a7c15n;
/** White space as Python has it, which is not all of that of JavaScript. */
const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const BLANKS = new RegExp(`[${SPACE}]+`, "u");
const BLANK = new RegExp(`^[${SPACE}]$`, "u");
const WORD = new RegExp(`[\\p{L}\\p{N}_]+|[^\\p{L}\\p{N}_${SPACE}]`, "gu");

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/** Return the CRC-32 of a text in UTF-8. @param {string} text */
function crc32(text) {
  let crc = 0xffffffff;
  for (const byte of new TextEncoder().encode(text)) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return BigInt((crc ^ 0xffffffff) >>> 0);
}

/** @param {string} character */
export const isBlank = (character) => BLANK.test(character);

/** Return the words of a text at white space, as Python splits it. @param {string} text */
export const splitBlanks = (text) => text.split(BLANKS).filter(Boolean);

/**
 * Return 32 bits of a number, all of which depend on all of its bits and on the kind of n-gram.
 * @param {bigint} value
 * @param {number} kind
 */
function mix(value, kind) {
  const mixed = ((value + BigInt(kind + 1)) * MULTIPLIER) & MASK;
  return Number((((mixed ^ (mixed >> 29n)) * MULTIPLIER) & MASK) >> 32n);
}

/** @param {bigint} hash @param {bigint} next */
const joined = (hash, next) => (hash * MULTIPLIER + next) & MASK;

/**
 * Return the hashes of all runs of each length; a space before and after the text marks its ends.
 * @param {string} text
 * @param {number} maxRun
 */
function characterRuns(text, maxRun) {
  const codes = Array.from(` ${text} `, (character) => BigInt(character.codePointAt(0) ?? 0));
  let hashes = new Array(codes.length + 1).fill(0n);
  return Array.from({ length: Math.min(maxRun, codes.length) }, (_, index) => {
    hashes = codes.slice(index).map((code, place) => joined(hashes[place], code));
    return hashes;
  });
}

/**
 * Return a number for each time that a hash occurs again: for its second time, its third, and so on.
 * @param {bigint[]} hashes
 * @param {number} maxCount
 */
function repeated(hashes, maxCount) {
  /** @type {Map<bigint, number>} */
  const times = new Map();
  return hashes.flatMap((hash) => {
    const time = times.get(hash) ?? 0;
    times.set(hash, time + 1);
    return time > 0 && time < maxCount ? [joined(hash, BigInt(time))] : [];
  });
}

/**
 * Return the distinct n-grams of a text as numbers of 32 bits.
 * @param {string} text
 * @param {NgramRules} rules
 */
export function hashNgrams(text, { version, caseVersion, maxRun, maxCharacters, maxWords, maxCountedRun, maxCount }) {
  const hasCase = version >= caseVersion;
  const plain = (/** @type {string} */ cased) => (hasCase ? cased : cased.toLowerCase());
  const words = (plain(text).match(WORD) ?? []).map(crc32);
  const start = plain(Array.from(text).slice(0, maxCharacters).join(""));
  const runs = characterRuns(splitBlanks(start).join(" "), maxRun);
  const pairs = words.slice(1).map((word, index) => joined(words[index], word));
  /** @type {[bigint[], number][]} */
  const ofWords = [[words, 0], [pairs, 1]];
  if (version > 1) {
    const first = words.length > 2 ? joined(words[0], words[1]) : 0n;
    ofWords.push([words.slice(2).map((word) => joined(first, word)), 100], [[BigInt(Math.min(words.length, maxWords))], 101]);
  }
  const isMarked = version > 1; // the numbers of what is made of words are even, those of runs odd
  const found = ofWords.flatMap(([values, kind]) => values.map((value) => mix(value, kind)).map((hash) => (isMarked ? (hash & ~1) >>> 0 : hash)));
  found.push(...runs.flatMap((values, index) => values.map((value) => mix(value, index + 2)).map((hash) => (isMarked ? (hash | 1) >>> 0 : hash))));
  const counted = hasCase ? runs.slice(0, maxCountedRun) : [];
  found.push(...counted.flatMap((values, index) => repeated(values, maxCount).map((value) => (mix(value, index + 200) | 1) >>> 0)));
  return [...new Set(found)];
}
