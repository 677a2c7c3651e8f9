// @ts-check
// A model that labels texts, in a page: the answer while one types, the parts of the text that count, and rows. Nothing leaves the page.

import { paintEffect } from "../report/effects.js";
import { percent, plainText } from "../report/format.js";
import { rowsTable } from "../report/rows_table.js";
import { byId, element } from "../shared/dom.js";
import { say, sayError, setRunning, setUpFile, startAndVerify } from "../shared/model_page.js";
import { inSlices, nextTask } from "../shared/next_task.js";
import { pageData } from "../shared/page_data.js";
import { setUpHeader } from "../shared/page_header.js";
import { plural, writeText } from "../shared/visible_text.js";
import { createClassifier, findDifference, unpackClassifier } from "./classifier.js";
import { readTexts } from "./rows.js";

/** @typedef {import("./classifier.js").Reading} Reading */

const MAX_LABELS = 20;
/** Milliseconds without a key after which a text is answered. */
const PAUSE_MILLISECONDS = 120;
/** The least effect that has the strongest color, in nats. */
const MIN_SCALE = 0.05;
const MAX_PART = 200;

const data = pageData();
const text = byId("text", HTMLTextAreaElement);
const rows = byId("rows", HTMLTextAreaElement);
/** Counts the texts and the tables; work for one that is not the last stops. */
const tasks = { text: 0, table: 0 };
let fileName = "texts.csv";

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
   * @param {number} own the number of this task
   * @param {{ reading: Reading, logits: number[], answer: number }} found
   */
  async function showParts(own, { reading, logits, answer }) {
    const parts = classifier.partsOf(reading);
    const spans = parts.map((part) => writeText(element("span", { className: "part" }), part, { max: MAX_PART }));
    byId("parts").replaceChildren(...spans);
    /** @type {number[]} */
    const effects = [];
    if (!await inSlices(() => tasks.text === own, classifier.effects(reading, parts, logits, answer), (effect) => effects.push(effect))) return;
    const scale = effects.reduce((largest, effect) => Math.max(largest, Math.abs(effect)), MIN_SCALE);
    effects.forEach((effect, index) => paintEffect(spans[index], effect, scale, "nats of the log odds of the answer"));
    byId("parts").dataset.ready = String(own);
  }

  async function answer() {
    const own = ++tasks.text;
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MILLISECONDS));
    if (tasks.text !== own) return;
    const found = classifier.classify(text.value);
    byId("answer").hidden = !found;
    const isCut = found && found.reading.numLeftOut;
    byId("note").textContent = isCut ? `The last ${plural(found.reading.numLeftOut, "token")} are not read: the model reads ${data.model.reader.maxSteps}.` : "";
    if (!found) return;
    showProbabilities(found.probabilities, found.answer);
    await showParts(own, found);
  }

  /** @param {{ text: string, truth: string | null }[]} texts @returns {Generator<string[], void, void>} */
  function* answersTo(texts) {
    for (const { text } of texts) {
      const found = classifier.classify(text);
      yield found ? [text, labels[found.answer], found.probabilities[found.answer].toFixed(4)] : [text, "", ""];
    }
  }

  async function predict() {
    const own = ++tasks.table;
    byId("answers").replaceChildren();
    try {
      const texts = readTexts(rows.value, data.source, data.target);
      /** @type {string[][]} */
      const answers = [];
      setRunning(true);
      const isDone = await inSlices(() => tasks.table === own, answersTo(texts), (row) => {
        answers.push(row);
        say(`Predicting row ${answers.length} of ${texts.length} ...`);
      });
      if (!isDone) return;
      byId("answers").append(...rowsTable([data.source, "predicted", "probability"], answers, fileName));
      say(summaryOf(texts, answers));
    } catch (error) {
      sayError(error);
    }
    setRunning(false);
  }

  /**
   * @param {{ truth: string | null }[]} texts
   * @param {string[][]} answers
   */
  function summaryOf(texts, answers) {
    const judged = texts.flatMap(({ truth }, index) => (truth ? [truth === answers[index][1]] : []));
    const right = judged.filter(Boolean).length;
    return `${plural(texts.length, "text")}.` + (judged.length ? ` ${right} of ${plural(judged.length, "answer")} are those of the column '${data.target}' (${percent(right / judged.length)}).` : "");
  }

  text.addEventListener("input", () => void answer());
  byId("table", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void predict();
  });
  byId("stop").addEventListener("click", () => {
    tasks.table++;
    say("Stopped.");
    setRunning(false);
  });
  setUpFile((content, name) => {
    [rows.value, fileName] = [content, name];
    void predict();
  });
  if (text.value) void answer(); // what the browser has kept of a reload
}

async function start() {
  setUpHeader(data);
  byId("rows-hint").append(`One text in each line, or a table (CSV, TSV) with the column '${plainText(data.source, { max: 60 })}'. ` +
    `With the column '${plainText(data.target, { max: 60 })}', the answers are compared with it.`);
  const model = await unpackClassifier(data.model);
  setUp(createClassifier(model));
  await nextTask();
  return findDifference(model, data.vectors);
}

void startAndVerify(start);
