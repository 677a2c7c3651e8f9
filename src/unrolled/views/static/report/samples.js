// @ts-check
// Samples during training, with a slider; and samples of n-grams next to samples of the network.

import { element } from "../shared/dom.js";
import { choices } from "./controls.js";
import { duration, fixed, integer, isNumber, multilineText, paragraph, toBits } from "./format.js";
import { chooseSample, player } from "./sample_player.js";

/** @typedef {import("./sample_player.js").Sample} Sample */

const PLAY_INTERVAL = 1100; // milliseconds

/**
 * @param {Sample[]} samples
 * @param {{ curves?: { loss_unit?: string } | null }} report
 */
export function samplesSection(samples, { curves }) {
  const isOfNumbers = curves?.loss_unit === "number";
  player.samples = samples;
  player.index = samples.length - 1;
  const box = sampleBox("The sample");
  box.style.height = `${boxHeight(samples)}px`;
  const readout = element("p", { className: "readout number" });
  const slider = element("input", { type: "range", min: "0", max: String(samples.length - 1), step: "1", ariaLabel: "Sample" });
  const show = () => {
    const sample = samples[player.index];
    box.replaceChildren(multilineText(sample.text ?? "", "code multiline bare"));
    box.scrollTop = 0;
    readout.replaceChildren(...describe(sample, isOfNumbers));
    slider.value = String(player.index);
    slider.ariaValueText = readout.textContent;
  };
  player.listeners.push(show);
  const controls = playerControls(slider);
  show();
  return samples.length > 1 ? [controls, readout, box] : [readout, box];
}

/**
 * @param {string} label
 * @param {...Node} children
 */
function sampleBox(label, ...children) {
  return element("div", { className: "sample-box", tabIndex: 0, role: "region", ariaLabel: label }, ...children);
}

/**
 * One height for all samples, so that the page does not move when they change; the longest one scrolls.
 * @param {Sample[]} samples
 */
function boxHeight(samples) {
  const rows = samples.map(({ text }) =>
    String(text ?? "").split("\n").reduce((sum, line) => sum + Math.ceil((line.length + 1) / 90), 0));
  return Math.min(340, Math.max(120, Math.max(...rows) * 21 + 26));
}

/**
 * @param {Sample} sample
 * @param {boolean} isOfNumbers whether the loss is that of numbers, such as a squared error, which has no bits
 */
function describe({ step, seconds, val_nats: nats }, isOfNumbers) {
  const parts = [element("b", {}, `step ${integer(step)}`)];
  if (isNumber(seconds)) parts.push(element("span", {}, `after ${duration(seconds)}`));
  const unit = isOfNumbers ? "of scaled numbers" : `nats (${fixed(toBits(nats ?? 0))} bits)`;
  if (isNumber(nats)) parts.push(element("span", {}, `validation ${fixed(nats)} ${unit}`));
  return parts;
}

/** @param {HTMLInputElement} slider */
function playerControls(slider) {
  const stepButton = (/** @type {string} */ label, /** @type {string} */ sign, /** @type {number} */ step) => {
    const button = element("button", { type: "button", className: "square", ariaLabel: label, title: label, textContent: sign });
    button.addEventListener("click", () => {
      stop();
      chooseSample(player.index + step);
    });
    return button;
  };
  let timer = 0;
  const isLast = () => player.index === player.samples.length - 1;
  const play = element("button", { type: "button", className: "play", textContent: "Play", ariaPressed: "false" });
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    play.ariaPressed = "false";
    play.textContent = "Play";
  };
  const next = () => {
    chooseSample(player.index + 1);
    if (isLast()) stop();
  };
  play.addEventListener("click", () => {
    if (timer) return stop();
    chooseSample(isLast() ? 0 : player.index);
    timer = window.setInterval(next, PLAY_INTERVAL);
    play.ariaPressed = "true";
    play.textContent = "Pause";
  });
  slider.addEventListener("input", () => {
    stop();
    chooseSample(slider.valueAsNumber);
  });
  return element("div", { className: "player" },
    stepButton("Previous sample", "\u2039", -1), slider, stepButton("Next sample", "\u203a", 1), play);
}

// ---- n-grams

/**
 * @param {{ name: string, text: string }[]} ngrams
 * @param {{ model_sample?: string }} report
 */
export function ngramSamplesSection(ngrams, { model_sample: modelSample }) {
  const box = sampleBox("A sample of the n-gram model");
  const show = (/** @type {string} */ name) => {
    const ngram = ngrams.find((candidate) => candidate.name === name) ?? ngrams[0];
    box.replaceChildren(multilineText(ngram.text ?? "", "code multiline bare"));
  };
  const initial = ngrams[ngrams.length - 1].name;
  show(initial);
  const names = ngrams.map(({ name }) => /** @type {[string, string]} */ ([name, name]));
  const head = ngrams.length > 1 ? choices("Which n-gram model", names, initial, show) : paragraph(initial, "muted");
  const left = half([element("h3", { textContent: "n-gram model" }), head], box);
  if (!modelSample) return [left];
  const right = sampleBox("A sample of the network", multilineText(modelSample, "code multiline bare"));
  return [element("div", { className: "halves" }, left, half([element("h3", { textContent: "The network" })], right))];
}

/**
 * @param {Node[]} head
 * @param {Node} content
 */
const half = (head, content) =>
  element("div", { className: "half" }, element("div", { className: "half-head" }, ...head), content);
