// @ts-check
// The recurrent layers of the portable step (docs/portable.md), one step at a time.

import { add, exp, expm1, f, gate, hardSigmoid, layerNorm, logSigmoid, sigmoid, tanh } from "./arithmetic.js";
import { product } from "./products.js";

/** @typedef {import("./products.js").Matrix} Matrix */
/** @typedef {import("./products.js").NativeTanh} NativeTanh */

/**
 * A layer. Of a one-hot input, the rows of `input` are tokens, and its scales are those of the gates.
 * @typedef {object} Layer
 * @property {Matrix} input
 * @property {Matrix | null} recurrent null for cells whose gates depend on the input only
 * @property {Matrix | null} recurrentN
 * @property {Float32Array} bias
 * @property {Float32Array | null} biasHh
 * @property {Float32Array | null} normWeight
 * @property {Float32Array | null} normBias
 * @property {Matrix[]} rounds of a Mogrifier: of the input in the first, third ... round, of h in the others
 * @property {Float32Array | null} decay of an RG-LRU
 */

/**
 * @typedef {object} Layers
 * @property {string} cell
 * @property {string[]} stateNames the parts of the state of a layer, h first
 * @property {number} hiddenSize
 * @property {Layer[]} layers
 * @property {NativeTanh | null} nativeTanh for four numbers a unit
 */

/**
 * The state: h of each layer; of some cells others, for each layer a list of arrays.
 * @typedef {{ h: Float32Array[], others: Float32Array[][] }} LayersState
 */

/** A unit that is held at a value. @typedef {{ layer: number, unit: number, value: number }} Hold */

const MIN_SQUARE = f(1e-12);

/**
 * Replace h of a linear cell by the next one.
 * @param {string} cell
 * @param {Layer} layer
 * @param {Float32Array} x products of the input
 * @param {Float32Array} h
 */
function linearStep(cell, layer, x, h) {
  const size = h.length;
  for (let i = 0; i < size; i++) {
    const [a, b, c] = [x[i], x[i + size], x[i + 2 * size]];
    if (cell === "rg-lru") {
      const logA = f(sigmoid(a) * /** @type {Float32Array} */ (layer.decay)[i]);
      const square = f(-expm1(f(logA + logA)));
      const root = f(Math.sqrt(square > MIN_SQUARE ? square : MIN_SQUARE));
      h[i] = f(exp(logA) * h[i]) + f(root * f(sigmoid(b) * c));
    } else {
      const share = cell === "mingru" ? sigmoid(a) : sigmoid(f(logSigmoid(a) - logSigmoid(b)));
      h[i] = f(f(1 - share) * h[i]) + f(share * (cell === "mingru" ? b : c));
    }
  }
}

/**
 * Replace h, c, n and m of an sLSTM by the next ones.
 * @param {Float32Array} x products of the input
 * @param {Float32Array} recurrent products of h
 * @param {Float32Array} h
 * @param {Float32Array[]} others
 */
function slstmStep(x, recurrent, h, [c, n, m]) {
  const size = h.length;
  for (let i = 0; i < size; i++) {
    const [forget, candidate, out] = [i + size, i + 2 * size, i + 3 * size];
    const input = f(x[i] + recurrent[i]);
    const kept = n[i] === 0 ? input : f(logSigmoid(f(x[forget] + recurrent[forget])) + m[i]);
    m[i] = kept > input ? kept : input;
    const [i1, f1] = [exp(f(input - m[i])), exp(f(kept - m[i]))];
    c[i] = f(f1 * c[i]) + f(i1 * tanh(f(x[candidate] + recurrent[candidate])));
    n[i] = f(f1 * n[i]) + i1;
    h[i] = f(sigmoid(f(x[out] + recurrent[out])) * c[i]) / n[i];
  }
}

/**
 * Return numbers whose tanh a loop computes.
 * @param {number} count
 * @returns {NativeTanh}
 */
function loopTanh(count) {
  const values = new Float32Array(count);
  return { values, tanh: (used) => { for (let i = 0; i < used; i++) values[i] = tanh(values[i]); } };
}

/**
 * The recurrent layers of a network.
 * @param {Layers} network
 */
