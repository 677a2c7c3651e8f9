// @ts-check
// Lists of neurons: rows that choose a neuron when they are clicked (main.js listens for clicks on `data-neuron`).

import { byId, element } from "../shared/dom.js";
import { data, featuresOf, neuronName, signed } from "./data.js";
import { state } from "./state.js";

/** @typedef {import("./data.js").Probe} Probe */

/** Rows that a list starts with. */
export const FIRST_ROWS = 8;
const MAX_IMPORTANT = 50;

/**
 * @param {Probe} probe
 */
export function scoreText({ metric, score, pValue }) {
  const pText = pValue === null ? "" : pValue < 0.001 ? ", p < 0.001" : `, p = ${pValue.toPrecision(2)}`;
  return `${metric} ${score === null ? "unknown" : score.toFixed(3)}${pText}`;
}

/**
 * Return a row that chooses a neuron: its name and what it follows, a number at the right, and lines below.
 * @param {number} neuron
 * @param {string} title
 * @param {string} value
 * @param {...string} lines
 */
export function neuronRow(neuron, title, value, ...lines) {
  const top = element("span", { className: "row-top" }, element("span", { className: "code", textContent: neuronName(neuron) }),
    element("b", { textContent: title }), element("span", { className: "muted number", textContent: value }));
  const below = lines.filter(Boolean).map((line) => element("span", { className: "muted number", textContent: line }));
  const button = element("button", { type: "button", className: "plain row" }, top, ...below);
  button.dataset.neuron = String(neuron);
  return element("li", {}, button);
}

/** @param {Probe} probe */
export const probeRow = (probe) => neuronRow(probe.neuron, probe.feature, "", scoreText(probe), probe.description);

/**
 * Show a list that starts short and can be expanded.
 * @param {HTMLElement} list
 * @param {HTMLElement[]} rows
 */
function showList(list, rows) {
  list.replaceChildren(...rows.slice(0, FIRST_ROWS));
  if (rows.length <= FIRST_ROWS) return;
  const more = element("button", { type: "button", className: "plain more", textContent: `Show all ${rows.length}` });
  more.addEventListener("click", () => {
    list.replaceChildren(...rows);
    markCurrentRows();
  });
  list.append(element("li", {}, more));
}

/** Show the lists of detectors and of the most important neurons. */
export function showLists() {
  byId("probes-card").hidden = !data.probes.length;
  showList(byId("probes"), data.probes.map(probeRow));
  byId("importance-card").hidden = !data.importance;
  const ranked = (data.importance ?? []).map((bits, neuron) => ({ bits: bits ?? 0, neuron })).sort((a, b) => b.bits - a.bits);
  const rows = ranked.slice(0, MAX_IMPORTANT).map(({ bits, neuron }) =>
    neuronRow(neuron, featuresOf(neuron), `${signed(bits, 4)} bits`));
  showList(byId("importance"), rows);
}

/** Mark the rows of the neuron that is shown. */
export function markCurrentRows() {
  for (const row of document.querySelectorAll(".row[data-neuron]")) {
    if (row instanceof HTMLElement) row.ariaCurrent = String(Number(row.dataset.neuron) === state.neuron);
  }
}
