// @ts-check
// How far back the model uses its context: by the loss with short contexts, and by the gradient.

import { element, svgElement } from "../shared/dom.js";
import { plural } from "../shared/visible_text.js";
import { chart, createPlot, dots, line } from "./charts.js";
import { compact, fixed, integer, isNumber, percent, plainText } from "./format.js";
import { domainOf } from "./scales.js";

/** @typedef {import("./charts.js").Point} Point */

/**
 * @typedef {object} ContextUse
 * @property {number[]} [contexts] lengths in tokens
 * @property {(number | null)[]} [nats] the loss with each of them
 * @property {number | null} [effective_context] the shortest context whose loss is nearly the best
 * @property {(number | null)[]} [gradient_share] the share of the gradient that goes 1, 2, 3, ... tokens back
 */

/**
 * @param {ContextUse} data
 * @param {{ curves?: { loss_unit?: string } | null }} report
 */
export function contextUseSection({ contexts = [], nats = [], effective_context: enough, gradient_share: shares = [] }, report) {
  const unit = plainText(report.curves?.loss_unit || "token", { max: 20 });
  const losses = /** @type {Point[]} */ (contexts.map((context, index) => [context, nats[index]]).filter((point) => point.every(isNumber)));
  const gradient = /** @type {Point[]} */ (
    shares.map((share, index) => [index + 1, share]).filter(([, share]) => isNumber(share) && share > 0));
  const charts = [];
  if (losses.length > 1) charts.push(contextChart(losses, enough, unit));
  if (gradient.length > 1) charts.push(gradientChart(gradient));
  if (!charts.length) return [];
  const parts = [element("div", { className: "halves" }, ...charts)];
  if (!isNumber(enough) || losses.length < 2) return parts;
  return [element("p", {}, "With a context of ", element("b", {}, `${integer(enough)} ${unit}s`),
    " its predictions are nearly as good as with the longest context that was tried."), ...parts];
}

/**
 * @param {Point[]} points
 * @param {number | null | undefined} enough
 * @param {string} unit
 */
function contextChart(points, enough, unit) {
  const contexts = points.map((point) => point[0]);
  const x = { domain: domainOf(contexts), log: true, ticks: contexts, title: `${unit}s of context` };
  const y = { domain: domainOf(points.map((point) => point[1]), 0.06), title: `nats per ${unit}` };
  const description = `Loss by context: ${points.map(([n, loss]) => `${n}: ${fixed(loss, 2)}`).join(", ")}.`;
  return chart(description, 250, (width, height) => {
    const plot = createPlot(width, height, { x, y });
    if (isNumber(enough)) {
      const at = plot.x(enough);
      plot.root.append(svgElement("line", { x1: at, x2: at, y1: plot.top, y2: plot.bottom, class: "reference" }),
        svgElement("text", { x: at - 5, y: plot.top + 10, class: "tick halo end" }, "enough"));
    }
    plot.root.append(line(plot, points, "first"), dots(plot, points, "first"));
    return plot.root;
  }).box;
}

/** @param {Point[]} points */
function gradientChart(points) {
  const [first, last] = [points[0], points[points.length - 1]];
  const x = { domain: /** @type {[number, number]} */ ([1, last[0]]), log: true, title: "tokens back" };
  const y = { domain: domainOf(points.map((point) => point[1])), log: true, title: "share of the gradient",
    format: (/** @type {number} */ value) => `${Number((100 * value).toPrecision(2))}%` };
  const description = `Share of the gradient by distance: ${percent(first[1])} one token back, ` +
    `${compact(100 * last[1])}% ${plural(last[0], "token")} back.`;
  return chart(description, 250, (width, height) => {
    const plot = createPlot(width, height, { x, y });
    plot.root.append(line(plot, points, "first"));
    return plot.root;
  }).box;
}
