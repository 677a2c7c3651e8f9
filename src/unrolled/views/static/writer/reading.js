// @ts-check
// What a network says about a text as it reads or writes it: surprise, guesses and the states of all units at each token.

import { createStepper, drawToken } from "./portable.js";

/** @typedef {import("./portable.js").Network} Network */
/** @typedef {import("./portable.js").State} State */
/** @typedef {import("./portable.js").Hold} Hold */

/**
 * A token of a text. `bits` is NaN where nothing predicted it; `guesses` are ids and probabilities before it; `units` holds h of all
 * layers after it, times 127.
 * @typedef {{ id: number, bits: number, guesses: [number, number][], units: Int8Array, isPrompt: boolean }} Token
 */

const NUM_GUESSES = 5;

/**
 * Return the probabilities of all tokens.
 * @param {Float32Array} logits
 */
function probabilities(logits) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const odds = Float64Array.from(logits, (value) => Math.exp(value - largest));
  const total = odds.reduce((a, b) => a + b, 0);
  return odds.map((value) => value / total);
}

/**
 * @param {Float64Array} probs
 * @returns {[number, number][]}
 */
function bestGuesses(probs) {
  /** @type {[number, number][]} */
  const best = [];
  for (let id = 0; id < probs.length; id++) {
    if (best.length === NUM_GUESSES && probs[id] <= best[NUM_GUESSES - 1][1]) continue;
    let place = best.length;
    while (place > 0 && best[place - 1][1] < probs[id]) place--;
    best.splice(place, 0, [id, probs[id]]);
    best.length = Math.min(best.length, NUM_GUESSES);
  }
  return best;
}

/**
 * Return a text that is read or written token by token from the zero state.
 * @param {Network} network
 * @param {number} beginId the token before a text without a prompt
 * @param {number | null} endId
 * @param {Hold | null} hold
 */
export function createReading(network, beginId, endId, hold) {
  const stepper = createStepper(network);
  const state = stepper.initialState();
  /** @type {Token[]} */
  const tokens = [];
  let [hasRead, numDrawn] = [false, 0];

  /** @param {number} id */
  function read(id) {
    stepper.step(state, id, hold);
    hasRead = true;
  }

  /**
   * Read one token of a text and record it.
   * @param {number} id
   * @param {boolean} isPrompt
   */
  function append(id, isPrompt) {
    const probs = hasRead ? probabilities(state.logits) : null;
    read(id);
    const units = new Int8Array(network.layers.length * network.hiddenSize);
    state.h.forEach((h, layer) => h.forEach((value, i) => {
      units[layer * network.hiddenSize + i] = Math.round(Math.max(-1, Math.min(1, value)) * 127);
    }));
    const token = { id, bits: probs ? -Math.log2(probs[id]) : NaN, guesses: probs ? bestGuesses(probs) : [], units, isPrompt };
    tokens.push(token);
    return token;
  }

  return {
    tokens,
    append,

    /** Begin as the model's documents do, if it has any. */
    beginDocument() {
      if (endId !== null) read(endId);
    },

    /**
     * Draw the next token; return null where the text ends.
     * @param {number} temperature
     * @param {number} seed
     */
    write(temperature, seed) {
      if (!hasRead) read(beginId);
      const id = drawToken(state.logits, temperature, seed, numDrawn++);
      return id === endId ? null : append(id, false);
    },
  };
}

/**
 * Return the mean bits of the tokens that something predicted.
 * @param {Token[]} tokens
 */
export function meanBits(tokens) {
  const known = tokens.filter((token) => !Number.isNaN(token.bits));
  return known.length ? known.reduce((total, token) => total + token.bits, 0) / known.length : NaN;
}
