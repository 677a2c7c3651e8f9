// @ts-check
// What changes when a neuron is clamped to a value: the surprisal of the text, and a sample with and without it.

import { byId, element } from "../shared/dom.js";
import { writeText } from "../shared/visible_text.js";
import { changeAt, data, neuronName, NO_CHANGE, signed } from "./data.js";
import { COLOR_CLASSES, colorClassNumber } from "./palette.js";

/** @typedef {import("./data.js").Intervention} Intervention */
/** @typedef {import("./text_view.js").Coloring} Coloring */

/**
 * For each intervention, the change in bits whose color is the strongest, and the colors of the text.
 * @type {{ scale: number, coloring: Coloring }[]}
 */
export const interventionColors = [];

/** Prepare the colors of all interventions, and list them. */
export function setUpInterventions() {
  interventionColors.push(...data.interventions.map(colorsOf));
  byId("interventions").replaceChildren(...data.interventions.map(interventionRow));
}

/**
 * The scale ends at the change that is larger than nearly all others.
 * @param {Intervention} intervention
 */
function colorsOf(intervention) {
  const known = Array.from(intervention.surprisalChanges).filter((level) => level !== NO_CHANGE);
  const sizes = known.map((level) => Math.abs(level) / 100).sort((a, b) => a - b);
  const scale = Math.max(0.1, sizes[Math.floor(sizes.length * 0.99)] ?? 0);
  const levels = Uint8Array.from({ length: data.count }, (_, position) =>
    colorClassNumber("change", changeAt(intervention, position) / scale));
  return { scale, coloring: { levels, classOfLevel: COLOR_CLASSES.map((_, index) => index) } };
}

/** @param {Intervention} intervention */
export const clampText = ({ value }) => (value ? `clamped to ${signed(value)}` : "clamped to 0");

/**
 * Return a row that shows an intervention when it is clicked (main.js listens for clicks on `data-intervention`).
 * @param {Intervention} intervention
 * @param {number} index
 */
function interventionRow(intervention, index) {
  const top = element("span", { className: "row-top" },
    element("span", { className: "code", textContent: neuronName(intervention.neuron) }),
    element("b", { textContent: clampText(intervention) }));
  const change = `${signed(intervention.meanChange ?? 0, 3)} bits per token`;
  const button = element("button", { type: "button", className: "plain row" }, top,
    element("span", { className: "muted number", textContent: change }));
  if (intervention.feature) button.append(element("span", { className: "muted", textContent: intervention.feature }));
  button.dataset.intervention = String(index);
  return element("li", {}, button);
}

/**
 * Show the samples without and with the clamp.
 * @param {Intervention} intervention
 */
export function showSamples({ neuron, value, originalSample, clampedSample, seed }) {
  const [original, clamped] = [Array.from(originalSample), Array.from(clampedSample)];
  let same = 0;
  while (same < original.length && same < clamped.length && original[same] === clamped[same]) same++;
  const isEqual = same === original.length && same === clamped.length;
  const difference = isEqual ? "They do not differ." : `They are the same for ${same} characters; the first difference is marked.`;
  byId("samples").replaceChildren(
    sampleBox("Without the clamp", original, same),
    sampleBox(`Neuron ${neuronName(neuron)} clamped to ${signed(value ?? 0)}`, clamped, same),
    element("p", { className: "muted", textContent: `Both from seed ${seed}. ${difference}` }));
}

/**
 * @param {string} title
 * @param {string[]} characters
 * @param {number} same how many are the same in both samples
 */
function sampleBox(title, characters, same) {
  const part = (/** @type {number} */ from, /** @type {number} */ to) =>
    writeText(element("span"), characters.slice(from, to).join("") || " ", { max: Infinity });
  const text = element("div", { className: "sample code" });
  if (same) text.append(Object.assign(part(0, same), { className: "common-prefix" }));
  if (same < characters.length) text.append(writeText(element("mark"), characters[same], { max: Infinity }));
  if (same + 1 < characters.length) text.append(part(same + 1, characters.length));
  return element("div", {}, element("h2", { textContent: title }), text);
}
