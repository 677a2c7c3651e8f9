// @ts-check
// A text model as the page holds it: its network, its tokens, and the test vectors that it replays when the page opens.

import { unpackFloats, unpackLayers, unpackMatrix } from "../portable/packed_network.js";
import { placeMatrices } from "../portable/products.js";
import { unpack } from "../shared/packed_arrays.js";
import { createStepper, drawToken, hashState } from "./portable.js";

/** @typedef {import("../portable/products.js").Int8Matrix} Int8Matrix */
/** @typedef {import("./portable.js").Network} Network */
/** @typedef {{ tokens: number[], hashes: number[], temperature: number, seed: number, drawn: number[] }} Vectors */
/**
 * The tokens of the model, the normal form of its texts, and what `unrolled sample` puts in place of unknown characters of a
 * prompt: pairs of a replacement and the characters that it replaces, and the replacement of all others.
 * @typedef {{ isBytes: boolean, codePoints: number[], beginId: number, endId: number | null, normalForm: string | null,
 *   replacements: [string, string][], otherReplacement: string }} Tokens
 */

/**
 * Return the network in the data of the page.
 * @param {any} data
 * @param {boolean} [hasVectors] whether products are computed by vector instructions, where there are any
 * @returns {Promise<Network>}
 */
export async function unpackNetwork(data, hasVectors = true) {
  const layers = await unpackLayers(data.layers);
  const [embedding, head] = [await unpackMatrix(data.embedding), await unpackMatrix(data.head)];
  let nativeTanh = null;
  if (hasVectors) {
    const inputs = layers.slice(embedding ? 0 : 1).map(({ input }) => input);
    const others = layers.flatMap(({ recurrent, recurrentN, rounds }) => [recurrent, recurrentN, ...rounds]);
    const matrices = [...inputs, ...others, head];
    const used = /** @type {Int8Matrix[]} */ (matrices.filter((matrix) => matrix !== null));
    nativeTanh = await placeMatrices(await unpack(data.products, Uint8Array), used, 4 * data.hiddenSize);
  }
  return /** @type {Network} */ ({ ...data, layers, embedding, head, nativeTanh, headBias: await unpackFloats(data.headBias) });
}

/**
 * Replay test vectors; return what differs, "" if nothing does.
 * @param {Network} network
 * @param {Vectors} vectors
 */
export function findDifference(network, vectors) {
  const stepper = createStepper(network);
  const state = stepper.initialState();
  for (const [t, token] of vectors.tokens.entries()) {
    stepper.step(state, token);
    if (hashState(state) !== vectors.hashes[t]) return `logits or state at step ${t}`;
  }
  for (const [position, expected] of vectors.drawn.entries()) {
    const token = drawToken(state.logits, vectors.temperature, vectors.seed, position);
    if (token !== expected) return `draw ${position}: token ${token}, expected ${expected}`;
    stepper.step(state, token);
  }
  return "";
}

/**
 * Return what turns a text into ids and ids into text.
 * @param {Tokens} tokens
 */
export function createTokenizer({ isBytes, codePoints, endId, normalForm, replacements, otherReplacement }) {
  const idOf = new Map(codePoints.map((codePoint, id) => [String.fromCodePoint(codePoint), id]));
  const replacementOf = new Map(replacements.flatMap(([text, characters]) => Array.from(characters, (c) => [c, text])));

  /**
   * @param {string} text
   * @param {(character: string) => string} replace what is read in place of an unknown character
   */
  function encode(text, replace) {
    /** @type {Map<string, string>} */
    const unknown = new Map();
    if (isBytes) return { ids: [...new TextEncoder().encode(text)], unknown };
    /** @type {number[]} */
    const ids = [];
    for (const character of normalForm ? text.normalize(normalForm) : text) {
      if (!idOf.has(character)) unknown.set(character, replace(character));
      for (const read of unknown.get(character) ?? character) ids.push(idOf.get(read) ?? 0);
    }
    return { ids, unknown };
  }

  return {
    endId,
    isBytes,

    /** @param {number} id */
    isPartOfCharacter: (id) => isBytes && id >= 128 && id < 256,

    /** Return the character that bytes are, null if they are none. @param {number[]} ids */
    characterOf(ids) {
      try {
        const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(ids));
        return [...text].length === 1 ? text : null;
      } catch {
        return null;
      }
    },

    /**
     * Return the ids of a text; characters that the model does not know are left out, and are the keys of `unknown`.
     * @param {string} text
     */
    encode: (text) => encode(text, () => ""),

    /**
     * Return the ids of a prompt; characters that the model does not know are replaced as `unknown` says.
     * @param {string} text
     */
    encodePrompt: (text) => encode(text, (character) => replacementOf.get(character) ?? otherReplacement),

    /** Return a function from the next id to the text that it completes. */
    decoder() {
      const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
      return /** @param {number} id */ (id) => {
        if (id === endId) return "";
        return isBytes ? utf8.decode(Uint8Array.of(id), { stream: true }) : String.fromCodePoint(codePoints[id]);
      };
    },

    /**
     * Return the text of a token alone: a byte of a longer character as \xNN.
     * @param {number} id
     */
    label(id) {
      if (id === endId) return "";
      if (isBytes && id >= 128) return `\\x${id.toString(16)}`;
      return String.fromCodePoint(codePoints[id]);
    },
  };
}
