// @ts-check
// The portable step (docs/portable.md): the same operations in the same order as everywhere, so the same bits. Every operation
// on numbers with a fraction is rounded to float32 by Math.fround; products with weights are whole numbers.

/**
 * The product of a matrix by vector instructions: of the columns from one to another with `numbers`, written to `out`.
 * @typedef {{ numbers: Int16Array, out: Int32Array, multiply: (from: number, to: number) => void }} Native
 */

/**
 * Numbers, and a function that replaces the first of them by their tanh.
 * @typedef {{ values: Float32Array, tanh: (count: number) => void }} NativeTanh
 */

/**
 * A matrix; `result` is the product of `product`, which is written anew at each.
 * @typedef {{ rows: number, columns: number, weight: Int8Array, scale: Float32Array, native?: Native, result?: Float32Array }} Matrix
 */

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
 * @typedef {object} Network
 * @property {string} cell
 * @property {string[]} stateNames the parts of the state of a layer, h first
 * @property {number} hiddenSize
 * @property {number} vocabSize
 * @property {Matrix | null} embedding null for one-hot inputs
 * @property {Layer[]} layers
 * @property {Matrix} head
 * @property {Float32Array} headBias
 * @property {NativeTanh | null} nativeTanh for four numbers a unit
 */

/**
 * The state of a text: h of each layer; of some cells others, for each layer a list of arrays; and the logits of the next token.
 * @typedef {{ h: Float32Array[], others: Float32Array[][], logits: Float32Array }} State
 */

/** A unit that is held at a value. @typedef {{ layer: number, unit: number, value: number }} Hold */

const f = Math.fround;
const ROUND = f(12582912);
const BLOCK_COLUMNS = 512;
const MAX_CACHED_NUMBERS = 1 << 22;
const [LOG2_E, LN2_HIGH, LN2_LOW] = [f(1.4426950408889634), f(0.693359375), f(-2.1219444e-4)];
const EXP = new Float32Array([1, 1, 0.49999994, 0.1666652, 0.041668396, 0.008368797, 0.0013814433]);
const TANH_LIMIT = f(9.02);
const [P1, P2, P3, P4] = [f(0.13379648327827454), f(0.003493951866403222), f(2.0582119759637862e-5), f(1.3317177582905515e-8)];
const [Q1, Q2, Q3, Q4] = [f(0.467129647731781), f(0.025870759040117264), f(0.0003282957768533379), f(7.761245797155425e-7)];
const LOG1P = new Float32Array([2, 0.666664183, 0.400215298, 0.280017734, 0.280121565]);
const EPSILON = f(1e-5);
const HARD_SLOPE = f(0.2);
const EXPM1_LIMIT = f(-0.34);
const MIN_SQUARE = f(1e-12);
const bits = new Int32Array(1);
const bitsAsFloat = new Float32Array(bits.buffer);

/** @param {number} x a float32 of at most 88 */
function exp(x) {
  x = x > -87 ? x : -87;
  const n = f(f(f(x * LOG2_E) + ROUND) - ROUND);
  const r = f(f(x - f(n * LN2_HIGH)) - f(n * LN2_LOW));
  let p = EXP[6];
  for (let i = 5; i >= 0; i--) p = f(f(p * r) + EXP[i]);
  bits[0] = (n + 127) << 23;
  return f(p * bitsAsFloat[0]);
}

/** @param {number} x a float32 */
function tanh(x) {
  x = x > -TANH_LIMIT ? x : -TANH_LIMIT;
  x = x < TANH_LIMIT ? x : TANH_LIMIT;
  const s = f(x * x); // the two polynomials without a loop: a network has thousands of tanh
  const p = f(f(f(f(f(f(f(f(P4 * s) + P3) * s) + P2) * s) + P1) * s) + 1);
  const q = f(f(f(f(f(f(f(f(Q4 * s) + Q3) * s) + Q2) * s) + Q1) * s) + 1);
  const y = f(f(x * p) / q);
  return y > 1 ? 1 : y < -1 ? -1 : y;
}

/** The sigmoid of x for the tanh of x / 2. @param {number} t a float32 */
const gate = (t) => f(f(0.5 * t) + 0.5);

/** @param {number} x a float32 */
const sigmoid = (x) => gate(tanh(f(0.5 * x)));

/** @param {number} x a float32 */
function hardSigmoid(x) {
  const y = f(f(HARD_SLOPE * x) + 0.5);
  return y > 1 ? 1 : y > 0 ? y : 0;
}

/** @param {number} x a float32 */
function logSigmoid(x) {
  const u = exp(x > 0 ? -x : x);
  const s = f(u / f(u + 2));
  const square = f(s * s);
  let p = LOG1P[4];
  for (let i = 3; i >= 0; i--) p = f(f(p * square) + LOG1P[i]);
  return f((x > 0 ? 0 : x) - f(s * p));
}

