// @ts-check
// Numbers at every step: the truth, what was predicted, the band between the outer quantiles, and the errors.

import { element, svgElement } from "../shared/dom.js";
import { chart, clipped, createPlot, line } from "./charts.js";
import { isNumber, plainText } from "./format.js";
import { domainOf } from "./scales.js";

/** @typedef {import("./charts.js").Plot} Plot */
/** @typedef {import("./charts.js").Point} Point */
/** @typedef {(number | null)[]} Numbers null is a gap */

/**
 * A part of a series: the known steps before it, its true numbers, the predicted ones, and the outer quantiles or nothing.
 * @typedef {{ name?: string, history?: Numbers, truth?: Numbers, predicted?: Numbers, low?: Numbers, high?: Numbers }} SeriesPart
 */

const HEIGHT = 220;
const ERROR_HEIGHT = 110;

/** @param {SeriesPart[]} parts */
export const seriesSection = (parts) => parts.map(partFigure);

/**
 * @param {Numbers} values
 * @param {number} first the number of the first step
 * @returns {Point[]}
 */
const pointsOf = (values, first) => values.map((value, index) => /** @type {Point} */ ([first + index, value ?? NaN]));

/** @param {SeriesPart} part */
function partFigure({ name = "", history = [], truth = [], predicted = [], low = [], high = [] }) {
  const known = pointsOf([...history, ...truth], 1 - history.length);
  const guess = pointsOf(predicted, 1);
  const errors = pointsOf(predicted.map((value, index) => {
    const right = truth[index];
    return isNumber(value) && isNumber(right) ? value - right : null;
  }), 1);
  const steps = { domain: /** @type {[number, number]} */ ([1 - history.length, Math.max(2, truth.length)]), title: "step" };
  const label = plainText(name, { max: 60 });
  const values = [...history, ...truth, ...predicted, ...low, ...high].filter(isNumber);
  const series = chart(`${label}: truth and prediction`, HEIGHT, (width, height) => {
    const plot = createPlot(width, height, { x: steps, y: { domain: domainOf(values), title: label }, hideXLabels: true });
    plot.root.append(clipped(plot, band(plot, low, high), line(plot, known, "second"), line(plot, guess, "first")));
    return plot.root;
  });
  const errorChart = chart(`${label}: errors`, ERROR_HEIGHT, (width, height) => {
    const domain = domainOf([0, ...errors.map((point) => point[1]).filter(isNumber)]);
    const plot = createPlot(width, height, { x: steps, y: { domain, title: "predicted \u2212 true" } });
    plot.root.append(clipped(plot, line(plot, errors, "third")));
    return plot.root;
  });
  return element("figure", { className: "series" }, series.box, errorChart.box);
}

/**
 * @param {Plot} plot
 * @param {Numbers} low
 * @param {Numbers} high
 */
function band(plot, low, high) {
  const edge = [...pointsOf(low, 1), ...pointsOf(high, 1).reverse()].filter((point) => point.every(isNumber));
  const path = edge.map(([x, y], index) => `${index ? "L" : "M"}${plot.x(x).toFixed(1)} ${plot.y(y).toFixed(1)}`).join("");
  return svgElement("path", { d: path && `${path}Z`, class: "band" });
}
