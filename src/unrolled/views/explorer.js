// The explorer: what is shown, and what keys, pointers and fields do to it.

const state = {
  view: "neuron", unit: 0, signal: null, cursor: 0, hovered: -1, heads: "surprise", effect: 0,
  stretch: null, marking: null, drag: -1, found: [], current: -1,
};
const VIEWS = ["neuron", "prediction", "surprise", "cause"];
const flows = {};

// ---- what is shown

const flowShown = () => flows[state.view === "prediction" ? "columns" : "text"];

function repaintAll() {
  for (const flow of Object.values(flows)) flow.repaint();
}

function colourOfUnit() {
  const table = Array.from(state.signal.values, (value) => shade("u", value));
  return { levels: state.signal.row(state.unit), table };
}

// Surprise is shown up to the bits that all but a few symbols stay below.
function setUpSurprise() {
  const all = Array.from({ length: model.count }, (_, place) => bitsAt(place)).filter((bits) => !Number.isNaN(bits));
  all.sort((a, b) => a - b);
  model.mostBits = Math.min(12, Math.max(4, Math.ceil(all[Math.floor(all.length * 0.98)] ?? 4)));
  const levels = Uint8Array.from({ length: model.count }, (_, place) => shade("s", bitsAt(place) / model.mostBits));
  model.surpriseColour = { levels, table: CLASSES.map((_, index) => index) };
}

function colourOfText() {
  if (state.view === "cause") return model.effects[state.effect].colour;
  if (state.view === "surprise" || (state.view === "prediction" && state.heads === "surprise")) return model.surpriseColour;
  return colourOfUnit();
}

function showColours() {
  flowShown().repaint(colourOfText());
  showLegend();
}

function showLegend() {
  const of = `Unit ${unitName(state.unit)}, ${state.signal.title}`;
  const legends = {
    unit: state.signal.isGate ? [of, "u", "0 closed", "1 open", 0] : [of, "u", "−1 not excited", "+1 excited", -1],
    surprise: ["Surprise of each symbol", "s", "0 bits", `${model.mostBits}+ bits`, 0],
    prediction: [`Under each symbol, guesses for ${model.labels ? "its label" : "the next"}`, "p", "unlikely", "likely", 0],
  };
  if (state.view === "cause") {
    const effect = model.effects[state.effect];
    legends.cause = [`Unit ${unitName(effect.unit)} ${heldAs(effect)}`, "e",
      `${signed(-effect.scale, 1)} bits, easier`, `${signed(effect.scale, 1)} bits, harder`, -1];
  }
  const [caption, letter, low, high, start] = legends[state.view] ?? legends.unit;
  byId("caption").textContent = markingHint() ?? caption;
  byId("scale-low").textContent = low;
  byId("scale-high").textContent = high;
  const cells = Array.from({ length: 41 }, (_, at) => element("i", { className: cssOf(letter, start + (at / 40) * (1 - start)) }));
  byId("ramp").replaceChildren(...cells);
}

function showView() {
  const [prediction, cause] = [state.view === "prediction", state.view === "cause"];
  for (const button of byId("views").children) button.ariaPressed = String(button.dataset.view === state.view);
  byId("text").hidden = prediction;
  byId("columns").hidden = !prediction;
  byId("dense").hidden = prediction;
  byId("heads-group").hidden = !prediction || !hasView("surprise");
  byId("samples").hidden = byId("cause-card").hidden = !cause;
  byId("signals").hidden = model.signals.length < 2 || !(state.view === "neuron" || (prediction && state.heads === "unit"));
  for (const button of byId("heads").children) button.ariaPressed = String(button.dataset.heads === state.heads);
  if (prediction) flows.columns ??= new Flow(byId("columns"), byId("pane"), guessColumn, { least: 60, most: 240, width: 24, height: 142 });
  if (cause) showSamples(model.effects[state.effect]);
  showColours();
}

function showDetails() {
  showSymbol(state.hovered < 0 ? state.cursor : state.hovered);
}

// ---- choices

// A view without data is not offered: a model of a table's rows guesses no symbols.
const hasView = (view) => ({
  neuron: true, prediction: model.guesses > 0, surprise: model.surprise.some((level) => level !== NO_SURPRISE),
  cause: model.effects.length > 0,
})[view];

function setUpViews() {
  for (const button of byId("views").children) button.hidden = !hasView(button.dataset.view);
}

function chooseView(view) {
  if (!hasView(view)) return;
  state.view = view;
  byId("pane").scrollTop = 0;
  hideTip();
  showView();
  if (view === "cause") chooseEffect(state.effect);
}

function chooseUnit(unit) {
  state.unit = (unit + model.units) % model.units;
  if (state.view === "cause" && model.effects[state.effect].unit !== state.unit) showEffectOf(state.unit);
  byId("unit-name").textContent = unitName(state.unit);
  byId("slider").value = state.unit;
  byId("slider").ariaValueText = unitName(state.unit);
  showColours();
  showUnit();
  showDetails();
  showCurrentRows();
  hideTip();
  later("hash", 250, () => history.replaceState(null, "", `#${unitName(state.unit)}`));
  later("heard", 400, () => { byId("heard").textContent = `Unit ${unitName(state.unit)} ${namesOf(state.unit)}`; });
}

function chooseLayer(step) {
  chooseUnit(state.unit + step * model.hidden);
}

function chooseSignal(signal) {
  state.signal = signal;
  for (const button of byId("signals").children) button.ariaPressed = String(button.textContent === signal.name);
  showColours();
  showUnit();
}

