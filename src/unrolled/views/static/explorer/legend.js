// @ts-check
// The colors of the text in each view, and the legend that explains them.

import { byId, element } from "../shared/dom.js";
import { bitsAt, data, named, neuronName, signed } from "./data.js";
import { clampText, interventionColors } from "./interventions.js";
import { COLOR_CLASSES, colorClass, colorClassNumber } from "./palette.js";
import { shownActivation, state } from "./state.js";
import { visibleTextView } from "./text_view.js";

/** @typedef {import("./text_view.js").Coloring} Coloring */
/** @typedef {import("./palette.js").Palette} Palette */

/** @type {Coloring & { maxBits: number }} */
const surprisalColors = { levels: [], classOfLevel: [], maxBits: 4 };

/** Prepare the colors of surprisal: the scale ends at the bits that 98% of the tokens do not reach. */
export function setUpSurprisal() {
  const bits = Array.from({ length: data.count }, (_, position) => bitsAt(position)).filter((value) => !Number.isNaN(value));
  bits.sort((a, b) => a - b);
  const maxBits = Math.min(12, Math.max(4, Math.ceil(bits[Math.floor(bits.length * 0.98)] ?? 4)));
  const levels = Uint8Array.from({ length: data.count }, (_, position) => colorClassNumber("surprisal", bitsAt(position) / maxBits));
  Object.assign(surprisalColors, { levels, classOfLevel: COLOR_CLASSES.map((_, index) => index), maxBits });
}

/** @returns {Coloring} */
function neuronColors() {
  const activation = shownActivation();
  const classOfLevel = Array.from(activation.values, (value) => colorClassNumber("activation", value));
  return { levels: activation.row(state.neuron), classOfLevel };
}

function textColors() {
  if (state.view === "intervention") return interventionColors[state.intervention].coloring;
  const bySurprisal = state.view === "surprisal" || (state.view === "prediction" && state.colorBy === "surprisal");
  return bySurprisal ? surprisalColors : neuronColors();
}

/** Color the text and explain the colors. */
export function showColors() {
  visibleTextView().repaint(textColors());
  showLegend();
}

/** While two ends are being marked, return what to do next, else null. */
export function markingHint() {
  return state.marking === null ? null : state.marking < 0 ? named("Choose the first token") : named("Choose the last token");
}

/**
 * Return the legend of the view: caption, palette, the text at both ends, and the value where the scale begins.
 * @returns {[string, Palette, string, string, number]}
 */
function legendOfView() {
  const activation = shownActivation();
  const caption = `Neuron ${neuronName(state.neuron)}, ${activation.title}`;
  switch (state.view) {
    case "surprisal":
      return ["Surprisal of each token", "surprisal", "0 bits", `${surprisalColors.maxBits}+ bits`, 0];
    case "prediction":
      return [`Under each token, predictions of ${data.predictsLabels ? "its label" : "the next one"}`, "probability",
        "0%", "100%", 0];
    case "intervention": {
      const intervention = data.interventions[state.intervention];
      const { scale } = interventionColors[state.intervention];
      return [`Neuron ${neuronName(intervention.neuron)} ${clampText(intervention)}`, "change",
        `${signed(-scale, 1)} bits, easier`, `${signed(scale, 1)} bits, harder`, -1];
    }
    default:
      return activation.isGate ? [caption, "activation", "0 closed", "1 open", 0] : [caption, "activation", "−1", "+1", -1];
  }
}

export function showLegend() {
  const [caption, palette, low, high, min] = legendOfView();
  byId("caption").textContent = markingHint() ?? caption;
  byId("scale-low").textContent = low;
  byId("scale-high").textContent = high;
  const cells = Array.from({ length: 41 }, (_, index) =>
    element("i", { className: colorClass(palette, min + (index / 40) * (1 - min)) }));
  byId("ramp").replaceChildren(...cells);
}
