// @ts-check
// The selection: a part of the text, chosen by pointer or keys, and the panel with the neurons that follow it.

import { byId, element } from "../shared/dom.js";
import { plural, writeText } from "../shared/visible_text.js";
import { moveCursor, setCursor } from "./cursor.js";
import { data, featuresOf, named, percent } from "./data.js";
import { markingHint, showLegend } from "./legend.js";
import { markCurrentRows, neuronRow } from "./neuron_list.js";
import { findSimilar, rankNeurons } from "./neuron_ranking.js";
import { tokenText } from "./panel.js";
import { debounce, state } from "./state.js";
import { MARK, marks, repaintAll, visibleTextView } from "./text_view.js";

// ---- choosing

/** @param {[number, number] | null} ends in any order */
function setSelection(ends) {
  state.selection = ends && [Math.min(...ends), Math.max(...ends)];
  const [start, end] = state.selection ?? [1, 0];
  const marksOfToken = marks.ofToken;
  for (let position = 0; position < marksOfToken.length; position++) marksOfToken[position] &= ~MARK.selected;
  for (let position = start; position <= end; position++) marksOfToken[position] |= MARK.selected;
  repaintAll();
}

/**
 * Move the cursor by some tokens and select what lies between it and the place where this began.
 * @param {number} tokens
 */
export function extendSelection(tokens) {
  const anchor = state.anchor ??= state.cursor;
  moveCursor(tokens);
  setSelection([anchor, state.cursor]);
  debounce("selection", 150, showSelection);
}

/** @param {[number, number] | null} ends in any order */
export function select(ends) {
  setSelection(ends);
  const wasMarking = state.marking !== null;
  state.marking = null;
  showSelection();
  const lists = document.querySelector(".lists");
  if (lists) lists.scrollTop = 0;
  if (wasMarking) byId("selection-card").scrollIntoView({ block: "start" });
}

export function clearSelection() {
  state.marking = null;
  state.anchor = null;
  select(null);
  getSelection()?.removeAllRanges();
}

/** Start to mark two ends by clicks, or stop it. */
export function toggleMarking() {
  state.marking = state.marking === null ? -1 : null;
  showSelection();
  if (state.marking !== null) document.querySelector(".text-panel")?.scrollIntoView({ block: "nearest" });
}

/**
 * A token was clicked: put the cursor there, or select up to it.
 * @param {number} position
 * @param {boolean} withShift
 */
export function clickToken(position, withShift) {
  if (withShift) return select([state.cursor, position]);
  if (state.marking !== null && state.marking >= 0) return select([state.marking, position]);
  state.anchor = null;
  setCursor(position);
  if (state.marking === null) return;
  state.marking = position;
  showSelection();
}

// ---- the panel

export function showSelection() {
  byId("selection-clear").hidden = !state.selection;
  byId("selection-start").ariaPressed = String(state.marking !== null);
  byId("selection-hint").textContent = markingHint()
    ?? named("Drag over the text, or click a token and Shift-click another, to find the neurons that are active there and not elsewhere.");
  showLegend();
  byId("selection-card").classList.toggle("first", Boolean(state.selection));
  if (!state.selection) return byId("selection").replaceChildren();
  const ranked = rankNeurons(state.selection);
  byId("selection").replaceChildren(selectionHead(state.selection), rankedList(ranked),
    ...similarList(findSimilar(ranked, state.selection)));
  markCurrentRows();
}

/** @param {[number, number]} selection */
function selectionHead([first, last]) {
  const text = data.tokens.slice(first, Math.min(last + 1, first + 60)).join("");
  return element("p", { className: "selected-text" }, tokenText(text, false, 48),
    element("span", { className: "muted number", textContent: named(` ${plural(last - first + 1, "token")}`) }));
}

/** @param {import("./neuron_ranking.js").RankedNeuron[]} ranked */
function rankedList(ranked) {
  if (!ranked.length) return element("p", { className: "muted", textContent: "No neuron is active in most of it." });
  const rows = ranked.map(({ neuron, sign, score, precision, recall }) => {
    const difference = `${sign < 0 ? "blue" : "green"} here, ${score.toFixed(1)} standard deviations from the rest`;
    const quality = `precision ${percent(precision)}, recall ${percent(recall)}`;
    return neuronRow(neuron, featuresOf(neuron), "", difference, quality);
  });
  return element("ul", { className: "rows", id: "ranked-neurons" }, ...rows);
}

/** @param {{ start: number, end: number }[]} runs */
function similarList(runs) {
  if (!runs.length) return [];
  const rows = runs.map(({ start, end }) => {
    const button = element("button", { type: "button", className: "plain row" }, snippet(start, end));
    button.addEventListener("click", () => {
      setCursor(start);
      visibleTextView().reveal(start);
    });
    return element("li", {}, button);
  });
  return [element("h3", { textContent: "Where the first of them are active together" }), element("ul", { className: "rows" }, ...rows)];
}

/**
 * @param {number} start
 * @param {number} end
 */
function snippet(start, end) {
  const part = (/** @type {number} */ from, /** @type {number} */ to, /** @type {"span" | "b"} */ tag) =>
    writeText(element(tag), data.tokens.slice(Math.max(0, from), to).join("") || " ", { max: 40 });
  return element("span", { className: "snippet code" },
    part(start - 12, start, "span"), part(start, end + 1, "b"), part(end + 1, end + 13, "span"));
}
