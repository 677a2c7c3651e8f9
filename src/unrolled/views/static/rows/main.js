// @ts-check
// The page of rows: which rows are shown, and what one row is made of.

import { attentionSection } from "../report/attention.js";
import { paintEffect } from "../report/effects.js";
import { dataText, isNumber, percent } from "../report/format.js";
import { LINES_MARGIN, numberLines } from "../report/number_lines.js";
import { byId, element } from "../shared/dom.js";
import { pageData } from "../shared/page_data.js";
import { linkNeurons, setUpHeader } from "../shared/page_header.js";
import { plural, writeText } from "../shared/visible_text.js";

const ROWS_AT_ONCE = 40;
const PICTURE_WIDTH = 112;

/**
 * A cell: a text, a picture, or lines of numbers; `effect` is what each of its parts does to the answer, `whole` all of them.
 * @typedef {{ name?: string, kind?: string, text?: string, src?: string, width?: number, height?: number,
 *   lines?: (number | null)[][], steps?: number,
 *   effect?: (number | null)[], parts?: string[], grid?: [number, number] | null, whole?: number | null }} CellView
 */

/**
 * A row, and in `count` how many rows are equal to it, itself included.
 * @typedef {{ line: number, columns: CellView[], answer: CellView, truth: CellView | null, probability: number | null,
 *   wrong: boolean | null, attention: object | null, count: number }} Row
 */

/** @type {{ title: string, subtitle: string, unit: string, is_number: boolean, neurons: string | null, rows: Row[] }} */
const data = pageData();
const FILTERS = [
  { name: "All rows", test: () => true },
  { name: "Wrong answers", test: (/** @type {Row} */ row) => row.wrong === true },
  { name: "Right answers", test: (/** @type {Row} */ row) => row.wrong === false },
];
let [shown, filter] = [ROWS_AT_ONCE, FILTERS[0]];

/**
 * @param {HTMLElement} target
 * @param {number | null} effect
 * @param {number} scale
 */
const paint = (target, effect, scale) => paintEffect(target, effect, scale, data.unit);

/**
 * @param {CellView} cell
 * @param {number} scale
 */
function cellContent(cell, scale) {
  if (cell.src) return picture(cell, scale);
  if (cell.lines) {
    const strip = effectStrip(cell.effect ?? [], scale);
    strip.style.margin = `0 ${LINES_MARGIN.right}px 0 ${LINES_MARGIN.left}px`;
    return element("span", {}, numberLines(cell.lines, cell.steps ?? 1, cell.name ?? ""), strip);
  }
  if (cell.parts?.length) {
    const spans = cell.parts.map((text, index) => paint(writeText(element("span"), text, { max: 200 }), cell.effect?.[index] ?? null, scale));
    return element("span", { className: "parts code" }, ...spans);
  }
  const text = dataText(cell.text, { max: 320 });
  return cell.effect?.length === 1 ? paint(text, cell.effect[0], scale) : text;
}

/**
 * @param {CellView} cell
 * @param {number} scale
 */
function picture(cell, scale) {
  const [width, height] = [cell.width ?? 1, cell.height ?? 1];
  const isFrames = cell.kind === "frames";
  const shownWidth = isFrames ? Math.max(PICTURE_WIDTH, Math.min(520, width * 8)) : PICTURE_WIDTH;
  const image = element("img", { src: cell.src, width: shownWidth, alt: cell.text ?? `${cell.kind ?? "image"} of ${width} by ${height}` });
  image.height = isFrames ? Math.max(14, Math.min(90, height * 8)) : Math.round(shownWidth * height / width);
  const box = element("span", { className: "picture" }, image);
  if (cell.grid && cell.effect) {
    const overlay = element("span", { className: "grid-overlay" }, ...cell.effect.map((effect) => paint(element("span"), effect, scale)));
    overlay.style.gridTemplate = `repeat(${cell.grid[0]}, 1fr) / repeat(${cell.grid[1]}, 1fr)`;
    box.append(overlay);
  } else if (isFrames && cell.effect) {
    box.append(effectStrip(cell.effect, scale));
  }
  return box;
}

