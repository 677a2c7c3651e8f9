// @ts-check
// Tables: a form made of the columns of a model, its answer with probabilities, and the answers to the rows of a file as CSV.

import { showAnswer } from "./answer.js";
import { post, upload } from "./api.js";
import { keepDraft } from "./drafts.js";
import { describeModel, offerModels } from "./models.js";
import { paragraph, plainText } from "./report/format.js";
import { rowsTable } from "./report/rows_table.js";
import { parseRows } from "./shared/csv.js";
import { byId } from "./shared/dom.js";
import { chartsOf } from "./table_answers.js";
import { examplesOf, fieldOf, fieldOfSeries } from "./table_form.js";

/** @typedef {import("./main.js").App} App */
/** @typedef {import("./answer.js").Answer} Answer */
/** @typedef {import("./table_form.js").Column} Column */
/** @typedef {import("./table_form.js").Series} Series */
/** @typedef {import("./table_form.js").Field} Field */
/** @typedef {{ answers: Answer[], charts?: import("./report/series.js").SeriesChart[], note?: string }} Predicted */

/**
 * Return what a model does, as a sentence.
 * @param {Column | undefined} target
 * @param {Column[]} sources
 * @param {Series | null} series
 */
function taskOf(target, sources, series) {
  const name = plainText(target?.name, { max: 60 });
  if (target?.horizon) return `It forecasts ${name}: ${target.horizon} steps.`;
  return `It predicts ${name} (${target?.kind}) from ${sources.map((column) => plainText(column.name, { max: 40 })).join(", ")}${series ? ", step by step" : ""}.`;
}

/** @param {App} app */
export function setUpTables(app) {
  const model = byId("table-model", HTMLSelectElement);
  const note = byId("table-note");
  /** @type {Column[]} */
  let sources = [];
  /** @type {Column | undefined} */
  let target;
  /** @type {Series | null} */
  let series = null;
  /** @type {Map<string, Field>} */
  const fields = new Map();
  /** Rows of the model's table, a text for each field. @type {string[][]} */
  let examples = [];
  let [last, numAsked, numExamples] = [0, 0, 0];
  /** The model that the form is for. */
  let shown = "";

  async function showForm() {
    if (model.value === shown) return;
    shown = model.value;
    const own = ++last;
    note.textContent = "";
    byId("table-about").textContent = describeModel(app.models.find(model.value));
    for (const id of ["answer", "answers", "table-fields"]) byId(id).replaceChildren();
    fields.clear();
    for (const id of ["table-button", "table-example"]) byId(id, HTMLButtonElement).disabled = true; // until there is a field
    showHint();
    if (!model.value) return;
    note.textContent = "Reading the columns ...";
    const { columns, series: steps } = await app.models.details(model.value).catch((error) => {
      shown = "";
      throw error;
    }).finally(() => { if (own === last) note.textContent = ""; });
    if (own !== last) return;
    sources = columns.filter((/** @type {Column} */ column) => column.role === "source");
    target = columns.find((/** @type {Column} */ column) => column.role === "target");
    series = steps ?? null;
    byId("table-about").append(`. ${taskOf(target, sources, series)}`);
    if (series) add("", fieldOfSeries(series, sources));
    else for (const column of sources) add(column.name, fieldOf(column, app.showError));
    byId("table-button", HTMLButtonElement).disabled = false;
    examples = series ? [[series.example ?? ""]] : examplesOf(sources);
    byId("table-example", HTMLButtonElement).disabled = !examples.some((texts) => texts.some(Boolean));
    showHint();
  }

  /** Say what can be done, as long as there is no answer. */
  function showHint() {
    const hasAnswer = byId("answer").childElementCount + byId("answers").childElementCount > 0;
    byId("table-hint").hidden = hasAnswer || !fields.size;
  }

  /** Fill the fields with the next row, or the series, of the table that the model has learned from. */
  function fillExample() {
    const texts = examples[numExamples++ % examples.length];
    [...fields.values()].forEach((field, at) => {
      field.value = texts[at] || field.value;
      field.dispatchEvent(new Event("input"));
    });
  }

  /**
   * @param {string} name
   * @param {[Field, HTMLElement[]]} field
   */
  function add(name, [field, labels]) {
    fields.set(name, field);
    keepDraft(field, `table-${shown}-${name}`);
    byId("table-fields").append(...labels);
  }

  function clearAnswers() {
    for (const id of ["answer", "answers"]) byId(id).replaceChildren();
  }

  /**
   * Show what was asked for, unless something else was asked meanwhile: `ask` returns what shows it.
   * @param {() => Promise<() => void>} ask
   */
  async function answer(ask) {
    const own = ++numAsked;
    app.clearError();
    note.textContent = "Predicting ...";
    try {
      const show = await ask();
      if (own !== numAsked) return;
      clearAnswers();
      show();
    } catch (error) {
      if (own !== numAsked) return;
      clearAnswers();
      app.showError(error);
    }
    if (own === numAsked) note.textContent = "";
    showHint();
  }

  async function predictRow() {
    if (series) return predictFile(new Blob([fields.get("")?.value ?? ""]), "pasted.csv");
    const asked = [...fields].map(([name, field]) => [name, field.value]);
    const { answers: [first], charts = [], note: drawn = "" } = /** @type {Predicted} */ (await post("/api/predict", { model: model.value, rows: [Object.fromEntries(asked)], charts: true }));
    return () => {
      showAnswer(byId("answer"), first, asked.map(([, text]) => text).join(" "), target);
      byId("answer").append(...chartsOf(charts, drawn));
    };
  }

  /**
   * Predict the rows of a table, which the server reads: in any format, and with the answers that `unrolled predict` prints.
   * @param {Blob} file
   * @param {string} name
   */
  async function predictFile(file, name) {
    const sent = await upload(file, name);
    const { csv, notes, charts = [], note: drawn = "" } = await post("/api/predict", { model: model.value, upload: sent.upload, charts: true });
    const [names = [], ...rows] = parseRows(csv, ",");
    const first = series ? 0 : Math.max(0, names.lastIndexOf("predicted"));
    /** What was asked for stands first: behind a long text, it is off a small screen. @param {string[]} cells */
    const answersFirst = (cells) => [...cells.slice(first), ...cells.slice(0, first)];
    return () => {
      byId("answer").append(...chartsOf(charts, drawn));
      byId("answers").replaceChildren(...rowsTable(answersFirst(names), rows.map(answersFirst), name, csv), ...notes.map((/** @type {string} */ text) => paragraph(text, "muted small")));
    };
  }

  app.models.listen(() => {
    offerModels(model, app.models.of("table"), app.settings.wanted("table"));
    byId("no-tables").hidden = app.models.of("table").length > 0 || !app.models.isLoaded();
    showForm().catch(app.showError);
  });
  model.addEventListener("change", () => void showForm().catch(app.showError));
  byId("table-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void answer(predictRow);
  });
  byId("table-example").addEventListener("click", fillExample);
  byId("table-file", HTMLInputElement).addEventListener("change", (event) => {
    const field = /** @type {HTMLInputElement} */ (event.target);
    const file = field.files?.[0];
    if (file) void answer(() => predictFile(file, file.name)).finally(() => { field.value = ""; });
  });
  return {};
}
