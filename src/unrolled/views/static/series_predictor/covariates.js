// @ts-check
// Columns that are known in advance (`tables/known_covariates.py`): cells to inputs of the network.

import { TableError } from "../shared/columns.js";
import { plural } from "../shared/visible_text.js";

/** @typedef {import("./predictor.js").Scaling} Scaling */

/** A column of numbers with their scaling, or of texts, each of the categories an input. @typedef {{ name: string, scaling: Scaling | null, hasGaps: boolean, categories: string[] }} Covariate */

/** Names of missing values in texts and in numbers. @typedef {{ texts: string[], numbers: string[] }} MissingNames */

/** Return true and false as 1 and 0, and any other text as it is. @param {string} text */
const plain = (text) => (/** @type {Record<string, string>} */ ({ true: "1", false: "0" }))[text.toLowerCase()] ?? text;

/**
 * Return the inputs of the steps of a series. A gap is filled with the last number.
 * @param {Covariate[]} covariates
 * @param {string[][]} cells of each step
 * @param {MissingNames} missing
 * @param {(text: string) => number | null} toNumber
 * @returns {number[][]}
 */
export function encodeCovariates(covariates, cells, missing, toNumber) {
  const last = covariates.map(() => 0);
  return cells.map((row) => covariates.flatMap(({ name, scaling, hasGaps, categories }, place) => {
    const text = row[place].trim();
    if (!scaling) return categories.map((category) => Number(!missing.texts.includes(text) && plain(text) === category));
    const [isGap, value] = [missing.numbers.includes(text), toNumber(plain(text))];
    if (!isGap && value === null) throw new TableError(`'${text.slice(0, 40)}' is no number, and '${name}' has numbers; a gap is an empty cell.`);
    if (value !== null && !isGap) last[place] = Math.fround(scaled(scaling, 0, value));
    return hasGaps ? [last[place], Number(isGap)] : [last[place]];
  }));
}

/**
 * Return what is to be said of columns that have no number in some of the steps that are forecast, and had one in training in all.
 * @param {Covariate[]} covariates
 * @param {string[][]} cells of the steps that are forecast
 * @param {MissingNames} missing
 */
export const gapNotes = (covariates, cells, missing) => covariates.flatMap(({ name, scaling, hasGaps }, place) => {
  const count = scaling && !hasGaps ? cells.filter((row) => missing.numbers.includes(row[place].trim())).length : 0;
  return count ? [`'${name}' is empty in ${plural(count, "step")} to be forecast: the last number before is read.`] : [];
});

/** Return a number clipped and scaled. @param {Scaling} scaling @param {number} column @param {number} value */
export function scaled({ center, spread, low, high }, column, value) {
  const clipped = Math.max(low[column] ?? -Infinity, Math.min(high[column] ?? Infinity, value));
  return (clipped - center[column]) / spread[column];
}
