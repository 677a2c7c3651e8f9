// @ts-check
// The form that starts a training: from a pasted text, or from a file, which may be a table.

import { post, upload } from "./api.js";
import { inFormWords, optionalNumberIn } from "./fields.js";
import { plainText } from "./report/format.js";
import { byId, element } from "./shared/dom.js";

/** @typedef {import("./main.js").App} App */
/** @typedef {import("./api.js").Upload} Upload */

/** Characters of a pasted text that are sent with the request; a longer one is sent as a file, since requests are limited. */
const MAX_TEXT = 100_000;
const TABLE_NAMES = /\.(csv|tsv|tab|json|jsonl|ndjson|parquet|xlsx|xls|xlsb|ods|arff|conll|conllu|conllup)(\.(gz|bz2|xz|zst|zip))?$/i;
/** Milliseconds without a key after which a pasted table is read. */
const REST_MILLISECONDS = 400;

/**
 * @param {App} app
 * @param {(run: string) => Promise<void>} onStarted
 */
export function setUpTrainForm(app, onStarted) {
  const text = byId("train-text", HTMLTextAreaElement);
  const file = byId("train-file", HTMLInputElement);
  const isTable = byId("train-is-table", HTMLInputElement);
  const note = byId("train-note");
  const [source, target, time, series] = ["source", "target", "time", "series"].map((name) => byId(`train-${name}`, HTMLSelectElement));
  const [horizon, known] = [byId("train-horizon", HTMLInputElement), byId("train-known")];
  /** The table that was sent, as long as neither the file nor the pasted text has changed. @type {Promise<Upload> | null} */
  let table = null;
  let timer = 0;
  const chosenFile = () => file.files?.[0];

  /** Send the file, or the text as one. @returns {Promise<Upload>} */
  function send() {
    const chosen = chosenFile();
    const name = chosen?.name ?? (isTable.checked ? "pasted.csv" : "pasted.txt");
    return upload(chosen ?? new Blob([text.value]), name, isTable.checked);
  }

  /** Send the table, and offer its columns, which the server reads: it knows all formats. */
  async function offerColumns() {
    clearTimeout(timer);
    table = null;
    byId("train-columns").hidden = !isTable.checked;
    app.clearError();
    note.textContent = "";
    if (!isTable.checked || !(chosenFile() || text.value.trim())) return;
    const own = send();
    table = own;
    note.textContent = "Reading the table ...";
    const read = await own.finally(() => {
      if (table === own) note.textContent = "";
    }).catch((error) => {
      if (table !== own) return null;
      table = null;
      offer({});
      throw error;
    });
    if (read && table === own) offer(read);
  }

  /** @param {Partial<Upload>} table that was read: its columns, and those that the server suggests */
  function offer({ columns: names = [], ...suggested }) {
    const [first = "", second = first] = names;
    const defaults = [suggested.source ?? first, suggested.target ?? second, "", ""];
    for (const [index, field] of [source, target, time, series].entries()) {
      const [before, isOptional] = [field.value, index > 1];
      const options = names.map((name) => element("option", { value: name, textContent: plainText(name, { max: 40 }) }));
      field.replaceChildren(...(isOptional ? [element("option", { value: "", textContent: "none" })] : []), ...options);
      field.value = names.includes(before) ? before : defaults[index];
    }
    offerKnown();
  }

  /** The columns of the table. */
  const columns = () => [...source.options].map(({ value }) => value);

  /** The columns that are checked as known in advance. */
  const checkedKnown = () => [...known.querySelectorAll("input")].filter(({ checked }) => checked).map(({ value }) => value);

  /** Offer as known in advance, to a forecast, the columns that nothing else uses. */
  function offerKnown() {
    target.disabled = horizon.value !== "";
    const [before, used] = [checkedKnown(), [source, time, series].map(({ value }) => value)];
    const names = columns().filter((name) => !used.includes(name));
    known.querySelector(".checks")?.replaceChildren(...names.map((name) => element("label", { className: "check" },
      element("input", { type: "checkbox", value: name, checked: before.includes(name) }), plainText(name, { max: 40 }))));
    known.hidden = !horizon.value || !names.length;
  }

  /**
   * Return a column as a setting: by its number, if its name would be read as several names, or as one with a kind.
   * @param {string} name
   */
  const asSetting = (name) => (/[:,"]/.test(name) ? String(columns().indexOf(name)) : name);

  /** What the request for a training says of a table's columns. */
  function columnOptions() {
    if (!isTable.checked) return {};
    const [steps, checked] = [optionalNumberIn("horizon", "train-horizon"), checkedKnown().map(asSetting)];
    return {
      source: asSetting(source.value), ...("horizon" in steps ? steps : { target: asSetting(target.value) }),
      ...(time.value ? { order_by: asSetting(time.value) } : {}), ...(series.value ? { group_by: asSetting(series.value) } : {}),
      ...("horizon" in steps && checked.length ? { known_covariates: checked } : {}),
    };
  }

  /** Return what the request for a training says of its text or table, which is sent before. */
  async function data() {
    if (!chosenFile() && !isTable.checked && text.value.length <= MAX_TEXT) return { text: text.value };
    if (isTable.checked && !table) await offerColumns();
    return { upload: (await (table ?? send())).upload };
  }

  async function train() {
    if (!chosenFile() && !text.value.trim()) {
      note.textContent = "Paste a text or choose a file first.";
      return;
    }
    app.clearError();
    note.textContent = "Sending ...";
    // What is left to the recipe is not sent: a text may then start from a model of the package.
    const cell = byId("train-cell", HTMLSelectElement).value;
    const sent = await data();
    const options = {
      ...optionalNumberIn("minutes", "train-minutes"), ...optionalNumberIn("hidden", "train-hidden"),
      ...optionalNumberIn("layers", "train-layers"), ...optionalNumberIn("seed", "train-seed"),
      ...(cell ? { cell } : {}), ...columnOptions(),
    };
    const name = byId("train-name", HTMLInputElement).value.trim();
    const { run } = await post("/api/train", { ...sent, ...(name ? { name } : {}), options });
    note.textContent = `Training ${plainText(run, { max: 60 })} has started.`;
    await onStarted(run);
  }

  const showColumns = () => void offerColumns().catch(app.showError);
  file.addEventListener("change", () => {
    isTable.checked = TABLE_NAMES.test(chosenFile()?.name ?? "");
    showColumns();
  });
  isTable.addEventListener("change", showColumns);
  text.addEventListener("input", () => {
    clearTimeout(timer);
    if (isTable.checked && !chosenFile()) timer = setTimeout(showColumns, REST_MILLISECONDS);
  });
  for (const field of [horizon, source, time, series]) field.addEventListener("input", offerKnown);
  byId("train-form", HTMLFormElement).addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = byId("train-button", HTMLButtonElement);
    button.disabled = true;
    await train().catch((error) => {
      note.textContent = "";
      app.showError(error instanceof Error ? new Error(inFormWords(error.message)) : error);
    });
    button.disabled = false;
    if (document.activeElement === document.body) button.focus(); // where it was: a disabled button has no focus
  });
}
