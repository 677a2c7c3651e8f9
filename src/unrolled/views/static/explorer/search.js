// @ts-check
// The two fields: one goes to a neuron, one finds text.

import { byId, element } from "../shared/dom.js";
import { data, featuresOf, neuronName, parseNeuron } from "./data.js";
import { FIRST_ROWS, neuronRow, probeRow } from "./neuron_list.js";
import { state } from "./state.js";
import { MARK, marks, repaintAll, visibleTextView } from "./text_view.js";

// ---- going to a neuron

/** @param {string} text */
function neuronResults(text) {
  const neuron = parseNeuron(text, Math.floor(state.neuron / data.hiddenSize));
  const wanted = text.trim().toLowerCase();
  const matches = data.probes.filter(({ feature, description }) => `${feature} ${description}`.toLowerCase().includes(wanted));
  const rows = neuron === null ? [] : [neuronRow(neuron, featuresOf(neuron), "")];
  return rows.concat(matches.slice(0, FIRST_ROWS).map(probeRow));
}

/** @param {HTMLInputElement} field */
export function setUpNeuronSearch(field) {
  const results = byId("neuron-search-results");
  const close = () => { results.hidden = true; };
  const clear = () => {
    field.value = "";
    close();
  };
  field.addEventListener("input", () => {
    const rows = field.value.trim() ? neuronResults(field.value) : [];
    const message = `No such neuron or feature. Neurons run from 0.0 to ${neuronName(data.neuronCount - 1)}.`;
    results.replaceChildren(rows.length ? element("ul", { className: "rows" }, ...rows)
      : element("p", { className: "muted", textContent: message }));
    results.hidden = !field.value.trim();
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") results.querySelector("button")?.click();
    if (event.key === "Escape") {
      clear();
      field.blur();
    }
    if (event.key === "ArrowDown") {
      event.preventDefault();
      results.querySelector("button")?.focus();
    }
  });
  results.addEventListener("click", clear);
  addEventListener("pointerdown", ({ target }) => {
    if (!(target instanceof Element && target.closest(".neuron-search"))) close();
  });
}

// ---- finding text

/** The whole text, and where each token begins in it. */
const text = { characters: "", offsets: new Uint32Array(0) };

/** Prepare the text to be searched. */
function setUpText() {
  text.characters = data.tokens.join("");
  text.offsets = new Uint32Array(data.count + 1);
  data.tokens.forEach((token, position) => { text.offsets[position + 1] = text.offsets[position] + token.length; });
}

/**
 * Return the position of the token that covers a character of the text.
 * @param {number} offset
 */
function positionAtOffset(offset) {
  let [low, high] = [0, data.count - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (text.offsets[middle] <= offset) low = middle;
    else high = middle - 1;
  }
  return low;
}

/**
 * @param {string} wanted
 * @returns {[number, number][]}
 */
function findMatches(wanted) {
  if (!wanted) return [];
  const pattern = new RegExp(wanted.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "giu");
  return Array.from(text.characters.matchAll(pattern), (match) =>
    [positionAtOffset(match.index), positionAtOffset(match.index + match[0].length - 1)]);
}

/** @param {string} wanted */
function find(wanted) {
  const marksOfToken = marks.ofToken;
  for (let position = 0; position < marksOfToken.length; position++) marksOfToken[position] &= ~(MARK.match | MARK.currentMatch);
  state.matches = findMatches(wanted);
  for (const [first, last] of state.matches) {
    for (let position = first; position <= last; position++) marksOfToken[position] |= MARK.match;
  }
  state.currentMatch = -1;
  if (state.matches.length) goToMatch(1);
  else showMatches();
}

/** @param {number} step */
function goToMatch(step) {
  if (!state.matches.length) return;
  const markCurrent = (/** @type {boolean} */ isCurrent) => {
    const [first, last] = state.matches[state.currentMatch] ?? [1, 0];
    for (let position = first; position <= last; position++) {
      if (isCurrent) marks.ofToken[position] |= MARK.currentMatch;
      else marks.ofToken[position] &= ~MARK.currentMatch;
    }
  };
  markCurrent(false);
  state.currentMatch = (state.currentMatch + step + state.matches.length) % state.matches.length;
  markCurrent(true);
  showMatches();
  visibleTextView().reveal(state.matches[state.currentMatch][0]);
}

function showMatches() {
  repaintAll();
  const count = `${state.currentMatch + 1} of ${state.matches.length}`;
  byId("find-count").textContent = byId("find", HTMLInputElement).value ? count : "";
  for (const id of ["find-previous", "find-next"]) byId(id).hidden = !state.matches.length;
}

/** @param {HTMLInputElement} field */
export function setUpFind(field) {
  setUpText();
  field.addEventListener("input", () => find(field.value));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") goToMatch(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") {
      field.value = "";
      find("");
      field.blur();
    }
  });
  byId("find-previous").addEventListener("click", () => goToMatch(-1));
  byId("find-next").addEventListener("click", () => goToMatch(1));
  showMatches();
}
