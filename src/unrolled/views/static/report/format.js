// @ts-check
// Numbers and texts as a reader wants them.

import { element } from "../shared/dom.js";
import { writeText } from "../shared/visible_text.js";

/**
 * Return whether there is a number: one that was not finite in Python is null here.
 * @param {unknown} value
 * @returns {value is number}
 */
export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/**
 * Return whether there is anything in a value: a text, entries, keys, or a number.
 * @param {unknown} value
 */
export const isFilled = (value) =>
  value !== null && value !== undefined && value !== "" && (typeof value !== "object" || Object.keys(value).length > 0);

// ---- numbers

/** @param {unknown} value */
export const fixed = (value, digits = 3) => (isNumber(value) ? value.toFixed(digits).replace("-", "\u2212") : "unknown");
/** @param {unknown} value */
export const integer = (value) => (isNumber(value) ? Math.round(value).toLocaleString("en") : "unknown");
/** @param {number} nats */
export const toBits = (nats) => nats / Math.LN2;

/**
 * Return a number in three digits, with a letter for thousands, millions and so on.
 * @param {number} value
 */
export function compact(value) {
  const size = Math.abs(value);
  for (const [least, factor, letter] of /** @type {[number, number, string][]} */ (
    [[1e12, 1e12, "T"], [1e9, 1e9, "G"], [1e6, 1e6, "M"], [1e4, 1e3, "k"]])) {
    if (size >= least) return `${Number((value / factor).toPrecision(3))}${letter}`;
  }
  if (size > 0 && size < 1e-3) return value.toExponential(Number.isInteger(Math.log10(size)) ? 0 : 1).replace("-", "\u2212");
  return Number(value.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 7 }).replace("-", "\u2212");
}

/**
 * Return how numbers of an axis are written: with as many digits as tell its ticks apart.
 * @param {[number, number]} domain
 */
export function axisFormat([low, high]) {
  const [step, size] = [(high - low) / 5 || 1, Math.max(Math.abs(low), Math.abs(high))];
  if (size >= 1e7 || step < 1e-5) return compact;
  const digits = Math.max(0, Math.ceil(-Math.log10(step)));
  return (/** @type {number} */ value) => {
    const text = value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits, useGrouping: size >= 1e4 });
    return text.replace("-", "\u2212");
  };
}

/** @param {unknown} seconds */
export function duration(seconds) {
  if (!isNumber(seconds)) return "unknown time";
  if (seconds < 60) return `${Number(seconds.toPrecision(seconds < 10 ? 2 : 3))} s`;
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${Math.floor(seconds % 60)} s`;
}

/**
 * Return a fraction in percent: with a decimal where it is close to 0 or 1.
 * @param {unknown} fraction
 */
export function percent(fraction) {
  if (!isNumber(fraction)) return "unknown";
  const isExtreme = Math.min(fraction, 1 - fraction) < 0.1 && fraction > 0 && fraction < 1;
  return `${(100 * fraction).toFixed(isExtreme ? 1 : 0)}%`;
}

/** @param {number[]} values */
export const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
/** @param {number[]} values */
export const largest = (values) => values.reduce((a, b) => Math.max(a, b), 0);

// ---- texts

/**
 * Write a text into an element; leave the element empty if there is none.
 * @template {Element} T
 * @param {T} target
 * @param {unknown} text
 * @param {{ max?: number }} [options]
 * @returns {T}
 */
export const write = (target, text, options = {}) =>
  ((text ?? "") === "" ? target : writeText(target, String(text), options));

/**
 * A paragraph of a text that comes from data.
 * @param {unknown} text
 */
export const paragraph = (text, className = "") => write(element("p", { className }), text, { max: 2000 });

/**
 * How much of a text is shown, and whether it is one token of a vocabulary, whose blanks must be seen.
 * @typedef {{ max?: number, isToken?: boolean }} TextOptions
 */

/**
 * Return a text from data, set off from the page's own words.
 * @param {unknown} text
 * @param {TextOptions} [options]
 */
export function dataText(text, { max = 60, isToken = false } = {}) {
  const span = element("span", { className: "data-text code" });
  if (isToken || (text ?? "") !== "") return writeText(span, String(text ?? ""), { compact: isToken, max, end: true });
  span.classList.add("muted");
  span.append("(empty)");
  return span;
}

/**
 * Return a short text on one line as a string, for places where elements have no room.
 * @param {unknown} text
 * @param {TextOptions} [options]
 */
export function plainText(text, { max = 14, isToken = false } = {}) {
  return (dataText(text, { max, isToken }).textContent ?? "").replaceAll("\n", "");
}

/**
 * Return a longer text with its lines and tabs; invisible characters get placeholders.
 * @param {unknown} text
 */
export function multilineText(text, className = "multiline code") {
  const box = element("div", { className });
  for (const part of String(text).split(/([\n\t])/)) {
    if (part === "\n" || part === "\t") box.append(part);
    else if (part) box.append(writeText(element("span"), part, { max: Infinity }));
  }
  return box;
}
