// @ts-check
// A text model as the portable step computes it (docs/portable.md): tokens in, logits out, and the draw in whole numbers.

import { add, exp, f } from "../portable/arithmetic.js";
import { createLayers } from "../portable/layers.js";
import { product } from "../portable/products.js";

/** @typedef {import("../portable/products.js").Int8Matrix} Int8Matrix */
/** @typedef {import("../portable/layers.js").Hold} Hold */

/**
 * A network whose matrices have int8 weights. Of a one-hot input, the rows of the first layer's `input` are tokens, and its scales
 * are those of the gates.
 * @typedef {import("../portable/layers.js").Layers & { vocabSize: number, embedding: Int8Matrix | null, head: Int8Matrix,
 *   headBias: Float32Array }} Network `embedding` is null for one-hot inputs
 */

/** The state of a text, and the logits of the next token. @typedef {import("../portable/layers.js").LayersState & { logits: Float32Array }} State */

const MAX_CACHED_NUMBERS = 1 << 22;

/**
 * A network that reads tokens one by one.
 * @param {Network} network
 */
export function createStepper(network) {
  const { hiddenSize: size, layers } = network;
  const recurrent = createLayers(network);
  /** Products of the first layer's input, which depend on the token alone. @type {Map<number, Float32Array>} */
  const firstInputs = new Map();
  const maxCached = Math.floor(MAX_CACHED_NUMBERS / layers[0].bias.length);
  const embedded = new Float32Array(network.embedding?.columns ?? size);

  /** Return the vector of a token, valid until the next one; zeros for one-hot inputs. @param {number} token */
  function embedding(token) {
    if (!network.embedding) return embedded;
    const { columns, weight, scale } = network.embedding;
    for (let i = 0; i < columns; i++) embedded[i] = weight[token * columns + i] * scale[token];
    return embedded;
  }

  /** @param {number} token */
  function firstGates(token) {
    const known = firstInputs.get(token);
    if (known) return known;
    let gates;
    if (network.embedding) gates = recurrent.inputGates(layers[0], embedding(token)).slice();
    else {
      const { columns, weight, scale } = /** @type {Int8Matrix} */ (layers[0].input);
      gates = add(Float32Array.from(scale, (value, i) => weight[token * columns + i] * value), layers[0].bias);
    }
    if (firstInputs.size < maxCached) firstInputs.set(token, gates);
    return gates;
  }

  return {
    /** @returns {State} the state before any token */
    initialState: () => ({ ...recurrent.initialState(), logits: new Float32Array(network.vocabSize) }),

    /**
     * Read a token: change the state in place.
     * @param {State} state
     * @param {number} token
     * @param {Hold | null} [hold]
     */
    step(state, token, hold = null) {
      const gates = layers[0].rounds.length ? null : firstGates(token);
      const x = recurrent.read(state, embedding(token), gates, hold);
      state.logits.set(add(product(network.head, x), network.headBias));
    },
  };
}

/**
 * Return the high and the low word of a product of two unsigned words. All parts are whole numbers below 2^53.
 * @param {number} a
 * @param {number} b
 */
function multiplyWords(a, b) {
  const [high, low] = [a >>> 16, a & 0xffff];
  const lowProduct = low * b;
  const middle = high * b + Math.floor(lowProduct / 65536);
  return [Math.floor(middle / 65536) >>> 0, Math.imul(a, b) >>> 0];
}

/**
 * Return four random words of Philox4x32-10 (Salmon et al. 2011).
 * @param {number[]} counter four words
 * @param {number} key0
 * @param {number} key1
 */
export function philox(counter, key0, key1) {
  let [c0, c1, c2, c3] = counter;
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = multiplyWords(c0, 0xd2511f53);
    const [high1, low1] = multiplyWords(c2, 0xcd9e8d57);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ key0) >>> 0, low1, (high0 ^ c3 ^ key1) >>> 0, low0];
    key0 = (key0 + 0x9e3779b9) >>> 0;
    key1 = (key1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** @param {number} value a whole number */
const words = (value) => [value >>> 0, Math.floor(value / 4294967296) >>> 0];

/**
 * Return a random whole number below a limit of at most 2^53.
 * @param {number} limit
 * @param {number} seed
 * @param {number} position
 */
function randomBelow(limit, seed, position) {
  const [maxLow, maxHigh] = words(limit - 1);
  const highMask = maxHigh ? 0xffffffff >>> Math.clz32(maxHigh) : 0;
  const lowMask = maxHigh ? 0xffffffff : maxLow ? 0xffffffff >>> Math.clz32(maxLow) : 0;
  for (let block = 0; ; block++) {
    const random = philox([...words(position), block, 0], ...(/** @type {[number, number]} */ (words(seed))));
    for (const i of [0, 2]) {
      const number = ((random[i] & highMask) >>> 0) * 4294967296 + ((random[i + 1] & lowMask) >>> 0);
      if (number < limit) return number;
    }
  }
}

/**
 * Return the id of the next token, drawn with integer odds; position counts the tokens drawn.
 * @param {Float32Array} logits
 * @param {number} temperature
 * @param {number} seed a whole number below 2^53
 * @param {number} position
 */
export function drawToken(logits, temperature, seed, position) {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
  const divisor = f(temperature);
  if (divisor === 0) return best;
  const largest = f(logits[best] / divisor);
  if (!Number.isFinite(largest)) return best;
  const odds = Array.from(logits, (value) => Math.floor(exp(f(f(value / divisor) - largest)) * 1073741824));
  const number = randomBelow(odds.reduce((total, value) => total + value, 0), seed, position);
  let cumulative = 0;
  return odds.findIndex((value) => number < (cumulative += value));
}

/**
 * Return the hash of logits and state that the test vectors hold: FNV-1a over words.
 * @param {State} state
 */
export function hashState(state) {
  let hash = 2166136261;
  const parts = [state.logits, ...state.h.flatMap((h, index) => [h, ...state.others[index]])];
  for (const part of parts) {
    for (const word of new Uint32Array(part.buffer, part.byteOffset, part.length)) hash = Math.imul(hash ^ word, 16777619);
  }
  return hash >>> 0;
}
