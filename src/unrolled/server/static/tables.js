// @ts-check
// Tables: a form made of the columns of a model; its answer with probabilities; and the answers of many rows as CSV.

import { post } from "./api.js";
import { answerBox, showAnswer, textOfAnswer } from "./answer.js";
import { formatRows, parseRows, separatorOf } from "./csv.js";
import { describeModel, offerModels } from "./models.js";
import { multilineText, percent, plainText } from "./report/format.js";
import { byId, element } from "./shared/dom.js";

/** @typedef {import("./main.js").App} App */
/** @typedef {import("./answer.js").Answer} Answer */
/** @typedef {{ name: string, role: "source" | "target", kind: string, labels: string[] | null, examples: string[] }} Column */
/** @typedef {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} Field */

const LONG_TEXT = 60;
const BATCH_ROWS = 64;
const MAX_SHOWN_ROWS = 200;
const MAX_ROWS = 20_000;

/**
 * Return the field of a column: a choice of labels, or room for a text.
 * @param {Column} column
 */
function fieldOf({ labels, examples, kind }) {
  if (labels?.length) {
    return element("select", { className: "field" },
      ...labels.map((label) => element("option", { value: label, textContent: plainText(label, { max: 60 }) })));
  }
  const example = String(examples?.[0] ?? "");
  const isLong = example.length > LONG_TEXT || /text|words|characters|bytes|bpe/.test(kind);
  const properties = { className: "field code", placeholder: plainText(example, { max: 200 }), required: true };
  return isLong ? element("textarea", { ...properties, rows: 3, spellcheck: false }) : element("input", { ...properties, autocomplete: "off" });
}

/** @param {App} app */
export function setUpTables(app) {
  const model = byId("table-model", HTMLSelectElement);
  const note = byId("table-note");
  /** @type {Column[]} */
  let sources = [];
  /** @type {Map<string, Field>} */
  const fields = new Map();
  let last = 0;
  /** The model that the form is for. */
  let shown = "";

  async function showForm() {
    if (model.value === shown) return;
    shown = model.value;
    const own = ++last;
    byId("table-about").textContent = describeModel(app.models.find(model.value));
    for (const id of ["answer", "answers", "table-fields"]) byId(id).replaceChildren();
    fields.clear();
    if (!model.value) return;
    const { columns } = await app.models.details(model.value).catch((error) => {
      shown = "";
      throw error;
    });
    if (own !== last) return;
    sources = columns.filter((/** @type {Column} */ column) => column.role === "source");
    for (const column of sources) {
      const field = fieldOf(column);
      fields.set(column.name, field);
      const name = `${plainText(column.name, { max: 60 })} (${column.kind})`;
      byId("table-fields").append(element("label", {}, name, field));
    }
  }

  /**
   * @param {Record<string, string>[]} rows
   * @returns {Promise<Answer[]>}
   */
  const predict = async (rows) => (await post("/api/predict", { model: model.value, rows })).answers;

  async function predictRow() {
    app.clearError();
    const [answer] = await predict([Object.fromEntries([...fields].map(([name, field]) => [name, field.value]))]);
    showAnswer(byId("answer"), answer, [...fields.values()].map((field) => field.value).join(" "));
  }

  /** @param {File} file */
  async function predictFile(file) {
    app.clearError();
    const text = await file.text();
    if (text.includes("\ufffd")) throw new Error("The file is not UTF-8: save it as UTF-8, or use unrolled predict with --encoding.");
    const [names = [], ...cells] = parseRows(text, separatorOf(text));
    const missing = sources.filter((column) => !names.includes(column.name)).map((column) => column.name);
    const quoted = (/** @type {string[]} */ texts) => texts.map((name) => `"${plainText(name, { max: 40 })}"`).join(", ");
    if (missing.length) throw new Error(`The file has no column ${quoted(missing)}; its first line names ${quoted(names) || "nothing"}.`);
    if (cells.length > MAX_ROWS) throw new Error(`The file has ${cells.length} rows; the page takes ${MAX_ROWS} at most: use unrolled predict.`);
    const positions = sources.map((column) => names.indexOf(column.name));
    /** @type {Answer[]} */
    const answers = [];
    for (let start = 0; start < cells.length; start += BATCH_ROWS) {
      const rows = cells.slice(start, start + BATCH_ROWS);
      answers.push(...await predict(rows.map((row) => Object.fromEntries(positions.map((at, index) => [sources[index].name, row[at] ?? ""])))));
      note.textContent = `${answers.length} of ${cells.length} rows`;
    }
    showAnswers(names, cells, answers, file.name);
  }

  /**
   * @param {string[]} names
   * @param {string[][]} cells
   * @param {Answer[]} answers
   * @param {string} fileName
   */
  function showAnswers(names, cells, answers, fileName) {
    const probabilityOf = (/** @type {Answer} */ answer, /** @type {(value: number) => string} */ format) => {
      const probability = answer.probability ?? Math.max(-1, ...Object.values(answer.probabilities ?? {}));
      return probability < 0 ? "" : format(probability);
    };
    const rows = cells.map((row, index) => [...names.map((_, at) => row[at] ?? ""), textOfAnswer(answers[index].answer), probabilityOf(answers[index], (value) => value.toFixed(4))]);
    const head = element("tr", {}, ...[...names, "answer", "probability"].map((name) => element("th", { scope: "col" }, plainText(name, { max: 40 }))));
    const body = cells.slice(0, MAX_SHOWN_ROWS).map((row, index) => element("tr", {},
      ...row.map((cell) => element("td", {}, multilineText(cell.slice(0, 300), ""))), element("td", {}, answerBox(answers[index].answer, "")),
      element("td", { className: "number", textContent: probabilityOf(answers[index], percent) })));
    const blob = new Blob([formatRows([[...names, "answer", "probability"], ...rows])], { type: "text/csv" });
    const download = element("a", { href: URL.createObjectURL(blob), download: `answers-${fileName.replace(/\.\w+$/, "")}.csv`, textContent: "Download the answers (CSV)" });
    const note = cells.length > MAX_SHOWN_ROWS ? ` (the first ${MAX_SHOWN_ROWS} of ${cells.length} rows)` : "";
    byId("answers").replaceChildren(element("p", {}, download, element("span", { className: "muted", textContent: note })),
      element("div", { className: "scroller", tabIndex: 0 }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...body))));
  }

  app.models.listen(() => {
    offerModels(model, app.models.of("table"), app.settings.wanted("table"));
    byId("no-tables").hidden = app.models.of("table").length > 0 || !app.models.isLoaded();
    byId("table-button", HTMLButtonElement).disabled = !model.value;
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
    if (file) predictFile(file).catch(app.showError).finally(() => { field.value = ""; });
  });
  return {};
}