/**
 * Return a strip with a field for each part, from left to right.
 * @param {(number | null)[]} effects
 * @param {number} scale
 */
function effectStrip(effects, scale) {
  const strip = element("span", { className: "strip" }, ...effects.map((effect) => paint(element("span"), effect, scale)));
  strip.style.gridTemplateColumns = `repeat(${effects.length}, 1fr)`;
  return strip;
}

/** @param {Row} row */
function rowItem(row) {
  const effects = row.columns.flatMap((column) => [...column.effect ?? [], column.whole]).filter(isNumber);
  const scale = Math.max(data.is_number ? Number.MIN_VALUE : 0.05, ...effects.map(Math.abs));
  const entry = (/** @type {string} */ name, /** @type {Node} */ content, /** @type {number | null} */ whole = null) =>
    element("div", {}, element("dt", {}, paint(writeText(element("span"), name), whole, scale)), element("dd", {}, content));
  const cell = (/** @type {string} */ name, /** @type {CellView} */ view) => {
    const item = entry(name, cellContent(view, scale), view.whole ?? null);
    if (view.lines) item.className = "wide"; // a drawing is as wide as its box
    return item;
  };
  const columns = row.columns.map((column) => cell(column.name ?? "source", column));
  const answers = [cell("answer", row.answer)];
  if (row.truth) answers.push(cell("truth", row.truth));
  if (isNumber(row.probability)) answers.push(entry("probability", element("b", { className: "number" }, percent(row.probability))));
  if (row.wrong !== null) answers.push(entry("verdict", element("b", { className: "verdict" }, row.wrong ? "wrong" : "right")));
  if (row.count > 1) answers.push(entry("count", element("b", {}, `${row.count} equal rows`)));
  const state = row.wrong === null ? "" : row.wrong ? " wrong" : " right";
  const item = element("li", { className: `row${state}` },
    element("dl", { className: "columns" }, ...columns), element("dl", { className: "answers" }, ...answers));
  if (row.attention) item.append(attentionDetails(row.attention));
  return item;
}

/** @param {object} attention */
function attentionDetails(attention) {
  const details = element("details", {}, element("summary", {}, "Attention of the answer over the source"));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(...attentionSection([attention]));
  });
  return details;
}

/** @param {Row[]} rows */
const total = (rows) => rows.reduce((sum, row) => sum + row.count, 0);

function show() {
  const chosen = data.rows.filter(filter.test);
  byId("rows").replaceChildren(...chosen.slice(0, shown).map(rowItem));
  byId("more").hidden = chosen.length <= shown;
  const [wrong, judged] = [total(data.rows.filter((row) => row.wrong)), total(data.rows.filter((row) => row.wrong !== null))];
  byId("count").textContent = `${total(chosen.slice(0, shown))} of ${plural(total(chosen), "row")}` +
    (judged ? `; ${wrong} of ${plural(judged, "answer")} ${judged === 1 ? "is" : "are"} wrong` : "");
  for (const [index, button] of [...byId("filters").children].entries()) button.ariaPressed = String(FILTERS[index] === filter);
}

function start() {
  setUpHeader(data);
  byId("explanation").textContent = "Each part of a row is left out, or held at the mean, to see what happens to the answer; " +
    "the color of a column's name is for all of it. " +
    `Point at a part for the change, in ${data.unit}.`;
  if (data.is_number) {
    byId("low-text").textContent = "makes the number smaller";
    byId("high-text").textContent = "makes it larger";
  }
  if (data.rows.some((row) => row.wrong !== null)) {
    byId("filters").hidden = false;
    byId("filters").append(...FILTERS.map((choice) => {
      const button = element("button", { type: "button", textContent: choice.name });
      button.addEventListener("click", () => { [filter, shown] = [choice, ROWS_AT_ONCE]; show(); });
      return button;
    }));
  }
  byId("more").addEventListener("click", () => { shown += ROWS_AT_ONCE; show(); });
  linkNeurons(data.neurons, "rows");
  byId("app").hidden = false;
  show();
}

start();
