// @ts-check
// The answers to many rows: charts of series, a table of the first rows, and all of them as a CSV file.

import { textOfAnswer } from "./answer.js";
import { formatRows } from "./csv.js";
import { multilineText, paragraph, plainText } from "./report/format.js";
import { isForecast, seriesSection } from "./report/series.js";
import { byId, element } from "./shared/dom.js";

/** @typedef {import("./report/series.js").SeriesChart} SeriesChart */

const MAX_SHOWN_ROWS = 200;
const MAX_CELL_CHARACTERS = 300;

/**
 * Return a cell of an answer as a text.
 * @param {unknown} value
 */
export const cellText = (value) => (value === null || value === undefined ? "" : textOfAnswer(value));

/**
 * Return drawings of series with what was predicted for them.
 * @param {SeriesChart[]} charts
 * @param {string} note about those that are not drawn
 */
export function chartsOf(charts, note) {
  if (!charts.length) return [];
  const hint = charts.some(isForecast) ? "The forecast starts at the dashed line. " : "";
  const title = element("h2", { textContent: charts.some(isForecast) ? "Forecast" : "Prediction" });
  return [title, paragraph(`${hint}Point at a chart, or use the arrow keys, to read it. ${note}`, "muted small"), ...seriesSection(charts)];
}

/**
 * Show the first rows of a table of answers, and offer all of them as a file.
 * @param {string[]} names
 * @param {string[][]} rows
 * @param {string} fileName of the table that was asked about
 */
export function showRows(names, rows, fileName) {
  const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, plainText(name, { max: 40 }))));
  const body = rows.slice(0, MAX_SHOWN_ROWS).map((row) => element("tr", {},
    ...row.map((cell) => element("td", {}, multilineText(cell.slice(0, MAX_CELL_CHARACTERS), "number")))));
  const blob = new Blob([formatRows([names, ...rows])], { type: "text/csv" });
  const download = element("a", { href: URL.createObjectURL(blob), download: `answers-${fileName.replace(/\.\w+$/, "")}.csv`, textContent: "Download the answers (CSV)" });
  const more = rows.length > MAX_SHOWN_ROWS ? ` (the first ${MAX_SHOWN_ROWS} of ${rows.length} rows)` : "";
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  byId("answers").replaceChildren(element("p", {}, download, element("span", { className: "muted", textContent: more })),
    element("div", { className: "scroller", tabIndex: 0, role: "region", ariaLabel: "Answers" }, table));
}
