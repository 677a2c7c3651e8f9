// @ts-check
// Charts as SVG: drawn for the width that they get, and drawn again when it changes.

import { element, svgElement } from "../shared/dom.js";
import { compact, isNumber, plainText } from "./format.js";
import { createScale, ticksWithRoom } from "./scales.js";

/** @typedef {import("./scales.js").AxisSpec} AxisSpec */
/** @typedef {import("./scales.js").Scale} Scale */
/** @typedef {[number, number]} Point */
/** @typedef {{ left: number, right: number, top: number, bottom: number }} Margin */

/**
 * An SVG with axes: its scales, and the edges of its area in pixels.
 * @typedef {{ root: SVGSVGElement, x: Scale, y: Scale, left: number, right: number, top: number, bottom: number }} Plot
 */

export const MARGIN = { left: 52, right: 18, top: 26, bottom: 38 };
const MAX_POINTS = 3000;

// ---- axes

/**
 * Return a plot with axes and nothing in it.
 * @param {number} width
 * @param {number} height
 * @param {{ x: AxisSpec, y: AxisSpec, hideXLabels?: boolean, margin?: Margin }} spec `hideXLabels`: a chart below has them
 * @returns {Plot}
 */
export function createPlot(width, height, { x, y, hideXLabels = false, margin = MARGIN }) {
  const bottom = height - (hideXLabels ? 10 : margin.bottom);
  const [left, right] = [margin.left, width - margin.right];
  const plot = {
    root: svgElement("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "drawing" }),
    x: createScale(x, [left, right], Math.max(2, Math.floor((right - left) / 64))),
    y: createScale(y, [bottom, margin.top], Math.max(4, Math.floor((bottom - margin.top) / 38))),
    left, right, top: margin.top, bottom,
  };
  plot.root.append(...yAxis(plot, y), ...xAxis(plot, x, hideXLabels));
  return plot;
}

/**
 * @param {Plot} plot
 * @param {AxisSpec} axis
 */
function yAxis({ y, left, right }, { title = "", format = compact }) {
  const lines = y.ticks.flatMap((tick) => [
    svgElement("line", { x1: left, x2: right, y1: y(tick), y2: y(tick), class: "grid" }),
    svgElement("text", { x: left - 8, y: y(tick) + 4, class: "tick end" }, format(tick)),
  ]);
  return [...lines, svgElement("text", { x: 0, y: 12, class: "axis-title" }, title)];
}

/**
 * @param {Plot} plot
 * @param {AxisSpec} axis
 * @param {boolean} hideLabels
 */
function xAxis({ x, left, right, bottom }, { title = "", format = compact }, hideLabels) {
  const line = svgElement("line", { x1: left, x2: right, y1: bottom, y2: bottom, class: "base" });
  if (hideLabels) return [line];
  const ticks = ticksWithRoom(x, format).flatMap((tick) => [
    svgElement("line", { x1: x(tick), x2: x(tick), y1: bottom, y2: bottom + 4, class: "base" }),
    svgElement("text", { x: x(tick), y: bottom + 16, class: "tick middle" }, format(tick)),
  ]);
  return [line, ...ticks, svgElement("text", { x: right, y: bottom + 32, class: "axis-title end" }, title)];
}

// ---- what a plot holds

/**
 * Return the path of points in pixels. Of more points than pixels, each pixel column keeps its first, smallest, largest and
 * last point.
 * @param {Point[]} points
 */
function pathOf(points) {
  const kept = points.length > MAX_POINTS ? reducePoints(points) : points;
  return kept.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/** @param {Point[]} points */
function reducePoints(points) {
  const kept = [];
  for (let start = 0, end; start < points.length; start = end) {
    for (end = start + 1; end < points.length && Math.floor(points[end][0]) === Math.floor(points[start][0]);) end++;
    const column = points.slice(start, end);
    const heights = column.map((point) => point[1]);
    const indices = [0, heights.indexOf(Math.min(...heights)), heights.indexOf(Math.max(...heights)), column.length - 1];
    kept.push(...[...new Set(indices)].sort((a, b) => a - b).map((index) => column[index]));
  }
  return kept;
}

/**
 * @param {Plot} plot
 * @param {Point[]} points
 * @param {string} className
 */
export function line(plot, points, className) {
  const known = points.filter((point) => point.every(isNumber));
  const pixels = known.map(([x, y]) => /** @type {Point} */ ([plot.x(x), plot.y(y)]));
  return svgElement("path", { d: pathOf(pixels.filter((pixel) => pixel.every(isNumber))), class: `line ${className}` });
}

/**
 * Return the parts of a line between gaps, and between breaks, the indices before which one ends.
 * @param {number[]} x
 * @param {(number | null)[]} values null is a gap
 * @param {number[]} [breaks]
 * @returns {Point[][]}
 */
export function partsOf(x, values, breaks = []) {
  const starts = new Set(breaks);
  /** @type {Point[][]} */
  const parts = [];
  for (const [index, value] of values.entries()) {
    if (!isNumber(value)) continue;
    if (index === 0 || !isNumber(values[index - 1]) || starts.has(index)) parts.push([]);
    parts[parts.length - 1].push([x[index], value]);
  }
  return parts;
}

/**
 * Return parts of a line, with nothing between them; a part of one point is a dot.
 * @param {Plot} plot
 * @param {Point[][]} parts
 * @param {string} className
 */
export function brokenLine(plot, parts, className) {
  const paths = parts.map((points) => pathOf(points.map(([x, y]) => [plot.x(x), plot.y(y)])) + (points.length === 1 ? "h0" : ""));
  return svgElement("path", { d: paths.join(""), class: `line ${className}` });
}

/**
 * Return dots as one path: lines of length zero with round ends.
 * @param {Plot} plot
 * @param {Point[]} points
 * @param {string} className
 */
export function dots(plot, points, className) {
  const known = points.filter((point) => point.every(isNumber));
  const path = known.map(([x, y]) => `M${plot.x(x).toFixed(1)} ${plot.y(y).toFixed(1)}h0`);
  return svgElement("path", { d: path.join(""), class: `dots ${className}` });
}

/**
 * Return horizontal dashed lines with their names at the right end, which keep a distance from one another.
 * @param {Plot} plot
 * @param {{ name: string, value: number }[]} references
 */
export function referenceLines(plot, references) {
  const placed = references.map(({ name, value }) => ({ name, y: plot.y(value) })).filter(({ y }) => y >= plot.top);
  placed.sort((a, b) => a.y - b.y);
  let free = -Infinity;
  return placed.flatMap(({ name, y }, index) => {
    const below = placed.slice(index + 1).filter((other) => other.y - y < 13).length;
    free = Math.max(y + 4 - below * 6, free + 12);
    return [
      svgElement("line", { x1: plot.left, x2: plot.right, y1: y, y2: y, class: "reference" }),
      svgElement("text", { x: plot.right + 5, y: free, class: "tick" }, plainText(name)),
    ];
  });
}

/**
 * Cut off what lies outside the axes: an SVG inside the plot, a little larger than its area.
 * @param {Plot} plot
 * @param {...SVGElement} parts
 */
export function clipped({ left, right, top, bottom }, ...parts) {
  const [x, y, width, height] = [left - 8, top - 4, right - left + 16, bottom - top + 8];
  return svgElement("svg", { x, y, width, height, viewBox: `${x} ${y} ${width} ${height}` }, ...parts);
}

/**
 * Return a box that draws itself whenever its width changes.
 * @param {string} description what the chart shows, for screen readers
 * @param {number} height
 * @param {(width: number, height: number) => SVGSVGElement} draw
 */
export function chart(description, height, draw) {
  const box = element("div", { className: "chart" });
  let width = 0;
  const redraw = () => {
    if (!width) return;
    const drawing = draw(width, height);
    drawing.setAttribute("role", "img");
    drawing.setAttribute("aria-label", description);
    box.replaceChildren(drawing);
  };
  const fit = () => {
    const newWidth = Math.floor(box.clientWidth);
    if (!newWidth || newWidth === width) return;
    width = newWidth;
    redraw();
  };
  new ResizeObserver(() => requestAnimationFrame(fit)).observe(box);
  return { box, redraw };
}
