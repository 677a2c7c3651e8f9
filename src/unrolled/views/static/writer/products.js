// @ts-check
// The matrix products and the tanh of the portable step by vector instructions: a WebAssembly module of `views/wasm_products.py` on
// copies of the weights. Sums of whole numbers are exact, so they are those of the loops in portable.js, and so is each tanh.

/** @typedef {import("./portable.js").Matrix} Matrix */

const PAGE_BYTES = 65536;

/** @param {number} value */
const roundUp = (value) => Math.ceil(value / 16) * 16;

/**
 * Give each matrix a function that multiplies it by whole numbers; return the numbers whose tanh a function computes, or null if
 * this browser has no vector instructions.
 * @param {Uint8Array<ArrayBuffer>} bytes the module
 * @param {Matrix[]} matrices
 * @param {number} numValues
 * @returns {Promise<import("./portable.js").NativeTanh | null>}
 */
export async function placeMatrices(bytes, matrices, numValues) {
  const strides = matrices.map(({ columns }) => roundUp(columns));
  const sizes = matrices.map(({ rows }, index) => roundUp(rows) * strides[index]);
  const vectorAddress = sizes.reduce((total, size) => total + size, 0);
  const outAddress = vectorAddress + 2 * Math.max(...strides);
  const valuesAddress = outAddress + 4 * Math.max(...matrices.map(({ rows }) => roundUp(rows)));
  const numBytes = valuesAddress + roundUp(4 * numValues);
  const memory = new WebAssembly.Memory({ initial: Math.ceil(numBytes / PAGE_BYTES) });
  let exports;
  try {
    exports = (await WebAssembly.instantiate(bytes, { env: { memory } })).instance.exports;
  } catch {
    return null;
  }
  const { multiply, tanh } = /** @type {Record<string, (...numbers: number[]) => void>} */ (exports);
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
  const values = new Float32Array(memory.buffer, valuesAddress, numValues);
  return {
    values,
    tanh(count) {
      const kept = values.slice(count, Math.ceil(count / 4) * 4); // the module takes four at a time
      tanh(valuesAddress, valuesAddress + 4 * count);
      values.set(kept, count);
    },
  };
}
