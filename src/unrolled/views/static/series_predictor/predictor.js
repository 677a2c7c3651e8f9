// @ts-check
// A model of series: numbers of a step in the unit of the data to what is predicted, in the order of operations of
// `templates/series.c`; its network is the portable step with float32 weights, and forecasts are drawn as `unrolled predict` does.

import { add, layerNorm } from "../portable/arithmetic.js";
import { createLayers } from "../portable/layers.js";
import { placeFloatLayers, unpackFloats, unpackLayers, unpackMatrix } from "../portable/packed_network.js";
import { product } from "../portable/products.js";
import { centered, quantile } from "./centering.js";
import { encodeCovariates, scaled } from "./covariates.js";
import { createNormals } from "./normals.js";
import { toNumber } from "./numbers.js";
import { createTimes } from "./times.js";

/** @typedef {import("../portable/products.js").Matrix} Matrix */
/** @typedef {import("../portable/layers.js").LayersState} LayersState */

/** Of each column the median, the spread, and the limits of spikes; null: none. @typedef {{ center: number[], spread: number[], low: (number | null)[], high: (number | null)[] }} Scaling */

/** A cycle of the calendar in seconds; of a week, one of seven numbers is read. @typedef {{ seconds: number, isWeek: boolean }} Cycle */

/**
 * What a model reads and predicts: `lag` steps before is what changes are from, 0 where numbers are predicted; `scores` are those of
 * the `levels` of quantiles in the normal distribution, and `residual` is the spread of draws where the loss has none.
 * @typedef {object} Columns
 * @property {string[]} columns
 * @property {string[]} predicted
 * @property {string[]} labels
 * @property {Scaling} scaling
 * @property {boolean} hasGaps
 * @property {Scaling} target
 * @property {Scaling | null} change
 * @property {number} lag
 * @property {import("./centering.js").Centering} centering
 * @property {import("./covariates.js").Covariate[]} covariates columns that are known in advance
 * @property {import("./covariates.js").MissingNames} missing
 * @property {Cycle[]} cycles
 * @property {number} firstWeekday
 * @property {"mse" | "mae" | "quantiles" | "gaussian"} loss
 * @property {number[]} levels
 * @property {number[]} scores
 * @property {number[] | null} residual
 * @property {number} logLimit
 * @property {number} maxScaled
 * @property {number} historySteps
 * @property {number} numPaths
 * @property {number} horizon
 * @property {import("./times.js").TimeRules} dates
 */

/** @typedef {import("../portable/layers.js").Layers & Columns & { size: number, start: Float32Array[][] | null, inputWeight: Matrix | null, inputBias: Float32Array | null,
 *   normWeight: Float32Array | null, normBias: Float32Array | null, head: Matrix, headBias: Float32Array, skip: Matrix }} SeriesModel */

/** The state of a series: that of the layers, the last numbers, scaled, and those of the last `lag` steps, a ring. @typedef {LayersState & { last: Float64Array, isKnown: Uint8Array, levels: Float64Array, isLevel: Uint8Array, numSteps: number }} State */

/**
 * A series; null is a gap, `seconds` are the times of the steps on their clock. `covariates` are inputs that are known in advance: they
 * and the times go on after the numbers.
 * @typedef {{ numbers: (number | null)[][], seconds: number[], covariates: number[][] }} Steps
 */

/** What is predicted for a step: a number for each column, and for each level of a quantile; or probabilities of labels. @typedef {{ point: number[], bands: number[][] | null, probabilities: number[] | null }} Answer */

const WEEKDAYS = 7;
const DAY = 86400;
const f = Math.fround;

/**
 * Return the model in the data of a page.
 * @param {any} data
 * @param {boolean} [hasVectors] whether products are computed by vector instructions, where there are any
 * @returns {Promise<SeriesModel>}
 */
