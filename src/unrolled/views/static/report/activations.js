// @ts-check
// The saturation of the gates, and histograms of the activations.

import { element, svgElement } from "../shared/dom.js";
import { chart, createPlot, dots } from "./charts.js";
import { legend } from "./controls.js";
import { compact, largest, percent, plainText, write } from "./format.js";

/** @type {Record<string, string>} */
const GATE_TITLES = { i: "input gate", f: "forget gate", o: "output gate", r: "reset gate", z: "update gate" };

/**
 * For each gate, a point for each neuron, layer by layer: the shares of time when it is closed and when it is open.
 * @typedef {{ names?: string[], layers?: number, hidden_size?: number, points?: Record<string, [number, number][]> }} GateSaturation
 */

/** @param {GateSaturation} data */
export function gateSaturationSection({ names = [], layers = 1, points = {}, hidden_size: hiddenSize }) {
  const gates = names.filter((name) => points[name]?.length);
  if (!gates.length) return [];
  const size = hiddenSize || Math.ceil(points[gates[0]].length / layers);
  const plots = gates.map((name) => saturationPlot(name, points[name], layers, size));
  const entries = Array.from({ length: layers }, (_, layer) =>
    /** @type {[string, string]} */ ([`layer${layer % 4}`, `layer ${layer}`]));
  return [...(layers > 1 ? [legend(...entries)] : []), element("div", { className: "small-plots few" }, ...plots)];
}

/**
 * @param {string} name
 * @param {[number, number][]} points
 * @param {number} layers
 * @param {number} size neurons in a layer
 */
function saturationPlot(name, points, layers, size) {
  const title = GATE_TITLES[name] ?? name;
  const axis = { domain: /** @type {[number, number]} */ ([0, 1]), ticks: [0, 0.5, 1],
    format: (/** @type {number} */ value) => `${Math.round(value * 100)}%` };
  const mean = (/** @type {0 | 1} */ column) => percent(points.reduce((sum, point) => sum + (point[column] ?? 0), 0) / points.length);
  const description = `${title}: on average open (above 0.9) ${mean(1)} of the time, closed (below 0.1) ${mean(0)}.`;
  const { box } = chart(description, 240, (width, height) => {
    const plot = createPlot(width, height, { x: { ...axis, title: "open > 0.9" }, y: { ...axis, title: "closed < 0.1" } });
    plot.root.append(svgElement("line", { x1: plot.x(0), y1: plot.y(1), x2: plot.x(1), y2: plot.y(0), class: "reference" }));
    for (let layer = 0; layer < layers; layer++) {
      const ofLayer = points.slice(layer * size, (layer + 1) * size);
      plot.root.append(dots(plot, ofLayer.map(([closed, open]) => [open, closed]), `faint layer${layer % 4}`));
    }
    return plot.root;
  });
  return element("figure", {}, element("figcaption", {}, element("b", {}, title),
    element("span", { className: "muted small" }, ` open ${mean(1)}, closed ${mean(0)}`)), box);
}

/** @typedef {{ name: string, low: number, high: number, counts: (number | null)[] }} Histogram */

/** @param {Histogram[]} histograms */
export function histogramsSection(histograms) {
  return [element("div", { className: "small-plots" }, ...histograms.filter(({ counts }) => counts?.length).map(histogram))];
}

/** @param {Histogram} histogram */
function histogram({ name, low, high, counts: countsOrNull }) {
  const counts = countsOrNull.map((count) => count ?? 0);
  const [max, sum] = [largest(counts) || 1, counts.reduce((a, b) => a + b, 0) || 1];
  const margin = { left: 8, right: 8, top: 6, bottom: 22 };
  const x = { domain: /** @type {[number, number]} */ ([low, high]), ticks: [low, (low + high) / 2, high] };
  const y = { domain: /** @type {[number, number]} */ ([0, 1]), ticks: [] };
  const description = `Values of ${plainText(name, { max: 40 })}, from ${compact(low)} to ${compact(high)}.`;
  const { box } = chart(description, 110, (width, height) => {
    const plot = createPlot(width, height, { x, y, margin });
    const step = (plot.right - plot.left) / counts.length;
    const bars = counts.map((count, index) => {
      const barHeight = (-count / max) * (plot.bottom - plot.top);
      return `M${(plot.left + index * step).toFixed(1)} ${plot.bottom}v${barHeight.toFixed(1)}` +
        `h${Math.max(1, step - 1).toFixed(1)}V${plot.bottom}z`;
    });
    plot.root.append(svgElement("path", { d: bars.join(""), class: "bars" }));
    return plot.root;
  });
  const ends = `ends ${percent(counts[0] / sum)}, ${percent(counts[counts.length - 1] / sum)}`;
  return element("figure", {}, element("figcaption", {}, write(element("b"), name),
    element("span", { className: "muted small number" }, ` ${ends}`)), box);
}
