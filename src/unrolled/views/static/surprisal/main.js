// @ts-check
// A scored text: every token on a background whose strength is its surprisal.

import { byId, element } from "../shared/dom.js";
import { pageData } from "../shared/page_data.js";
import { setUpTheme } from "../shared/theme.js";
import { plural, writeText } from "../shared/visible_text.js";

/**
 * A line of the text. `bits` are hundredths of a bit for each character, -1 where there is no prediction; `meanBits` is the
 * mean of each model; `excess` is what the first one makes of the whole line.
 * @typedef {{ number: number, excess: number, place: string | null, characters: string[], shortened: boolean, bits: number[], meanBits: number[] }} Line
 */

/**
 * @typedef {object} SurprisalData
 * @property {string} title
 * @property {{ name: string, bits: number | null, linesPredictedBest: number }[]} models the first one gives the colors
 * @property {number} characterCount
 * @property {number} unknownCount
 * @property {number} lineCount
 * @property {Line[]} lines the first lines of the text
 * @property {Line[]} topLines the most surprising lines
 */

/** Bits from which on a color is at its strongest. */
const MAX_BITS = 10;
/** @type {SurprisalData} */
const data = pageData();

/** @param {number} value */
const integer = (value) => value.toLocaleString("en");

/**
 * @param {string} text
 * @param {number} hundredths
 */
function characterSpan(text, hundredths) {
  const span = writeText(element("span", { className: "character" }), text);
  if (hundredths < 0) return span;
  const strength = Math.min(1, hundredths / 100 / MAX_BITS);
  span.style.backgroundColor = `color-mix(in srgb, var(--surprisal) ${Math.round(strength * 100)}%, transparent)`;
  span.title = `${(hundredths / 100).toFixed(2)} bits`;
  return span;
}

/**
 * @param {Line} line
 * @param {boolean} isLink whether the number leads to the line in the text, and the excess stands next to it
 */
function lineItem(line, isLink) {
  const code = element("code", {}, ...line.characters.map((text, index) => characterSpan(text, line.bits[index] ?? -1)));
  if (line.shortened) code.append(element("i", { className: "placeholder", textContent: "…" }));
  const number = element("a", { textContent: line.place ?? integer(line.number) });
  if (isLink) number.href = `#line-${line.number}`;
  const mean = element("span", { className: "mean-bits", textContent: line.meanBits.map((bits) => bits.toFixed(2)).join("  ") });
  if (!isLink) return element("li", { id: `line-${line.number}` }, number, mean, code);
  return element("li", {}, number, element("span", { className: "excess", textContent: line.excess.toFixed(2) }), mean, code);
}

function showModels() {
  const table = byId("models", HTMLTableElement);
  table.hidden = false;
  table.tBodies[0].append(...data.models.map((model) => element("tr", {},
    writeText(element("td"), model.name, { max: 200 }),
    element("td", { textContent: model.bits?.toFixed(4) ?? "-" }),
    element("td", { textContent: integer(model.linesPredictedBest) }))));
}

setUpTheme(byId("theme"));
writeText(byId("title"), data.title, { max: 200 });
const unknown = data.unknownCount ? `, ${integer(data.unknownCount)} of them unknown to the model` : "";
byId("about").textContent = `${data.models[0].bits?.toFixed(3) ?? "no"} bits per character over ` +
  `${plural(data.characterCount, "character")}${unknown}, ${plural(data.lineCount, "line")}`;
byId("max-bits").textContent = `${MAX_BITS}+`;
if (data.models.length > 1) showModels();
byId("top-lines").append(...data.topLines.map((line) => lineItem(line, true)));
byId("lines").append(...data.lines.map((line) => lineItem(line, false)));
const rest = data.lineCount - data.lines.length;
if (rest > 0) byId("rest").textContent = `... and ${integer(rest)} more lines`;
