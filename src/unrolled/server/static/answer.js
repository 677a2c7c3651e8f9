// @ts-check
// The answer to a row: probabilities as bars, and attention as a map.

import { dataText, isNumber, multilineText, percent, write } from "./report/format.js";
import { Matrix } from "./report/matrix.js";
import { element } from "./shared/dom.js";

/** @typedef {{ source: string[], target: string[], weights: number[][] }} Attention */
/** @typedef {{ answer: unknown, probability?: number | null, probabilities?: Record<string, number> | null, attention?: Attention | null }} Answer */

const MAX_BARS = 12;
const MAX_SHOWN = 10_000;

/** @param {unknown} answer */
export const textOfAnswer = (answer) => (typeof answer === "string" ? answer : JSON.stringify(answer));

/**
 * Return a box with an answer; an empty one is named.
 * @param {unknown} answer
 * @param {string} className
 */
export function answerBox(answer, className) {
  const text = textOfAnswer(answer).slice(0, MAX_SHOWN);
  return text ? multilineText(text, className) : element("div", { className }, dataText(""));
}

/** @param {Record<string, number>} probabilities */
function bars(probabilities) {
  const sorted = Object.entries(probabilities).sort((a, b) => b[1] - a[1]).slice(0, MAX_BARS);
  return element("ul", { className: "probabilities", ariaLabel: "Probabilities" }, ...sorted.map(([name, value]) => {
    const fill = element("span", { className: "fill" });
    fill.style.width = `${Math.max(0, Math.min(1, value)) * 100}%`;
    return element("li", {}, write(element("span"), name, { max: 60 }),
      element("span", { className: "track", ariaHidden: "true" }, fill), element("span", { className: "number", textContent: percent(value) }));
  }));
}

/** @param {Attention} attention */
function attentionMap({ source, target, weights }) {
  const matrix = new Matrix({
    name: "Attention", rows: target, columns: source, isToken: true, maxCellSize: 22,
    cell: (row, column) => ({ className: "attended", strength: weights[row]?.[column] ?? 0 }),
    describe: (row, column) => [element("span", {}, "output "), write(element("b"), target[row], { max: 20 }),
      element("span", {}, " attends to "), write(element("b"), source[column], { max: 20 }),
      element("span", {}, ` ${percent(weights[row]?.[column])}`)],
  });
  return element("figure", {}, element("h3", { textContent: "Attention" }), matrix.box, matrix.readout);
}

/**
 * @param {HTMLElement} container
 * @param {Answer} answer
 * @param {string} asked the row as one text
 */
export function showAnswer(container, answer, asked) {
  /** @type {HTMLElement[]} */
  const parts = [write(element("p", { className: "muted small" }), asked, { max: 120 }), answerBox(answer.answer, "answer-text")];
  if (isNumber(answer.probability)) parts.push(element("p", { className: "muted number", textContent: `probability ${percent(answer.probability)}` }));
  if (answer.probabilities && Object.keys(answer.probabilities).length) parts.push(bars(answer.probabilities));
  if (answer.attention?.weights?.length) parts.push(attentionMap(answer.attention));
  container.replaceChildren(...parts);
}
