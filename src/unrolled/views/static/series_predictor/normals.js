// @ts-check
// The random numbers of `unrolled predict`, those of numpy's default_rng, so that a page draws the same paths: seeds spread over
// four words (O'Neill's seed_seq), PCG64 (XSL RR 128/64, O'Neill 2014), and a ziggurat of 256 layers (Marsaglia and Tsang 2000).

const MASK = (1n << 64n) - 1n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;
const LAYERS = 256;
const TAIL = 3.654152885361009;
const AREA = 0.004928673233974658;
const NUM_BITS = 2 ** 52;

/**
 * Return eight words that follow from a seed.
 * @param {number} seed a whole number below 2^53
 */
function spreadSeed(seed) {
  let constant = 0x43b0d7e5;
  const hash = (/** @type {number} */ value) => {
    value ^= constant;
    constant = Math.imul(constant, 0x931e8875);
    value = Math.imul(value, constant);
    return value ^ (value >>> 16);
  };
  const pool = [seed >>> 0, Math.floor(seed / 2 ** 32), 0, 0].map(hash);
  for (let source = 0; source < 4; source++) {
    for (let target = 0; target < 4; target++) {
      if (source === target) continue;
      const mixed = Math.imul(0xca01f9dd, pool[target]) - Math.imul(0x4973f715, hash(pool[source]));
      pool[target] = mixed ^ ((mixed >>> 0) >>> 16);
    }
  }
  let factor = 0x8b51f9dd;
  return Array.from({ length: 8 }, (_, index) => {
    let value = pool[index % 4] ^ factor;
    factor = Math.imul(factor, 0x58f38ded);
    value = Math.imul(value, factor);
    return (value ^ (value >>> 16)) >>> 0;
  });
}

/**
 * Return a function that draws 64 random bits.
 * @param {number} seed
 */
function createBits(seed) {
  const words = spreadSeed(seed).map(BigInt);
  const [stateHigh, stateLow, streamHigh, streamLow] = [0, 2, 4, 6].map((place) => words[place] | (words[place + 1] << 32n));
  const increment = BigInt.asUintN(128, (((streamHigh << 64n) | streamLow) << 1n) | 1n);
  const next = (/** @type {bigint} */ state) => BigInt.asUintN(128, state * MULTIPLIER + increment);
  let state = next(increment + ((stateHigh << 64n) | stateLow));
  return () => {
    state = next(state);
    const [mixed, turn] = [(state >> 64n) ^ (state & MASK), state >> 122n];
    return ((mixed >> turn) | (mixed << (64n - turn))) & MASK;
  };
}

/** The layers of the ziggurat: limits of the 52 bits that are drawn at once, widths, and the density at their edges. */
function zigguratTables() {
  const [limit, width, density] = [0, 0, 0].map(() => new Float64Array(LAYERS));
  const heightOf = (/** @type {number} */ x) => Math.exp(-0.5 * x * x);
  const base = AREA / heightOf(TAIL);
  limit[0] = Math.trunc(TAIL / base * NUM_BITS);
  width[0] = base / NUM_BITS;
  width[LAYERS - 1] = TAIL / NUM_BITS;
  density[0] = 1;
  density[LAYERS - 1] = heightOf(TAIL);
  for (let layer = LAYERS - 2, outer = TAIL; layer > 0; layer--) {
    const x = Math.sqrt(-2 * Math.log(AREA / outer + heightOf(outer)));
    limit[layer + 1] = Math.trunc(x / outer * NUM_BITS);
    width[layer] = x / NUM_BITS;
    density[layer] = heightOf(x);
    outer = x;
  }
  return { limit, width, density };
}

/**
 * Return a function that draws from the normal distribution of mean 0 and variance 1.
 * @param {number} seed
 */
export function createNormals(seed) {
  const bits = createBits(seed);
  const { limit, width, density } = zigguratTables();
  const uniform = () => Number(bits() >> 11n) / 2 ** 53;

  /** @param {boolean} isNegative */
  function tail(isNegative) {
    for (;;) {
      const [x, y] = [-Math.log1p(-uniform()) / TAIL, -Math.log1p(-uniform())];
      if (y + y > x * x) return isNegative ? -(TAIL + x) : TAIL + x;
    }
  }

  return () => {
    for (;;) {
      const drawn = bits();
      const layer = Number(drawn & 0xffn);
      const size = Number((drawn >> 9n) & 0xfffffffffffffn);
      const x = (drawn & 0x100n ? -1 : 1) * size * width[layer];
      if (size < limit[layer]) return x;
      if (layer === 0) return tail(Boolean((drawn >> 17n) & 1n));
      if ((density[layer - 1] - density[layer]) * uniform() + density[layer] < Math.exp(-0.5 * x * x)) return x;
    }
  };
}
