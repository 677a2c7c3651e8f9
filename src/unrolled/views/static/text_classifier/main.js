// @ts-check
// A model that labels texts, in a page: the answer while one types, the parts of the text that count, and rows. Nothing leaves the page.

import { paintEffect } from "../report/effects.js";
import { percent, plainText } from "../report/format.js";
import { byId, element } from "../shared/dom.js";
import { startAndVerify } from "../shared/model_page.js";
import { inSlices, nextTask } from "../shared/next_task.js";
import { pageData } from "../shared/page_data.js";
import { setUpHeader } from "../shared/page_header.js";
import { writeText } from "../shared/visible_text.js";
import { createClassifier, findDifference, unpackClassifier } from "./classifier.js";
import { setUpTable, setUpText } from "./table.js";

/** @typedef {import("./classifier.js").Reading} Reading */

const MAX_LABELS = 20;
/** The least effect that has the strongest color, in nats. */
const MIN_SCALE = 0.05;
const MAX_PART = 200;

const data = pageData();

/** @param {ReturnType<typeof createClassifier>} classifier */
function setUp(classifier) {
  const { labels } = data.model;

  /**
   * @param {number[]} probabilities
   * @param {number} answer
   */
  function showProbabilities(probabilities, answer) {
    byId("label").textContent = `${plainText(labels[answer], { max: 80 })} ${percent(probabilities[answer])}`;
    const order = probabilities.map((_, label) => label).sort((a, b) => probabilities[b] - probabilities[a]);
    byId("probabilities").replaceChildren(...order.slice(0, MAX_LABELS).map((label) => {
      const fill = element("span", { className: "fill" });
      fill.style.width = `${100 * probabilities[label]}%`;
      return element("li", { className: label === answer ? "best" : "" }, writeText(element("span", { className: "name" }), labels[label]),
        element("span", { className: "track" }, fill), element("span", { className: "number" }, percent(probabilities[label])));
    }));
  }

  /**
   * @param {{ reading: Reading, logits: number[], answer: number }} found
   * @param {number} own
   * @param {() => boolean} isWanted
   */
  async function showParts({ reading, logits, answer }, own, isWanted) {
    const parts = classifier.partsOf(reading);
    const spans = parts.map((part) => writeText(element("span", { className: "part" }), part, { max: MAX_PART }));
    byId("parts").replaceChildren(...spans);
    /** @type {number[]} */
    const effects = [];
    if (!await inSlices(isWanted, classifier.effects(reading, parts, logits, answer), (effect) => effects.push(effect))) return;
    const scale = effects.reduce((largest, effect) => Math.max(largest, Math.abs(effect)), MIN_SCALE);
    effects.forEach((effect, index) => paintEffect(spans[index], effect, scale, "nats of the log odds of the answer"));
    byId("parts").dataset.ready = String(own);
  }

  setUpText(data.model.reader.maxSteps, classifier.classify, (found, own, isWanted) => {
    showProbabilities(found.probabilities, found.answer);
    void showParts(found, own, isWanted);
  });
  setUpTable(data, (text) => {
    const found = classifier.classify(text);
    return found ? [labels[found.answer], found.probabilities[found.answer].toFixed(4)] : ["", ""];
  }, (truth, answer) => [truth === answer]);
}

async function start() {
  setUpHeader(data);
  const model = await unpackClassifier(data.model);
  setUp(createClassifier(model));
  await nextTask();
  return findDifference(model, data.vectors);
}

void startAndVerify(start);