export async function unpackSeriesModel(data, hasVectors = true) {
  const matrices = await Promise.all([data.inputWeight, data.headWeight, data.skipWeight].map(unpackMatrix));
  const [inputBias, normWeight, normBias, headBias] = await Promise.all([data.inputBias, data.normWeight, data.normBias, data.headBias].map(unpackFloats));
  const start = data.start && await Promise.all(data.start.map((/** @type {string[]} */ parts) => Promise.all(parts.map(unpackFloats))));
  const [inputWeight, head, skip] = matrices;
  const layers = await unpackLayers(data.layers);
  const model = { ...data, layers, nativeTanh: null, start, inputWeight, inputBias, normWeight, normBias, head, headBias, skip };
  if (hasVectors) await placeFloatLayers(data.products, [model], matrices);
  return model;
}

/**
 * What predicts the steps of series.
 * @param {SeriesModel} model
 */
export function createPredictor(model) {
  const { columns, predicted, lag, scores } = model;
  const [layers, { nextSeconds }] = [createLayers(model), createTimes(model.dates)];
  const [width, numPredicted] = [columns.length, predicted.length];

  /** @returns {State} */
  function initialState() {
    const state = layers.initialState();
    model.start?.forEach(([h, ...others], layer) => {
      state.h[layer].set(h);
      others.forEach((part, place) => state.others[layer][place].set(part));
    });
    return { ...state, last: new Float64Array(width), isKnown: new Uint8Array(width), levels: new Float64Array(lag * width), isLevel: new Uint8Array(lag * width), numSteps: 0 };
  }

  /** @param {State} state @returns {State} */
  const copyOf = (state) => ({
    ...state, h: state.h.map((part) => part.slice()), others: state.others.map((parts) => parts.map((part) => part.slice())),
    last: state.last.slice(), isKnown: state.isKnown.slice(), levels: state.levels.slice(), isLevel: state.isLevel.slice(),
  });

  /**
   * Return the place of a time in the cycles of the calendar; zeros where it is not known.
   * @param {number} seconds
   */
  function calendarOf(seconds) {
    return model.cycles.flatMap(({ seconds: period, isWeek }) => {
      const numbers = isWeek ? new Array(WEEKDAYS).fill(0) : [0, 0];
      if (!Number.isFinite(seconds)) return numbers;
      if (isWeek) {
        const day = Math.floor(seconds / DAY) + model.firstWeekday;
        numbers[day - WEEKDAYS * Math.floor(day / WEEKDAYS)] = 1;
        return numbers;
      }
      const turns = seconds / period;
      const angle = 2 * Math.PI * (turns - Math.floor(turns));
      return [Math.sin(angle), Math.cos(angle)];
    });
  }

  /**
   * Return what the network reads of a step: numbers with gaps filled, where the gaps are, changes, the calendar and covariates.
   * @param {State} state
   * @param {(number | null)[]} numbers
   * @param {number} seconds
   * @param {number[]} known
   */
  function inputsOf(state, numbers, seconds, known) {
    const [gaps, changes] = [new Array(model.hasGaps ? width : 0), new Array(lag ? width : 0)];
    const place = lag && state.numSteps % lag * width; // of the step `lag` steps before this one
    numbers.forEach((number, column) => {
      const isGap = number === null || !Number.isFinite(number);
      if (!isGap) {
        state.last[column] = scaled(model.scaling, column, number);
        state.isKnown[column] = 1;
      }
      if (model.hasGaps) gaps[column] = Number(isGap);
      if (!model.change) return;
      const hasChange = !isGap && state.numSteps >= lag && state.isLevel[place + column];
      changes[column] = hasChange ? scaled(model.change, column, state.last[column] - state.levels[place + column]) : 0;
      state.levels[place + column] = state.last[column];
      state.isLevel[place + column] = state.isKnown[column];
    });
    state.numSteps++;
    return Float32Array.from([...state.last, ...gaps, ...changes, ...calendarOf(seconds), ...known]);
  }

  /**
   * Return the values of the output layer for the inputs of a step, valid until the next one.
   * @param {State} state
   * @param {Float32Array} inputs
   */
  function read(state, inputs) {
    const x = model.inputWeight ? add(product(model.inputWeight, inputs), model.inputBias) : inputs;
    const y = layers.read(state, x, null, null);
    const normed = model.normWeight && model.normBias ? layerNorm(y, model.normWeight, model.normBias) : y;
    return add(add(product(model.head, normed), model.headBias), product(model.skip, inputs));
  }

  /**
   * Return where the numbers that are predicted after a step are changes from, scaled.
   * @param {State} state
   * @param {number} column
   */
  function levelOf(state, column) {
    const oldest = state.numSteps < lag ? state.numSteps - 1 : state.numSteps % lag;
    return state.levels[oldest * width + column];
  }

  /**
   * Return the parts of the output in the unit of the data: a mean and a deviation, quantiles in order, or one number a column.
   * @param {State} state after the step
   * @param {Float32Array} values
   */
  function partsOf(state, values) {
    const parts = Array.from({ length: values.length / numPredicted }, () => new Array(numPredicted));
    for (let column = 0; column < numPredicted; column++) {
      let [factor, shift] = [model.target.spread[column], model.target.center[column]];
      if (model.change) {
        shift += factor * (model.change.center[column] + levelOf(state, column));
        factor *= model.change.spread[column];
      }
      const own = parts.map((_, part) => {
        const value = values[part * numPredicted + column];
        return model.loss === "gaussian" && part ? factor * deviation(value) : shift + factor * value;
      });
      if (model.loss === "quantiles") own.sort((a, b) => a - b);
      own.forEach((value, part) => { parts[part][column] = value; });
    }
    return parts;
  }

  /** @param {number} value */
  const deviation = (value) => Math.exp(model.logLimit * Math.tanh(value / model.logLimit));

  /** @param {Float32Array} values */
  function probabilitiesOf(values) {
    const largest = values.reduce((best, value) => Math.max(best, value), -Infinity);
    const weights = Array.from(values, (value) => Math.exp(value - largest));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return weights.map((weight) => weight / total);
  }

  /**
   * Read a step: change the state in place, and return the outputs that the test vectors have.
   * @param {State} state
   * @param {(number | null)[]} numbers
   * @param {number} seconds of the step, of a forecast of the next one
   * @param {number[]} [known] covariates of the next step
   */
  function step(state, numbers, seconds, known = []) {
    const values = read(state, inputsOf(state, numbers, seconds, known));
    return model.labels.length ? probabilitiesOf(values) : partsOf(state, values).flat();
  }

  /**
   * Return the times that are read with steps: of a forecast, those of the next ones; and the times after these.
   * @param {number[]} seconds
   */
  function secondsRead(seconds) {
    if (!model.cycles.length) return [];
    return model.horizon ? [...seconds.slice(1), ...nextSeconds(seconds, model.horizon)] : seconds;
  }

  /**
   * Return the steps of a series as they are read: numbers without their drift, what this was, times, and covariates of the next
   * step with their changes.
   * @param {Steps} steps
   */
  function prepared({ numbers, seconds, covariates }) {
    const known = covariates.map((row, place) => [...row, ...(lag ? row.map((value, index) => (place < lag ? 0 : f(value - covariates[place - lag][index]))) : [])]);
    return { ...centered(numbers, model.centering), seconds: secondsRead(seconds), known: known.slice(1) };
  }

  /**
   * Return what is predicted for each step, one after the other.
   * @param {Steps} steps
   * @returns {Generator<Answer, void, void>}
   */
  function* answers(steps) {
    const [state, { numbers, seconds }] = [initialState(), prepared(steps)];
    const middle = model.levels.reduce((best, level, index) => (Math.abs(level - 0.5) < Math.abs(model.levels[best] - 0.5) ? index : best), 0);
    for (const [place, row] of numbers.entries()) {
      const outputs = step(state, row, seconds[place]);
      if (model.labels.length) {
        yield { point: [], bands: null, probabilities: outputs };
        continue;
      }
      const parts = Array.from({ length: outputs.length / numPredicted }, (_, part) => outputs.slice(part * numPredicted, (part + 1) * numPredicted));
      if (model.loss === "quantiles") yield { point: parts[middle], bands: parts, probabilities: null };
      else if (model.loss === "gaussian") {
        const bands = scores.map((score) => parts[0].map((mean, column) => mean + score * parts[1][column]));
        yield { point: parts[0], bands, probabilities: null };
      } else yield { point: parts[0], bands: null, probabilities: null };
    }
  }

  // ---- forecasts

  /**
   * Draw scaled numbers from what the values of the output layer predict. Between quantiles, and beyond the outer ones, the
   * distribution is normal piece by piece.
   * @param {Float32Array} values
   * @param {() => number} draw
   */
  function drawFrom(values, draw) {
    return Array.from({ length: numPredicted }, (_, column) => {
      const [normal, own] = [f(draw()), Array.from(values).filter((_value, index) => index % numPredicted === column)];
      let drawn = own[0];
      if (model.loss === "gaussian") drawn += deviation(own[1]) * normal;
      else if (model.loss === "quantiles" && own.length > 1) {
        own.sort((a, b) => a - b);
        const above = scores.findIndex((score) => normal <= score);
        const upper = Math.max(1, Math.min(scores.length - 1, above < 0 ? scores.length : above));
        drawn = own[upper - 1] + (own[upper] - own[upper - 1]) * (normal - scores[upper - 1]) / (scores[upper] - scores[upper - 1]);
      } else if (model.residual) drawn += model.residual[column] * normal;
      return f(limited(drawn));
    });
  }

  /** @param {number} value */
  const limited = (value) => Math.max(-model.maxScaled, Math.min(model.maxScaled, value));

  /**
   * Forecast the steps after a series: draw paths, one after the other, and yield after each; return what they say of each step.
   * @param {Steps} steps
   * @param {{ seed: number, numPaths?: number, horizon?: number }} options
   * @returns {Generator<void, Answer[], void>}
   */
  function* forecast({ numbers, seconds, covariates }, { seed, numPaths = model.numPaths, horizon = model.horizon }) {
    const first = Math.max(0, numbers.length - model.historySteps);
    const recent = prepared({ numbers: numbers.slice(first), seconds: seconds.slice(first), covariates: covariates.slice(first) });
    const base = initialState();
    /** @type {number[][]} */
    const known = [];
    let values = new Float32Array(0);
    for (const [place, row] of recent.numbers.entries()) {
      values = read(base, inputsOf(base, row, recent.seconds[place], recent.known[place] ?? [])).slice();
      known.push(Array.from(base.last, f));
      if (place % 64 === 63) yield;
    }
    const reach = Math.max(1, lag);
    const levels = [...new Array(Math.max(0, reach - known.length)).fill(known[known.length - 1]), ...known.slice(-reach)];
    const draw = createNormals(seed);
    const ahead = [recent.seconds, recent.known].map((parts) => parts.slice(recent.numbers.length));
    /** @type {number[][][]} */
    const paths = [];
    for (let path = 0; path < numPaths; path++) {
      paths.push(yield* drawPath(copyOf(base), values, levels, ahead, horizon, draw));
      yield;
    }
    return Array.from({ length: horizon }, (_, place) => summary(paths.map((path) => path[place]), recent));
  }

  /**
   * Return the scaled numbers of the steps of a path.
   * @param {State} state
   * @param {Float32Array} values
   * @param {number[][]} levels
   * @param {any[][]} ahead times and covariates of the steps that are read
   * @param {number} horizon
   * @param {() => number} draw
   * @returns {Generator<void, number[][], void>}
   */
  function* drawPath(state, values, levels, [seconds, known], horizon, draw) {
    /** @type {number[][]} */
    const path = [];
    for (let place = 0; place < horizon; place++) {
      const drawn = drawFrom(values, draw);
      const level = place < levels.length ? levels[place] : path[place - levels.length];
      const { change } = model;
      path.push(drawn.map((value, column) => f(limited(change ? level[column] + (value * change.spread[column] + change.center[column]) : value))));
      if (place + 1 === horizon) break;
      const gaps = model.hasGaps ? new Array(width).fill(0) : [];
      values = read(state, Float32Array.from([...path[place], ...gaps, ...(lag ? drawn : []), ...calendarOf(seconds[place]), ...(known[place] ?? [])]));
      if (place % 64 === 63) yield;
    }
    return path;
  }

  /**
   * Return the mean, or the median, and the quantiles of the paths at a step, in the unit of the data.
   * @param {number[][]} drawn
   * @param {{ shift: number[], factor: number[] }} drift
   * @returns {Answer}
   */
  function summary(drawn, { shift, factor }) {
    const inUnit = (/** @type {number} */ value, /** @type {number} */ column) => (value * model.target.spread[column] + model.target.center[column]) * factor[column] + shift[column];
    const sorted = predicted.map((_, column) => drawn.map((row) => inUnit(row[column], column)).sort((a, b) => a - b));
    const isMean = model.loss === "mse" || model.loss === "gaussian";
    const point = sorted.map((values) => (isMean ? values.reduce((sum, value) => sum + value, 0) / values.length : quantile(values, 0.5)));
    return { point, bands: model.levels.map((level) => sorted.map((values) => quantile(values, level))), probabilities: null };
  }

  return { initialState, copyOf, step, prepared, answers, forecast };
}