function chooseEffect(number) {
  state.effect = number;
  [...byId("effects").children].forEach((row, at) => { row.firstChild.ariaCurrent = String(at === number); });
  showSamples(model.effects[number]);
  chooseUnit(model.effects[number].unit);
}

function showEffectOf(unit) {
  const number = model.effects.findIndex((effect) => effect.unit === unit);
  if (number >= 0) chooseEffect(number);
}

// Some work can wait until keys come to rest; browsers also refuse too many changes of the address.
const waiting = {};
function later(name, time, work) {
  clearTimeout(waiting[name]);
  waiting[name] = setTimeout(work, time);
}

// ---- keys

function symbolsOfRow() {
  const place = state.cursor;
  const { left, top } = flowShown().spans[place]?.getBoundingClientRect() ?? {};
  for (let at = place + 1; at < Math.min(model.count, place + 400); at++) {
    const spot = flowShown().spans[at]?.getBoundingClientRect();
    if (spot && spot.top > top + 4 && spot.left >= left - 4) return at - place;
  }
  return 40;
}

const KEYS = {
  ArrowLeft: () => chooseUnit(state.unit - 1), j: () => chooseUnit(state.unit - 1),
  ArrowRight: () => chooseUnit(state.unit + 1), k: () => chooseUnit(state.unit + 1),
  ArrowUp: () => chooseLayer(1), ArrowDown: () => chooseLayer(-1),
  ",": () => { state.anchor = null; walk(-1); }, ".": () => { state.anchor = null; walk(1); },
  "/": () => byId("find").focus(), u: () => byId("unit-search").focus(), "?": () => byId("help").showModal(),
  Escape: () => { clearStretch(); hideTip(); },
  ...Object.fromEntries(VIEWS.map((view, at) => [String(at + 1), () => chooseView(view)])),
};
const SHIFTED = {
  ArrowLeft: () => stretchBy(-1), ArrowRight: () => stretchBy(1),
  ArrowUp: () => stretchBy(-symbolsOfRow()), ArrowDown: () => stretchBy(symbolsOfRow()),
};

function pressed(event) {
  const typing = event.target.closest?.("input:not([type=range]), select, textarea");
  if (typing || byId("help").open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (model.layers === 1 && !event.shiftKey && /^Arrow(Up|Down)$/.test(event.key)) return;
  const work = (event.shiftKey && SHIFTED[event.key]) || KEYS[event.key];
  if (!work) return;
  event.preventDefault();
  work();
}

// ---- the start

function setUpButtons() {
  const signals = model.signals.map((signal) => {
    const title = signal.title[0].toUpperCase() + signal.title.slice(1);
    const button = element("button", { type: "button", className: "code", textContent: signal.name, title, ariaLabel: title });
    button.addEventListener("click", () => chooseSignal(signal));
    return button;
  });
  byId("signals").replaceChildren(...signals);
  for (const button of byId("views").children) button.addEventListener("click", () => chooseView(button.dataset.view));
  for (const button of byId("heads").children) {
    button.addEventListener("click", () => { state.heads = button.dataset.heads; showView(); });
  }
  const on = (id, kind, work) => byId(id).addEventListener(kind, work);
  on("previous", "click", KEYS.j);
  on("next", "click", KEYS.k);
  on("slider", "input", () => chooseUnit(byId("slider").valueAsNumber));
  on("dense", "click", () => { byId("dense").ariaPressed = String(byId("text").classList.toggle("dense")); });
  on("stretch-start", "click", () => {
    state.marking = state.marking === null ? -1 : null;
    showStretch();
    if (state.marking !== null) document.querySelector(".reading").scrollIntoView({ block: "nearest" });
  });
  on("stretch-clear", "click", clearStretch);
  on("help-open", "click", () => byId("help").showModal());
  on("help-close", "click", () => byId("help").close());
}

function fromAddress() {
  return unitMeant(location.hash.slice(1), 0);
}

function firstUnit() {
  const best = (model.importance ?? []).reduce((top, bits, unit, all) => (bits > all[top] ? unit : top), 0);
  return fromAddress() ?? model.probes[0]?.unit ?? best;
}

async function start() {
  setUpTheme(byId("theme"));
  model = await load(JSON.parse(byId("data").textContent));
  marks = new Uint8Array(model.count);
  state.signal = model.signals.find((signal) => signal.name === "c") ?? model.signals[0];  // what the probes looked at
  if (!hasView("surprise")) state.heads = "unit";
  setUpViews();
  write(byId("title"), model.title, { most: 200 });
  write(byId("subtitle"), model.subtitle || " ", { most: 300 });
  byId("slider").max = model.units - 1;
  byId("message").hidden = true;
  byId("app").hidden = false;
  setUpPalettes();
  setUpSurprise();
  setUpCause();
  setUpText();
  setUpButtons();
  setUpPointer(byId("pane"));
  setUpUnitSearch(byId("unit-search"));
  setUpFind(byId("find"));
  showLists();
  flows.text = new Flow(byId("text"), byId("pane"), textSpan, { least: 300, most: 1200, width: 8.5, height: 27 });
  showView();
  chooseSignal(state.signal);
  showStretch();
  showFound();
  chooseUnit(firstUnit());
  addEventListener("hashchange", () => { if (fromAddress() !== null) chooseUnit(fromAddress()); });
  addEventListener("keydown", pressed);
}

start().catch((error) => {
  byId("app").hidden = true;
  byId("message").hidden = false;
  byId("message").textContent = error instanceof OldBrowser
    ? "This browser is too old for this page: it cannot unpack the numbers. Browsers from 2023 on can."
    : `This page could not be shown: ${error.message}`;
  if (!(error instanceof OldBrowser)) throw error;
});
