// @ts-check
// Numbers at every step: the truth, what was predicted, the band between the outer quantiles, a baseline, and the errors.

import { element, svgElement } from "../shared/dom.js";
import { brokenLine, chart, clipped, createPlot, MARGIN, partsOf } from "./charts.js";
import { axisFormat, compact, isNumber, paragraph, percent, plainText, write } from "./format.js";
import { labelStrips } from "./label_strips.js";
import { domainOf } from "./scales.js";
import { fullTime, timeTicks } from "./time_axis.js";

/** @typedef {import("./charts.js").Plot} Plot */
/** @typedef {import("./scales.js").AxisSpec} AxisSpec */
/** @typedef {(number | null)[]} Numbers null is a gap */

/**
 * One column of a series. All numbers are at `x`: the `truth`, the `predicted` ones, the quantiles `low` and `high`, whose
 * `levels` say which, and a `baseline`; `starts` are the steps at which a forecast starts. `time` says what `x` is: `date` or
 * `UTC`, seconds since 1970 which `times` has as texts; `number`, `seconds`, or steps. Where `labels` are predicted, `label` and
 * `true_label` are their places in it, and `error` is the share of wrong ones; else it is a root mean squared error.
 * @typedef {object} SeriesChart
 * @property {string} series
 * @property {string} column
 * @property {string} [note]
 * @property {string} [time]
 * @property {string} [time_name]
 * @property {number[]} x
 * @property {string[]} [times]
 * @property {Numbers} truth
 * @property {Numbers} [predicted]
 * @property {Numbers} [low]
 * @property {Numbers} [high]
 * @property {number[]} [levels]
 * @property {Numbers} [baseline]
 * @property {string} [baseline_name]
 * @property {string[]} [labels]
 * @property {Numbers} [true_label]
 * @property {Numbers} [label]
 * @property {number} [horizon]
 * @property {number[]} [starts]
 * @property {number | null} [error]
 * @property {number | null} [baseline_error]
 */

const HEIGHT = 250;
const ERROR_HEIGHT = 144;
const STRIPS_HEIGHT = 92;
const MIN_START_DISTANCE = 14;
/** A range in which nearly all numbers are, times this, is drawn; a spike beyond it leaves the chart. */
const MAX_RANGES = 8;

/** @param {SeriesChart} chart */
export const isForecast = ({ starts = [] }) => starts.length > 0;

/** @param {SeriesChart[]} charts */
export const seriesSection = (charts) => charts.map((data) => new SeriesFigure(data).figure);

class SeriesFigure {
  /** @param {SeriesChart} data */
  constructor(data) {
    const { truth, predicted = [], low = [], high = [], baseline = [], labels = [] } = data;
    this.data = { ...data, predicted, low, high, baseline, labels };
    this.hasBand = low.some(isNumber);
    this.hasTruth = truth.some(isNumber);
    this.hasBaseline = baseline.some(isNumber);
    this.errors = differences(predicted, truth);
    this.baselineErrors = differences(baseline, truth);
    this.valueDomain = limited(truth, predicted, [...low, ...high]);
    /** @type {{ plot: Plot, node: SVGLineElement }[]} */
    this.cursors = [];
    this.index = Math.max(0, (labels.length ? truth : predicted).findLastIndex(isNumber));
    this.readout = element("p", { className: "readout number" });
    this.charts = [chart(this.description(), HEIGHT, (width, height) => this.drawSeries(width, height))];
    if (labels.length) {
      this.charts.push(chart(`True and predicted labels of ${this.name()}`, STRIPS_HEIGHT, (width, height) => this.drawLabels(width, height)));
    } else if (this.errors.some(isNumber)) {
      this.charts.push(chart(`Errors of ${this.name()}`, ERROR_HEIGHT, (width, height) => this.drawErrors(width, height)));
    }
    this.focus = element("div", { className: "panels", tabIndex: 0, role: "slider", ariaLabel: `Read ${this.name()}`,
      ariaValueMin: "0", ariaValueMax: String(data.x.length - 1) }, ...this.charts.map(({ box }) => box));
    this.figure = element("figure", { className: "series" }, this.caption(), this.readout, this.focus);
    this.listen();
    this.read(this.index);
  }

