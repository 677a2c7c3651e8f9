// @ts-check
// What the reader has chosen.

import { data, NO_SURPRISAL } from "./data.js";

/** @typedef {"neuron" | "prediction" | "surprisal" | "intervention"} View */

/** @type {readonly View[]} */
export const VIEWS = ["neuron", "prediction", "surprisal", "intervention"];

export const state = {
  /** @type {View} */
  view: "neuron",
  neuron: 0,
  /** Index of the kind of activations that is shown. */
  activation: 0,
  /** Position of the token that was clicked last. */
  cursor: 0,
  /** Position of the token under the pointer, or -1. */
  hovered: -1,
  /** What colors the text of the view of predictions: "surprisal" or "neuron". */
  colorBy: "surprisal",
  /** Index of the intervention that is shown. */
  intervention: 0,
  /** @type {[number, number] | null} first and last position of the selection */
  selection: null,
  /** @type {number | null} when two ends are being marked: the first end, or -1 before there is one */
  marking: null,
  /** @type {number | null} position where a selection by keys began */
  anchor: null,
  /** Position where a drag of the pointer began, or -1. */
  dragStart: -1,
  /** @type {[number, number][]} first and last position of each match of the search */
  matches: [],
  currentMatch: -1,
};

export const shownActivation = () => data.activations[state.activation];

/**
 * Return whether there is data for a view: a model of a table's rows, for example, predicts no tokens.
 * @param {View} view
 */
export function hasView(view) {
  switch (view) {
    case "prediction": return data.topK > 0;
    case "surprisal": return data.surprisal.some((level) => level !== NO_SURPRISAL);
    case "intervention": return data.interventions.length > 0;
    default: return true;
  }
}

/** @type {Record<string, ReturnType<typeof setTimeout>>} */
const timers = {};

/**
 * Run some work once no other call with the same name came for a time: while a key repeats, it can wait.
 * @param {string} name
 * @param {number} milliseconds
 * @param {() => void} work
 */
export function debounce(name, milliseconds, work) {
  clearTimeout(timers[name]);
  timers[name] = setTimeout(work, milliseconds);
}
