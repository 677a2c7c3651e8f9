// @ts-check
// The result of the run in a few numbers, its diagnosis, and what to try next.

import { element } from "../shared/dom.js";
import { isFilled, write } from "./format.js";

/** @typedef {{ name: string, value: string, note: string }} HeadlineEntry */

/**
 * @param {{ headline?: HeadlineEntry[] | null, diagnosis?: string | null, advice?: string[] | null, command?: string | null }} data
 */
export function resultSection({ headline, diagnosis, advice, command }) {
  const parts = [];
  if (headline?.length) parts.push(element("dl", { className: "tiles" }, ...headline.map(tile)));
  if (isFilled(diagnosis)) parts.push(advisory(element("p", { className: "diagnosis" }), String(diagnosis)));
  if (advice?.length) {
    const items = advice.map((text) => advisory(element("li"), text));
    parts.push(element("div", { className: "advice" }, element("h3", { textContent: "What to try next" }), element("ul", {}, ...items)));
  }
  if (isFilled(command)) {
    const code = write(element("code", { className: "command" }), command, { max: 1000 });
    parts.push(element("div", { className: "advice" }, element("h3", { textContent: "To use this model" }), code));
  }
  return parts;
}

/**
 * Write a text with flags, each of which stays on one line.
 * @template {Element} T
 * @param {T} target
 * @param {string} text
 */
function advisory(target, text) {
  const parts = text.split(/(--[a-z][a-z-]*)/);
  target.append(...parts.filter(Boolean).map((part) => write(element(part.startsWith("--") ? "code" : "span"), part, { max: 2000 })));
  return target;
}

/**
 * Return a value with its number large and its unit small.
 * @param {HeadlineEntry} entry
 */
function tile({ name, value, note }) {
  const text = String(value ?? "");
  const [, number, unit] = /^(\S*\d\S*)\s+(\S.*)$/.exec(text) ?? [text, text, ""];
  const shown = element("dd", { className: "value number" }, write(element("span"), number, { max: 24 }));
  if (unit) shown.append(element("small", {}, " ", write(element("span"), unit, { max: 40 })));
  return element("div", {}, write(element("dt"), name ?? ""), shown,
    element("dd", { className: "muted" }, write(element("span"), note ?? "", { max: 120 })));
}
