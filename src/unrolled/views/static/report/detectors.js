// @ts-check
// Neurons that follow a feature of the text.

import { element } from "../shared/dom.js";
import { plural } from "../shared/visible_text.js";
import { choices, table } from "./controls.js";
import { fixed, isNumber, percent, write } from "./format.js";

/**
 * @typedef {object} Detector
 * @property {number} layer
 * @property {number} neuron
 * @property {string} feature
 * @property {string} description
 * @property {string} metric
 * @property {number | null} score
 * @property {number} sign -1 if the neuron goes down where the feature goes up
 * @property {number | null} p_value
 * @property {boolean} is_detector
 */

/**
 * A text, and the values of some neurons at each of its tokens.
 * @typedef {object} Snippet
 * @property {string[]} tokens
 * @property {{ layer: number, neuron: number, feature: string, values: (number | null)[] }[]} rows
 */

const POSITIVE = { light: "62 188 116", dark: "16 116 58" };
const NEGATIVE = { light: "112 164 255", dark: "45 92 205" };
const FIRST_ROWS = 10;

/**
 * @param {{ share?: number | null, tokens?: number | null, rows?: Detector[], snippet?: Snippet | null }} data
 */
export function detectorsSection({ share, tokens, rows = [], snippet }) {
  /** @type {Node[]} */
  const parts = [];
  if (isNumber(share)) {
    const measured = isNumber(tokens) ? `, measured on ${plural(tokens, "token")}` : "";
    parts.push(element("p", {}, element("b", {}, percent(share)),
      ` of the neurons are detectors: they follow a feature that takes memory to know${measured}.`));
  }
  if (snippet?.rows?.length) parts.push(...coloredText(snippet));
  if (rows.length) parts.push(...detectorTable(rows));
  return parts;
}

/** @param {Snippet} snippet */
function coloredText({ tokens, rows }) {
  const scale = element("p", { className: "scale muted" }, "\u22121", element("span", { className: "ramp", ariaHidden: "true" }), "+1");
  const spans = tokens.map((token) => write(element("span"), token));
  const text = element("div",
    { className: "colored-text code", tabIndex: 0, role: "region", ariaLabel: "Text colored by a neuron" }, ...spans);
  const show = (/** @type {string} */ row) => {
    const { values } = rows[Number(row)];
    spans.forEach((span, position) => { span.style.backgroundColor = colorOf(values[position]); });
  };
  show("0");
  const names = rows.map(({ layer, neuron, feature }, index) =>
    /** @type {[string, string]} */ ([String(index), `${layer}.${neuron} ${feature}`]));
  return [element("div", { className: "controls" }, choices("Neuron", names, "0", show), scale), text];
}

/** @param {unknown} value */
function colorOf(value) {
  if (!isNumber(value)) return "";
  const { light, dark } = value > 0 ? POSITIVE : NEGATIVE;
  const strength = Math.min(1, Math.abs(value)).toFixed(2);
  return `light-dark(rgb(${light} / ${strength}), rgb(${dark} / ${strength}))`;
}

/** @param {Detector[]} rows */
function detectorTable(rows) {
  const bound = pBound(rows);
  const head = ["neuron", "follows", bound ? `score (all ${bound})` : "score", ...(bound ? [] : ["p"]), "note"];
  const create = (/** @type {number} */ count) => table(head, rows.slice(0, count).map((row) => detectorCells(row, !bound)), "detectors");
  if (rows.length <= FIRST_ROWS) return [create(rows.length)];
  const holder = element("div", {}, create(FIRST_ROWS));
  const more = element("button", { type: "button", className: "plain more", textContent: `Show all ${rows.length}` });
  more.addEventListener("click", () => {
    holder.replaceChildren(create(rows.length));
    more.remove();
  });
  return [holder, more];
}

/**
 * Returns what holds for the p of all detectors, or "" if they differ: the least p that the test can find would fill the column.
 *
 * @param {Detector[]} rows
 */
function pBound(rows) {
  const values = new Set(rows.map(({ p_value: p }) => p));
  const [p] = values;
  return values.size === 1 && isNumber(p) ? `p \u2264 ${Number(p.toPrecision(2))}` : "";
}

/**
 * @param {Detector} detector
 * @param {boolean} withP
 */
function detectorCells(detector, withP) {
  const { layer, neuron, feature, description, metric, score, sign, p_value: p, is_detector: isDetector } = detector;
  const title = "the neuron goes down where the feature goes up";
  const inverted = sign < 0 ? element("small", { className: "muted", title }, " inverted") : "";
  const pText = isNumber(p) ? (p < 0.001 ? "< 0.001" : String(Number(p.toPrecision(2)))) : "\u2013";
  return [
    element("span", { className: "code" }, `${layer}.${neuron}`),
    element("span", {}, write(element("b"), feature), " ",
      write(element("span", { className: "muted" }), description ?? "", { max: 200 })),
    element("span", { className: "number nowrap" }, `${metric ?? ""} ${fixed(score)}`, inverted),
    ...(withP ? [element("span", { className: "number nowrap" }, pText)] : []),
    isDetector ? element("span", { className: "badge" }, "detector") : "",
  ];
}
