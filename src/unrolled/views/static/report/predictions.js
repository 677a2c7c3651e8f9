// @ts-check
// Predicted numbers next to the true ones, and probabilities next to the share of right answers.

import { element } from "../shared/dom.js";
import { chart, clipped, createPlot, dots, line } from "./charts.js";
import { compact, integer, isNumber, paragraph, percent } from "./format.js";
import { table } from "./controls.js";

/** @typedef {[number, number]} Point */

/**
 * @param {{ name?: string, points?: Point[] }} data
 */
export function scatterSection({ name = "", points = [] }) {
  const known = points.filter((point) => point.every(isNumber));
  if (!known.length) return [];
  const values = known.flat();
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low || 1) * 0.04;
  const domain = /** @type {Point} */ ([low - room, high + room]);
  return [square(`True and predicted ${name}`, domain, known, { title: "true", format: compact }, { title: "predicted", format: compact })];
}

/** @param {[number, number, number][]} groups mean probability, share of right answers, rows */
export function calibrationSection(groups) {
  const points = groups.map(([probability, share]) => /** @type {Point} */ ([probability, share]));
  const axis = { format: percent };
  const drawing = square("Probability and share of right answers", [0, 1], points,
    { title: "probability of the answer", ...axis }, { title: "right answers", ...axis }, true);
  const lines = groups.map(([probability, share, rows]) => [percent(probability), percent(share), integer(rows)]);
  const details = element("details", {}, element("summary", {}, "As a table"),
    table(["probability", "right", "rows"], lines, "number"));
  return [drawing, details, paragraph("Each dot is a tenth of the rows, or at least five rows.", "muted small")];
}

/**
 * Return a plot whose axes have the same values, with a dashed line where both are equal.
 * @param {string} description
 * @param {Point} domain
 * @param {Point[]} points
 * @param {{ title: string, format: (value: number) => string }} x
 * @param {{ title: string, format: (value: number) => string }} y
 */
function square(description, domain, points, x, y, isJoined = false) {
  const { box } = chart(description, 320, (width, height) => {
    const plot = createPlot(Math.min(width, 460), height, { x: { domain, ...x }, y: { domain, ...y } });
    const parts = [line(plot, [[domain[0], domain[0]], [domain[1], domain[1]]], "equal"), dots(plot, points, "first")];
    if (isJoined) parts.push(line(plot, points, "first"));
    plot.root.append(clipped(plot, ...parts));
    return plot.root;
  });
  return box;
}
