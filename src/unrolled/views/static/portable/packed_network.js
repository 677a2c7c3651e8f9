// @ts-check
// Networks as the data of a page have them: arrays packed, matrices of int8 or of float32 weights.

import { unpack } from "../shared/packed_arrays.js";
import { placeFloatMatrices } from "./products.js";

/** @typedef {import("./products.js").Matrix} Matrix */
/** @typedef {import("./products.js").FloatMatrix} FloatMatrix */
/** @typedef {{ rows: number, columns: number, weight: string, scale: string | null }} PackedMatrix */

const LANES = 16;

/**
 * Return a matrix of float32 weights; those that are stored as int8 become their number times the scale of their row.
 * @param {PackedMatrix | null} packed
 * @returns {Promise<FloatMatrix | null>}
 */
export async function unpackFloatMatrix(packed) {
  if (!packed) return null;
  const { rows, columns } = packed;
  const scales = await unpackFloats(packed.scale);
  const weight = await (scales ? unpack(packed.weight, Int8Array) : unpack(packed.weight, Float32Array));
  const stride = Math.ceil(columns / LANES) * LANES;
  const filled = new Float32Array(rows * stride);
  for (let row = 0; row < rows; row++) {
    filled.set(weight.subarray(row * columns, (row + 1) * columns), row * stride);
    if (scales) for (let index = row * stride; index < row * stride + columns; index++) filled[index] *= scales[row];
  }
  return { rows, columns, weight: filled, scale: null };
}

/**
 * Return a row of a matrix.
 * @param {FloatMatrix} matrix
 * @param {number} row
 */
export function rowOf({ weight, rows, columns }, row) {
  const stride = weight.length / rows;
  return weight.slice(row * stride, row * stride + columns);
}

/**
 * @param {PackedMatrix | null} packed
 * @returns {Promise<Matrix | null>}
 */
export async function unpackMatrix(packed) {
  if (!packed) return null;
  const { rows, columns, scale } = packed;
  if (scale === null) return unpackFloatMatrix(packed);
  const weight = new Int8Array((rows + 3) * columns); // products take four rows at a time
  weight.set(await unpack(packed.weight, Int8Array));
  return { rows, columns, weight, scale: await unpack(scale, Float32Array) };
}

/** @param {string | null} packed */
export const unpackFloats = async (packed) => packed === null ? null : unpack(packed, Float32Array);

/**
 * Return the recurrent layers in the data of a page.
 * @param {any[]} layers
 * @param {typeof unpackMatrix} [unpackWeights] what makes their matrices
 * @returns {Promise<import("./layers.js").Layer[]>}
 */
export async function unpackLayers(layers, unpackWeights = unpackMatrix) {
  const unpacked = [];
  for (const layer of layers) {
    unpacked.push({
      input: await unpackWeights(layer.input),
      recurrent: await unpackWeights(layer.recurrent),
      recurrentN: await unpackWeights(layer.recurrentN),
      bias: await unpackFloats(layer.bias),
      biasHh: await unpackFloats(layer.biasHh),
      normWeight: await unpackFloats(layer.normWeight),
      normBias: await unpackFloats(layer.normBias),
      rounds: await Promise.all(layer.rounds.map(unpackWeights)),
      decay: await unpackFloats(layer.decay),
    });
  }
  return /** @type {import("./layers.js").Layer[]} */ (unpacked);
}

/**
 * Return recurrent layers of float32 weights, which `placeFloatLayers` may place.
 * @param {any} packed
 * @returns {Promise<import("./layers.js").Layers>}
 */
export const placeableLayers = async (packed) => ({ ...packed, layers: await unpackLayers(packed.layers, unpackFloatMatrix), nativeTanh: null });

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
