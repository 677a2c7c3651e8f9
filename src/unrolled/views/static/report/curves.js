// @ts-check
// The curves of a run: loss, learning rate and gradient norm over one axis, with a cursor that reads their values.

import { element, svgElement } from "../shared/dom.js";
import { chart, clipped, createPlot, dots, line, MARGIN, referenceLines } from "./charts.js";
import { choices } from "./controls.js";
import { compact, duration, fixed, integer, isNumber, largest, median, plainText, toBits } from "./format.js";
import { chooseSample, player } from "./sample_player.js";
import { domainOf } from "./scales.js";

/** @typedef {import("./charts.js").Plot} Plot */
/** @typedef {import("./charts.js").Point} Point */
/** @typedef {import("./sample_player.js").Sample} Sample */

/**
 * Step, seconds, tokens read, and the value. Each may also be null: `isNumber` says so.
 * @typedef {number[]} Row
 */
/** @typedef {"train" | "validation" | "lr" | "gradient_norm"} SeriesName */
/** @typedef {"seconds" | "tokens" | "steps"} AxisName */

/**
 * @typedef {Partial<Record<SeriesName, Row[]>> & { loss_unit?: string, references?: { name: string, nats: number }[] }} CurvesData
 */

/** @type {{ name: AxisName, column: number }[]} */
const AXES = [{ name: "seconds", column: 1 }, { name: "tokens", column: 2 }, { name: "steps", column: 0 }];
/** The share of a run, at its beginning, that a close-up leaves out. */
const STEEP_SHARE = 0.1;
/** @type {SeriesName[]} */
const SERIES = ["train", "validation", "lr", "gradient_norm"];
const TITLES = { train: "training", validation: "validation", lr: "learning rate", gradient_norm: "gradient norm" };
const CLASSES = { train: "second", validation: "first", lr: "third", gradient_norm: "third" };

/**
 * Return the last row at or before a step, or else the first.
 * @param {Row[]} rows
 * @param {number} step
 */
function rowAt(rows, step) {
  let found = rows[0];
  for (const row of rows) {
    if (row[0] > step) break;
    found = row;
  }
  return found;
}

class Curves {
  /**
   * @param {CurvesData} data
   * @param {Sample[]} samples those whose step is known
   */
  constructor(data, samples) {
    this.unit = plainText(data.loss_unit || "token", { max: 20 });
    this.isOfNumbers = this.unit === "number";  // a squared error, say, which has no bits
    const rowsOf = (/** @type {SeriesName} */ name) => (data[name] ?? []).filter((row) => isNumber(row[3]));
    this.rows = {
      train: rowsOf("train"), validation: rowsOf("validation"), lr: rowsOf("lr"), gradient_norm: rowsOf("gradient_norm"),
    };
    this.allRows = Object.values(this.rows).flat();
    this.references = (data.references ?? []).filter((reference) => isNumber(reference.nats));
    this.samples = samples;
    /** @type {AxisName} */
    this.axis = this.axes()[0]?.name ?? "steps";
    this.inBits = false;
    this.isCloseUp = false;
    const labelWidths = this.references.map(({ name }) => plainText(name).length * 6 + 12);
    this.margin = { ...MARGIN, right: Math.max(MARGIN.right, ...labelWidths) };
    this.cursorRows = this.rowOfEachStep();
    this.cursorIndex = this.cursorRows.length - 1;
    /** @type {{ name: string, plot: Plot, node: SVGLineElement }[]} */
    this.cursors = [];
    this.readout = element("p", { className: "readout number" });
    this.charts = this.createCharts();
    this.focus = element("div", { className: "panels", tabIndex: 0, role: "slider", ariaLabel: "Read the curves", ariaValueMin: "0" },
      ...this.charts.map(({ box }) => box));
  }

  /** A row for each step of any series: where the cursor can be. */
  rowOfEachStep() {
    const rows = new Map(this.allRows.map((row) => [row[0], row]));
    return [...rows.values()].filter((row) => isNumber(row[0])).sort((a, b) => a[0] - b[0]);
  }

  axes() {
    return AXES.filter(({ column }) => this.allRows.some((row) => isNumber(row[column]) && row[column] > 0));
  }

  // ---- values

  column() {
    return AXES.find(({ name }) => name === this.axis)?.column ?? 0;
  }

  /**
   * The x axis: its domain, its title, and how many of the data's units make one of the axis.
   * @returns {{ size: number, domain: [number, number], title: string }}
   */
  xAxis() {
    const column = this.column();
    const last = largest(this.allRows.map((row) => row[column] ?? 0));
    if (this.axis === "seconds") {
      const [size, title] = last >= 7200 ? [3600, "hours"] : last >= 120 ? [60, "minutes"] : [1, "seconds"];
      return { size, domain: [0, last / size], title };
    }
    return { size: 1, domain: [0, last], title: this.axis === "steps" ? "steps" : `${this.unit}s read` };
  }

  /** @param {number} nats */
  loss(nats) {
    return this.inBits ? toBits(nats) : nats;
  }

