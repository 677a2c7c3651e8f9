// @ts-check
// All settings of the run.

import { element } from "../shared/dom.js";
import { plural } from "../shared/visible_text.js";
import { isFilled, write } from "./format.js";

/** @typedef {[string, string, string]} Setting name, value, and where it comes from */
/** @typedef {{ group: string, rows: Setting[] }} SettingsGroup */

/** @param {Setting} setting */
const isGiven = (setting) => setting[2] === "given";

/** @param {SettingsGroup[]} groups */
export function settingsSection(groups) {
  const filled = groups.filter((group) => isFilled(group.rows));
  const given = filled.flatMap((group) => group.rows.filter(isGiven));
  const chips = given.map(([name, value]) =>
    element("span", { className: "chip code" }, write(element("span"), `${name} ${value}`, { max: 120 })));
  const title = given.length ? "Given: " : "Nothing was given: the recipe chose everything.";
  return filled.length ? [element("p", { className: "given" }, title, ...chips), ...filled.map(settingsGroup)] : [];
}

/** @param {SettingsGroup} group */
function settingsGroup({ group, rows }) {
  const given = rows.filter(isGiven).length;
  const count = ` ${plural(rows.length, "setting")}${given ? `, ${given} given` : ""}`;
  const head = element("summary", {}, write(element("b"), group), element("span", { className: "muted small" }, count));
  const lines = rows.map((row) => element("tr", { className: isGiven(row) ? "is-given" : "" },
    write(element("th", { scope: "row" }), row[0]), write(element("td", { className: "code" }), row[1] ?? "", { max: 400 }),
    write(element("td", { className: "muted" }), row[2] ?? "", { max: 120 })));
  const table = element("table", { className: "settings" }, element("tbody", {}, ...lines));
  return element("details", {}, head, element("div", { className: "scroller" }, table));
}
