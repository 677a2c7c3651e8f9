// @ts-check
// Look inside: a text colored by the surprise at each token, and by the activations of chosen units.

import { post } from "./api.js";
import { joinerFor } from "./byte_tokens.js";
import { keepDraft } from "./drafts.js";
import { numberIn } from "./fields.js";
import { showToken } from "./guess_panel.js";
import { describeModel, offerModels, unknownNote } from "./models.js";
import { fixed } from "./report/format.js";
import { byId, element } from "./shared/dom.js";
import { MAX_BITS, createTokenText } from "./token_text.js";

/** @typedef {import("./main.js").App} App */
/** @typedef {import("./token_text.js").Token} Token */
/** @typedef {import("./token_text.js").TokenText} TokenText */

const MAX_UNITS = 12;
/** Units that are shown if a person names none: those whose activations vary most. */
const NUM_LIVELY = 4;

/**
 * Return the columns of the units whose activations vary most.
 * @param {number[][]} values of each token, a value of each unit
 */
function liveliest(values) {
  const numUnits = values[0]?.length ?? 0;
  const variances = Array.from({ length: numUnits }, (_, unit) => {
    const mean = values.reduce((total, row) => total + row[unit], 0) / values.length;
    return values.reduce((total, row) => total + (row[unit] - mean) ** 2, 0) / values.length;
  });
  return variances.map((_, unit) => unit).sort((a, b) => variances[b] - variances[a]).slice(0, NUM_LIVELY);
}

/**
 * @param {string} title
 * @param {string} explanation
 * @param {Token[]} tokens
 * @param {import("./token_text.js").Coloring} coloring
 */
function viewOf(title, explanation, tokens, coloring) {
  const box = element("div", { className: "token-text code", tabIndex: 0, role: "group", ariaLabel: `${title}; arrow keys move from character to character` });
  let isPinned = false;
  const text = createTokenText(box, {
    onCurrent: (index, pin) => {
      if (isPinned && !pin) return;
      isPinned = pin && index >= 0;
      showToken(byId("inside-detail"), tokens[index], index);
    },
  });
  text.setColoring(coloring);
  text.show(tokens);
  return element("section", { className: "view", ariaLabel: title },
    element("h2", {}, title, element("span", { className: "muted small", textContent: explanation })), box);
}

/** @param {App} app */
export function setUpInside(app) {
  const model = byId("inside-model", HTMLSelectElement);
  const text = byId("inside-text", HTMLTextAreaElement);
  const note = byId("inside-note");
  /** Counts the requests; the answer to one that is not the last is not shown. */
  let last = 0;

  const units = () => byId("inside-units", HTMLInputElement).value.split(/[\s,]+/).filter(Boolean).map(Number).slice(0, MAX_UNITS);

  async function look() {
    const own = ++last;
    if (!text.value) {
      note.textContent = "Paste a text first.";
      return;
    }
    app.clearError();
    note.textContent = "Reading ...";
    const [named, layer] = [units(), numberIn("inside-layer")];
    const read = { model: model.value, text: text.value };
    const [score, trace] = await Promise.all([
      post("/api/score", { ...read, guesses: 5 }), post("/api/trace", { ...read, layer, units: named.length ? named : null })]);
    if (own !== last) return;
    const shown = named.length ? trace.units.map((/** @type {number} */ _, /** @type {number} */ index) => index) : liveliest(trace.values);
    note.textContent = `${fixed(score.bits_per_character)} bits per character. ${unknownNote(score.unknown)}`;
    const activations = shown.map((/** @type {number} */ column) => ({
      unit: trace.units[column], values: trace.values.map((/** @type {number[]} */ row) => row[column]),
    }));
    show(score.tokens, activations, layer);
  }

  /**
   * @param {Token[]} tokens
   * @param {{ unit: number, values: number[] }[]} activations
   * @param {number} layer
   */
  function show(tokens, activations, layer) {
    const joined = (/** @type {Token[]} */ shown) => joinerFor(app.models.find(model.value))(shown);
    const surprise = viewOf("Surprise", `stronger: more bits, up to ${MAX_BITS}`, joined(tokens), "surprise");
    const views = activations.map(({ unit, values }) => {
      const valued = tokens.map((token, index) => ({ ...token, value: values[index] }));
      return viewOf(`Layer ${layer}, unit ${unit}`, "green: above 0, orange: below 0", joined(valued), "unit");
    });
    byId("inside-views").replaceChildren(surprise, ...views);
    byId("inside-hint").hidden = true;
    byId("inside-detail").hidden = false;
    showToken(byId("inside-detail"), undefined, 0);
  }

  keepDraft(text, "inside-text");
  const showLimits = () => {
    const chosen = app.models.find(model.value);
    byId("inside-layer", HTMLInputElement).max = String((chosen?.layers ?? 1) - 1);
    model.title = describeModel(chosen);
  };
  app.models.listen(() => {
    offerModels(model, app.models.of("text"), app.settings.wanted("inside_model"));
    const hasModel = app.models.of("text").length > 0;
    byId("inside-no-models").hidden = hasModel || !app.models.isLoaded();
    byId("inside-hint").hidden = !hasModel || byId("inside-views").childElementCount > 0;
    byId("inside-button", HTMLButtonElement).disabled = !hasModel;
    showLimits();
  });
  model.addEventListener("change", showLimits);
  byId("inside-take").addEventListener("click", () => {
    if (app.written.text) text.value = app.written.text.slice(0, text.maxLength);
    note.textContent = app.written.text ? "" : "Nothing is written yet.";
  });
  byId("inside-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    look().catch((error) => {
      note.textContent = "";
      app.showError(error);
    });
  });
  return {};
}