  /**
   * @param {SeriesName} name
   * @returns {Point[]}
   */
  points(name, convert = (/** @type {number} */ value) => value) {
    const [column, { size }] = [this.column(), this.xAxis()];
    return this.rows[name].map((row) => [isNumber(row[column]) ? row[column] / size : NaN, convert(row[3])]);
  }

  /**
   * Return the place of a sample: its own time and step; what was read before it comes from the curve.
   * @param {Sample} sample
   * @returns {Point}
   */
  placeOf(sample) {
    const rows = this.rows.validation.length ? this.rows.validation : this.rows.train;
    const near = rows.length ? rowAt(rows, sample.step) : [];
    const x = { seconds: sample.seconds, steps: sample.step, tokens: this.tokensReadAt(sample.step) }[this.axis];
    const nats = isNumber(sample.val_nats) ? sample.val_nats : near[3];
    return [(isNumber(x) ? x : near[this.column()]) / this.xAxis().size, this.loss(nats)];
  }

  /** @param {number} step */
  tokensReadAt(step) {
    const before = rowAt(this.cursorRows, step);
    const after = this.cursorRows.find((row) => row[0] >= step) ?? before;
    const share = after[0] > before[0] ? (step - before[0]) / (after[0] - before[0]) : 0;
    return before[2] + Math.max(0, share) * (after[2] - before[2]);
  }

  // ---- drawing

  createCharts() {
    const small = /** @type {SeriesName[]} */ (["lr", "gradient_norm"]).filter((name) => this.rows[name].length);
    const hasLoss = this.rows.train.length + this.rows.validation.length > 0;
    const names = [...(hasLoss ? [/** @type {const} */ ("loss")] : []), ...small];
    return names.map((name, index) => {
      const isLast = index === names.length - 1;
      const height = (name === "loss" ? 300 : 104) + (isLast ? 28 : 0);
      return chart(this.description(name), height, (width, height) =>
        (name === "loss" ? this.drawLoss(width, height, !isLast) : this.drawSmall(name, width, height, !isLast)));
    });
  }

  /**
   * @param {number} width
   * @param {number} height
   * @param {boolean} hideXLabels
   */
  drawLoss(width, height, hideXLabels) {
    const convert = (/** @type {number} */ nats) => this.loss(nats);
    const [train, validation] = [this.points("train", convert), this.points("validation", convert)];
    const inDomain = [...train, ...validation].filter(([x]) => !this.isCloseUp || x >= this.xAxis().domain[1] * STEEP_SHARE);
    const references = this.references.map(({ name, nats }) => ({ name, value: this.loss(nats) }));
    const domain = domainOf([...inDomain.map((point) => point[1]), ...references.map(({ value }) => value)], 0.04);
    const title = this.isOfNumbers ? "loss of scaled numbers" : `${this.inBits ? "bits" : "nats"} per ${this.unit}`;
    const plot = createPlot(width, height, { x: this.xAxis(), y: { domain, title }, hideXLabels, margin: this.margin });
    const parts = [line(plot, train, CLASSES.train), line(plot, validation, CLASSES.validation)];
    if (validation.length <= 60) parts.push(dots(plot, validation, CLASSES.validation));
    plot.root.append(...referenceLines(plot, references), clipped(plot, ...parts, ...this.sampleMarks(plot)), this.cursor("loss", plot));
    return plot.root;
  }

  /**
   * @param {SeriesName} name
   * @param {number} width
   * @param {number} height
   * @param {boolean} hideXLabels
   */
  drawSmall(name, width, height, hideXLabels) {
    const points = this.points(name);
    const values = points.map((point) => point[1]).filter((value) => value > 0);
    const max = largest(values);
    const log = name === "gradient_norm" && max > 20 * median(values);
    /** @type {[number, number]} */
    const domain = log ? [values.reduce((a, b) => Math.min(a, b)), max] : [0, max * 1.06 || 1];
    const y = { domain, log, title: TITLES[name] };
    const plot = createPlot(width, height, { x: this.xAxis(), y, hideXLabels, margin: this.margin });
    plot.root.append(line(plot, log ? points.filter((point) => point[1] > 0) : points, CLASSES[name]), this.cursor(name, plot));
    return plot.root;
  }

  /** @param {Plot} plot */
  sampleMarks(plot) {
    return this.samples.map((sample, index) => {
      const [x, y] = this.placeOf(sample);
      if (!isNumber(x) || !isNumber(y)) return svgElement("g");
      const isCurrent = index === player.index;
      const mark = svgElement("circle",
        { cx: plot.x(x), cy: plot.y(y), r: isCurrent ? 6 : 4, class: isCurrent ? "mark current" : "mark" });
      mark.append(svgElement("title", {}, `sample at step ${integer(sample.step)}`));
      mark.addEventListener("click", () => chooseSample(index));
      return mark;
    });
  }

  // ---- the cursor

  /**
   * @param {string} name
   * @param {Plot} plot
   */
  cursor(name, plot) {
    const node = svgElement("line", { y1: plot.top, y2: plot.bottom, class: "cursor" });
    this.cursors = this.cursors.filter((cursor) => cursor.name !== name).concat({ name, plot, node });
    this.moveCursor(node, plot);
    return node;
  }

