// @ts-check
// Rows of a table as series: columns found by name, numbers with gaps, each series in the order of its times.

import { findColumn, plainName, TableError } from "../shared/columns.js";
import { parseRows, separatorOf } from "../shared/csv.js";
import { plural } from "../shared/visible_text.js";
import { encodeCovariates, gapNotes } from "./covariates.js";
import { DECIMAL_COMMA, toNumber } from "./numbers.js";
import { createTimes, orderOf } from "./times.js";

/**
 * The columns of a table: those that are read; `truth` are others that are predicted; `groupBy` names the series, `orderBy` has their
 * times, of which `examples` are two that follow each other; `missing` are texts that are gaps.
 * @typedef {{ columns: string[], truth: string[], groupBy: string | null, orderBy: string | null, examples: string[], missing: string[],
 *   needsDates: boolean, dates: import("./times.js").TimeRules, covariates: import("./covariates.js").Covariate[],
 *   missingNames: import("./covariates.js").MissingNames, horizon: number }} TableColumns
 */

/**
 * A series: `keys` are what its `times` are, and `seconds` those of dates; cells of `truth` are texts, with decimal commas or not; those
 * of `known` are of columns that are known in advance, and `covariates` what is read of them.
 * @typedef {{ name: string, hasCommas: boolean, times: string[], keys: import("./times.js").Key[], seconds: number[], numbers: (number | null)[][], truth: string[][], known: string[][], covariates: number[][] }} Series
 */

const MAX_NUMBER = 3.4e38;
const MAX_LISTED = 12;

/**
 * Return the series of a table, and sentences about its rows.
 * @param {string} text
 * @param {TableColumns} columns
 * @returns {{ series: Series[], notes: string[] }}
 */
export function readSeries(text, columns) {
  const separator = separatorOf(text);
  const rows = parseRows(text, separator);
  if (!rows.length) throw new TableError("There are no rows: paste a table, or open a file.");
  const advance = columns.covariates.map(({ name }) => name);
  const wanted = [columns.groupBy, columns.orderBy, ...columns.columns, ...advance].filter((name) => name !== null);
  const header = rows[0].map(plainName);
  const hasHeader = wanted.some((name) => header.includes(plainName(name)));
  const names = hasHeader ? rows[0] : wanted;
  if (!hasHeader && (rows[0].length !== wanted.length || !columns.columns.every((_, index) => isValue(rows[0][wanted.indexOf(columns.columns[0]) + index], separator, columns)))) {
    throw new TableError(`The table has no column '${columns.columns[0]}': its columns are ${listed(rows[0])}, and ${listed(wanted)} are read. Give it a first row with these names.`);
  }
  const places = new Map([...wanted, ...columns.truth].map((name) => [name, findColumn(names, name)]));
  const missing = wanted.filter((name) => places.get(name) === -1);
  if (missing.length) throw new TableError(`The table has no column '${missing[0]}': its columns are ${listed(names)}.`);
  const body = hasHeader ? rows.slice(1) : rows;
  if (!body.length) throw new TableError("The table has a first row with names, and no rows below it.");
  const hasCommas = separator !== "," && body.some((row) => columns.columns.some((name) => DECIMAL_COMMA.test((row[places.get(name) ?? 0] ?? "").trim())));
  const cell = (/** @type {string[]} */ row, /** @type {string} */ name) => row[places.get(name) ?? -1] ?? "";
  /** @type {Map<string, Series>} */
  const found = new Map();
  let lastName = "";
  for (const [index, row] of body.entries()) {
    if (columns.groupBy !== null) lastName = cell(row, columns.groupBy).trim() || lastName;
    const series = found.get(lastName) ?? { name: lastName, hasCommas, times: [], keys: [], seconds: [], numbers: [], truth: [], known: [], covariates: [] };
    found.set(lastName, series);
    series.times.push(columns.orderBy === null ? "" : cell(row, columns.orderBy).trim());
    series.numbers.push(columns.columns.map((name) => readNumber(cell(row, name), name, index + 1 + Number(hasHeader), hasCommas, columns.missing)));
    series.truth.push(columns.truth.map((name) => cell(row, name).trim()));
    series.known.push(advance.map((name) => cell(row, name)));
  }
  const notes = columns.orderBy === null ? [] : sortByTime([...found.values()], columns);
  return { series: advance.length ? [...found.values()].filter((series) => readCovariates(series, columns, notes)) : [...found.values()], notes };
}

