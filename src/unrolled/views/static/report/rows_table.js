// @ts-check
// A table of answers: its first rows, and all of them as a CSV file.

import { formatRows } from "../shared/csv.js";
import { element } from "../shared/dom.js";
import { multilineText, plainText } from "./format.js";

const MAX_SHOWN_ROWS = 200;
const MAX_CELL_CHARACTERS = 300;

/**
 * Return the first rows of a table of answers, and a link to all of them as a file.
 * @param {string[]} names
 * @param {string[][]} rows
 * @param {string} fileName of the table that was asked about
 * @param {string} [csv] names and rows as the file has them
 * @returns {HTMLElement[]}
 */
export function rowsTable(names, rows, fileName, csv = formatRows([names, ...rows])) {
  const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, plainText(name, { max: 40 }))));
  const body = rows.slice(0, MAX_SHOWN_ROWS).map((row) => element("tr", {},
    ...row.map((cell) => element("td", {}, multilineText(cell.slice(0, MAX_CELL_CHARACTERS), "number")))));
  const blob = new Blob([csv], { type: "text/csv" });
  const download = element("a", { href: URL.createObjectURL(blob), download: `answers-${fileName.replace(/\.\w+$/, "")}.csv`, textContent: "Download the answers (CSV)" });
  const more = rows.length > MAX_SHOWN_ROWS ? ` (the first ${MAX_SHOWN_ROWS} of ${rows.length} rows)` : "";
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  return [element("p", {}, download, element("span", { className: "muted", textContent: more })),
    element("div", { className: "scroller", tabIndex: 0, role: "region", ariaLabel: "Answers" }, table)];
}