  name() {
    const { series, column } = this.data;
    return [series, column].filter(Boolean).map((part) => plainText(part, { max: 40 })).join(", ");
  }

  description() {
    const { x, predicted, labels } = this.data;
    return `${this.name()}: ${x.length} steps, from ${this.timeText(0)} to ${this.timeText(x.length - 1)}` +
      (labels.length ? "." : `; ${predicted.filter(isNumber).length} are predicted.`);
  }

  caption() {
    const { note, error, baseline_error: other, baseline_name: name, labels } = this.data;
    const title = write(element("h3"), this.name() + (note ? `: ${note}` : ""), { max: 120 });
    const beyond = this.data.truth.filter((value) => isNumber(value) && (value < this.valueDomain[0] || value > this.valueDomain[1])).length;
    const texts = [];
    if (isNumber(error) && labels.length) texts.push(`${percent(error)} of the labels are wrong.`);
    else if (isNumber(error)) texts.push(`Root mean squared error ${compact(error)}` + (isNumber(other) ? `; ${name} ${compact(other)}.` : "."));
    if (beyond) texts.push(`${beyond} true ${beyond === 1 ? "number is" : "numbers are"} beyond the axis.`);
    return element("figcaption", {}, title, paragraph(texts.join(" "), "muted small"));
  }

  // ---- drawing

  /**
   * @param {number} width
   * @param {[number, number]} domain of the numbers
   * @returns {{ x: AxisSpec, margin: typeof MARGIN }}
   */
  axes(width, domain) {
    const { x, time = "", time_name: name = "" } = this.data;
    const format = axisFormat(domain);
    const margin = { ...MARGIN, left: Math.max(this.data.labels.length ? 70 : MARGIN.left, ...domain.map((value) => format(value).length * 6.5 + 14)) };
    const range = domainOf(x);
    if (time === "date" || time === "UTC") {
      const ticks = timeTicks(range, Math.max(2, Math.floor((width - margin.left) / 76)));
      const title = `${time === "UTC" ? "UTC, " : ""}${fullTime(range[0])} to ${fullTime(range[1])}`;
      return { x: { domain: range, title, ...ticks }, margin };
    }
    const title = time === "seconds" ? "seconds" : (time && name) || "step";
    return { x: { domain: range, title: plainText(title, { max: 40 }), format: axisFormat(range) }, margin };
  }

  /**
   * @param {number} width
   * @param {number} height
   */
  drawSeries(width, height) {
    const { truth, predicted, baseline } = this.data;
    const [domain, hideXLabels] = [this.valueDomain, this.charts.length > 1];
    const y = { domain, title: plainText(this.data.column, { max: 60 }), format: axisFormat(domain) };
    const { x, margin } = this.axes(width, domain);
    const plot = createPlot(width, height, { x, y, hideXLabels, margin });
    plot.root.append(...this.startLines(plot), clipped(plot, this.band(plot), brokenLine(plot, this.parts(baseline, true), "reference-line"),
      brokenLine(plot, this.parts(truth), "truth"), brokenLine(plot, this.parts(predicted, true), "first")), this.cursor(0, plot));
    return plot.root;
  }

  /**
   * @param {number} width
   * @param {number} height
   */
  drawErrors(width, height) {
    const domain = limited([0, ...this.errors], [], this.baselineErrors);
    const { x } = this.axes(width, domain);
    const { margin } = this.axes(width, this.valueDomain);
    const plot = createPlot(width, height, { x, y: { domain, title: "predicted \u2212 true", format: axisFormat(domain) }, margin });
    const zero = svgElement("line", { x1: plot.left, x2: plot.right, y1: plot.y(0), y2: plot.y(0), class: "base" });
    plot.root.append(zero, clipped(plot, brokenLine(plot, this.parts(this.baselineErrors, true), "reference-line"),
      brokenLine(plot, this.parts(this.errors, true), "first")), this.cursor(1, plot));
    return plot.root;
  }

