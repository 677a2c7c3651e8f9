// @ts-check
// Products of matrices and vectors, as docs/portable.md defines them: of int8 weights, exact integers, by loops or by vector
// instructions (a WebAssembly module of `views/wasm_products.py` on copies of the weights) with the same bits; of float32 weights,
// ordered sums.

import { ROUND, f } from "./arithmetic.js";

/**
 * The product of a matrix by vector instructions: of the columns from one to another with `numbers`, written to `out`.
 * @typedef {{ numbers: Int16Array, out: Int32Array, multiply: (from: number, to: number) => void }} Native
 */

/**
 * Numbers, and a function that replaces the first of them by their tanh.
 * @typedef {{ values: Float32Array, tanh: (count: number) => void }} NativeTanh
 */

/**
 * A matrix of int8 weights with a scale for each row; or of float32 weights, whose rows are filled with zeros to a multiple of 16
 * columns. `result` is the product of `product`, which is written anew at each; of float32 weights, `native` computes it from
 * `vector` by vector instructions.
 * @typedef {{ rows: number, columns: number, weight: Int8Array, scale: Float32Array, native?: Native, result?: Float32Array }} Int8Matrix
 * @typedef {{ rows: number, columns: number, weight: Float32Array, scale: null, native?: () => void, vector?: Float32Array, result?: Float32Array }} FloatMatrix
 * @typedef {Int8Matrix | FloatMatrix} Matrix
 */

const BLOCK_COLUMNS = 512;
const LANES = 16;
const PAGE_BYTES = 65536;

/** @param {number} value */
const roundUp = (value) => Math.ceil(value / 16) * 16;

let quantized = new Int32Array(0);

/**
 * Write whole numbers of at most 32767 in place of a vector; return their scale.
 * @param {Float32Array} x
 * @param {Int32Array | Int16Array} quantized
 */
function quantize(x, quantized) {
  let largest = 0;
  for (let i = 0; i < x.length; i++) {
    const size = x[i] < 0 ? -x[i] : x[i];
    if (size > largest) largest = size;
  }
  const factor = largest < 2 ** -100 ? 0 : f(32767 / largest);
  for (let i = 0; i < x.length; i++) quantized[i] = f(f(f(x[i] * factor) + ROUND) - ROUND);
  return f(largest / 32767);
}

const exact = new Int32Array(4);

/**
 * Write to `exact` the products of four rows, from the offset `o` on, with `quantized`, for the columns from `start` to `stop`.
 * Four rows at once are 1.4 times as fast as one, because each number of the vector is loaded once.
 * @param {Int8Array} weight
 * @param {Int32Array} q
 * @param {number} o
 * @param {number} columns
 * @param {number} start
 * @param {number} stop
 */
function fourRows(weight, q, o, columns, start, stop) {
  const o1 = o + columns;
  const o2 = o1 + columns;
  const o3 = o2 + columns;
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  for (let i = start; i < stop; i++) {
    const x = q[i];
    a = (a + Math.imul(weight[o + i], x)) | 0;
    b = (b + Math.imul(weight[o1 + i], x)) | 0;
    c = (c + Math.imul(weight[o2 + i], x)) | 0;
    d = (d + Math.imul(weight[o3 + i], x)) | 0;
  }
  exact[0] = a;
  exact[1] = b;
  exact[2] = c;
  exact[3] = d;
}

const sums = new Float32Array(LANES);

/**
 * Return the product of a matrix of float32 weights: of each row 16 partial sums over the columns j, j + 16, ..., then a tree.
 * Four partial sums at a time stay in registers.
 * @param {FloatMatrix} matrix
 * @param {Float32Array} x
 */
function orderedProduct(matrix, x) {
  const { rows, weight } = matrix;
  const stride = weight.length / rows;
  const vector = (matrix.vector ??= new Float32Array(stride));
  const out = (matrix.result ??= new Float32Array(rows));
  vector.set(x);
  if (matrix.native) {
    matrix.native();
    return out;
  }
  for (let row = 0; row < rows; row++) {
    const start = row * stride;
    for (let lane = 0; lane < LANES; lane += 4) {
      let [a, b, c, d] = [f(0), f(0), f(0), f(0)];
      for (let i = lane; i < stride; i += LANES) {
        const j = start + i;
        a = f(a + f(weight[j] * vector[i]));
        b = f(b + f(weight[j + 1] * vector[i + 1]));
        c = f(c + f(weight[j + 2] * vector[i + 2]));
        d = f(d + f(weight[j + 3] * vector[i + 3]));
      }
      sums[lane] = a;
      sums[lane + 1] = b;
      sums[lane + 2] = c;
      sums[lane + 3] = d;
    }
    for (let width = LANES / 2; width; width >>= 1) for (let j = 0; j < width; j++) sums[j] += sums[j + width];
    out[row] = sums[0];
  }
  return out;
}

/**
 * Return the product of a matrix and a vector, valid until the next one of this matrix. Beyond the
 * last row, int8 weights have zeros for the rows up to a multiple of four.
 * @param {Matrix} matrix
 * @param {Float32Array} x
 */
