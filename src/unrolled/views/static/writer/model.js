// @ts-check
// A text model as the page holds it: its network, its tokens, and the test vectors that it replays when the page opens.

import { unpack } from "../shared/packed_arrays.js";
import { createStepper, drawToken, hashState } from "./portable.js";

/** @typedef {import("./portable.js").Network} Network */
/** @typedef {import("./portable.js").Matrix} Matrix */
/** @typedef {import("./portable.js").State} State */
/** @typedef {import("./portable.js").Hold} Hold */
/** @typedef {{ rows: number, columns: number, weight: string, scale: string }} PackedMatrix */
/** @typedef {{ tokens: number[], hashes: number[], temperature: number, seed: number, drawn: number[] }} Vectors */
/** @typedef {{ isBytes: boolean, codePoints: number[], beginId: number, endId: number | null }} Tokens */

/** @param {PackedMatrix | null} packed */
async function unpackMatrix(packed) {
  if (!packed) return null;
  const weight = new Int8Array((packed.rows + 3) * packed.columns); // products take four rows at a time
  weight.set(await unpack(packed.weight, Int8Array));
  return { ...packed, weight, scale: await unpack(packed.scale, Float32Array) };
}

/** @param {string | null} packed */
const unpackFloats = async (packed) => packed === null ? null : unpack(packed, Float32Array);

/**
 * Return the network in the data of the page.
 * @param {any} data
 * @returns {Promise<Network>}
 */
export async function unpackNetwork(data) {
  const layers = [];
  for (const layer of data.layers) {
    layers.push({
      input: await unpackMatrix(layer.input),
      recurrent: await unpackMatrix(layer.recurrent),
      recurrentN: await unpackMatrix(layer.recurrentN),
      bias: await unpackFloats(layer.bias),
      biasHh: await unpackFloats(layer.biasHh),
      normWeight: await unpackFloats(layer.normWeight),
      normBias: await unpackFloats(layer.normBias),
    });
  }
  const [embedding, head] = [await unpackMatrix(data.embedding), await unpackMatrix(data.head)];
  return /** @type {Network} */ ({ ...data, layers, embedding, head, headBias: await unpackFloats(data.headBias) });
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
export function createTokenizer({ isBytes, codePoints, endId }) {
  const idOf = new Map(codePoints.map((codePoint, id) => [codePoint, id]));
  return {
    endId,

    /**
     * Return the ids of a text, and its characters that the model does not know, which are left out.
     * @param {string} text
     */
    encode(text) {
      const units = isBytes ? [...new TextEncoder().encode(text)] : Array.from(text, (character) => character.codePointAt(0) ?? 0);
      const known = units.filter((unit) => idOf.has(unit));
      const unknown = new Set(units.filter((unit) => !idOf.has(unit)));
      return { ids: known.map((unit) => idOf.get(unit) ?? 0), unknown: [...unknown].map((unit) => String.fromCodePoint(unit)) };
    },

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
