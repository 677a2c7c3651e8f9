// @ts-check
// Labels of steps as strips of color, one below the other, over the axis of a plot.

import { svgElement } from "../shared/dom.js";
import { isNumber } from "./format.js";

/** @typedef {import("./charts.js").Plot} Plot */

/**
 * Return a strip for each row of labels, with its name at the left. The golden angle keeps the colors of neighbors apart.
 * @param {Plot} plot
 * @param {number[]} x
 * @param {[string, (number | null)[]][]} rows name and places of the labels
 * @param {number} numLabels
 */
export function labelStrips(plot, x, rows, numLabels) {
  const height = (plot.bottom - plot.top) / rows.length;
  return rows.flatMap(([name, ids], row) => {
    const top = plot.top + row * height;
    const title = svgElement("text", { x: plot.left - 8, y: top + height / 2 + 4, class: "tick end" }, name);
    return [title, ...runs(ids).map(([start, end, id]) => {
      const [left, right] = [plot.x(x[start]), end < x.length ? plot.x(x[end]) : plot.right];
      const hue = labelHue(id, numLabels);
      const box = { x: left, y: top + 2, width: Math.max(1, right - left), height: height - 4 };
      return svgElement("rect", { ...box, style: `fill: hsl(${hue} 55% 55%)` });
    })];
  });
}

/** Return the hue of a label, in degrees. @param {number} id @param {number} numLabels */
export const labelHue = (id, numLabels) => Math.round(215 + (numLabels <= 2 ? id * 170 : id * 137.5)) % 360;

/**
 * Return the runs of equal labels: the first step, that after the last, and the label.
 * @param {(number | null)[]} ids
 */
function runs(ids) {
  /** @type {[number, number, number][]} */
  const found = [];
  for (const [index, id] of ids.entries()) {
    if (!isNumber(id)) continue;
    const last = found[found.length - 1];
    if (last && last[1] === index && last[2] === id) last[1]++;
    else found.push([index, index + 1, id]);
  }
  return found;
}
