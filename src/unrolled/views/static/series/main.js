// @ts-check
// The page of series: a figure for each, and a link to the hidden units.

import { isFilled, paragraph, write } from "../report/format.js";
import { isForecast, seriesSection } from "../report/series.js";
import { byId, element } from "../shared/dom.js";
import { pageData } from "../shared/page_data.js";
import { setUpTheme } from "../shared/theme.js";
import { writeText } from "../shared/visible_text.js";

function start() {
  const data = pageData();
  setUpTheme(byId("theme"));
  writeText(byId("title"), String(data.title), { max: 200 });
  writeText(byId("subtitle"), String(data.subtitle), { max: 400 });
  write(byId("note"), data.note, { max: 400 });
  byId("starts").hidden = !data.series.some(isForecast);
  const figures = seriesSection(data.series);
  byId("series").append(...figures.length ? figures : [paragraph("There is nothing to draw: no step has a number.", "muted")]);
  if (isFilled(data.neurons)) {
    const link = writeText(element("a", { href: encodeURI(String(data.neurons)) }), String(data.neurons));
    byId("neurons").append("The hidden units while the model reads these series: ", link);
    byId("neurons").hidden = false;
  }
  byId("app").hidden = false;
}

start();
