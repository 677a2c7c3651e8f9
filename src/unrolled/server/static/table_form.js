// @ts-check
// The fields of a row: a choice of labels, room for a text or numbers, and a picture that becomes numbers.

import { element } from "./shared/dom.js";
import { plainText } from "./report/format.js";

/**
 * @typedef {object} Column
 * @property {string} name
 * @property {"source" | "target"} role
 * @property {string} kind
 * @property {string[] | null} labels
 * @property {string[]} examples
 * @property {number} [horizon] steps of a forecast
 * @property {[number, number, number]} [shape] height, width and channels of an image
 * @property {number} [low] of the values of an image
 * @property {number} [high]
 */
/** @typedef {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} Field */
/**
 * How a table with a row for each step is read, and the first steps of the table that was learned from, as CSV.
 * @typedef {{ group_by: string | null, order_by: string | null, known_covariates?: string[], example?: string }} Series
 */

const LONG_TEXT = 60;
const NUMBERS = ["number", "label"];
/** What the eye makes of red, green and blue, as it is for images in training. */
const GRAY = [0.299, 0.587, 0.114];

/**
 * Return the values of a picture at the size that a column has: lists of rows, in the unit of the training images.
 * @param {Blob} file
 * @param {Column} column
 */
async function valuesOf(file, { shape: [height, width, channels] = [1, 1, 1], low = 0, high = 255 }) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) throw new Error("The file is no picture that this browser can read.");
  const canvas = new OffscreenCanvas(width, height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = "white"; // behind what is transparent
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height).data;
  /** @param {number} level from 0 to 255 */
  const scaled = (level) => Number((low + (high - low) * level / 255).toPrecision(6));
  return Array.from({ length: height }, (_, row) => Array.from({ length: width }, (_, column) => {
    const colors = [...pixels.subarray(4 * (row * width + column), 4 * (row * width + column) + 4)];
    if (channels === 1) return scaled(GRAY.reduce((total, weight, at) => total + weight * colors[at], 0));
    return colors.slice(0, channels).map(scaled);
  }));
}

/**
 * Return the field of a column, and its label: an image has a field for a file, too, which fills the one for numbers.
 * @param {Column} column
 * @param {(error: unknown) => void} onError
 * @returns {[Field, HTMLElement[]]}
 */
export function fieldOf(column, onError) {
  const { labels, examples, kind } = column;
  const name = `${plainText(column.name, { max: 60 })} (${kind})`;
  if (kind === "label" && labels?.length) {
    const select = element("select", { className: "field" },
      ...labels.map((label) => element("option", { value: label, textContent: plainText(label, { max: 60 }) })));
    return [select, [element("label", {}, name, select)]];
  }
  const example = String(examples?.[0] ?? "");
  const isLong = example.length > LONG_TEXT || !NUMBERS.includes(kind);
  const properties = { className: "field code", placeholder: example && plainText(example, { max: 200 }), required: true };
  const field = isLong ? element("textarea", { ...properties, rows: 3, spellcheck: false }) : element("input", { ...properties, autocomplete: "off" });
  const label = element("label", {}, name, field);
  if (kind !== "image") return [field, [label]];
  const file = element("input", { className: "field", type: "file", accept: "image/*" });
  file.addEventListener("change", () => {
    const chosen = file.files?.[0];
    if (chosen) valuesOf(chosen, column).then((values) => { field.value = JSON.stringify(values); }).catch(onError);
  });
  return [field, [element("label", {}, `${name}: a picture`, file), label]];
}

/**
 * Return the field for the rows of series, a row for each step, and its label.
 * @param {Series} series
 * @param {Column[]} sources
 * @returns {[Field, HTMLElement[]]}
 */
export function fieldOfSeries({ group_by: group, order_by: time, known_covariates: known = [] }, sources) {
  const names = [group, time, ...sources.map((column) => column.name), ...known].filter((name) => name !== null);
  const rows = element("textarea", { className: "field code", rows: 8, spellcheck: false, required: true, placeholder: `${plainText(names.join(","), { max: 200 })}\n...` });
  return [rows, [element("label", {}, "Rows as CSV, one for each step, under a line of names", rows)]];
}

/**
 * Return the rows of examples that columns have, a text for each column.
 * @param {Column[]} columns
 */
export const examplesOf = (columns) => Array.from({ length: Math.max(0, ...columns.map(({ examples }) => examples?.length ?? 0)) },
  (_, row) => columns.map(({ examples }) => String(examples?.[row] ?? "")));