/**
 * Test vectors: series with the outputs of each step and the `tolerance` of each output, and, of a model that forecasts, forecasts.
 * @typedef {{ tolerance: number[], cases: (Steps & { outputs: number[][] })[],
 *   cells: { texts: string[][], inputs: number[][] } | null, forecasts: (Steps & { seed: number, numPaths: number, horizon: number, point: number[][], bands: number[][][], tolerance: number[] })[] }} Vectors
 */

/**
 * Replay test vectors, each series whole and in two parts with the state carried over; return what differs, "" if nothing does.
 * @param {SeriesModel} model
 * @param {Vectors} vectors
 */
export function findDifference(model, vectors) {
  const predictor = createPredictor(model);
  const differs = (/** @type {number[]} */ found, /** @type {number[]} */ expected, /** @type {number[]} */ tolerance) =>
    expected.findIndex((value, index) => !(Math.abs(found[index] - value) <= tolerance[index]));
  if (vectors.cells) {
    const { texts, inputs } = vectors.cells;
    const found = encodeCovariates(model.covariates, texts, model.missing, (text) => toNumber(text, false));
    const step = inputs.findIndex((row, place) => differs(found[place], row, row.map((value) => 1e-6 * Math.max(1, Math.abs(value)))) >= 0);
    if (step >= 0) return `covariates of step ${step}: ${found[step]}, expected ${inputs[step]}`;
  }
  for (const [number, { outputs, ...steps }] of vectors.cases.entries()) {
    const { numbers, seconds, known } = predictor.prepared(steps);
    for (const cut of [numbers.length, Math.floor(numbers.length / 2)]) {
      let state = predictor.initialState();
      for (const [place, row] of numbers.entries()) {
        if (place === cut) state = predictor.copyOf(state);
        const found = predictor.step(state, row, seconds[place], known[place]);
        const output = differs(found, outputs[place], vectors.tolerance);
        if (output >= 0) return `series ${number}, step ${place}, output ${output}: ${found[output]}, expected ${outputs[place][output]}`;
      }
    }
  }
  for (const [number, { point, bands, tolerance, ...options }] of vectors.forecasts.entries()) {
    for (const [place, answer] of finish(predictor.forecast(options, options)).entries()) {
      const levels = (answer.bands ?? []).map((band, level) => [band, bands[level][place]]);
      for (const [found, expected] of [[answer.point, point[place]], ...levels]) {
        const column = differs(found, expected, tolerance);
        if (column >= 0) return `forecast ${number}, step ${place}, column ${column}: ${found[column]}, expected ${expected[column]}`;
      }
    }
  }
  return "";
}

/**
 * Return the result of work that goes on in parts.
 * @template T
 * @param {Generator<unknown, T, void>} work
 */
function finish(work) {
  let next = work.next();
  while (!next.done) next = work.next();
  return next.value;
}
