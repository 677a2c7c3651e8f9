// @ts-check
// The confusion matrix of a model that predicts labels, and its most frequent errors.

import { element } from "../shared/dom.js";
import { plural } from "../shared/visible_text.js";
import { dataText, integer, paragraph, percent } from "./format.js";
import { Matrix } from "./matrix.js";

const MAX_ERRORS = 10;

/**
 * @param {(number | null)[][]} rows counts: a row for each true label, a column for each predicted label
 * @param {{ table: { labels?: unknown[] } }} report
 */
export function confusionSection(rows, { table }) {
  const labels = rows.map((_, index) => String(table.labels?.[index] ?? index));
  const counts = rows.map((row) => row.map((count) => count ?? 0));
  const sums = counts.map((row) => row.reduce((sum, count) => sum + count, 0));
  const share = (/** @type {number} */ row, /** @type {number} */ column) => (counts[row][column] ?? 0) / (sums[row] || 1);
  const matrix = new Matrix({
    name: `Confusion matrix of ${labels.length} labels, true labels down, predictions across`,
    rows: labels,
    columns: labels,
    cell: (row, column) => ({ className: row === column ? "right" : "wrong", strength: Math.sqrt(share(row, column)) }),
    describe: (row, column) => [
      dataText(labels[row]), element("span", {}, row === column ? "predicted correctly " : "predicted as "),
      ...(row === column ? [] : [dataText(labels[column])]), element("b", {}, plural(counts[row][column] ?? 0, "time")),
      element("span", {}, `${percent(share(row, column))} of ${integer(sums[row])}`),
    ],
  });
  const axes = element("p", { className: "muted small" }, "down: the true label; across: the prediction");
  const left = element("div", {}, axes, matrix.box, matrix.readout);
  return [element("div", { className: "confusion" }, left, largestErrors(counts, labels, sums))];
}

/**
 * @param {number[][]} counts
 * @param {string[]} labels
 * @param {number[]} sums
 */
function largestErrors(counts, labels, sums) {
  const errors = counts.flatMap((values, row) => values.map((count, column) => ({ count, row, column })));
  const found = errors.filter(({ count, row, column }) => count > 0 && column !== row).sort((a, b) => b.count - a.count);
  const items = found.slice(0, MAX_ERRORS).map(({ count, row, column }) => element("li", {},
    element("span", {}, dataText(labels[row], { max: 24 }), " as ", dataText(labels[column], { max: 24 })),
    element("span", { className: "muted number" }, `${plural(count, "time")}, ${percent(count / sums[row])}`)));
  const list = items.length ? element("ol", { className: "confused-pairs" }, ...items) : paragraph("There are no errors.", "muted");
  return element("div", { className: "largest-errors" }, element("h3", { textContent: "Most frequent errors" }), list);
}
