// @ts-check
// Networks as the data of a page have them: arrays packed, matrices of int8 or of float32 weights.

import { unpack } from "../shared/packed_arrays.js";
import { placeFloatMatrices } from "./products.js";

/** @typedef {import("./products.js").Matrix} Matrix */
/** @typedef {{ rows: number, columns: number, weight: string, scale: string | null }} PackedMatrix */

const LANES = 16;

/**
 * @param {PackedMatrix | null} packed
 * @returns {Promise<Matrix | null>}
 */
export async function unpackMatrix(packed) {
  if (!packed) return null;
  const { rows, columns, scale } = packed;
  if (scale === null) {
    const [weight, stride] = [await unpack(packed.weight, Float32Array), Math.ceil(columns / LANES) * LANES];
    const filled = new Float32Array(rows * stride);
    for (let row = 0; row < rows; row++) filled.set(weight.subarray(row * columns, (row + 1) * columns), row * stride);
    return { rows, columns, weight: filled, scale };
  }
  const weight = new Int8Array((rows + 3) * columns); // products take four rows at a time
  weight.set(await unpack(packed.weight, Int8Array));
  return { rows, columns, weight, scale: await unpack(scale, Float32Array) };
}

/** @param {string | null} packed */
export const unpackFloats = async (packed) => packed === null ? null : unpack(packed, Float32Array);

/**
 * Return the recurrent layers in the data of a page.
 * @param {any[]} layers
 * @returns {Promise<import("./layers.js").Layer[]>}
 */
export async function unpackLayers(layers) {
  const unpacked = [];
  for (const layer of layers) {
    unpacked.push({
      input: await unpackMatrix(layer.input),
      recurrent: await unpackMatrix(layer.recurrent),
      recurrentN: await unpackMatrix(layer.recurrentN),
      bias: await unpackFloats(layer.bias),
      biasHh: await unpackFloats(layer.biasHh),
      normWeight: await unpackFloats(layer.normWeight),
      normBias: await unpackFloats(layer.normBias),
      rounds: await Promise.all(layer.rounds.map(unpackMatrix)),
      decay: await unpackFloats(layer.decay),
    });
  }
  return /** @type {import("./layers.js").Layer[]} */ (unpacked);
}

/**
 * Have products and tanh of layers of float32 weights computed by vector instructions, where there are any.
 * @param {string} packed the module of `views/wasm_products.py`
 * @param {import("./layers.js").Layers[]} networks
 * @param {(Matrix | null)[]} others matrices that are no part of layers
 */
export async function placeFloatLayers(packed, networks, others) {
  const layers = networks.flatMap((network) => network.layers);
  const matrices = layers.flatMap(({ input, recurrent, recurrentN, rounds }) => [input, recurrent, recurrentN, ...rounds]);
  const used = /** @type {import("./products.js").FloatMatrix[]} */ ([...matrices, ...others].filter((matrix) => matrix !== null));
  const size = networks.reduce((largest, { hiddenSize }) => Math.max(largest, hiddenSize), 0);
  const nativeTanh = await placeFloatMatrices(await unpack(packed, Uint8Array), used, 4 * size);
  for (const network of networks) network.nativeTanh = nativeTanh;
}