/**
 * Read what is known in advance of a series, whose last steps without numbers are those that are forecast; return whether it has others.
 * @param {Series} series
 * @param {TableColumns} columns
 * @param {string[]} notes
 */
function readCovariates(series, { covariates, missingNames, horizon, columns }, notes) {
  const numKnown = series.numbers.findLastIndex((row) => row.some((value) => value !== null)) + 1;
  const found = series.known.length - numKnown;
  if (numKnown && found < horizon) {
    const where = series.name ? `${series.name}: ` : "";
    throw new TableError(`${where}a forecast of ${plural(horizon, "step")} reads ${listed(covariates.map(({ name }) => name))} of each step, and ${plural(found, "row")} ` +
      `${found === 1 ? "has" : "have"} these after the last '${columns[0]}': add ${horizon - found} with an empty '${columns[0]}'.`);
  }
  series.covariates = encodeCovariates(covariates, series.known, missingNames, (text) => toNumber(text, series.hasCommas));
  if (numKnown) notes.push(...gapNotes(covariates, series.known.slice(numKnown, numKnown + horizon), missingNames));
  series.numbers = series.numbers.slice(0, numKnown);
  return numKnown > 0;
}

/** @param {string[]} names */
const listed = (names) => names.slice(0, MAX_LISTED).map((name) => `'${name.trim()}'`).join(", ") + (names.length > MAX_LISTED ? ` and ${names.length - MAX_LISTED} more` : "");

/** @param {string} text @param {string} separator @param {TableColumns} columns */
const isValue = (text, separator, columns) => toNumber(text, separator !== ",") !== null || columns.missing.includes(text.trim());

/**
 * @param {string} text
 * @param {string} name
 * @param {number} row
 * @param {boolean} hasCommas
 * @param {string[]} missing
 */
function readNumber(text, name, row, hasCommas, missing) {
  if (missing.includes(text.trim())) return null;
  const number = toNumber(text, hasCommas);
  if (number === null) throw new TableError(`Row ${row}: a number is expected in '${name}', and this is '${text.trim().slice(0, 40)}'; a gap is an empty cell.`);
  if (Math.abs(number) > MAX_NUMBER) throw new TableError(`Row ${row}: the number in '${name}' is infinite or above 3.4e38; a gap is an empty cell.`);
  return number;
}

/**
 * Sort the steps of each series by time; return sentences about steps that were moved, and about equal times.
 * @param {Series[]} series
 * @param {TableColumns} columns
 */
function sortByTime(series, columns) {
  const times = createTimes(columns.dates);
  const all = series.flatMap((each) => each.times);
  const reading = times.read(all);
  if (typeof reading === "number") {
    throw new TableError(`'${columns.orderBy}' is '${all[reading].slice(0, 40)}' in one row, and the times of a table are all numbers, all ISO dates, such as 2024-03-31 or 2024-03-31T18:00, or all dates such as 31.03.2024 or 31-Mar-2024.`);
  }
  if (columns.needsDates && typeof reading.keys[0] === "number") {
    throw new TableError(`The model reads the time of each step from the calendar, and '${columns.orderBy}' has numbers: give it dates.`);
  }
  let [start, moved, repeated] = [0, 0, 0];
  for (const each of series) {
    const keys = reading.keys.slice(start, start += each.times.length);
    const distinct = new Set(keys.map(orderOf)).size;
    const order = keys.map((_, index) => index);
    if (distinct === keys.length || !times.followsClock(keys)) {
      repeated += keys.length - distinct;
      order.sort((a, b) => orderOf(keys[a]) - orderOf(keys[b]) || a - b);
    }
    moved += order.filter((from, to) => from !== to).length;
    each.keys = order.map((index) => keys[index]);
    for (const part of /** @type {("times" | "numbers" | "truth" | "known")[]} */ (["times", "numbers", "truth", "known"])) Object.assign(each, { [part]: order.map((index) => each[part][index]) });
    each.seconds = times.secondsOf(each.keys);
  }
  const notes = moved ? [`${plural(moved, "row")} ${moved === 1 ? "was" : "were"} not in the order of '${columns.orderBy}', and ${moved === 1 ? "was" : "were"} sorted.`] : [];
  if (repeated) notes.push(`${plural(repeated, "row")} ${repeated === 1 ? "has" : "have"} the same '${columns.orderBy}' as another row of the series, and ${repeated === 1 ? "is a step" : "are steps"} of their own.`);
  return notes;
}