export function createLayers(network) {
  const { cell, hiddenSize: size, layers } = network;
  const reset = new Float32Array(size);
  const soft = cell.replace("-hard-sigmoid", "");
  const isLstm = soft === "lstm" || soft === "mogrifier-lstm";
  const isHard = soft !== cell;
  /** Gates are read from the sum itself, or from the tanh of its half. */
  const [scale, toGate] = isHard ? [1, hardSigmoid] : [0.5, gate];
  const { values, tanh: tanhOfFirst } = network.nativeTanh ?? loopTanh(4 * size);

  /**
   * Return the input of a layer's cell.
   * @param {Layer} layer
   * @param {Float32Array} x
   */
  const cellInput = (layer, x) => layer.normWeight && layer.normBias ? layerNorm(x, layer.normWeight, layer.normBias) : x;

  /**
   * Return the products of a layer's input, its bias added.
   * @param {Layer} layer
   * @param {Float32Array} x
   */
  const inputGates = (layer, x) => add(product(layer.input, cellInput(layer, x)), layer.bias);

  /**
   * Return input and h after the rounds of a Mogrifier: each in turn times a factor from the other.
   * @param {Layer} layer
   * @param {Float32Array} x
   * @param {Float32Array} h
   */
  function mogrify(layer, x, h) {
    layer.rounds.forEach((matrix, index) => {
      const factors = product(matrix, index % 2 ? x : h).map((value) => tanh(f(0.5 * value)) + 1);
      if (index % 2) h = h.map((value, i) => value * factors[i]);
      else x = x.map((value, i) => value * factors[i]);
    });
    return [x, h];
  }

  /**
   * @param {Layer} layer
   * @param {Float32Array} x products of the input
   * @param {Float32Array} read the h that gates read
   * @param {Float32Array} h replaced by the next one
   * @param {Float32Array[]} others
   */
  function cellStep(layer, x, read, h, others) {
    if (!layer.recurrent) return linearStep(cell, layer, x, h);
    const recurrent = add(product(layer.recurrent, read), layer.biasHh);
    if (cell === "slstm") slstmStep(x, recurrent, h, others);
    else if (cell === "rnn") {
      for (let i = 0; i < size; i++) values[i] = x[i] + recurrent[i];
      tanhOfFirst(size);
      for (let i = 0; i < size; i++) h[i] = values[i];
    } else if (isLstm) lstmStep(x, recurrent, h, others[0]);
    else gruStep(layer, x, read, h, recurrent);
  }

  /**
   * @param {Float32Array} x
   * @param {Float32Array} recurrent
   * @param {Float32Array} h
   * @param {Float32Array} c
   */
  function lstmStep(x, recurrent, h, c) {
    const [candidate, out] = [2 * size, 3 * size];
    for (let i = 0; i < 4 * size; i++) values[i] = f(x[i] + recurrent[i]) * (i >= candidate && i < out ? 1 : scale);
    if (isHard) for (let i = candidate; i < out; i++) values[i] = tanh(values[i]);
    else tanhOfFirst(4 * size);
    for (let i = 0; i < size; i++) {
      c[i] = f(toGate(values[i + size]) * c[i]) + f(toGate(values[i]) * values[i + candidate]);
      values[i] = c[i];
    }
    tanhOfFirst(size);
    for (let i = 0; i < size; i++) h[i] = toGate(values[i + out]) * values[i];
  }

  /**
   * @param {Layer} layer
   * @param {Float32Array} x
   * @param {Float32Array} read
   * @param {Float32Array} h
   * @param {Float32Array} recurrent
   */
  function gruStep(layer, x, read, h, recurrent) {
    for (let i = 0; i < 2 * size; i++) values[i] = f(x[i] + recurrent[i]) * scale; // of r and z
    if (!isHard) tanhOfFirst(2 * size);
    if (layer.recurrentN) {
      for (let i = 0; i < size; i++) reset[i] = toGate(values[i]) * read[i];
      const recurrentN = add(product(layer.recurrentN, reset), layer.biasHh, 2 * size);
      for (let i = 0; i < size; i++) values[i] = x[2 * size + i] + recurrentN[i];
    } else for (let i = 0; i < size; i++) values[i] = x[2 * size + i] + f(toGate(values[i]) * recurrent[2 * size + i]);
    tanhOfFirst(size);
    for (let i = 0; i < size; i++) {
      const z = toGate(values[size + i]);
      h[i] = f(f(1 - z) * values[i]) + f(z * h[i]);
    }
  }

  return {
    /** @returns {LayersState} the state before any step */
    initialState: () => ({
      h: layers.map(() => new Float32Array(size)),
      others: layers.map(() => network.stateNames.slice(1).map(() => new Float32Array(size))),
    }),

    inputGates,

    /**
     * Read a vector, which becomes the output: change the state in place.
     * @param {LayersState} state
     * @param {Float32Array} x
     * @param {Float32Array | null} firstGates products of the first layer's input, its bias added, if they are known
     * @param {Hold | null} hold
     */
    read(state, x, firstGates, hold) {
      layers.forEach((layer, index) => {
        const h = state.h[index];
        if (layer.rounds.length) {
          const [input, read] = mogrify(layer, cellInput(layer, x), h);
          cellStep(layer, add(product(layer.input, input), layer.bias), read, h, state.others[index]);
        } else cellStep(layer, (index === 0 ? firstGates : null) ?? inputGates(layer, x), h, h, state.others[index]);
        if (hold?.layer === index) h[hold.unit] = hold.value;
        x = layer.normWeight ? add(x, h) : h;
      });
      return x;
    },
  };
}

/**
 * Return the outputs of layers that read steps in order.
 * @param {ReturnType<typeof createLayers>} layers
 * @param {Float32Array[]} xs
 */
export function unroll(layers, xs) {
  const state = layers.initialState();
  return xs.map((x) => layers.read(state, x.slice(), null, null).slice());
}
