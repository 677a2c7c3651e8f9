// @ts-check
// What is predicted for a series: rows of a table, those of `unrolled predict`, and charts.

import { toNumber } from "./numbers.js";
import { createTimes } from "./times.js";

/** @typedef {import("./predictor.js").Answer} Answer */
/** @typedef {import("./rows.js").Series} Series */

/** Return a number with 7 digits, as float32 has them. @param {number} value */
const cellOf = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(7))) : "");

/**
 * Return the rows of the answers to a series.
 * @param {any} data the data of the page
 * @param {Series} series
 * @param {Answer[]} answers
 * @returns {string[][]}
 */
export function rowsOf({ table, model }, series, answers) {
  const times = timesOf(table, model, series, answers.length).slice(model.horizon ? series.numbers.length : 0);
  return answers.map((answer, place) => [
    ...(table.groupBy === null ? [] : [series.name]),
    ...(table.orderBy === null ? [] : [times[place] ?? ""]),
    String(place + 1),
    ...cellsOf(answer, model),
  ]);
}

/**
 * @param {Answer} answer
 * @param {any} model
 */
function cellsOf({ point, bands, probabilities }, model) {
  if (!probabilities) return [point, ...(bands ?? [])].flatMap((values) => values.map(cellOf));
  const best = bestOf(probabilities);
  return [model.labels[best], probabilities[best].toFixed(4)];
}

/** @param {number[]} probabilities */
const bestOf = (probabilities) => probabilities.reduce((best, value, index) => (value > probabilities[best] ? index : best), 0);

/**
 * Return the times of the steps of a series; of a forecast those after it, too, if they have a usual distance.
 * @param {any} table
 * @param {any} model
 * @param {Series} series
 * @param {number} count
 */
function timesOf(table, model, { times }, count) {
  if (table.orderBy === null) return [];
  return model.horizon ? [...times, ...createTimes(table.dates).nextTimes(times, count, table.examples)] : times;
}

/**
 * Return charts of a series and what is predicted for it, one for each column.
 * @param {any} data
 * @param {Series} series
 * @param {Answer[]} answers
 */
export function chartsOf(data, series, answers) {
  const { table, model } = data;
  const { horizon, labels } = model;
  const shown = Math.min(series.numbers.length, horizon ? Math.min(data.maxDrawnHistory, 4 * horizon + 20) : data.maxDrawnSteps);
  const [first, ahead] = [series.numbers.length - shown, Math.min(horizon, data.maxDrawnSteps)];
  const none = new Array(horizon ? shown : 0).fill(null);
  const drawn = horizon ? answers.slice(0, ahead) : answers.slice(first);
  const axis = axisOf(data, series, first, shown + ahead);
  const names = labels.length ? model.columns : model.predicted;
  return names.slice(0, data.maxColumns).map((/** @type {string} */ column, /** @type {number} */ place) => {
    const truth = truthOf(series, place, table, model).slice(first);
    const predicted = labels.length ? [] : [...none, ...drawn.map(({ point }) => point[place])];
    const edges = [0, model.levels.length - 1].map((level) => [...none, ...drawn.flatMap(({ bands }) => (bands ? [bands[level][place]] : []))]);
    const labeled = labels.length ? { label: drawn.map(({ probabilities }) => bestOf(probabilities ?? [])), true_label: trueLabels(series, labels).slice(first) } : {};
    const note = first ? (horizon ? "" : "the last steps") : "";
    return {
      series: series.name, column, note, ...axis, truth: [...truth, ...new Array(ahead).fill(null)], predicted, low: edges[0], high: edges[1],
      levels: [model.levels[0], model.levels[model.levels.length - 1]], labels, horizon, starts: horizon ? [shown] : [],
      error: labels.length ? wrongShare(labeled) : rootMeanSquare(predicted, truth), ...labeled,
    };
  });
}

/**
 * Return the axis of the steps of a chart.
 * @param {any} data
 * @param {Series} series
 * @param {number} first
 * @param {number} count
 */
function axisOf({ table, model }, series, first, count) {
  const steps = Array.from({ length: count }, (_, index) => first + index + 1);
  if (table.rate) return { x: steps.map((step) => (step - 1) / table.rate), time: "seconds" };
  if (table.orderBy === null) return { x: steps };
  const clock = createTimes(table.dates);
  const times = timesOf(table, model, series, model.horizon).slice(first, first + count);
  const keys = [...series.keys, ...clock.nextKeys(series.keys, model.horizon, table.examples)].slice(first, first + count);
  if (keys.length < count) return { x: steps, ...(typeof keys[0] === "number" ? {} : { time_name: "step" }) };
  if (typeof keys[0] === "number") return { x: keys, time: "number", time_name: table.orderBy };
  const hasZone = keys[0].offset !== null;
  return { x: keys.map((key) => (typeof key === "number" ? key : key.clock - (key.offset ?? 0))), times, time: hasZone ? "UTC" : "date", time_name: table.orderBy };
}

/**
 * Return the true numbers of a column: those that are read, where these are predicted, else those that the table has, too.
 * @param {Series} series
 * @param {number} place
 * @param {any} table
 * @param {any} model
 */
function truthOf(series, place, table, model) {
  if (model.horizon || model.labels.length) return series.numbers.map((row) => row[place]);
  return series.truth.map((row) => (table.missing.includes(row[place]) ? null : toNumber(row[place], series.hasCommas)));
}

/** @param {Series} series @param {string[]} labels */
const trueLabels = (series, labels) => series.truth.map(([text]) => (labels.includes(text) ? labels.indexOf(text) : null));

/** @param {(number | null)[]} predicted @param {(number | null)[]} truth */
function rootMeanSquare(predicted, truth) {
  const squares = truth.flatMap((value, index) => (value === null || predicted[index] === null ? [] : [(value - predicted[index]) ** 2]));
  return squares.length && predicted.length === truth.length ? Math.sqrt(squares.reduce((sum, square) => sum + square, 0) / squares.length) : null;
}

/** @param {{ label?: number[], true_label?: (number | null)[] }} labels */
function wrongShare({ label = [], true_label: truth = [] }) {
  const known = truth.flatMap((value, index) => (value === null ? [] : [value !== label[index]]));
  return known.length ? known.filter(Boolean).length / known.length : null;
}
