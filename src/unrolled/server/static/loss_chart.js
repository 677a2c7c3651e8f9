// @ts-check
// The losses of many runs on one chart: a band from the smallest to the largest training loss of each pixel column, a line of
// validation losses, and the baselines of the chosen run.

import { svgElement } from "./shared/dom.js";
import { chart, clipped, createPlot, dots, line, referenceLines } from "./report/charts.js";
import { compact, isNumber } from "./report/format.js";
import { domainOf } from "./report/scales.js";

/** @typedef {import("./runs.js").Metrics} Metrics */
/** @typedef {import("./report/charts.js").Plot} Plot */
/** @typedef {{ metrics: Metrics, className: string, isChosen: boolean }} Series */
/** @typedef {{ name: string, value: number }} Baseline */

const HEIGHT = 340;
const MARGIN = { left: 52, right: 96, top: 26, bottom: 38 };
/** Points from which on dots would cover their line. */
const MAX_DOTS = 100;
const NARROW_MARGIN = { ...MARGIN, left: 40, right: 70 };

/**
 * The area between the smallest and the largest losses, which is at least as thick as a line.
 * @param {Plot} plot
 * @param {Metrics} metrics
 * @param {string} className
 */
function band(plot, { step, train_min: low, train_max: high }, className) {
  const known = step.map((_, index) => index).filter((index) => isNumber(low[index]) && isNumber(high[index]) && isNumber(plot.x(step[index])));
  /** @param {number} index @param {number} value @param {number} distance */
  const at = (index, value, distance) => `${plot.x(step[index]).toFixed(1)} ${(plot.y(value) + distance).toFixed(1)}`;
  const top = known.map((index) => at(index, high[index], -0.7));
  const bottom = known.reverse().map((index) => at(index, low[index], 0.7));
  return svgElement("path", { d: top.length ? `M${[...top, ...bottom].join("L")}Z` : "", class: `band ${className}` });
}

/**
 * Return the losses of a run for which the axis has room: a run that diverges leaves the chart, and the others stay readable.
 * @param {Metrics} metrics
 */
function usualLosses({ train_min: low, train_max: high, validation }) {
  const validated = validation.map(([, loss]) => loss);
  const all = [...low, ...high, ...validated].filter(isNumber);
  const first = Math.max(high.find(isNumber) ?? -Infinity, validated.find(isNumber) ?? -Infinity);
  const limit = first + Math.max(first - all.reduce((least, loss) => Math.min(least, loss), first), Math.abs(first));
  return all.filter((loss) => loss <= limit);
}

/**
 * @param {number} width
 * @param {number} height
 * @param {Series[]} series
 * @param {Baseline[]} baselines
 * @param {boolean} isLog
 * @param {string} unit
 */
function draw(width, height, series, baselines, isLog, unit) {
  const steps = series.flatMap(({ metrics }) => [...metrics.step, ...metrics.validation.map(([step]) => step)]);
  const losses = series.flatMap(({ metrics }) => usualLosses(metrics));
  const last = domainOf(steps)[1];
  const plot = createPlot(width, height, {
    x: { domain: isLog ? [Math.max(1, domainOf(steps.filter((step) => step > 0))[0]), last] : [0, last], log: isLog, title: "steps" },
    y: { domain: domainOf([...losses, ...baselines.map(({ value }) => value)], 0.04), title: unit, format: compact },
    margin: width < 480 ? NARROW_MARGIN : MARGIN,
  });
  const shapes = [...series].sort((a, b) => Number(a.isChosen) - Number(b.isChosen)).flatMap(({ metrics, className, isChosen }) => {
    const name = `series ${className}${isChosen ? " chosen" : ""}`;
    return [band(plot, metrics, className), line(plot, metrics.validation, name),
      dots(plot, metrics.validation.length > MAX_DOTS ? [] : metrics.validation, name)];
  });
  plot.root.append(clipped(plot, ...shapes), ...referenceLines(plot, baselines));
  return plot.root;
}

/** Return a chart of losses. */
export function createLossChart() {
  /** @type {Series[]} */
  let series = [];
  /** @type {Baseline[]} */
  let baselines = [];
  let [isLog, unit] = [false, ""];
  const { box, redraw } = chart("Training and validation loss by step; the list below has the numbers", HEIGHT,
    (width, height) => draw(width, height, series, baselines, isLog, unit));
  return {
    box,
    /**
     * @param {Series[]} shown
     * @param {Baseline[]} references
     * @param {boolean} withLogSteps
     * @param {string} lossUnit
     */
    show(shown, references, withLogSteps, lossUnit) {
      [series, baselines, isLog, unit] = [shown, references, withLogSteps, lossUnit];
      redraw();
    },
  };
}
