// @ts-check
// The panels next to the text: one token, and one neuron.

import { byId, element, svgElement } from "../shared/dom.js";
import { writeText } from "../shared/visible_text.js";
import { bitsAt, data, named, neuronName, percent, predictionsAt, signed } from "./data.js";
import { scoreText } from "./neuron_list.js";
import { colorClass } from "./palette.js";
import { shownActivation, state } from "./state.js";

/** @typedef {import("./data.js").Activation} Activation */

/** Tokens on each side of the token in a timeline. */
const CONTEXT = 20;
const MAX_BINS = 41;

/**
 * Return a token set off from the page's own words.
 * @param {string} text
 */
export const tokenText = (text, end = false, max = 12) =>
  writeText(element("span", { className: "data-text code" }), text, { end, compact: true, max });

// ---- the token

/** Show the token under the pointer, or else the one at the cursor. */
export function showToken() {
  const position = state.hovered < 0 ? state.cursor : state.hovered;
  byId("token").replaceChildren(tokenHead(position), timeline(position), activationValues(position), predictionList(position));
}

/** @param {number} position */
function tokenHead(position) {
  const bits = bitsAt(position);
  const first = data.predictsLabels ? "" : ", the first: nothing to predict it from";
  const cost = Number.isNaN(bits) ? first : `, surprisal ${bits.toFixed(2)} bits`;
  const where = element("span", { className: "muted number", textContent: named(`token ${position + 1} of ${data.count}${cost}`) });
  return element("p", { className: "token-head" }, tokenText(data.tokens[position], data.documentEnds.has(position)), where);
}

/**
 * Return the state and the memory as lines, the tokens under them, and the gates as strips.
 * @param {number} position
 */
function timeline(position) {
  const positions = Array.from({ length: 2 * CONTEXT + 1 }, (_, index) => position - CONTEXT + index);
  const lines = data.activations.filter((activation) => activation.highResolution);
  const chart = svgElement("svg", { viewBox: `0 -1.1 ${positions.length} 2.2`, preserveAspectRatio: "none", class: "chart" });
  chart.append(svgElement("line", { x1: 0, x2: positions.length, y1: 0, y2: 0, class: "zero" }));
  chart.append(svgElement("rect", { x: CONTEXT, y: -1.1, width: 1, height: 2.2, class: "at-token" }));
  for (const activation of lines) {
    chart.append(svgElement("path", { d: linePath(activation, positions), class: `line-${activation.name}` }));
  }
  const plot = element("div", { className: "plot" }, chart);
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", named(`State of neuron ${neuronName(state.neuron)} around the token`));
  const axis = element("span", { className: "axis" }, element("span", {}, "+1"), element("span", {}, "−1"));
  const strips = data.activations.filter((activation) => !activation.highResolution).flatMap((gate) => gateStrip(gate, positions));
  return element("div", { className: "timeline" }, axis, plot, ...tokenStrip(positions), ...strips);
}

/**
 * @param {Activation} activation
 * @param {number[]} positions
 */
function linePath(activation, positions) {
  const row = activation.row(state.neuron);
  let path = "";
  positions.forEach((position, index) => {
    const value = position < 0 || position >= data.count ? NaN : activation.values[row[position]];
    if (!Number.isNaN(value)) path += `${path ? "L" : "M"}${index + 0.5} ${(-value).toFixed(3)}`;
  });
  return path;
}

/** @param {number[]} positions */
function tokenStrip(positions) {
  const cells = positions.map((position) => {
    const cell = element("span", { className: position === positions[CONTEXT] ? "at-token" : "" });
    const text = data.tokens[position];
    if (text !== undefined) cell.textContent = singleCharacter(text);
    return cell;
  });
  return [element("span"), element("div", { className: "strip code", ariaHidden: "true" }, ...cells)];
}

/**
 * Return a token as one character: there is no room for more here, and a placeholder becomes a dot.
 * @param {string} text
 */
function singleCharacter(text) {
  const written = writeText(element("span"), text, { compact: true, max: 1 });
  return written.querySelector(".placeholder") ? "\u00b7" : written.textContent ?? "";
}

/**
 * @param {Activation} activation
 * @param {number[]} positions
 */