  /**
   * @param {number} width
   * @param {number} height
   */
  drawLabels(width, height) {
    const [{ margin }, { x }] = [this.axes(width, this.valueDomain), this.axes(width, [0, 1])];
    const plot = createPlot(width, height, { x, y: { domain: [0, 2], ticks: [] }, margin: { ...margin, top: 4 } });
    const { true_label: truth = [], label = [], labels } = this.data;
    /** @type {[string, Numbers][]} */
    const strips = [...truth.some(isNumber) ? /** @type {[string, Numbers][]} */ ([["true", truth]]) : [], ["predicted", label]];
    plot.root.append(...labelStrips(plot, this.data.x, strips, labels.length), this.cursor(1, plot));
    return plot.root;
  }

  /**
   * Return the parts of a series between gaps, and, of forecasts of several steps, those of each forecast.
   * @param {Numbers} values
   * @param {boolean} [isForecast]
   */
  parts(values, isForecast = false) {
    const { x, starts = [], horizon = 0 } = this.data;
    return partsOf(x, values, isForecast && horizon > 1 ? starts : []);
  }

  /** @param {Plot} plot */
  band(plot) {
    const { low, high } = this.data;
    const inside = (/** @type {number} */ y) => Math.max(plot.top, Math.min(plot.bottom, y));
    const [under, over] = [this.parts(low, true), this.parts(high, true)];
    const paths = under.map((part, index) => {
      const edge = [...part, ...[...over[index]].reverse()].map(([x, y]) => [plot.x(x), inside(plot.y(y))]);
      const points = part.length > 1 ? edge : [[-2, 0], [2, 0], [2, 1], [-2, 1]].map(([shift, end]) => [edge[0][0] + shift, edge[end][1]]);
      return `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}Z`;
    });
    return svgElement("path", { d: paths.join(""), class: "band" });
  }

  /** @param {Plot} plot */
  startLines(plot) {
    const { x, starts = [] } = this.data;
    const places = starts.map((step) => plot.x(x[step]));
    if (places.some((place, index) => index && place - places[index - 1] < MIN_START_DISTANCE)) return [];
    return places.map((place) => svgElement("line", { x1: place, x2: place, y1: plot.top, y2: plot.bottom, class: "reference" }));
  }

  // ---- the cursor

  listen() {
    for (const [number, { box }] of this.charts.entries()) {
      const follow = (/** @type {PointerEvent} */ event) => {
        const plot = this.cursors[number]?.plot;
        if (plot) this.read(this.nearest(plot.x.invert(event.clientX - box.getBoundingClientRect().left)));
      };
      box.addEventListener("pointermove", follow);
      box.addEventListener("pointerdown", follow);
    }
    this.focus.addEventListener("keydown", (event) => {
      const page = Math.max(1, Math.round(this.data.x.length / 10));
      /** @type {Record<string, number>} */
      const moves = { ArrowLeft: -1, ArrowRight: 1, PageDown: -page, PageUp: page, Home: -Infinity, End: Infinity };
      if (!(event.key in moves)) return;
      event.preventDefault();
      this.read(this.index + moves[event.key]);
    });
  }

  /** @param {number} wanted */
  nearest(wanted) {
    const { x } = this.data;
    return x.reduce((best, value, index) => (Math.abs(value - wanted) < Math.abs(x[best] - wanted) ? index : best), 0);
  }

  /**
   * @param {number} number
   * @param {Plot} plot
   */
  cursor(number, plot) {
    const node = svgElement("line", { y1: plot.top, y2: plot.bottom, class: "cursor" });
    this.cursors[number] = { plot, node };
    this.moveCursor(this.cursors[number]);
    return node;
  }

