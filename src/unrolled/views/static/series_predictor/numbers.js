// @ts-check
// Numbers as the cells of a table have them.

const NUMBER = /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i;
/** A number with a decimal comma. */
export const DECIMAL_COMMA = /^[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+(e[+-]?\d+)?$/i;
const GROUPED_BY_POINTS = /^[+-]?[1-9]\d{0,2}(\.\d{3})+$/;

/**
 * Return the number that a text is, or null.
 * @param {string} text
 * @param {boolean} hasCommas whether numbers have decimal commas
 */
export function toNumber(text, hasCommas) {
  text = text.trim().replace(/^\u2212/, "-");
  if (hasCommas && GROUPED_BY_POINTS.test(text)) return null;
  if (hasCommas && DECIMAL_COMMA.test(text)) text = text.replaceAll(".", "").replace(",", ".");
  return NUMBER.test(text) ? Number(text) : null;
}
