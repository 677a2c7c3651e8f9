// @ts-check
// Many texts in a page of a model that labels texts: they are pasted or opened, answered one after the other, and written as a table.

import { percent, plainText } from "../report/format.js";
import { rowsTable } from "../report/rows_table.js";
import { byId } from "../shared/dom.js";
import { say, sayError, setRunning, setUpFile } from "../shared/model_page.js";
import { inSlices } from "../shared/next_task.js";
import { plural } from "../shared/visible_text.js";
import { readTexts } from "./rows.js";

/**
 * Set up the form of many texts.
 * @param {{ source: string, target: string }} columns
 * @param {(text: string) => string[]} answerTo answer and probability of a text, empty where there is none
 * @param {(truth: string, answer: string) => boolean[]} judge whether the answers of a row are the true ones
 */
export function setUpTable({ source, target }, answerTo, judge) {
  const rows = byId("rows", HTMLTextAreaElement);
  /** Counts the tables; work for one that is not the last stops. */
  let last = 0;
  let fileName = "texts.csv";

  /** @param {{ text: string }[]} texts @returns {Generator<string[], void, void>} */
  function* answersTo(texts) {
    for (const { text } of texts) yield [text, ...answerTo(text)];
  }

  async function predict() {
    const own = ++last;
    byId("answers").replaceChildren();
    try {
      const texts = readTexts(rows.value, source, target);
      /** @type {string[][]} */
      const answers = [];
      setRunning(true);
      const isDone = await inSlices(() => last === own, answersTo(texts), (row) => {
        answers.push(row);
        say(`Predicting row ${answers.length} of ${texts.length} ...`);
      });
      if (!isDone) return;
      byId("answers").append(...rowsTable([source, "predicted", "probability"], answers, fileName));
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
    const judged = texts.flatMap(({ truth }, index) => (truth ? judge(truth, answers[index][1]) : []));
    const right = judged.filter(Boolean).length;
    return `${plural(texts.length, "text")}.` + (judged.length ? ` ${right} of ${plural(judged.length, "answer")} are those of the column '${target}' (${percent(right / judged.length)}).` : "");
  }

  byId("rows-hint").append(`One text in each line, or a table (CSV, TSV) with the column '${plainText(source, { max: 60 })}'. ` +
    `With the column '${plainText(target, { max: 60 })}', the answers are compared with it.`);
  byId("table", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void predict();
  });
  byId("stop").addEventListener("click", () => {
    last++;
    say("Stopped.");
    setRunning(false);
  });
  setUpFile((content, name) => {
    [rows.value, fileName] = [content, name];
    void predict();
  });
}

/** Milliseconds without a key after which a text is answered. */
const PAUSE_MILLISECONDS = 120;

/**
 * Set up the field of one text: `show` what is found in it, a while after a key; `find` returns null where there is nothing in it.
 * @template {{ reading: import("./classifier.js").Reading }} Found
 * @param {number} maxSteps
 * @param {(text: string) => Found | null} find
 * @param {(found: Found, own: number, isWanted: () => boolean) => void} show `own` is the number of the text
 */
export function setUpText(maxSteps, find, show) {
  const text = byId("text", HTMLTextAreaElement);
  /** Counts the texts. */
  let last = 0;

  async function answer() {
    const own = ++last;
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MILLISECONDS));
    if (last !== own) return;
    const found = find(text.value);
    byId("answer").hidden = !found;
    const isCut = found && found.reading.numLeftOut;
    byId("note").textContent = isCut ? `The last ${plural(found.reading.numLeftOut, "token")} are not read: the model reads ${maxSteps}.` : "";
    if (found) show(found, own, () => last === own);
  }

  text.addEventListener("input", () => void answer());
  if (text.value) void answer(); // what the browser has kept of a reload
}
