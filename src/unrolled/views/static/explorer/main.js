// @ts-check
// The explorer: which view and which neuron are shown, what keys and buttons do, and the start of the page.

import { buttonsIn, byId, element } from "../shared/dom.js";
import { UnsupportedBrowserError } from "../shared/packed_arrays.js";
import { setUpTheme } from "../shared/theme.js";
import { writeText } from "../shared/visible_text.js";
import { hideTooltip, moveCursor } from "./cursor.js";
import { data, featuresOf, loadData, named, neuronName, parseNeuron } from "./data.js";
import { setUpInterventions, showSamples } from "./interventions.js";
import { setUpSurprisal, showColors } from "./legend.js";
import { markCurrentRows, showLists } from "./neuron_list.js";
import { setUpPalettes } from "./palette.js";
import { showNeuron, showToken } from "./panel.js";
import { setUpPointer } from "./pointer.js";
import { setUpFind, setUpNeuronSearch } from "./search.js";
import { clearSelection, extendSelection, showSelection, toggleMarking } from "./selection.js";
import { debounce, hasView, state, VIEWS } from "./state.js";
import { createPredictionsView, createTextView, marks, visibleTextView } from "./text_view.js";

/** @typedef {import("./state.js").View} View */

// ---- choices

function showView() {
  const [isPrediction, isIntervention] = [state.view === "prediction", state.view === "intervention"];
  const usesNeuron = state.view === "neuron" || (isPrediction && state.colorBy === "neuron");
  for (const button of buttonsIn(byId("views"))) button.ariaPressed = String(button.dataset.view === state.view);
  for (const button of buttonsIn(byId("color-by"))) button.ariaPressed = String(button.dataset.colorBy === state.colorBy);
  byId("text").hidden = isPrediction;
  byId("predictions").hidden = !isPrediction;
  byId("small-type").hidden = isPrediction;
  byId("color-by-group").hidden = !isPrediction || !hasView("surprisal");
  byId("samples").hidden = byId("interventions-card").hidden = !isIntervention;
  byId("activations").hidden = data.activations.length < 2 || !usesNeuron;
  if (isPrediction) createPredictionsView();
  if (isIntervention) showSamples(data.interventions[state.intervention]);
  showColors();
}

/** @param {View} view */
function chooseView(view) {
  if (!hasView(view)) return;
  state.view = view;
  byId("text-scroller").scrollTop = 0;
  hideTooltip();
  showView();
  if (view === "intervention") chooseIntervention(state.intervention);
}

/** @param {number} neuron may be outside the range: the first follows the last */
function chooseNeuron(neuron) {
  state.neuron = (neuron + data.neuronCount) % data.neuronCount;
  const name = neuronName(state.neuron);
  if (state.view === "intervention" && data.interventions[state.intervention].neuron !== state.neuron) {
    const index = data.interventions.findIndex((intervention) => intervention.neuron === state.neuron);
    if (index >= 0) chooseIntervention(index);
  }
  byId("neuron-name").textContent = name;
  byId("slider", HTMLInputElement).value = String(state.neuron);
  byId("slider").ariaValueText = name;
  showColors();
  showNeuron();
  showToken();
  markCurrentRows();
  hideTooltip();
  // Browsers refuse too many changes of the address.
  debounce("address", 250, () => history.replaceState(null, "", `#${name}`));
  debounce("announce", 400, () => { byId("announcement").textContent = `Neuron ${name} ${featuresOf(state.neuron)}`; });
}

/** @param {number} step */
const chooseLayer = (step) => chooseNeuron(state.neuron + step * data.hiddenSize);

/** @param {number} index */
function chooseActivation(index) {
  state.activation = index;
  buttonsIn(byId("activations")).forEach((button, at) => { button.ariaPressed = String(at === index); });
  showColors();
  showNeuron();
}

/** @param {number} index */
function chooseIntervention(index) {
  state.intervention = index;
  buttonsIn(byId("interventions")).forEach((button, at) => { button.ariaCurrent = String(at === index); });
  showSamples(data.interventions[index]);
  chooseNeuron(data.interventions[index].neuron);
}

// ---- keys

/** Return how many tokens lie between the cursor and the token below it. */
function tokensInRow() {
  const { spans } = visibleTextView();
  const start = spans[state.cursor]?.getBoundingClientRect();
  if (!start) return 40;
  for (let position = state.cursor + 1; position < Math.min(data.count, state.cursor + 400); position++) {
    const box = spans[position]?.getBoundingClientRect();
    if (box && box.top > start.top + 4 && box.left >= start.left - 4) return position - state.cursor;
  }
  return 40;
}

/** @param {number} tokens */
function moveCursorAlone(tokens) {
  state.anchor = null;
  moveCursor(tokens);
}

const previousNeuron = () => chooseNeuron(state.neuron - 1);
const nextNeuron = () => chooseNeuron(state.neuron + 1);
const openHelp = () => byId("help", HTMLDialogElement).showModal();

/** @type {Record<string, () => void>} */
const KEYS = {
  ArrowLeft: previousNeuron, j: previousNeuron, ArrowRight: nextNeuron, k: nextNeuron,
  ArrowUp: () => chooseLayer(1), ArrowDown: () => chooseLayer(-1),
  ",": () => moveCursorAlone(-1), ".": () => moveCursorAlone(1),
  "/": () => byId("find").focus(), u: () => byId("neuron-search").focus(), "?": openHelp,
  Escape: () => {
    clearSelection();
    hideTooltip();
  },
  ...Object.fromEntries(VIEWS.map((view, index) => [String(index + 1), () => chooseView(view)])),
};
/** @type {Record<string, () => void>} */
const SHIFT_KEYS = {
  ArrowLeft: () => extendSelection(-1), ArrowRight: () => extendSelection(1),
  ArrowUp: () => extendSelection(-tokensInRow()), ArrowDown: () => extendSelection(tokensInRow()),
};

