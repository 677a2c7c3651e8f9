// @ts-check
// The loss by kind of token, of the model and of the best n-gram model.

import { element } from "../shared/dom.js";
import { bar, legend } from "./controls.js";
import { fixed, largest, percent, write } from "./format.js";

/**
 * A kind of token: how many there are, and the sum of their bits for each model.
 * @typedef {{ name: string, tokens: number, bits: (number | null)[] }} TokenKind
 */

/** @param {{ models?: string[], rows?: TokenKind[] }} data */
export function lossBreakdownSection({ models = [], rows = [] }) {
  const kinds = rows.filter((kind) => kind.tokens > 0);
  if (!kinds.length) return [];
  const sums = models.map((_, model) => kinds.reduce((sum, kind) => sum + (kind.bits[model] ?? 0), 0));
  const tokens = kinds.reduce((sum, kind) => sum + kind.tokens, 0);
  const shares = kinds.map((kind) => models.map((_, model) => (kind.bits[model] ?? 0) / (sums[model] || 1)));
  const means = kinds.map((kind) => models.map((_, model) => (kind.bits[model] ?? 0) / kind.tokens));
  const [maxShare, maxMean] = [largest(shares.flat()) || 1, largest(means.flat()) || 1];
  const items = kinds.map((kind, index) => element("div", { className: "loss-row", role: "row" },
    element("span", { className: "name", role: "rowheader" }, write(element("span"), kind.name),
      element("small", { className: "muted number" }, ` ${percent(kind.tokens / tokens)} of the tokens`)),
    barPair(shares[index], maxShare, percent), barPair(means[index], maxMean, (mean) => fixed(mean, 2))));
  const titles = ["kind of token", "share of all bits", "bits per token"].map((name) => element("span", { role: "columnheader" }, name));
  const head = element("div", { className: "loss-row head muted", role: "row" }, ...titles);
  const names = models.map((name, model) => /** @type {[string, string]} */ ([model ? "other" : "first", name]));
  return [legend(...names), element("div", { className: "kinds", role: "table", ariaLabel: "Bits by kind of token" }, head, ...items)];
}

/**
 * @param {number[]} values one for each model
 * @param {number} max
 * @param {(value: number) => string} format
 */
function barPair(values, max, format) {
  const bars = values.map((value, model) => element("span", { className: "bar" }, bar(value / max, model ? "other" : "first"),
    element("span", { className: "number", textContent: format(value) })));
  return element("div", { className: "bar-pair", role: "cell" }, ...bars);
}
