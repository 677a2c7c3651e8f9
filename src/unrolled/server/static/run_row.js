// @ts-check
// One run in the list: whether it is on the chart, how far it came, and what can be done with it.

import { inFormWords } from "./fields.js";
import { replaceKeepingFocus } from "./focus.js";
import { element } from "./shared/dom.js";
import { duration, fixed, integer, isNumber, plainText } from "./report/format.js";

/** @typedef {import("./runs.js").Run} Run */
/** @typedef {"pause" | "resume" | "stop"} Action */

/** @type {Record<string, Action[]>} what can be done with a run */
const ACTIONS = { starting: ["stop"], running: ["pause", "stop"], paused: ["resume", "stop"], stopped: ["resume"], dead: ["resume"], finished: [] };
const NAMES = { pause: "Pause", resume: "Resume", stop: "Stop" };

/**
 * Return the status of a run in a word: of one that ended without its end, whether it is known why.
 * @param {Run} run
 */
export const statusName = ({ status, error }) => (status !== "dead" ? status : error ? "failed" : "interrupted");

/**
 * Return what is known of a run, as parts of a line.
 * @param {Run} run
 */
function factsOf(run) {
  const { tokens_per_second: speed, eta_seconds: eta } = run;
  const error = run.error ? [plainText(inFormWords(run.error), { max: 400 })] : [];
  if (run.kind === null && run.error) return error[0];
  return [
    run.total_steps ? `step ${integer(run.steps)} of ${integer(run.total_steps)}` : `step ${integer(run.steps)}`,
    ...(isNumber(run.loss) ? [`train ${fixed(run.loss)}`] : []),
    ...(isNumber(run.validation_loss) ? [`validation ${fixed(run.validation_loss)} ${run.unit ?? ""}`] : []),
    ...(isNumber(speed) ? [`${integer(speed)} tokens/s`] : []),
    ...(run.status === "running" && isNumber(eta) ? [`${duration(Math.round(eta))} left`] : []),
    ...error,
  ].join(" · ");
}

/**
 * Return the row of a run. It changes in place, so that the focus stays where it is.
 * @param {string} id
 * @param {object} listeners
 * @param {(isShown: boolean) => void} listeners.onShown
 * @param {() => void} listeners.onChosen
 * @param {(action: Action) => void} listeners.onAction
 */
export function createRunRow(id, { onShown, onChosen, onAction }) {
  const name = plainText(id, { max: 60 });
  const box = element("input", { type: "checkbox", ariaLabel: `Show ${name} on the chart` });
  const choose = element("button", { type: "button", textContent: name });
  const status = element("span", { className: "status" });
  const swatch = element("span", { className: "swatch" });
  const facts = element("p", { className: "run-facts muted small number" });
  const fill = element("span", { className: "fill" });
  const track = element("span", { className: "track", role: "progressbar", ariaLabel: `Progress of ${name}` }, fill);
  const buttons = element("div", { className: "run-buttons" });
  const row = element("li", { className: "run" }, box, element("div", { className: "run-name" }, choose, status, swatch), buttons, facts, track);
  row.dataset.run = id;
  box.addEventListener("change", () => onShown(box.checked));
  choose.addEventListener("click", onChosen);
  let shownStatus = "";

  /** @param {Run} run */
  function showStatus(run) {
    const name = statusName(run);
    if (name === shownStatus) return;
    status.textContent = shownStatus = name;
    status.className = `status ${Object.keys(ACTIONS).includes(run.status) ? run.status : ""}`;
    const made = (run.kind === null && run.status === "dead" ? [] : ACTIONS[run.status] ?? []).map((action) => {
      const button = element("button", { type: "button", textContent: NAMES[action], ariaLabel: `${NAMES[action]} ${name}` });
      button.addEventListener("click", () => onAction(action));
      return button;
    });
    replaceKeepingFocus(buttons, made, () => buttons.querySelector("button") ?? choose);
  }

  return {
    row,
    /**
     * @param {Run} run
     * @param {{ isShown: boolean, isChosen: boolean, className: string }} view
     */
    update(run, { isShown, isChosen, className }) {
      showStatus(run);
      box.checked = isShown;
      row.classList.toggle("chosen", isChosen);
      choose.ariaPressed = null;
      choose.setAttribute("aria-expanded", String(isChosen));
      swatch.className = isShown ? `swatch ${className}` : "swatch";
      facts.textContent = factsOf(run);
      const share = run.total_steps ? Math.min(1, run.steps / run.total_steps) : 0;
      fill.style.width = `${share * 100}%`;
      track.ariaValueNow = String(Math.round(share * 100));
      track.hidden = !run.total_steps || run.status === "finished";
    },
  };
}