/** @param {KeyboardEvent} event */
function onKey(event) {
  const isTyping = event.target instanceof Element && event.target.closest("input:not([type=range]), select, textarea");
  if (isTyping || byId("help", HTMLDialogElement).open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (data.layers === 1 && !event.shiftKey && /^Arrow(Up|Down)$/.test(event.key)) return;
  const action = (event.shiftKey && SHIFT_KEYS[event.key]) || KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

// ---- the start

function setUpButtons() {
  const activations = data.activations.map(({ name, title }, index) => {
    const label = title[0].toUpperCase() + title.slice(1);
    const button = element("button", { type: "button", className: "code", textContent: name, title: label, ariaLabel: label });
    button.addEventListener("click", () => chooseActivation(index));
    return button;
  });
  byId("activations").replaceChildren(...activations);
  for (const button of buttonsIn(byId("views"))) {
    const view = /** @type {View} */ (button.dataset.view);
    button.hidden = !hasView(view);
    button.addEventListener("click", () => chooseView(view));
  }
  for (const button of buttonsIn(byId("color-by"))) {
    button.addEventListener("click", () => {
      state.colorBy = button.dataset.colorBy ?? state.colorBy;
      showView();
    });
  }
  byId("previous").addEventListener("click", previousNeuron);
  byId("next").addEventListener("click", nextNeuron);
  byId("slider").addEventListener("input", () => chooseNeuron(byId("slider", HTMLInputElement).valueAsNumber));
  byId("small-type").addEventListener("click", () => {
    byId("small-type").ariaPressed = String(byId("text").classList.toggle("small-type"));
  });
  byId("selection-start").addEventListener("click", toggleMarking);
  byId("selection-clear").addEventListener("click", clearSelection);
  byId("help-open").addEventListener("click", openHelp);
  byId("help-close").addEventListener("click", () => byId("help", HTMLDialogElement).close());
  byId("app").addEventListener("click", onRowClick);
}

/**
 * Rows of all lists: each says what it chooses.
 * @param {MouseEvent} event
 */
function onRowClick(event) {
  const row = event.target instanceof Element ? event.target.closest("button.row") : null;
  if (!(row instanceof HTMLElement)) return;
  if (row.dataset.neuron !== undefined) chooseNeuron(Number(row.dataset.neuron));
  if (row.dataset.intervention !== undefined) chooseIntervention(Number(row.dataset.intervention));
}

const neuronOfAddress = () => parseNeuron(location.hash.slice(1), 0);

/** The neuron of the address, or the clearest detector, or the most important neuron. */
function firstNeuron() {
  const importance = data.importance ?? [];
  const mostImportant = importance.reduce((/** @type {number} */ best, bits, neuron) => ((bits ?? 0) > (importance[best] ?? 0) ? neuron : best), 0);
  return neuronOfAddress() ?? data.probes[0]?.neuron ?? mostImportant;
}

function showHeader() {
  writeText(byId("title"), data.title, { max: 200 });
  writeText(byId("subtitle"), data.subtitle || " ", { max: 300 });
  byId("slider", HTMLInputElement).max = String(data.neuronCount - 1);
  byId("message").hidden = true;
  byId("app").hidden = false;
}

/** Say of the page's own words what was read. */
function nameWhatWasRead() {
  for (const part of [byId("app"), byId("help")]) {
    const texts = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
    for (let node = texts.nextNode(); node; node = texts.nextNode()) node.nodeValue = named(node.nodeValue ?? "");
    for (const name of ["placeholder", "aria-label"]) {
      for (const owner of part.querySelectorAll(`[${name}]`)) owner.setAttribute(name, named(owner.getAttribute(name) ?? ""));
    }
  }
}

async function start() {
  setUpTheme(byId("theme"));
  await loadData();
  if (data.isSeries) nameWhatWasRead();
  marks.ofToken = new Uint8Array(data.count);
  // The probes read the memory of an LSTM, and the state of other cells.
  state.activation = Math.max(0, data.activations.findIndex((activation) => activation.name === "c"));
  if (!hasView("surprisal")) state.colorBy = "neuron";
  showHeader();
  setUpPalettes();
  setUpSurprisal();
  setUpInterventions();
  setUpButtons();
  setUpPointer(byId("text-scroller"));
  showLists();
  createTextView();
  showView();
  chooseActivation(state.activation);
  showSelection();
  setUpNeuronSearch(byId("neuron-search", HTMLInputElement));
  setUpFind(byId("find", HTMLInputElement));
  chooseNeuron(firstNeuron());
  addEventListener("hashchange", () => {
    const neuron = neuronOfAddress();
    if (neuron !== null) chooseNeuron(neuron);
  });
  addEventListener("keydown", onKey);
}

start().catch((error) => {
  byId("app").hidden = true;
  byId("message").hidden = false;
  byId("message").textContent = error instanceof UnsupportedBrowserError
    ? "This browser is too old for this page: it cannot unpack the numbers. Browsers from 2023 on can."
    : `This page could not be shown: ${error.message}`;
  if (!(error instanceof UnsupportedBrowserError)) throw error;
});
