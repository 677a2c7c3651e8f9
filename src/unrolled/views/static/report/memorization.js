// @ts-check
// How much of the training text samples copy.

import { element } from "../shared/dom.js";
import { plural } from "../shared/visible_text.js";
import { chart, createPlot, line } from "./charts.js";
import { legend } from "./controls.js";
import { integer, isNumber, multilineText, paragraph, percent } from "./format.js";

/**
 * A row of `new_ngrams`: n, and the shares of the n-grams of samples and of real text that are not in the training text.
 * @typedef {[number, number, number]} NgramRow
 */

/**
 * @typedef {object} Memorization
 * @property {number | null} [samples]
 * @property {number | null} [tokens] in all samples
 * @property {number | null} [seed] of the sample with the longest copy
 * @property {number | null} [longest_copy] in tokens
 * @property {string} [copied_text]
 * @property {NgramRow[]} [new_ngrams]
 * @property {{ generated: number, new: number, distinct: number, valid?: number | null } | null} [documents]
 */

/** @param {Memorization} data */
export function memorizationSection(data) {
  /** @type {Node[]} */
  const parts = [];
  if (data.new_ngrams?.length) {
    parts.push(legend(["first", "samples"], ["reference-line", "real text that was not trained on"]), newNgramsChart(data.new_ngrams));
  }
  if (isNumber(data.longest_copy)) parts.push(...longestCopy(data));
  if (data.documents) {
    const { generated, new: fresh, distinct, valid } = data.documents;
    const accepted = !isNumber(valid) ? "" : `${percent(valid)} are valid (kept by the command of --keep-if), `;
    parts.push(paragraph(`Of ${integer(generated)} generated documents, ${accepted}${percent(fresh)} are not in the training text, and ${percent(distinct)} differ from one another.`));
  }
  return parts;
}

/** @param {NgramRow[]} rows */
function newNgramsChart(rows) {
  const sizes = rows.map((row) => row[0]);
  const x = { domain: /** @type {[number, number]} */ ([1, sizes[sizes.length - 1]]), title: "n, tokens in a sequence",
    ticks: sizes.filter((n) => n === 1 || n % 5 === 0) };
  const y = { domain: /** @type {[number, number]} */ ([0, 1]), title: "sequences not in the training text",
    format: (/** @type {number} */ value) => `${Math.round(value * 100)}%` };
  const [n, ofSamples, ofText] = rows[Math.min(rows.length, 8) - 1];
  const description = `Of sequences of ${n} tokens, ${percent(ofSamples)} of those in samples and ${percent(ofText)} of those in ` +
    "real text are not in the training text.";
  return chart(description, 260, (width, height) => {
    const plot = createPlot(width, height, { x, y });
    plot.root.append(line(plot, rows.map((row) => [row[0], row[2]]), "reference-line"),
      line(plot, rows.map((row) => [row[0], row[1]]), "first"));
    return plot.root;
  }).box;
}

/** @param {Memorization} data */
function longestCopy({ longest_copy: length, copied_text: text, samples, tokens, seed }) {
  const where = isNumber(samples) && isNumber(tokens) ? ` in ${plural(samples, "sample")} with ${plural(tokens, "token")} in total` : "";
  const from = isNumber(seed) ? `, with seed ${seed}` : "";
  const head = element("p", {}, "The longest sequence that was copied from the training text has ",
    element("b", {}, plural(length ?? 0, "token")), `${where}${from}:`);
  return text ? [head, multilineText(text)] : [head];
}