export function product(matrix, x) {
  if (matrix.scale === null) return orderedProduct(matrix, x);
  const { rows, columns, weight, scale, native } = matrix;
  if (!native && quantized.length < columns) quantized = new Int32Array(columns);
  const inputScale = quantize(x, native ? native.numbers : quantized);
  const out = (matrix.result ??= new Float32Array(rows));
  out.fill(0);
  for (let start = 0; start < columns; start += BLOCK_COLUMNS) {
    const stop = Math.min(start + BLOCK_COLUMNS, columns);
    if (native) {
      native.multiply(start, stop);
      for (let row = 0; row < rows; row++) out[row] += f(native.out[row]);
      continue;
    }
    for (let row = 0; row < rows; row += 4) {
      fourRows(weight, quantized, row * columns, columns, start, stop);
      for (let i = 0; i < 4 && row + i < rows; i++) out[row + i] += f(exact[i]);
    }
  }
  for (let row = 0; row < rows; row++) out[row] *= f(scale[row] * inputScale);
  return out;
}

/** @typedef {Record<string, (...numbers: number[]) => void>} Functions */

/**
 * Return a memory of so many bytes and the functions of the module in it; null if this browser has no vector instructions.
 * @param {Uint8Array<ArrayBuffer>} bytes the module
 * @param {number} numBytes
 * @returns {Promise<{ memory: WebAssembly.Memory, functions: Functions } | null>}
 */
async function instantiate(bytes, numBytes) {
  const memory = new WebAssembly.Memory({ initial: Math.ceil(numBytes / PAGE_BYTES) });
  try {
    const { instance } = await WebAssembly.instantiate(bytes, { env: { memory } });
    return { memory, functions: /** @type {Functions} */ (instance.exports) };
  } catch {
    return null;
  }
}

/**
 * Return numbers in a memory, whose tanh a function computes.
 * @param {{ memory: WebAssembly.Memory, functions: Functions }} native
 * @param {number} address
 * @param {number} count
 * @returns {NativeTanh}
 */
function placeTanh({ memory, functions }, address, count) {
  const values = new Float32Array(memory.buffer, address, count);
  return {
    values,
    tanh(used) {
      const kept = values.slice(used, Math.ceil(used / 4) * 4); // the module takes four at a time
      functions.tanh(address, address + 4 * used);
      values.set(kept, used);
    },
  };
}

/**
 * Give each matrix of int8 weights a function that multiplies it by whole numbers; return the numbers whose tanh a function
 * computes, or null if this browser has no vector instructions.
 * @param {Uint8Array<ArrayBuffer>} bytes the module
 * @param {Int8Matrix[]} matrices
 * @param {number} numValues
 * @returns {Promise<NativeTanh | null>}
 */
export async function placeMatrices(bytes, matrices, numValues) {
  const strides = matrices.map(({ columns }) => roundUp(columns));
  const sizes = matrices.map(({ rows }, index) => roundUp(rows) * strides[index]);
  const vectorAddress = sizes.reduce((total, size) => total + size, 0);
  const outAddress = vectorAddress + 2 * Math.max(...strides);
  const valuesAddress = outAddress + 4 * Math.max(...matrices.map(({ rows }) => roundUp(rows)));
  const native = await instantiate(bytes, valuesAddress + roundUp(4 * numValues));
  if (!native) return null;
  const { memory, functions: { multiply } } = native;
  const numbers = new Int16Array(memory.buffer, vectorAddress, Math.max(...strides));
  let address = 0;
  for (const [index, matrix] of matrices.entries()) {
    const { rows, columns, weight } = matrix;
    const [stride, start] = [strides[index], address];
    const copy = new Int8Array(memory.buffer, start, sizes[index]);
    for (let row = 0; row < rows; row++) copy.set(weight.subarray(row * columns, (row + 1) * columns), row * stride);
    const out = new Int32Array(memory.buffer, outAddress, rows);
    matrix.native = {
      numbers,
      out,
      multiply: (from, to) =>
        multiply(start + from, stride, roundUp(rows), vectorAddress + 2 * from, Math.min(roundUp(to), stride) - from, outAddress),
    };
    address += sizes[index];
  }
  return placeTanh(native, valuesAddress, numValues);
}

/**
 * Place matrices of float32 weights where vector instructions multiply them; return the numbers whose tanh a function computes, or
 * null if this browser has none: then the matrices are multiplied by loops, with the same bits.
 * @param {Uint8Array<ArrayBuffer>} bytes the module
 * @param {FloatMatrix[]} matrices
 * @param {number} numValues
 * @returns {Promise<NativeTanh | null>}
 */
export async function placeFloatMatrices(bytes, matrices, numValues) {
  const strides = matrices.map(({ rows, weight }) => 4 * weight.length / rows);
  const valuesAddress = matrices.reduce((total, { weight, rows }, index) => total + 4 * weight.length + strides[index] + roundUp(4 * rows), 0);
  const native = await instantiate(bytes, valuesAddress + roundUp(4 * numValues));
  if (!native) return null;
  const { memory, functions } = native;
  let address = 0;
  for (const [index, matrix] of matrices.entries()) {
    const { rows, weight } = matrix;
    const [start, stride] = [address, strides[index]];
    const vectorAddress = start + 4 * weight.length;
    const outAddress = vectorAddress + stride;
    matrix.weight = new Float32Array(memory.buffer, start, weight.length);
    matrix.weight.set(weight);
    matrix.vector = new Float32Array(memory.buffer, vectorAddress, stride / 4);
    matrix.result = new Float32Array(memory.buffer, outAddress, rows);
    matrix.native = () => functions.multiply_floats(start, stride, rows, vectorAddress, outAddress);
    address = outAddress + roundUp(4 * rows);
  }
  return placeTanh(native, valuesAddress, numValues);
}
