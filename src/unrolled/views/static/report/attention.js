// @ts-check
// Attention maps of the first rows.

import { element } from "../shared/dom.js";
import { dataText, percent } from "./format.js";
import { Matrix } from "./matrix.js";

/**
 * Tokens of a source and of the output, and a row of attention weights for each token of the output.
 * @typedef {{ source?: string[], target?: string[], weights?: number[][], truth?: string | null }} AttentionMap
 */

/** @param {AttentionMap[]} maps */
export const attentionSection = (maps) => [element("div", { className: "maps" }, ...maps.map(attentionMap))];

/**
 * @param {AttentionMap} map
 * @param {number} index
 */
function attentionMap({ source = [], target = [], weights = [], truth }, index) {
  const matrix = new Matrix({
    name: `Attention map ${index + 1}`,
    rows: target,
    columns: source,
    cell: (row, column) => ({ className: "attended", strength: weights[row]?.[column] ?? 0 }),
    describe: (row, column) => [
      element("span", {}, "output"), dataText(target[row], { isToken: true }), element("span", {}, "attends to"),
      dataText(source[column], { isToken: true }), element("b", {}, percent(weights[row]?.[column])),
    ],
    maxCellSize: 22,
    isToken: true,
  });
  const output = target.join("");
  const caption = element("figcaption", {}, dataText(source.join(""), { max: 80 }),
    element("span", { className: "muted" }, " \u2192 "), dataText(output, { max: 80 }));
  if (truth !== undefined && truth !== null) {
    caption.append(output === truth ? element("span", { className: "good" }, " correct")
      : element("span", { className: "muted" }, " truth: ", dataText(truth, { max: 80 })));
  }
  return element("figure", {}, caption, matrix.box, matrix.readout);
}
