// @ts-check
// A model of series in a page: rows are pasted or opened, and predicted here. Nothing leaves the page.

import { paragraph } from "../report/format.js";
import { rowsTable } from "../report/rows_table.js";
import { seriesSection } from "../report/series.js";
import { byId } from "../shared/dom.js";
import { say, sayError, setRunning, setUpFile, startAndVerify } from "../shared/model_page.js";
import { inSlices, nextTask } from "../shared/next_task.js";
import { pageData } from "../shared/page_data.js";
import { setUpHeader } from "../shared/page_header.js";
import { plural } from "../shared/visible_text.js";
import { chartsOf, rowsOf } from "./answers.js";
import { createPredictor, findDifference, unpackSeriesModel } from "./predictor.js";
import { readSeries } from "./rows.js";

/** @typedef {import("./predictor.js").Answer} Answer */
/** @typedef {import("./rows.js").Series} Series */

const MAX_CHARTS = 36;

const data = pageData();
const rows = byId("rows", HTMLTextAreaElement);
const isForecast = data.model.horizon > 0;
/** Counts the tasks; a task that is not the last one stops. */
let task = 0;
let fileName = "rows.csv";

/** @param {ReturnType<typeof createPredictor>} predictor */
function setUp(predictor) {
  /**
   * Return what is predicted for a series, or null if this was stopped.
   * @param {number} own
   * @param {Series} series
   * @param {number} index of the series, which decides what is drawn
   */
  async function answersTo(own, series, index) {
    if (isForecast) return (await inSlices(() => task === own, predictor.forecast(series, { seed: data.seed + index })))?.value ?? null;
    /** @type {Answer[]} */
    const answers = [];
    return (await inSlices(() => task === own, predictor.answers(series), (answer) => answers.push(answer))) && answers;
  }

  async function predict() {
    const own = ++task;
    byId("results").hidden = true;
    setRunning(true);
    try {
      const { series, notes } = readSeries(rows.value, data.table);
      const [table, charts] = [/** @type {string[][]} */ ([]), /** @type {object[]} */ ([])];
      for (const [index, each] of series.entries()) {
        say(`Predicting ${series.length > 1 ? `series ${index + 1} of ${series.length}` : plural(each.numbers.length, "step")} ...`);
        const answers = await answersTo(own, each, index);
        if (!answers) return;
        table.push(...rowsOf(data, each, answers));
        if (charts.length < MAX_CHARTS) charts.push(...chartsOf(data, each, answers));
      }
      show(table, charts, [...notesOf(series, charts.length), ...notes]);
    } catch (error) {
      sayError(error);
    }
    setRunning(false);
  }

  /** @param {Series[]} series @param {number} numCharts */
  function notesOf(series, numCharts) {
    const numSteps = series.reduce((total, { numbers }) => total + numbers.length, 0);
    const counts = `${series.length > 1 ? `${series.length} series of ` : ""}${plural(numSteps, "step")}.`;
    return [counts, ...(numCharts >= MAX_CHARTS ? [`The first ${MAX_CHARTS} charts are drawn; the table has all.`] : [])];
  }

  /**
   * @param {string[][]} table
   * @param {any[]} charts
   * @param {string[]} notes
   */
  function show(table, charts, notes) {
    const figures = seriesSection(charts.slice(0, MAX_CHARTS));
    byId("charts").replaceChildren(...figures.length ? figures : [paragraph("There is nothing to draw.", "muted")]);
    byId("answers").replaceChildren(...rowsTable(data.table.answers, table, fileName));
    byId("results").hidden = false;
    say(notes.join(" "));
  }

  byId("table", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void predict();
  });
  byId("stop").addEventListener("click", () => {
    task++;
    say("Stopped.");
    setRunning(false);
  });
  byId("example").addEventListener("click", () => {
    [rows.value, fileName] = [data.example, "made-up-rows.csv"];
    void predict();
  });
  setUpFile((content, name) => {
    [rows.value, fileName] = [content, name];
    void predict();
  });
}

async function start() {
  setUpHeader(data);
  byId("rows-hint").append(data.hint);
  byId("answers-title").textContent = isForecast ? "Forecast" : "Prediction";
  byId("predict").textContent = isForecast ? "Forecast" : "Predict";
  rows.placeholder = data.example.split("\n").slice(0, 4).join("\n");
  const model = await unpackSeriesModel(data.model);
  setUp(createPredictor(model));
  await nextTask();
  return findDifference(model, data.vectors);
}

void startAndVerify(start);
