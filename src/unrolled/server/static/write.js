// @ts-check
// Write: texts stream in, can be stopped, continued, undone, and written on from any character.

import { ApiError, isAbort } from "./api.js";
import { complete, createStates } from "./completion.js";
import { numberIn, optionalNumberIn, textsIn } from "./fields.js";
import { setDisabled } from "./focus.js";
import { showToken } from "./guess_panel.js";
import { describeModel, offerModels, unknownNote } from "./models.js";
import { createSampleCard } from "./sample_card.js";
import { byId } from "./shared/dom.js";
import { promptTokens } from "./token_text.js";

/** @typedef {import("./main.js").App} App */
/** @typedef {import("./sample_card.js").SampleCard} SampleCard */
/** @typedef {import("./sample_card.js").SampleContent} SampleContent */
/** @typedef {import("./token_text.js").Token} Token */
/** @typedef {import("./completion.js").Hold} Hold */
/** A request under way: what stops it, the samples it writes, and the tokens that each still needs. */
/** @typedef {{ controller: AbortController, samples: SampleCard[], remaining: number[] }} Writing */

const MAX_UNDO = 50;
/** Milliseconds that the slider of a held unit must rest before the texts go on with its value. */
const REST_MILLISECONDS = 150;
/** @type {Record<string, string>} */
const REASONS = { stop: "ended", length: "", cancelled: "stopped", timeout: "out of time", error: "failed" };

/** @param {App} app */
export function setUpWrite(app) {
  const model = byId("write-model", HTMLSelectElement);
  const form = byId("write-form", HTMLFormElement);
  const states = createStates();
  /** @type {SampleCard[]} */
  let samples = [];
  /** @type {Set<Writing>} */
  const writings = new Set();
  /** @type {SampleContent[][]} */
  const history = [];
  let pinned = false;

  const hold = () => (byId("hold", HTMLInputElement).checked
    ? { layer: numberIn("hold-layer"), unit: numberIn("hold-unit"), value: numberIn("hold-value") } : null);

  /** The settings of a request that are the same for all its texts. */
  function body() {
    const held = hold();
    const stops = textsIn("stop-texts");
    return {
      model: model.value, temperature: numberIn("temperature"), ...optionalNumberIn("top_k", "top-k"),
      ...optionalNumberIn("top_p", "top-p"), ...optionalNumberIn("min_p", "min-p"),
      ...(stops.length ? { stop: stops } : {}), ...(held ? { hold: held } : {}),
    };
  }

  function showState() {
    const button = byId("write-button");
    setDisabled(byId("stop", HTMLButtonElement), !writings.size, button);
    setDisabled(byId("undo", HTMLButtonElement), !history.length, button);
    byId("guess-panel").hidden = !samples.length;
    app.written.text = samples[0]?.text() ?? "";
  }

  /**
   * Show what is known of the token of a sample.
   * @param {SampleCard} sample
   * @param {number} index
   * @param {boolean} isPinned
   */
  function showCurrent(sample, index, isPinned) {
    if (pinned && !isPinned) return;
    pinned = isPinned && index >= 0;
    if (pinned) for (const other of samples) if (other !== sample) other.view.release();
    const actions = { onFork: () => fork(sample, index), onReplace: (/** @type {string} */ text) => fork(sample, index, text) };
    showToken(byId("guess-panel"), sample.view.tokens()[index], index, actions);
  }

  /** @param {SampleContent[]} contents */
  function showSamples(contents) {
    samples = contents.map((content, index) => createSampleCard(index + 1, content, {
      onCurrent: (at, isPinned) => showCurrent(samples[index], at, isPinned),
      onFork: (at) => fork(samples[index], at),
      onContinue: () => fork(samples[index], samples[index].view.tokens().length - 1),
    }));
    pinned = false;
    byId("sample-cards").replaceChildren(...samples.map((sample) => sample.card));
    showToken(byId("guess-panel"), undefined, 0);
    colorAll();
  }

  function colorAll() {
    for (const sample of samples) sample.view.setColoring(byId("colors", HTMLInputElement).checked ? "surprise" : "none");
  }

  function remember() {
    history.push(samples.map((sample) => sample.content()));
    if (history.length > MAX_UNDO) history.shift();
  }

  /** Stop all requests; return the samples that were being written, with the number of tokens that they still need. */
  function stopAll() {
    const stopped = [...writings].flatMap(({ controller, samples: written, remaining }) => {
      controller.abort();
      const pairs = written.map((sample, index) => ({ sample, remaining: remaining[index] }));
      return pairs.filter(({ sample }) => sample.isWriting());
    });
    for (const { sample } of stopped) sample.end("stopped");
    writings.clear();
    showState();
    return stopped;
  }

  /**
   * Ask for the texts of some samples in one request.
   * @param {SampleCard[]} written
   * @param {number} seed of the first one
   * @param {Record<string, unknown>} request what differs from the settings of the form
   * @param {(signal: AbortSignal) => Promise<Record<string, unknown>>} [prepare] what must be asked of the server first
   */
  async function run(written, seed, request, prepare = async () => ({})) {
    app.clearError();
    const length = Number(request.max_tokens ?? numberIn("length"));
    const writing = { controller: new AbortController(), samples: written, remaining: written.map(() => length) };
    writings.add(writing);
    const { signal } = writing.controller;
    written.forEach((sample, index) => sample.begin(seed + index, app.models.find(model.value)));
    showState();
    try {
      const prepared = await prepare(signal);
      signal.throwIfAborted();
      await complete({ ...body(), max_tokens: length, seed, ...request, ...prepared }, signal, (pieces) => {
        if (signal.aborted) return;
        for (const { index, tokens, finish } of pieces) {
          writing.remaining[index] -= tokens.length;
          written[index]?.receive(tokens);
          if (finish) written[index]?.end(REASONS[finish] ?? finish);
        }
      }, (unknown) => { byId("write-note").textContent = unknownNote(unknown); });
    } catch (error) {
      if (!isAbort(error)) {
        states.clear();
        app.showError(error);
        if (error instanceof ApiError && error.status === 404) app.models.load().catch(app.showError);
      }
    }
    if (!signal.aborted) for (const sample of written) if (sample.isWriting()) sample.end("");
    writings.delete(writing);
    showState();
  }

  function write() {
    if (!model.value) return;
    stopAll();
    remember();
    byId("write-note").textContent = "";
    const prompt = byId("prompt", HTMLTextAreaElement).value;
    const [seed, count] = [numberIn("seed"), numberIn("samples")];
    showSamples(Array.from({ length: count }, (_, index) => ({ tokens: promptTokens(prompt), seed: seed + index, note: "" })));
    if (byId("sample-cards").getBoundingClientRect().top > innerHeight * 2 / 3) byId("sample-cards").scrollIntoView();
    void run(samples, seed, { prompt, n: count });
  }

  /** The smallest seed that neither the form nor a sample has. */
  const unusedSeed = () => Math.max(numberIn("seed"), ...samples.map((sample) => sample.content().seed)) + 1;

  /**
   * Write on after a character of a sample.
   * @param {SampleCard} sample
   * @param {number} index of the character
   * @param {string} [replacement] a text that takes the place of the character
   */
  function fork(sample, index, replacement) {
    if (!form.reportValidity()) return;
    stopAll();
    remember();
    const isFromPanel = byId("guess-panel").contains(document.activeElement);
    const next = unusedSeed();
    const kept = sample.view.tokens().slice(0, index + (replacement === undefined ? 1 : 0));
    if (replacement) kept.push({ ...sample.view.tokens()[index], text: replacement, bits: null });
    sample.view.show(kept);
    pinned = false;
    showToken(byId("guess-panel"), undefined, 0);
    if (isFromPanel) sample.view.focus(); // its buttons are gone
    goOn(sample, next);
  }

  /**
   * Write on at the end of a sample.
   * @param {SampleCard} sample
   * @param {number} seed
   * @param {number} [length] tokens at most
   */
  function goOn(sample, seed, length) {
    const [text, held] = [sample.text(), hold()];
    void run([sample], seed, { prompt: "", ...(length ? { max_tokens: length } : {}) },
      async () => ({ state: await states.after(model.value, text, held) }));
  }

  function undo() {
    stopAll();
    const contents = history.pop();
    if (contents) showSamples(contents);
    showState();
  }

  /** The held unit has another value: texts that are being written go on with it. */
  function changeHold() {
    if (!form.checkValidity()) return;
    for (const { sample, remaining } of stopAll()) if (remaining > 0) goOn(sample, sample.content().seed, remaining);
  }

  setUpFields(app, model, changeHold);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    write();
  });
  byId("next-seed").addEventListener("click", () => {
    byId("seed", HTMLInputElement).value = String(unusedSeed());
    app.settings.write();
    form.requestSubmit();
  });
  byId("stop").addEventListener("click", stopAll);
  byId("undo").addEventListener("click", undo);
  byId("colors").addEventListener("change", colorAll);
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && writings.size) stopAll();
  });
  showState();
  return {};
}

