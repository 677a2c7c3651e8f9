// @ts-check
// Parts that sections share: choices, legends, tables and bars.

import { buttonsIn, element } from "../shared/dom.js";
import { scrollable } from "../shared/scrollable.js";
import { write } from "./format.js";

/**
 * Return a row of buttons of which one is pressed.
 * @param {string} label
 * @param {[string, string][]} options value and text of each
 * @param {string} initial
 * @param {(value: string) => void} onChange
 */
export function choices(label, options, initial, onChange) {
  const group = element("div", { className: "choices", role: "group", ariaLabel: label });
  const show = (/** @type {string} */ chosen) => {
    for (const button of buttonsIn(group)) button.ariaPressed = String(button.dataset.value === chosen);
  };
  for (const [value, text] of options) {
    const button = element("button", { type: "button" }, write(element("span"), text, { max: 40 }));
    button.dataset.value = value;
    button.addEventListener("click", () => {
      show(value);
      onChange(value);
    });
    group.append(button);
  }
  show(initial);
  return group;
}

/**
 * @param {...[string, string]} entries class and name of each
 */
export const legend = (...entries) => element("p", { className: "legend" },
  ...entries.map(([className, name]) => element("span", { className: `key ${className}` }, write(element("span"), name))));

/**
 * @param {string[]} head
 * @param {(Node | string)[][]} rows
 */
export function table(head, rows, className = "") {
  const titles = head.map((title) => write(element("th", { scope: "col" }), title, { max: 400 }));
  const body = rows.map((row) => element("tr", {}, ...row.map((value) =>
    value instanceof Node ? element("td", {}, value) : write(element("td"), value, { max: 400 }))));
  const content = element("table", { className }, element("thead", {}, element("tr", {}, ...titles)), element("tbody", {}, ...body));
  return scrollable(element("div", { className: "scroller" }, content), "Table");
}

/**
 * @param {number} fraction of the width that is filled
 * @param {string} className
 */
export function bar(fraction, className) {
  const fill = element("span", { className: `fill ${className}` });
  fill.style.width = `${Math.max(0, Math.min(1, fraction)) * 100}%`;
  return element("span", { className: "track", ariaHidden: "true" }, fill);
}