  /**
   * @param {SVGLineElement} node
   * @param {Plot} plot
   */
  moveCursor(node, plot) {
    const value = this.cursorRows[this.cursorIndex]?.[this.column()];
    const x = String(plot.x((isNumber(value) ? value : 0) / this.xAxis().size));
    node.setAttribute("x1", x);
    node.setAttribute("x2", x);
  }

  /** @param {number} index of the row where the cursor goes */
  read(index) {
    this.cursorIndex = Math.max(0, Math.min(this.cursorRows.length - 1, index));
    for (const { node, plot } of this.cursors) this.moveCursor(node, plot);
    this.readout.replaceChildren(...this.readoutParts());
    this.focus.setAttribute("aria-valuenow", String(this.cursorIndex));
    this.focus.setAttribute("aria-valuetext", this.readout.textContent ?? "");
  }

  /**
   * @param {PointerEvent} event
   * @param {Element} box
   */
  readAtPointer(event, box) {
    const plot = this.cursors[0]?.plot;
    if (!plot) return;
    const wanted = plot.x.invert(event.clientX - box.getBoundingClientRect().left) * this.xAxis().size;
    const column = this.column();
    const distance = (/** @type {Row} */ row) => (isNumber(row[column]) ? Math.abs(row[column] - wanted) : Infinity);
    const rows = this.cursorRows;
    this.read(rows.reduce((best, row, index) => (distance(row) < distance(rows[best]) ? index : best), 0));
  }

  readoutParts() {
    const [step, seconds, tokens] = this.cursorRows[this.cursorIndex];
    const position = [`step ${integer(step)}`];
    if (isNumber(seconds)) position.push(duration(seconds));
    if (isNumber(tokens)) position.push(`${compact(tokens)} ${this.unit}s read`);
    const parts = [element("span", { className: "position" }, position.join(", "))];
    for (const name of SERIES) {
      if (!this.rows[name].length) continue;
      const value = rowAt(this.rows[name], step)[3];
      const text = name === "train" || name === "validation" ? fixed(this.loss(value)) : compact(value);
      parts.push(element("span", { className: `key ${CLASSES[name]}` }, `${TITLES[name]} `, element("b", {}, text)));
    }
    return parts;
  }

  /** @param {SeriesName | "loss"} name */
  description(name) {
    const names = name === "loss" ? /** @type {SeriesName[]} */ (["train", "validation"]) : [name];
    const texts = names.filter((series) => this.rows[series].length).map((series) => {
      const rows = this.rows[series];
      return `${TITLES[series]} from ${compact(rows[0][3])} to ${compact(rows[rows.length - 1][3])}`;
    });
    return `${texts.join(", ")}${name === "loss" && !this.isOfNumbers ? ` nats per ${this.unit}` : ""}.`;
  }

  // ---- the section

  redraw() {
    for (const { redraw } of this.charts) redraw();
    this.read(this.cursorIndex);
  }

  parts() {
    const last = this.cursorRows.length - 1;
    this.focus.setAttribute("aria-valuemax", String(last));
    this.focus.addEventListener("keydown", (event) => this.onKey(event));
    this.focus.addEventListener("pointerleave", () => this.read(last));
    for (const { box } of this.charts) {
      box.addEventListener("pointermove", (event) => this.readAtPointer(event, box));
      box.addEventListener("pointerdown", (event) => this.readAtPointer(event, box));
    }
    player.listeners.push(() => this.charts[0].redraw());
    this.read(last);
    return [element("div", { className: "controls" }, ...this.controls()), this.readout, this.focus];
  }

  controls() {
    const titles = { seconds: "Time", tokens: `${this.unit[0].toUpperCase()}${this.unit.slice(1)}s read`, steps: "Steps" };
    const axes = this.axes().map(({ name }) => /** @type {[string, string]} */ ([name, titles[name]]));
    return [
      choices("The x axis", axes, this.axis, (axis) => {
        this.axis = /** @type {AxisName} */ (axis);
        this.redraw();
      }),
      ...this.isOfNumbers ? [] : [choices("Unit of the loss", [["nats", "nats"], ["bits", "bits"]], "nats", (unit) => {
        this.inBits = unit === "bits";
        this.redraw();
      })],
      choices("Range of the loss", [["all", "All"], ["close-up", "Close-up"]], "all", (range) => {
        this.isCloseUp = range === "close-up";
        this.redraw();
      }),
    ];
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const page = Math.max(1, Math.round(this.cursorRows.length / 10));
    /** @type {Record<string, number>} */
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageDown: -page, PageUp: page, Home: -Infinity, End: Infinity };
    if (!(event.key in moves)) return;
    event.preventDefault();
    this.read(this.cursorIndex + moves[event.key]);
  }
}

/**
 * @param {CurvesData} data
 * @param {{ samples?: Sample[] }} report
 */
export function curvesSection(data, report) {
  const curves = new Curves(data, (report.samples ?? []).filter((sample) => isNumber(sample.step)));
  return curves.cursorRows.length ? curves.parts() : [];
}
