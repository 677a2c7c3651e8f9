// @ts-check
// Tables: a form made of the columns of a model; its answer with probabilities; and the answers of many rows as CSV.

import { post } from "./api.js";
import { showAnswer, textOfAnswer } from "./answer.js";
import { formatRows, parseRows, separatorOf } from "./csv.js";
import { describeModel, offerModels } from "./models.js";
import { isNumber, multilineText, plainText } from "./report/format.js";
import { byId, element } from "./shared/dom.js";
import { fieldOf, fieldOfSeries } from "./table_form.js";

/** @typedef {import("./main.js").App} App */
/** @typedef {import("./answer.js").Answer} Answer */
/** @typedef {import("./table_form.js").Column} Column */
/** @typedef {import("./table_form.js").Series} Series */
/** @typedef {import("./table_form.js").Field} Field */

const BATCH_ROWS = 64;
const MAX_SHOWN_ROWS = 200;
const MAX_ROWS = 20_000;

/**
 * Return a cell of an answer as a text.
 * @param {unknown} value
 */
const cellText = (value) => (value === null || value === undefined ? "" : textOfAnswer(value));

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
  let last = 0;
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
    byId("table-button", HTMLButtonElement).disabled = true; // until there is a field
    if (!model.value) return;
    const { columns, series: steps } = await app.models.details(model.value).catch((error) => {
      shown = "";
      throw error;
    });
    if (own !== last) return;
    sources = columns.filter((/** @type {Column} */ column) => column.role === "source");
    target = columns.find((/** @type {Column} */ column) => column.role === "target");
    series = steps ?? null;
    if (series) add("", fieldOfSeries(series, sources));
    else for (const column of sources) add(column.name, fieldOf(column, app.showError));
    byId("table-button", HTMLButtonElement).disabled = false;
  }

  /**
   * @param {string} name
   * @param {[Field, HTMLElement[]]} field
   */
  function add(name, [field, labels]) {
    fields.set(name, field);
    byId("table-fields").append(...labels);
  }

  /**
   * @param {Record<string, string>[]} rows
   * @returns {Promise<Answer[]>}
   */
  const predict = async (rows) => (await post("/api/predict", { model: model.value, rows })).answers;

  async function predictRow() {
    app.clearError();
    if (series) return predictText(fields.get("")?.value ?? "", "pasted.csv");
    const [answer] = await predict([Object.fromEntries([...fields].map(([name, field]) => [name, field.value]))]);
    showAnswer(byId("answer"), answer, [...fields.values()].map((field) => field.value).join(" "), target);
  }

  /**
   * Predict the rows of a CSV file; of series, all at once, since they are the steps of few answers.
   * @param {string} text
   * @param {string} fileName
   */
  async function predictText(text, fileName) {
    app.clearError();
    if (text.includes("\ufffd")) throw new Error("The file is not UTF-8: save it as UTF-8, or use unrolled predict with --encoding.");
    const [names = [], ...cells] = parseRows(text, separatorOf(text));
    if (!cells.length) throw new Error("There is no row: a line of names comes first, and then a line for each row.");
    const missing = series ? [] : sources.filter((column) => !names.includes(column.name)).map((column) => column.name);
    const quoted = (/** @type {string[]} */ texts) => texts.map((name) => `"${plainText(name, { max: 40 })}"`).join(", ");
    if (missing.length) throw new Error(`The file has no column ${quoted(missing)}; its first line names ${quoted(names) || "nothing"}.`);
    if (cells.length > MAX_ROWS) throw new Error(`The file has ${cells.length} rows; the page takes ${MAX_ROWS} at most: use unrolled predict.`);
    const rowOf = (/** @type {string[]} */ row, /** @type {string[]} */ wanted) => Object.fromEntries(wanted.map((name) => [name, row[names.indexOf(name)] ?? ""]));
    if (series) {
      const steps = /** @type {any[]} */ (await predict(cells.map((row) => rowOf(row, names))));
      const columns = Object.keys(steps[0] ?? {});
      showRows(columns, steps.map((step) => columns.map((name) => cellText(step[name]))), fileName);
      return;
    }
    /** @type {string[][]} */
    const rows = [];
    for (let start = 0; start < cells.length; start += BATCH_ROWS) {
      const batch = cells.slice(start, start + BATCH_ROWS);
      const answers = await predict(batch.map((row) => rowOf(row, sources.map((column) => column.name))));
      answers.forEach((answer, at) => rows.push([...names.map((_, column) => batch[at][column] ?? ""), cellText(answer.answer), probabilityOf(answer)]));
      note.textContent = `${rows.length} of ${cells.length} rows`;
    }
    showRows([...names, "answer", "probability"], rows, fileName);
  }

  /** @param {Answer} answer */
  function probabilityOf(answer) {
    const probability = answer.probability ?? Math.max(-1, ...Object.values(answer.probabilities ?? {}));
    return isNumber(probability) && probability >= 0 ? probability.toFixed(4) : "";
  }

  /**
   * Show the first rows of a table of answers, and offer all of them as a file.
   * @param {string[]} names
   * @param {string[][]} rows
   * @param {string} fileName
   */
  function showRows(names, rows, fileName) {
    const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, plainText(name, { max: 40 }))));
    const body = rows.slice(0, MAX_SHOWN_ROWS).map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, multilineText(cell.slice(0, 300), "")))));
    const blob = new Blob([formatRows([names, ...rows])], { type: "text/csv" });
    const download = element("a", { href: URL.createObjectURL(blob), download: `answers-${fileName.replace(/\.\w+$/, "")}.csv`, textContent: "Download the answers (CSV)" });
    const more = rows.length > MAX_SHOWN_ROWS ? ` (the first ${MAX_SHOWN_ROWS} of ${rows.length} rows)` : "";
    byId("answers").replaceChildren(element("p", {}, download, element("span", { className: "muted", textContent: more })),
      element("div", { className: "scroller", tabIndex: 0, role: "region", ariaLabel: "Answers" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...body))));
  }

  app.models.listen(() => {
    offerModels(model, app.models.of("table"), app.settings.wanted("table"));
    byId("no-tables").hidden = app.models.of("table").length > 0 || !app.models.isLoaded();
    showForm().catch(app.showError);
  });
  model.addEventListener("change", () => void showForm().catch(app.showError));
  byId("table-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    predictRow().catch(app.showError);
  });
  byId("table-file", HTMLInputElement).addEventListener("change", (event) => {
    const field = /** @type {HTMLInputElement} */ (event.target);
    const file = field.files?.[0];
    if (file) file.text().then((text) => predictText(text, file.name)).catch(app.showError).finally(() => { field.value = ""; });
  });
  return {};
}
