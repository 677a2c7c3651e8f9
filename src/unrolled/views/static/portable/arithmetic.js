// @ts-check
// The arithmetic of the portable step (docs/portable.md): the same operations in the same order as everywhere, so the same bits.
// Every operation on numbers with a fraction is rounded to float32 by Math.fround.

export const f = Math.fround;
export const ROUND = f(12582912);
const [LOG2_E, LN2_HIGH, LN2_LOW] = [f(1.4426950408889634), f(0.693359375), f(-2.1219444e-4)];
const EXP = new Float32Array([1, 1, 0.49999994, 0.1666652, 0.041668396, 0.008368797, 0.0013814433]);
const TANH_LIMIT = f(9.02);
const [P1, P2, P3, P4] = [f(0.13379648327827454), f(0.003493951866403222), f(2.0582119759637862e-5), f(1.3317177582905515e-8)];
const [Q1, Q2, Q3, Q4] = [f(0.467129647731781), f(0.025870759040117264), f(0.0003282957768533379), f(7.761245797155425e-7)];
const LOG1P = new Float32Array([2, 0.666664183, 0.400215298, 0.280017734, 0.280121565]);
const EPSILON = f(1e-5);
const HARD_SLOPE = f(0.2);
const EXPM1_LIMIT = f(-0.34);
const bits = new Int32Array(1);
const bitsAsFloat = new Float32Array(bits.buffer);

/** @param {number} x a float32 of at most 88 */
export function exp(x) {
  x = x > -87 ? x : -87;
  const n = f(f(f(x * LOG2_E) + ROUND) - ROUND);
  const r = f(f(x - f(n * LN2_HIGH)) - f(n * LN2_LOW));
  let p = EXP[6];
  for (let i = 5; i >= 0; i--) p = f(f(p * r) + EXP[i]);
  bits[0] = (n + 127) << 23;
  return f(p * bitsAsFloat[0]);
}

/** @param {number} x a float32 */
export function tanh(x) {
  x = x > -TANH_LIMIT ? x : -TANH_LIMIT;
  x = x < TANH_LIMIT ? x : TANH_LIMIT;
  const s = f(x * x); // the two polynomials without a loop: a network has thousands of tanh
  const p = f(f(f(f(f(f(f(f(P4 * s) + P3) * s) + P2) * s) + P1) * s) + 1);
  const q = f(f(f(f(f(f(f(f(Q4 * s) + Q3) * s) + Q2) * s) + Q1) * s) + 1);
  const y = f(f(x * p) / q);
  return y > 1 ? 1 : y < -1 ? -1 : y;
}

/** The sigmoid of x for the tanh of x / 2. @param {number} t a float32 */
export const gate = (t) => f(f(0.5 * t) + 0.5);

/** @param {number} x a float32 */
export const sigmoid = (x) => gate(tanh(f(0.5 * x)));

/** @param {number} x a float32 */
export function hardSigmoid(x) {
  const y = f(f(HARD_SLOPE * x) + 0.5);
  return y > 1 ? 1 : y > 0 ? y : 0;
}

/** @param {number} x a float32 */
export function logSigmoid(x) {
  const u = exp(x > 0 ? -x : x);
  const s = f(u / f(u + 2));
  const square = f(s * s);
  let p = LOG1P[4];
  for (let i = 3; i >= 0; i--) p = f(f(p * square) + LOG1P[i]);
  return f((x > 0 ? 0 : x) - f(s * p));
}

/** @param {number} x a float32 of at most 0 */
export function expm1(x) {
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
export function layerNorm(x, weight, bias) {
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

/**
 * Add a vector to another, in place.
 * @param {Float32Array} target
 * @param {Float32Array | null} values
 * @param {number} [from] where the values begin
 */
export function add(target, values, from = 0) {
  if (values) for (let i = 0; i < target.length; i++) target[i] += values[from + i];
  return target;
}
