// @ts-check
// The form that starts a training: from a pasted text, or from a file, which may be a table.

import { post, request } from "./api.js";
import { parseRows, separatorOf } from "./csv.js";
import { optionalNumberIn } from "./fields.js";
import { plainText } from "./report/format.js";
import { byId, element } from "./shared/dom.js";

/** @typedef {import("./main.js").App} App */

/** Bytes of a file that are read for the names of its columns. */
const HEAD_BYTES = 65_536;
const MAX_COLUMNS = 500;
/** Characters of a pasted text that are sent with the request; a longer one is sent as a file, since requests are limited. */
const MAX_TEXT = 100_000;
const TABLE_NAMES = /\.(csv|tsv)$/i;

/**
 * @param {App} app
 * @param {(run: string) => Promise<void>} onStarted
 */
export function setUpTrainForm(app, onStarted) {
  const text = byId("train-text", HTMLTextAreaElement);
  const file = byId("train-file", HTMLInputElement);
  const isTable = byId("train-is-table", HTMLInputElement);
  const [source, target] = [byId("train-source", HTMLSelectElement), byId("train-target", HTMLSelectElement)];
  const chosenFile = () => file.files?.[0];

  /** Offer the names in the first line of the table. */
  async function offerColumns() {
    byId("train-columns").hidden = !isTable.checked;
    if (!isTable.checked) return;
    const head = await (chosenFile()?.slice(0, HEAD_BYTES).text() ?? text.value.slice(0, HEAD_BYTES));
    const names = (parseRows(head, separatorOf(head))[0] ?? []).slice(0, MAX_COLUMNS);
    for (const [field, chosen] of /** @type {[HTMLSelectElement, number][]} */ ([[source, 0], [target, 1]])) {
      const before = field.value;
      field.replaceChildren(...names.map((name) => element("option", { value: name, textContent: plainText(name, { max: 40 }) })));
      field.value = names.includes(before) ? before : names[Math.min(chosen, names.length - 1)] ?? "";
    }
  }

  /** Send the text or the file; return what the request for a training says of it. */
  async function data() {
    const chosen = chosenFile();
    if (!chosen && !isTable.checked && text.value.length <= MAX_TEXT) return { text: text.value };
    const content = chosen ?? new Blob([text.value]);
    const name = chosen?.name ?? `pasted.${isTable.checked ? (separatorOf(text.value) === "\t" ? "tsv" : "csv") : "txt"}`;
    const answer = await request(`/api/uploads?name=${encodeURIComponent(name)}`, { method: "POST", body: content });
    return { upload: answer.upload };
  }

  async function train() {
    if (!chosenFile() && !text.value) {
      byId("train-note").textContent = "Paste a text or choose a file first.";
      return;
    }
    app.clearError();
    byId("train-note").textContent = "Sending ...";
    const columns = isTable.checked ? { source: source.value, target: target.value } : {};
    // What is left to the recipe is not sent: a text may then start from a model of the package.
    const cell = byId("train-cell", HTMLSelectElement).value;
    const options = {
      ...optionalNumberIn("minutes", "train-minutes"), ...optionalNumberIn("hidden", "train-hidden"),
      ...optionalNumberIn("layers", "train-layers"), ...optionalNumberIn("seed", "train-seed"),
      ...(cell ? { cell } : {}), ...columns,
    };
    const name = byId("train-name", HTMLInputElement).value.trim();
    const { run } = await post("/api/train", { ...await data(), ...(name ? { name } : {}), options });
    byId("train-note").textContent = `Training ${plainText(run, { max: 60 })} has started.`;
    await onStarted(run);
  }

  file.addEventListener("change", () => {
    isTable.checked = TABLE_NAMES.test(chosenFile()?.name ?? "");
    offerColumns().catch(app.showError);
  });
  for (const field of [text, isTable]) field.addEventListener("change", () => void offerColumns().catch(app.showError));
  byId("train-form", HTMLFormElement).addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = byId("train-button", HTMLButtonElement);
    button.disabled = true;
    await train().catch((error) => {
      byId("train-note").textContent = "";
      app.showError(error);
    });
    button.disabled = false;
  });
}
