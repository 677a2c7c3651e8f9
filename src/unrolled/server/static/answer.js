// @ts-check
// The answer to a row: probabilities as bars, and attention as a map.

import { dataText, isNumber, multilineText, percent, write } from "./report/format.js";
import { Matrix } from "./report/matrix.js";
import { element } from "./shared/dom.js";

/** @typedef {{ source: string[], target: string[], weights: number[][] }} Attention */
/** @typedef {import("./table_form.js").Column} Column */
/** @typedef {{ steps?: [string, string][] | null, answer: unknown, probability?: number | null, probabilities?: Record<string, number> | null, attention?: Attention | null }} Answer */

const MAX_BARS = 12;
const MAX_SHOWN = 10_000;
const MAX_SHOWN_STEPS = 2000;

/** @param {unknown} answer */
export const textOfAnswer = (answer) => (typeof answer === "string" ? answer : JSON.stringify(answer));

/**
 * Return a box with an answer; an empty one is named.
 * @param {unknown} answer
 * @param {string} className
 */
function answerBox(answer, className) {
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
  return element("figure", {}, element("h2", { textContent: "Attention" }), matrix.box, matrix.readout);
}

/**
 * Return the picture that is an answer; null if it is none.
 * @param {unknown} answer rows of values, or of lists of values, as JSON
 * @param {Column | undefined} target
 */
function pictureOf(answer, target) {
  if (target?.kind !== "image" || !target.shape || typeof answer !== "string") return null;
  const [[height, width, channels], low, high] = [target.shape, target.low ?? 0, target.high ?? 255];
  const values = /** @type {number[]} */ (JSON.parse(answer).flat(2));
  if (values.length !== height * width * channels) return null;
  const canvas = element("canvas", { width, height, className: "picture", role: "img", ariaLabel: `Picture of ${height} x ${width} pixels` });
  const image = new ImageData(width, height);
  for (let pixel = 0; pixel < height * width; pixel++) {
    const levels = values.slice(pixel * channels, (pixel + 1) * channels).map((value) => (value - low) / (high - low || 1) * 255);
    image.data.set(channels < 3 ? [levels[0], levels[0], levels[0], levels[1] ?? 255] : [...levels.slice(0, 3), levels[3] ?? 255], 4 * pixel);
  }
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  return canvas;
}

/**
 * Return the steps of a row with their labels under them; adjacent characters with the same label are one, words are not.
 * @param {[string, string][]} steps
 */
function labeledText(steps) {
  const isSpaced = steps.some(([step]) => [...step].length > 1);
  /** @type {[string[], string][]} */
  const runs = [];
  for (const [step, label] of steps.slice(0, MAX_SHOWN_STEPS)) {
    const last = runs.at(-1);
    if (!isSpaced && last && last[1] === label) last[0].push(step);
    else runs.push([[step], label]);
  }
  const parts = runs.map(([texts, label]) => element("ruby", {},
    write(element("span", { className: "code" }), texts.join(""), { max: 2000 }), write(element("rt"), label, { max: 40 })));
  return element("p", { className: "labeled" }, ...parts.flatMap((part) => [part, " "]));
}

/**
 * @param {HTMLElement} container
 * @param {Answer} answer
 * @param {string} asked the row as one text
 * @param {Column} [target]
 */
export function showAnswer(container, answer, asked, target) {
  const shown = answer.steps?.length ? labeledText(answer.steps) : pictureOf(answer.answer, target) ?? answerBox(answer.answer, "answer-text");
  /** @type {HTMLElement[]} */
  const parts = [write(element("p", { className: "muted small" }), asked, { max: 120 }), shown];
  if (isNumber(answer.probability) && target?.kind !== "image") parts.push(element("p", { className: "muted number", textContent: `probability ${percent(answer.probability)}` }));
  if (answer.probabilities && Object.keys(answer.probabilities).length) parts.push(bars(answer.probabilities));
  if (answer.attention?.weights?.length && answer.attention.source.length > 1) parts.push(attentionMap(answer.attention));
  container.replaceChildren(...parts);
}
