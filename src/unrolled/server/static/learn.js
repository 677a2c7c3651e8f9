// @ts-check
// Learn: runs with their losses on one chart, followed live; a training can be started, paused, stopped and resumed.

import { keepDraft } from "./drafts.js";
import { replaceKeepingFocus } from "./focus.js";
import { element, byId } from "./shared/dom.js";
import { fixed, isNumber, multilineText, plainText } from "./report/format.js";
import { createLossChart } from "./loss_chart.js";
import { createRunRow, statusName } from "./run_row.js";
import { controlRun, createRuns, samplesOf } from "./runs.js";
import { setUpTrainForm } from "./train_form.js";

/** @typedef {import("./main.js").App} App */
/** @typedef {import("./runs.js").Run} Run */

const NUM_COLORS = 8;
/** Runs that the chart shows at most: more lines could not be told apart. */
const MAX_ON_CHART = 24;

/**
 * Return whether a run matches all words of a filter.
 * @param {Run} run
 * @param {string} filter
 */
function matches(run, filter) {
  const text = `${run.id} ${statusName(run)} ${run.command}`.toLowerCase();
  return filter.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

/**
 * Return the name of the axis of losses.
 * @param {Set<string>} units
 */
function nameOf([unit = "", ...others]) {
  if (others.length) return "losses, each in its unit";
  return unit.startsWith("bits") ? unit : `loss ${unit}`.trim();
}

/** @param {App} app */
export function setUpLearn(app) {
  const filter = byId("run-filter", HTMLInputElement);
  const lossChart = createLossChart();
  byId("loss-chart").append(lossChart.box);
  /** @type {Map<string, ReturnType<typeof createRunRow>>} */
  const rows = new Map();
  /** Runs that a person took off the chart. @type {Set<string>} */
  const hidden = new Set();
  let [chosen, chosenSamples] = ["", ""];
  /** The number of the color of each run, which it keeps. @type {Map<string, number>} */
  const colors = new Map();
  /** The status of each run when it was last shown, and whether it had a model. @type {Map<string, string>} */
  const statuses = new Map();

  const runs = createRuns({
    onRuns: show, onMetrics: show, onError: app.showError, onRestored: app.clearError,
    onSample: (id) => { if (id === chosen) void showSamples(); },
  });

  const listed = () => runs.all().filter((run) => matches(run, filter.value));
  const onChart = () => listed().filter((run) => !hidden.has(run.id)).slice(0, MAX_ON_CHART);

  /** @param {string} id */
  function colorOf(id) {
    if (!colors.has(id)) colors.set(id, colors.size % NUM_COLORS);
    return `series-${colors.get(id)}`;
  }

  /** @param {string} id */
  function rowOf(id) {
    const known = rows.get(id);
    if (known) return known;
    const row = createRunRow(id, {
      onShown: (isShown) => {
        if (isShown) hidden.delete(id);
        else hidden.add(id);
        show();
      },
      onChosen: () => choose(id === chosen ? "" : id),
      onAction: (action) => {
        app.clearError();
        controlRun(id, action).then(runs.refresh).catch(app.showError);
      },
    });
    rows.set(id, row);
    return row;
  }

  /** Ask for the models when a run has saved its first one, or has ended; for the samples of the chosen run, too. */
  function noteStatuses() {
    const statusOf = (/** @type {Run} */ run) => `${run.status} ${run.has_model}`;
    const changed = runs.all().filter((run) => statuses.has(run.id) && statuses.get(run.id) !== statusOf(run));
    runs.all().forEach((run) => statuses.set(run.id, statusOf(run)));
    if (changed.length) app.models.load().catch(app.showError);
    if (changed.some((run) => run.id === chosen)) void showSamples(); // one that went on from an earlier step has fewer
  }

  function show() {
    noteStatuses();
    const [shown, drawn] = [listed(), onChart()];
    const ids = new Set(drawn.map((run) => run.id));
    runs.setShown((id) => ids.has(id) || id === chosen, byId("loss-chart").clientWidth);
    const list = byId("runs");
    const wanted = shown.map((run) => rowOf(run.id).row);
    if (wanted.length !== list.childElementCount || wanted.some((row, index) => row !== list.children[index])) replaceKeepingFocus(list, wanted);
    for (const run of shown) {
      rowOf(run.id).update(run, { isShown: ids.has(run.id), isChosen: run.id === chosen, className: colorOf(run.id) });
    }
    showChart(drawn);
    showDetail();
    const more = shown.length - hidden.size > MAX_ON_CHART ? `; the first ${MAX_ON_CHART} are on the chart` : "";
    byId("run-count").textContent = runs.all().length ? `${shown.length} of ${runs.all().length} runs${more}` : "There is no run yet.";
  }

  /** @param {Run[]} drawn */
  function showChart(drawn) {
    const series = drawn.flatMap((run) => {
      const metrics = runs.metrics(run.id);
      return metrics ? [{ metrics, className: colorOf(run.id), isChosen: run.id === chosen }] : [];
    });
    const reference = drawn.find((run) => run.id === chosen) ?? (drawn.length === 1 ? drawn[0] : null);
    const baselines = Object.entries(reference?.baselines ?? {}).filter(([, value]) => isNumber(value));
    const units = new Set(series.map(({ metrics }) => metrics.unit));
    const hasChart = drawn.some((run) => run.kind !== null); // its place is kept while its numbers are read
    byId("loss-chart").hidden = !hasChart;
    byId("chart-legend").textContent = hasChart
      ? "Area: smallest to largest training loss. Line: validation loss. Dashed: baselines of the chosen run." : "";
    lossChart.show(series, baselines.map(([name, value]) => ({ name, value })), byId("log-steps", HTMLInputElement).checked, nameOf(units));
  }

  /** @param {string} id "" for none */
  function choose(id) {
    chosen = id;
    chosenSamples = "";
    sampleBox.replaceChildren();
    show();
    if (id) void showSamples();
  }

  const use = element("a", { className: "small" });
  const baselineText = element("p", { className: "muted small" });
  const command = element("p", { className: "code small" });
  const sampleBox = element("div", { className: "samples-of-run", ariaLive: "polite" });
  const detail = element("div", { className: "run-detail" }, use, command, baselineText, element("h2", { textContent: "Newest samples" }), sampleBox);

  /** Show more of the chosen run, in its row. */
  function showDetail() {
    const run = runs.all().find((other) => other.id === chosen);
    if (!run) {
      detail.remove();
      return;
    }
    const { row } = rowOf(run.id);
    if (detail.parentElement !== row) row.append(detail);
    const baselines = Object.entries(run.baselines ?? {}).map(([name, value]) => `${plainText(name, { max: 30 })} ${fixed(value)}`);
    baselineText.textContent = baselines.length ? `Baselines: ${baselines.join(", ")}` : "";
    const [part, setting, text] = run.kind === "table" ? ["tables", "table", "Predict with this model"] : ["write", "model", "Write with this model"];
    use.hidden = !run.has_model;
    Object.assign(use, { href: `#${part}?${new URLSearchParams({ [setting]: run.id })}`, textContent: text });
    command.textContent = run.command && plainText(run.command, { max: 300 });
  }

  async function showSamples() {
    const id = chosen;
    const hasFolder = runs.all().find((run) => run.id === id)?.kind;
    const samples = !hasFolder ? [] : await samplesOf(id).catch((error) => {
      app.showError(error);
      return [];
    });
    const key = JSON.stringify(samples);
    if (id !== chosen || key === chosenSamples) return;
    chosenSamples = key;
    sampleBox.replaceChildren(...samples.map(({ step, text }) => {
      const box = multilineText(text, "run-sample code");
      Object.assign(box, { tabIndex: 0, role: "region", ariaLabel: `Sample at step ${step}` });
      return element("div", {}, element("p", { className: "muted small", textContent: `step ${step}` }), box);
    }));
    if (!samples.length) sampleBox.textContent = "none yet";
  }

  // On a phone the form would push the runs out of view.
  if (matchMedia("(max-width: 820px)").matches) byId("train-details", HTMLDetailsElement).open = false;
  filter.addEventListener("input", show);
  byId("log-steps").addEventListener("change", show);
  document.addEventListener("settings", show);
  setUpTrainForm(app, async (id) => {
    hidden.delete(id);
    filter.value = "";
    await runs.refresh();
    choose(id);
  });
  keepDraft(byId("train-text", HTMLTextAreaElement), "train-text");
  let isOpen = false;
  document.addEventListener("visibilitychange", () => { // nobody looks: nothing is asked
    if (isOpen && document.hidden) runs.leave();
    else if (isOpen) runs.open();
  });
  return {
    open: () => {
      isOpen = true;
      runs.open();
    },
    leave: () => {
      isOpen = false;
      runs.leave();
    },
  };
}
