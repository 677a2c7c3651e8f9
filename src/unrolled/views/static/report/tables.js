// @ts-check
// Tables of numbers: the metrics of a model of a table, its errors, and the loss of text models next to simpler ones.

import { element } from "../shared/dom.js";
import { scrollable } from "../shared/scrollable.js";
import { bar, table } from "./controls.js";
import { dataText, fixed, isNumber, largest, paragraph, percent, toBits, write } from "./format.js";
import { numberLines } from "./number_lines.js";

/** @param {unknown} value */
const metricText = (value) => (isNumber(value) ? String(Number(value.toPrecision(4))).replace("-", "\u2212") : "\u2013");

/** @typedef {Record<string, number | null>} Metrics */

/**
 * @param {{ headline?: string, metrics?: Metrics, baselines?: Record<string, Metrics>, evaluated?: string, notes?: string[] }} data
 */
export function metricsSection({ headline, metrics = {}, baselines = {}, evaluated, notes }) {
  const parts = [];
  if (Object.keys(metrics).length) {
    const lines = Object.entries(metrics).map(([name, value]) => [
      write(element(name === headline ? "b" : "span"), name),
      element("b", { className: "this-model", textContent: metricText(value) }),
      ...Object.values(baselines).map((baseline) => metricText(baseline[name])),
    ]);
    parts.push(table(["metric", "this model", ...Object.keys(baselines)], lines, "number metrics"));
  }
  if (evaluated) parts.push(paragraph(`On ${evaluated}.`, "muted small"));
  if (notes?.length) {
    parts.push(element("ul", { className: "notes" }, ...notes.map((note) => write(element("li"), note, { max: 600 }))));
  }
  return parts;
}

// ---- errors

/**
 * A cell: a text, a picture, or lines of numbers from step 1 to `steps`.
 * @typedef {{ name?: string, text?: string, src?: string, width?: number, height?: number, lines?: (number | null)[][],
 *   steps?: number }} CellView
 */

/** @typedef {{ source: CellView[], truth: CellView, predicted: CellView, probability: number | null }} AnsweredRow */

const MIN_PICTURE_SIDE = 64;

/** @param {AnsweredRow[]} rows */
export const errorsSection = (rows) => [element("ol", { className: "errors" }, ...rows.map(errorItem))];

/** @param {CellView} cell */
function cellContent({ name = "", text, src, width = 1, height = 1, lines, steps = 1 }) {
  if (lines) return numberLines(lines, steps, name);
  if (!src) return scrollable(dataText(text, { max: 400 }), name || "Cell");
  const scale = Math.max(1, Math.ceil(MIN_PICTURE_SIDE / Math.max(width, height)));
  return element("img", { className: "cell-picture", src, width: width * scale, height: height * scale, alt: `picture of ${width} by ${height}` });
}

/** @param {AnsweredRow} row */
function errorItem({ source, truth, predicted, probability }) {
  const field = (/** @type {string} */ name, /** @type {Node} */ content, className = "") =>
    element("span", { className: `error-field ${className}` }, element("small", { className: "muted", textContent: name }), content);
  const named = (/** @type {CellView} */ cell) =>
    element("div", {}, write(element("small", { className: "muted" }), `${cell.name} `), cellContent(cell));
  const columns = source.length > 1 ? element("div", { className: "joined" }, ...source.map(named)) : cellContent(source[0] ?? {});
  const item = element("li", {}, field("source", columns, "wide"), field("truth", cellContent(truth)), field("prediction", cellContent(predicted)));
  if (isNumber(probability)) {
    item.append(field("probability", element("b", { className: "number", textContent: percent(probability) })));
  }
  return item;
}

// ---- baselines

/**
 * @param {{ rows?: { name: string, nats: number, bits: number | null, is_model: boolean }[], note?: string }} data
 */
export function baselinesSection({ rows = [], note }) {
  const known = rows.filter((row) => isNumber(row.nats)).sort((a, b) => a.nats - b.nats);
  if (!known.length) return [];
  const max = largest(known.map((row) => row.nats)) || 1;
  const items = known.map(({ name, nats, bits, is_model: isModel }) => element("li", { className: isModel ? "this-model" : "" },
    write(element("span", { className: "name" }), name), bar(nats / max, isModel ? "first" : "other"),
    element("span", { className: "number" }, element("b", {}, fixed(nats)), " nats"),
    element("span", { className: "number muted" }, `${fixed(bits ?? toBits(nats))} bits`)));
  const list = element("ol", { className: "baselines" }, ...items);
  return note ? [list, paragraph(note, "muted small")] : [list];
}
