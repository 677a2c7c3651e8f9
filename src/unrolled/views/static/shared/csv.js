// @ts-check
// Small tables as text: CSV (RFC 4180) and TSV.

const SEPARATOR_LINE = /^\ufeff?sep=(.)\r?\n/i;

/**
 * Return what separates the cells of a table: what a line `sep=;` names, or a tab or semicolon, if its first line has more of
 * them than commas.
 * @param {string} text
 */
export function separatorOf(text) {
  const named = SEPARATOR_LINE.exec(text);
  if (named) return named[1];
  const line = text.split("\n", 1)[0];
  const count = (/** @type {string} */ separator) => line.split(separator).length;
  return ["\t", ";"].find((separator) => count(separator) > count(",")) ?? ",";
}

/**
 * Return the cells of a table, row by row; empty lines are left out. A cell `="001"`, as Excel writes it, is 001.
 * @param {string} text
 * @param {string} separator
 */
export function parseRows(text, separator) {
  /** @type {string[][]} */
  const rows = [];
  /** @type {string[]} */
  let row = [];
  let [cell, isQuoted] = ["", false];
  const endRow = () => {
    row.push(plain(cell));
    if (row.length > 1 || cell !== "") rows.push(row);
    [row, cell] = [[], ""];
  };
  for (let at = SEPARATOR_LINE.exec(text)?.[0].length ?? (text.startsWith("\ufeff") ? 1 : 0); at < text.length; at++) {
    const [character, next] = [text[at], text[at + 1]];
    if (isQuoted && character !== '"') cell += character;
    else if (isQuoted && next !== '"') isQuoted = false;
    else if (isQuoted) cell += text[at++];
    else if (character === '"' && cell === "") isQuoted = true;
    else if (character === separator) {
      row.push(plain(cell));
      cell = "";
    } else if (character === "\n" || (character === "\r" && next !== "\n")) endRow();
    else if (character !== "\r") cell += character;
  }
  endRow();
  return rows;
}

/**
 * Return a table as CSV.
 * @param {string[][]} rows
 */
export const formatRows = (rows) => rows.map((row) => `${row.map(quoted).join(",")}\r\n`).join("");

/** @param {string} cell */
const plain = (cell) => /^="([^"]*)"$/.exec(cell)?.[1] ?? cell;

/** @param {string} cell */
const quoted = (cell) => (/[",\r\n]|^\s|\s$/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
