// @ts-check
// The report: its sections, and what each is made of. A section without data is removed from the page.

import { byId, element } from "../shared/dom.js";
import { pageData } from "../shared/page_data.js";
import { setUpHeader } from "../shared/page_header.js";
import { writeText } from "../shared/visible_text.js";
import { gateSaturationSection, histogramsSection } from "./activations.js";
import { attentionSection } from "./attention.js";
import { confusionSection } from "./confusion.js";
import { contextUseSection } from "./context_use.js";
import { curvesSection } from "./curves.js";
import { detectorsSection } from "./detectors.js";
import { isFilled, paragraph } from "./format.js";
import { lossBreakdownSection } from "./loss_breakdown.js";
import { memorizationSection } from "./memorization.js";
import { calibrationSection, scatterSection } from "./predictions.js";
import { resultSection } from "./result.js";
import { ngramSamplesSection, samplesSection } from "./samples.js";
import { isForecast, seriesSection } from "./series.js";
import { settingsSection } from "./settings.js";
import { baselinesSection, errorsSection, metricsSection } from "./tables.js";

/**
 * The data of a report, by section. Each section's function says what its data is.
 * @typedef {Record<string, any>} Report
 */

/**
 * For the id of each section: which part of the report it shows, and the function that makes its elements.
 * @type {Record<string, { select: (report: Report) => any, create: (data: any, report: any) => Node[] }>}
 */
const SECTIONS = {
  "result": { select: (report) => report, create: resultSection },
  "samples": { select: (report) => report.samples, create: samplesSection },
  "curves": { select: (report) => report.curves, create: curvesSection },
  "table": { select: (report) => report.table, create: metricsSection },
  "series": { select: (report) => report.series, create: seriesSection },
  "confusion": { select: (report) => report.table?.confusion, create: confusionSection },
  "attention": { select: (report) => report.attention, create: attentionSection },
  "scatter": { select: (report) => report.scatter, create: scatterSection },
  "calibration": { select: (report) => report.calibration, create: calibrationSection },
  "errors": { select: (report) => report.errors, create: errorsSection },
  "surest": { select: (report) => report.surest, create: errorsSection },
  "baselines": { select: (report) => report.baselines, create: baselinesSection },
  "ngram-samples": { select: (report) => report.ngram_samples, create: ngramSamplesSection },
  "loss-breakdown": { select: (report) => report.loss_breakdown, create: lossBreakdownSection },
  "memorization": { select: (report) => report.memorization, create: memorizationSection },
  "detectors": { select: (report) => report.detectors, create: detectorsSection },
  "context-use": { select: (report) => report.context_use, create: contextUseSection },
  "gate-saturation": { select: (report) => report.gate_saturation, create: gateSaturationSection },
  "histograms": { select: (report) => report.histograms, create: histogramsSection },
  "settings": { select: (report) => report.settings, create: settingsSection },
};

/**
 * Fill a section, or remove it.
 * @param {string} id
 * @param {Report} report
 */
function fillSection(id, report) {
  const { select, create } = SECTIONS[id];
  const section = byId(id);
  /** @type {Node[]} */
  let parts = [];
  try {
    const data = select(report);
    parts = isFilled(data) ? create(data, report) : [];
  } catch (error) {
    parts = [paragraph(`This part could not be shown: ${error instanceof Error ? error.message : error}`, "muted")];
    console.error(error);
  }
  if (parts.length) section.querySelector(".body")?.append(...parts);
  else section.remove();
}

/**
 * Remove the hints about charts that do not apply to this run.
 * @param {Report} report
 */
function removeHints(report) {
  /** @type {Record<string, boolean>} */
  const applies = {
    references: isFilled(report.curves?.references), texts: !isFilled(report.table), forecasts: Boolean(report.series?.some(isForecast)),
  };
  for (const hint of document.querySelectorAll("[data-for]")) {
    if (hint instanceof HTMLElement && !applies[hint.dataset.for ?? ""]) hint.remove();
  }
}

/** List the sections that are there, and mark the one in view. */
function setUpContents() {
  /** @type {Map<Element, HTMLAnchorElement>} */
  const links = new Map();
  for (const section of byId("sections").children) {
    const textContent = section.querySelector("h2")?.textContent ?? "";
    const link = element("a", { href: `#${section.id}`, textContent });
    links.set(section, link);
    byId("contents").append(element("li", {}, link));
  }
  const inView = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) inView[isIntersecting ? "add" : "delete"](target);
    const current = [...links.keys()].find((section) => inView.has(section));
    if (current) for (const [section, link] of links) link.ariaCurrent = String(section === current);
  }, { rootMargin: "-15% 0px -55% 0px" });
  for (const section of links.keys()) observer.observe(section);
}

/** Open all details for printing. */
function setUpPrint() {
  /** @type {NodeListOf<HTMLDetailsElement>} */
  let closed;
  addEventListener("beforeprint", () => {
    closed = document.querySelectorAll("details:not([open])");
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of closed) details.open = false; });
}

function start() {
  /** @type {Report} */
  const report = pageData();
  setUpHeader(report);
  if (isFilled(report.created)) writeText(byId("created"), String(report.created), { max: 300 });
  byId("app").hidden = false;
  for (const id of Object.keys(SECTIONS)) fillSection(id, report);
  removeHints(report);
  setUpContents();
  setUpPrint();
}

start();
