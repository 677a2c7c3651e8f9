// @ts-check
// The page of series: a figure for each, and a link to the hidden units.

import { paragraph, write } from "../report/format.js";
import { isForecast, seriesSection } from "../report/series.js";
import { byId } from "../shared/dom.js";
import { pageData } from "../shared/page_data.js";
import { linkNeurons, setUpHeader } from "../shared/page_header.js";

function start() {
  const data = pageData();
  setUpHeader(data);
  write(byId("note"), data.note, { max: 400 });
  byId("starts").hidden = !data.series.some(isForecast);
  const figures = seriesSection(data.series);
  byId("series").append(...figures.length ? figures : [paragraph("There is nothing to draw: no step has a number.", "muted")]);
  linkNeurons(data.neurons, "series");
  byId("app").hidden = false;
}

start();
