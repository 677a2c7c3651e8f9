// @ts-check
// Charts of series in the answer to a table.

import { paragraph } from "./report/format.js";
import { isForecast, seriesSection } from "./report/series.js";
import { element } from "./shared/dom.js";

/** @typedef {import("./report/series.js").SeriesChart} SeriesChart */

/**
 * Return drawings of series with what was predicted for them.
 * @param {SeriesChart[]} charts
 * @param {string} note about those that are not drawn
 */
export function chartsOf(charts, note) {
  if (!charts.length) return [];
  const hint = charts.some(isForecast) ? "The forecast starts at the dashed line. " : "";
  const title = element("h2", { textContent: charts.some(isForecast) ? "Forecast" : "Prediction" });
  return [title, paragraph(`${hint}Point at a chart, or use the arrow keys, to read it. ${note}`, "muted small"), ...seriesSection(charts)];
}
