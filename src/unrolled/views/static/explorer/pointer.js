// @ts-check
// What the pointer does in the text: it hovers, clicks and drags.

import { hideTooltip, showTooltip } from "./cursor.js";
import { showToken } from "./panel.js";
import { clickToken, select } from "./selection.js";
import { debounce, state } from "./state.js";
import { positionOf } from "./text_view.js";

/** @param {HTMLElement} scroller */
export function setUpPointer(scroller) {
  scroller.addEventListener("pointerdown", (event) => { if (event.button === 0) state.dragStart = positionOf(event.target); });
  scroller.addEventListener("pointerover", hover);
  scroller.addEventListener("pointerleave", () => {
    hideTooltip();
    state.hovered = -1;
    debounce("details", 60, showToken);
  });
  scroller.addEventListener("pointercancel", () => { state.dragStart = -1; });
  scroller.addEventListener("scroll", hideTooltip);
  addEventListener("pointerup", (event) => {
    const start = state.dragStart;
    state.dragStart = -1;
    if (start < 0) return;
    const position = positionOf(event.target);
    const last = position < 0 ? state.hovered : position;
    if (event.pointerType === "mouse" && last >= 0 && last !== start && !event.shiftKey) select([start, last]);
    else if (position >= 0) clickToken(position, event.shiftKey);
  });
}

let detailsFrame = 0;

/** @param {PointerEvent} event */
function hover(event) {
  const position = positionOf(event.target);
  if (position < 0) hideTooltip();
  if (position < 0 || position === state.hovered) return;
  state.hovered = position;
  if (event.pointerType === "mouse" && event.buttons) hideTooltip();
  else showTooltip(position);
  cancelAnimationFrame(detailsFrame);
  detailsFrame = requestAnimationFrame(showToken);
}