  /** @param {{ plot: Plot, node: SVGLineElement }} cursor */
  moveCursor({ plot, node }) {
    const place = String(plot.x(this.data.x[this.index]));
    node.setAttribute("x1", place);
    node.setAttribute("x2", place);
  }

  /** @param {number} index */
  read(index) {
    this.index = Math.max(0, Math.min(this.data.x.length - 1, index));
    for (const cursor of this.cursors) if (cursor) this.moveCursor(cursor);
    this.readout.replaceChildren(...this.readoutParts());
    this.focus.ariaValueNow = String(this.index);
    this.focus.ariaValueText = this.readout.textContent;
  }

  /** @param {number} index */
  timeText(index) {
    const { x, times = [], time, time_name: name } = this.data;
    if (times.length) return plainText(times[index], { max: 40 });
    const place = Number(x[index].toPrecision(9));
    return time === "seconds" ? `${place} s` : `${plainText((time && name) || "step", { max: 40 })} ${place}`;
  }

  readoutParts() {
    const { truth, predicted, low, high, levels = [], baseline, baseline_name: name = "", labels, label = [] } = this.data;
    const at = (/** @type {Numbers} */ values) => number(values[this.index]);
    if (labels.length) {
      const named = (/** @type {Numbers} */ ids) => plainText(labels[ids[this.index] ?? -1] ?? "\u2013", { max: 30 });
      const { true_label: trueLabel = [] } = this.data;
      return [
        element("span", { className: "position" }, this.timeText(this.index)), value("truth", plainText(this.data.column, { max: 30 }), at(truth)),
        ...trueLabel.some(isNumber) ? [value("", "true", named(trueLabel))] : [], value("", "predicted", named(label)),
      ];
    }
    const parts = [
      element("span", { className: "position" }, this.timeText(this.index)),
      ...this.hasTruth ? [value("truth", "true", at(truth))] : [],
      value("first", this.data.horizon ? "forecast" : "predicted", at(predicted)),
    ];
    if (this.hasBand) parts.push(value("band", `${percent(levels[1] - levels[0])} within`, `${at(low)} to ${at(high)}`));
    if (this.hasBaseline) parts.push(value("reference-line", name, at(baseline)));
    return parts;
  }
}

/**
 * @param {string} className
 * @param {string} name
 * @param {string} text
 */
const value = (className, name, text) => element("span", { className: className && `key ${className}` }, `${name} `, element("b", {}, text));

/** @param {number | null} found */
const number = (found) => (isNumber(found) ? String(Number(found.toPrecision(5))).replace("-", "\u2212") : "\u2013");

/**
 * @param {Numbers} predicted
 * @param {Numbers} truth
 * @returns {Numbers}
 */
const differences = (predicted, truth) => predicted.map((guess, index) => {
  const right = truth[index];
  return isNumber(guess) && isNumber(right) ? guess - right : null;
});

/**
 * Return the range of true numbers without spikes far from all others, of predicted ones, unless these are very far away, and
 * of the band where it is near.
 * @param {Numbers} truth
 * @param {Numbers} predicted
 * @param {Numbers} band
 * @returns {[number, number]}
 */
function limited(truth, predicted = [], band = []) {
  const sorted = (truth.some(isNumber) ? truth : predicted).filter(isNumber).toSorted((a, b) => a - b);
  if (!sorted.length) return [0, 1];
  const [low, high] = [0.02, 0.98].map((share) => sorted[Math.floor(share * (sorted.length - 1))]);
  const room = (high - low) * MAX_RANGES || Infinity;
  const near = domainOf(sorted.filter((value) => value >= low - room && value <= high + room));
  const within = (/** @type {Numbers} */ values, /** @type {number} */ ranges) => {
    const limit = (near[1] - near[0]) * ranges || Infinity;
    return values.filter((value) => isNumber(value) && value >= near[0] - limit && value <= near[1] + limit);
  };
  return domainOf([...near, ...within(predicted, 4), ...within(band, 0.75)], 0.04);
}