/**
 * Keep the fields of Write in order: the models, the limits of the held unit, and its slider.
 * @param {App} app
 * @param {HTMLSelectElement} model
 * @param {() => void} changeHold
 */
function setUpFields({ models, settings }, model, changeHold) {
  let timer = 0;
  const show = () => {
    const chosen = models.find(model.value);
    byId("write-about").textContent = describeModel(chosen);
    byId("hold-layer", HTMLInputElement).max = String((chosen?.layers ?? 1) - 1);
    byId("hold-unit", HTMLInputElement).max = String((chosen?.hidden ?? 1) - 1);
    for (const field of byId("hold-fields").querySelectorAll("input")) field.disabled = !byId("hold", HTMLInputElement).checked;
    byId("hold-shown").textContent = numberIn("hold-value").toFixed(1);
  };
  models.listen(() => {
    offerModels(model, models.of("text"), settings.wanted("model"));
    byId("no-models").hidden = models.of("text").length > 0 || !models.isLoaded();
    show();
  });
  model.addEventListener("change", show);
  document.addEventListener("settings", show);
  const more = [...byId("more-settings").querySelectorAll("input, textarea")];
  byId("more-settings", HTMLDetailsElement).open = more.some((field) => "value" in field && field.value !== "");
  for (const id of ["hold", "hold-layer", "hold-unit", "hold-value"]) {
    byId(id).addEventListener("input", () => {
      show();
      clearTimeout(timer);
      timer = setTimeout(changeHold, REST_MILLISECONDS);
    });
  }
}
