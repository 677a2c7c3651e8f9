// @ts-check
// The cursor in the text, and the tooltip at a token.

import { byId, element } from "../shared/dom.js";
import { bitsAt, changeAt, data, percent, predictionsAt, signed } from "./data.js";
import { showToken, tokenText } from "./panel.js";
import { debounce, shownActivation, state } from "./state.js";
import { MARK, marks, repaintAll, visibleTextView } from "./text_view.js";

// ---- the cursor

/**
 * Put the cursor at a token.
 * @param {number} position
 */
export function setCursor(position) {
  marks.ofToken[state.cursor] &= ~MARK.cursor;
  state.cursor = Math.min(data.count - 1, Math.max(0, position));
  marks.ofToken[state.cursor] |= MARK.cursor;
  state.hovered = -1;
  repaintAll();
  showToken();
}

/**
 * Move the cursor by some tokens, scroll to it and announce what is there.
 * @param {number} tokens
 */
export function moveCursor(tokens) {
  setCursor(state.cursor + tokens);
  visibleTextView().reveal(state.cursor, 0);
  showTooltip(state.cursor);
  debounce("announce", 400, () => { byId("announcement").textContent = byId("tooltip").textContent; });
}

// ---- the tooltip

/** @param {number} position */
export function showTooltip(position) {
  const box = visibleTextView().spans[position]?.getClientRects()[0];
  if (!box) return;
  const tooltip = byId("tooltip");
  tooltip.replaceChildren(...tooltipParts(position));
  tooltip.hidden = false;
  const left = Math.min(innerWidth - tooltip.offsetWidth - 8, Math.max(8, box.left - 12));
  const above = box.top - tooltip.offsetHeight - 8;
  tooltip.style.left = `${left}px`;
  tooltip.style.top = `${above > 8 ? above : box.bottom + 8}px`;
}

/** @param {number} position */
function tooltipParts(position) {
  const bits = bitsAt(position);
  const activation = shownActivation();
  const values = [`${activation.shortTitle} ${signed(activation.at(state.neuron, position))}`];
  if (!Number.isNaN(bits)) values.push(`${bits.toFixed(2)} bits`);
  if (state.view === "intervention") {
    values.push(`change ${signed(changeAt(data.interventions[state.intervention], position) || 0)} bits`);
  }
  const token = tokenText(data.tokens[position], data.documentEnds.has(position));
  const head = element("div", { className: "number" }, token, ` ${values.join(" · ")}`);
  const predictions = predictionsAt(position).flatMap(({ text, isEnd, probability }) =>
    [tokenText(text, isEnd), ` ${percent(probability)}  `]);
  return [head, element("div", { className: "muted number" }, data.predictsLabels ? "label: " : "next: ", ...predictions)];
}

export function hideTooltip() {
  byId("tooltip").hidden = true;
}
