// @ts-check
// The numbers of a cell, one at every step, as lines.

import { brokenLine, chart, clipped, createPlot, MARGIN, partsOf } from "./charts.js";
import { axisFormat } from "./format.js";
import { domainOf } from "./scales.js";

/** @typedef {import("./charts.js").Point} Point */

const HEIGHT = 110;
export const LINES_MARGIN = { ...MARGIN, top: 8, right: 8, bottom: 22 };

/**
 * Return a drawing of numbers from step 1 to the last, null for gaps.
 * @param {(number | null)[][]} lines
 * @param {number} steps
 * @param {string} name
 */
export function numberLines(lines, steps, name) {
  const last = Math.max(1, (lines[0]?.length ?? 0) - 1);
  const places = Array.from({ length: last + 1 }, (_, index) => 1 + (index * (steps - 1)) / last);
  const y = domainOf(lines.flat(), 0.06);
  return chart(`${name}: ${steps} steps`, HEIGHT, (width, height) => {
    const x = /** @type {Point} */ ([1, Math.max(2, steps)]);
    const plot = createPlot(width, height, { x: { domain: x }, y: { domain: y, format: axisFormat(y) }, margin: LINES_MARGIN });
    plot.root.append(clipped(plot, ...lines.map((line, index) => brokenLine(plot, partsOf(places, line), `layer${index}`))));
    return plot.root;
  }).box;
}