function gateStrip(activation, positions) {
  const row = activation.row(state.neuron);
  const cells = positions.map((position) => {
    const outside = position < 0 || position >= data.count;
    return element("span", { className: outside ? "" : colorClass("activation", activation.values[row[position]]) });
  });
  const name = element("span", { className: "axis code", textContent: activation.name, title: activation.title });
  return [name, element("div", { className: "strip gates", ariaHidden: "true" }, ...cells)];
}

/** @param {number} position */
function activationValues(position) {
  const list = element("dl", { className: "activation-values number" });
  for (const activation of data.activations) {
    const value = activation.at(state.neuron, position);
    const text = Number.isNaN(value) ? "none" : activation.isGate ? value.toFixed(2) : signed(value);
    const name = element("dt", { className: `key-${activation.name}`, title: activation.shortTitle },
      `${activation.title} ${activation.name}`);
    list.append(element("div", {}, name, element("dd", {}, text)));
  }
  return list;
}

/** @param {number} position */
function predictionList(position) {
  const rows = predictionsAt(position).map(({ text, isEnd, isCorrect, probability }) => {
    const bar = element("span", { className: `fill ${colorClass("probability", Math.max(probability, 0.25))}` });
    bar.style.width = `${probability * 100}%`;
    return element("li", { className: isCorrect ? "correct" : "" }, tokenText(text, isEnd),
      element("span", { className: "track" }, bar), element("span", { className: "number" }, percent(probability)));
  });
  if (!rows.length) return element("div");
  const title = element("h3", { textContent: data.predictsLabels ? "Predictions of its label" : "Predictions of the next token" });
  return element("div", {}, title, element("ol", { className: "top-predictions" }, ...rows));
}

// ---- the neuron

/** Show the neuron: the features it follows, a histogram of its values, and how often its gates are open or closed. */
export function showNeuron() {
  byId("neuron-title").textContent = `Neuron ${neuronName(state.neuron)}`;
  const probes = data.probesOfNeuron.get(state.neuron) ?? [];
  byId("neuron-features").replaceChildren(...probes.slice(0, 3).map((probe) =>
    element("p", {}, element("b", { textContent: probe.feature }), element("span", { className: "muted" }, ` ${scoreText(probe)}`),
      element("br"), probe.description)));
  byId("histogram").replaceChildren(...histogram(shownActivation()));
  byId("saturation").replaceChildren(...data.activations.filter((activation) => activation.isGate).map(saturation));
}

/** @param {Activation} activation */
function countLevels(activation) {
  const counts = new Uint32Array(256);
  for (const level of activation.row(state.neuron)) counts[level]++;
  return counts;
}

/** @param {Activation} activation */
function histogram(activation) {
  const levels = activation.maxLevel + 1;
  const size = Math.min(MAX_BINS, levels);
  const bins = new Float64Array(size);
  countLevels(activation).forEach((count, level) => { if (level < levels) bins[Math.floor((level * size) / levels)] += count; });
  const largest = Math.max(...bins, 1);
  const bars = Array.from(bins, (count, bin) => {
    const value = activation.min + ((bin + 0.5) / size) * (1 - activation.min);
    const title = `${value.toFixed(2)}: ${percent(count / data.count)}`;
    const bar = element("span", { className: colorClass("activation", value), title });
    bar.style.height = count ? `max(2px, ${(count / largest) * 100}%)` : "0";
    return bar;
  });
  const chart = element("div", { className: "bars" }, ...bars);
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", `How often the ${activation.title} takes each value`);
  const labels = activation.isGate ? ["0", activation.title, "1"] : ["−1", `${activation.title} ${activation.shortTitle}`, "+1"];
  const axis = element("p", { className: "axis-labels muted number" }, ...labels.map((text) => element("span", { textContent: text })));
  return [chart, axis];
}

/** @param {Activation} activation */
function saturation(activation) {
  const counts = countLevels(activation);
  let [closed, open] = [0, 0];
  for (let level = 0; level <= activation.maxLevel; level++) {
    if (activation.values[level] < 0.1) closed += counts[level];
    if (activation.values[level] > 0.9) open += counts[level];
  }
  const text = `closed (<0.1) ${percent(closed / data.count)}, open (>0.9) ${percent(open / data.count)}`;
  return element("p", { className: "saturation" }, element("b", { textContent: activation.title }),
    element("span", { className: "muted number", textContent: text }));
}