/** @param {number} x a float32 of at most 0 */
function expm1(x) {
  if (!(x > EXPM1_LIMIT)) return f(exp(x) - 1);
  let p = EXP[6];
  for (let i = 5; i > 0; i--) p = f(f(p * x) + EXP[i]);
  return f(x * p);
}

const sums = new Float32Array(16);

/**
 * Return the sum of the values, or of their squares: 16 partial sums over the columns j, j + 16, ..., then a tree.
 * @param {Float32Array} values
 * @param {boolean} squared
 */
function orderedSum(values, squared) {
  sums.fill(0);
  for (let i = 0; i < values.length; i++) sums[i & 15] += squared ? f(values[i] * values[i]) : values[i];
  for (let width = 8; width; width >>= 1) for (let j = 0; j < width; j++) sums[j] += sums[j + width];
  return sums[0];
}

let normed = new Float32Array(0);

/**
 * Return the layer norm of a vector, valid until the next one.
 * @param {Float32Array} x
 * @param {Float32Array} weight
 * @param {Float32Array} bias
 */
function layerNorm(x, weight, bias) {
  const size = x.length;
  const mean = f(orderedSum(x, false) / size);
  if (normed.length !== size) normed = new Float32Array(size);
  const out = normed;
  for (let i = 0; i < size; i++) out[i] = x[i] - mean;
  const variance = f(orderedSum(out, true) / size);
  const factor = f(1 / f(Math.sqrt(f(variance + EPSILON))));
  for (let i = 0; i < size; i++) out[i] = f(f(out[i] * factor) * weight[i]) + bias[i];
  return out;
}

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

/**
 * Return the product of a matrix and a vector, valid until the next one of this matrix. Beyond the last row, `weight` has zeros for the rows up to a multiple of four.
 * @param {Matrix} matrix
 * @param {Float32Array} x
 */
function product(matrix, x) {
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

/**
 * Add a vector to another, in place.
 * @param {Float32Array} target
 * @param {Float32Array | null} values
 * @param {number} [from] where the values begin
 */
function add(target, values, from = 0) {
  if (values) for (let i = 0; i < target.length; i++) target[i] += values[from + i];
  return target;
}

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
 * A network that reads tokens one by one.
 * @param {Network} network
 */
export function createStepper(network) {
  const { cell, hiddenSize: size, layers } = network;
  const reset = new Float32Array(size);
  const soft = cell.replace("-hard-sigmoid", "");
  const isLstm = soft === "lstm" || soft === "mogrifier-lstm";
  const isHard = soft !== cell;
  /** Gates are read from the sum itself, or from the tanh of its half. */
  const [scale, toGate] = isHard ? [1, hardSigmoid] : [0.5, gate];
  /** Products of the first layer's input, which depend on the token alone. @type {Map<number, Float32Array>} */
  const firstInputs = new Map();
  const { values, tanh: tanhOfFirst } = network.nativeTanh ?? loopTanh(4 * size);
  const maxCached = Math.floor(MAX_CACHED_NUMBERS / layers[0].bias.length);

  const embedded = new Float32Array(network.embedding?.columns ?? 0);

  /** Return the vector of a token, valid until the next one. @param {number} token */
  function embedding(token) {
    const { columns, weight, scale } = /** @type {Matrix} */ (network.embedding);
    for (let i = 0; i < columns; i++) embedded[i] = weight[token * columns + i] * scale[token];
    return embedded;
  }

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

  /** @param {number} token */
  function firstGates(token) {
    const known = firstInputs.get(token);
    if (known) return known;
    let gates;
    if (network.embedding) gates = inputGates(layers[0], embedding(token)).slice();
    else {
      const { columns, weight, scale } = layers[0].input;
      gates = add(Float32Array.from(scale, (value, i) => weight[token * columns + i] * value), layers[0].bias);
    }
    if (firstInputs.size < maxCached) firstInputs.set(token, gates);
    return gates;
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
    /** @returns {State} the state before any token */
    initialState() {
      const zeros = () => layers.map(() => new Float32Array(size));
      const others = layers.map(() => network.stateNames.slice(1).map(() => new Float32Array(size)));
      return { h: zeros(), others, logits: new Float32Array(network.vocabSize) };
    },

    /**
     * Read a token: change the state in place.
     * @param {State} state
     * @param {number} token
     * @param {Hold | null} [hold]
     */
    step(state, token, hold = null) {
      /** @type {Float32Array} */
      let x = network.embedding ? embedding(token) : new Float32Array(size);
      layers.forEach((layer, index) => {
        const h = state.h[index];
        if (layer.rounds.length) {
          const [input, read] = mogrify(layer, cellInput(layer, x), h);
          cellStep(layer, add(product(layer.input, input), layer.bias), read, h, state.others[index]);
        } else cellStep(layer, index === 0 ? firstGates(token) : inputGates(layer, x), h, h, state.others[index]);
        if (hold?.layer === index) h[hold.unit] = hold.value;
        x = layer.normWeight ? add(x, h) : h;
      });
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
