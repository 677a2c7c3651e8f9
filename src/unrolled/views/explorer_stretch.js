// A stretch of the text, the units that are on in it and off elsewhere, and where else they are on together.

const ON = 0.3;
const BEST = 12;
const TEAM = 5;
const ELSEWHERE = 8;

function setStretch(first, last) {
  state.stretch = first === null ? null : [Math.min(first, last), Math.max(first, last)];
  const [start, end] = state.stretch ?? [1, 0];
  for (let place = 0; place < model.count; place++) {
    marks[place] = place >= start && place <= end ? marks[place] | MARK.stretch : marks[place] & ~MARK.stretch;
  }
  repaintAll();
}

// Units that are on in most of the stretch, by how far they tell it from the rest: the distance of the means in spreads.
function rankUnits([first, last]) {
  const signal = model.signals[0];
  const ranked = [];
  for (let unit = 0; unit < model.units; unit++) ranked.push(compare(signal, unit, first, last));
  return ranked.filter(({ recall }) => recall >= 0.5).sort((a, b) => b.score - a.score).slice(0, BEST);
}

function compare(signal, unit, first, last) {
  const counts = [new Uint32Array(256), new Uint32Array(256)];
  const row = signal.row(unit);
  for (let place = 0; place < row.length; place++) counts[1][row[place]]++;
  for (let place = first; place <= last; place++) {
    counts[0][row[place]]++;
    counts[1][row[place]]--;
  }
  const [inside, outside] = counts.map((count) => moments(count, signal));
  const spread = Math.sqrt((inside.variance + outside.variance) / 2 + 0.001);
  const sign = inside.mean >= outside.mean ? 1 : -1;
  const [hits, alarms] = counts.map((count) => countOn(count, signal, sign));
  return {
    unit, sign, score: Math.abs(inside.mean - outside.mean) / spread,
    precision: hits + alarms ? hits / (hits + alarms) : 0, recall: hits / (last - first + 1),
  };
}

function moments(counts, signal) {
  let [count, sum, squares] = [0, 0, 0];
  for (let level = 0; level <= signal.top; level++) {
    count += counts[level];
    sum += counts[level] * signal.values[level];
    squares += counts[level] * signal.values[level] ** 2;
  }
  const mean = count ? sum / count : 0;
  return { mean, variance: count ? Math.max(0, squares / count - mean ** 2) : 0 };
}

function countOn(counts, signal, sign) {
  let on = 0;
  for (let level = 0; level <= signal.top; level++) if (sign * signal.values[level] > ON) on += counts[level];
  return on;
}

// Runs of symbols where nearly all of the best units are on together, outside the stretch; the strongest first.
function elsewhere(ranked, [first, last]) {
  const team = ranked.slice(0, TEAM);
  const need = Math.ceil(team.length * 0.8);
  if (!need) return [];
  const together = new Uint8Array(model.count);
  for (const { unit, sign } of team) {
    const on = model.signals[0].values.map((value) => (sign * value > ON ? 1 : 0));
    model.signals[0].row(unit).forEach((level, place) => { together[place] += on[level]; });
  }
  const runs = [];
  for (let place = 0; place < model.count; place++) {
    if (together[place] < need) continue;
    const start = place;
    let weight = 0;
    while (place < model.count && together[place] >= need) weight += together[place++];
    if (place - 1 < first || start > last) runs.push({ start, end: place - 1, weight });
  }
  return runs.sort((a, b) => b.weight - a.weight).slice(0, ELSEWHERE);
}

function showStretch() {
  byId("stretch-clear").hidden = !state.stretch;
  byId("stretch-start").ariaPressed = String(state.marking !== null);
  byId("stretch-hint").textContent = markingHint()
    ?? "Drag over the text, or click a symbol and Shift-click another, to find the units that are on just there.";
  showLegend();
  byId("stretch-card").classList.toggle("first", Boolean(state.stretch));
  if (!state.stretch) return byId("stretch").replaceChildren();
  const ranked = rankUnits(state.stretch);
  byId("stretch").replaceChildren(stretchHead(), rankedList(ranked), ...elsewhereList(elsewhere(ranked, state.stretch)));
  showCurrentRows();
}

function markingHint() {
  return state.marking === null ? null : state.marking < 0 ? "Choose the first symbol" : "Choose the last symbol";
}

function stretchHead() {
  const [first, last] = state.stretch;
  const text = model.symbols.slice(first, Math.min(last + 1, first + 60)).join("");
  return element("p", { className: "quote" }, faceOf(text, false, 48),
    element("span", { className: "soft number", textContent: ` ${last - first + 1} symbols` }));
}

function rankedList(ranked) {
  if (!ranked.length) return element("p", { className: "soft", textContent: "No unit is on in most of it." });
  const rows = ranked.map(({ unit, sign, score, precision, recall }) => {
    const how = `${sign < 0 ? "blue" : "green"} here, ${score.toFixed(1)} spreads from the rest`;
    return unitRow(unit, namesOf(unit), "", how, `precision ${percent(precision)}, recall ${percent(recall)}`);
  });
  return element("ul", { className: "rows", id: "ranked" }, ...rows);
}

function elsewhereList(runs) {
  if (!runs.length) return [];
  const rows = runs.map(({ start, end }) => {
    const button = element("button", { type: "button", className: "plain row" }, snippet(start, end));
    button.addEventListener("click", () => { pin(start); flowShown().reveal(start); });
    return element("li", {}, button);
  });
  return [element("h3", { textContent: "Where the best of them are on together" }), element("ul", { className: "rows" }, ...rows)];
}

function snippet(start, end) {
  const part = (first, last) => write(document.createElement("span"), model.symbols.slice(Math.max(0, first), last).join("") || " ",
    { compact: false, most: 40 });
  const middle = write(element("b"), model.symbols.slice(start, end + 1).join("") || " ", { most: 40 });
  return element("span", { className: "snippet code" }, part(start - 12, start), middle, part(end + 1, end + 13));
}
