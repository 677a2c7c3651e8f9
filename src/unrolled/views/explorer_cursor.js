// The cursor, the stretch that a pointer or keys mark, and the tip at a symbol.

// ---- the cursor and the stretch

function pin(place) {
  marks[state.cursor] &= ~MARK.cursor;
  state.cursor = Math.min(model.count - 1, Math.max(0, place));
  marks[state.cursor] |= MARK.cursor;
  state.hovered = -1;
  repaintAll();
  showDetails();
}

function walk(step) {
  pin(state.cursor + step);
  flowShown().reveal(state.cursor, 0);
  showTip(state.cursor);
  later("heard", 400, () => { byId("heard").textContent = byId("tip").textContent; });
}

function stretchBy(step) {
  const anchor = state.anchor ??= state.cursor;
  walk(step);
  setStretch(anchor, state.cursor);
  later("stretch", 150, showStretch);
}

function select(first, last) {
  setStretch(first, last);
  const asked = state.marking !== null;
  state.marking = null;
  showStretch();
  document.querySelector(".lists").scrollTop = 0;
  if (asked) byId("stretch-card").scrollIntoView({ block: "start" });
}

function clearStretch() {
  state.marking = null;
  state.anchor = null;
  select(null, null);
  getSelection().removeAllRanges();
}

function clickOn(place, shift) {
  if (shift) return select(state.cursor, place);
  if (state.marking !== null && state.marking >= 0) return select(state.marking, place);
  state.anchor = null;
  pin(place);
  if (state.marking === null) return;
  state.marking = place;
  showStretch();
}

function setUpPointer(pane) {
  pane.addEventListener("pointerdown", (event) => { if (event.button === 0) state.drag = placeOf(event.target); });
  pane.addEventListener("pointerover", (event) => hover(placeOf(event.target), event));
  pane.addEventListener("pointerleave", () => { hideTip(); state.hovered = -1; later("details", 60, showDetails); });
  pane.addEventListener("pointercancel", () => { state.drag = -1; });
  pane.addEventListener("scroll", hideTip);
  addEventListener("pointerup", (event) => {
    const start = state.drag;
    state.drag = -1;
    if (start < 0) return;
    const over = placeOf(event.target);
    const last = over < 0 ? state.hovered : over;
    if (event.pointerType === "mouse" && last >= 0 && last !== start && !event.shiftKey) select(start, last);
    else if (over >= 0) clickOn(over, event.shiftKey);
  });
}

function hover(place, event) {
  if (place < 0) hideTip();
  if (place < 0 || place === state.hovered) return;
  state.hovered = place;
  if (event.pointerType === "mouse" && event.buttons) hideTip();
  else showTip(place);
  cancelAnimationFrame(waiting.frame);
  waiting.frame = requestAnimationFrame(showDetails);
}

// ---- the tip at a symbol

function showTip(place) {
  const span = flowShown().spans[place];
  const spot = span?.getClientRects()[0];
  if (!spot) return;
  const tip = byId("tip");
  tip.replaceChildren(...tipParts(place));
  tip.hidden = false;
  const left = Math.min(innerWidth - tip.offsetWidth - 8, Math.max(8, spot.left - 12));
  const above = spot.top - tip.offsetHeight - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 8 ? above : spot.bottom + 8}px`;
}

function tipParts(place) {
  const bits = bitsAt(place);
  const parts = [`${state.signal.short} ${signed(state.signal.at(state.unit, place))}`];
  if (!Number.isNaN(bits)) parts.push(`${bits.toFixed(2)} bits`);
  if (state.view === "cause") parts.push(`change ${signed(changeAt(model.effects[state.effect], place) || 0)} bits`);
  const head = element("div", { className: "number" }, faceOf(model.symbols[place], model.ends.has(place)), ` ${parts.join(" · ")}`);
  const guesses = guessesAt(place).flatMap((guess) => [faceOf(guess.text, guess.end), ` ${percent(guess.chance)}  `]);
  return [head, element("div", { className: "soft number" }, model.labels ? "label: " : "next: ", ...guesses)];
}

function hideTip() {
  byId("tip").hidden = true;
}
