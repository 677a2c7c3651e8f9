// The panels beside the text: one symbol, one unit, and the lists of units.

const AROUND = 20;
const BINS = 41;
const FEW = 8;

const faceOf = (text, end = false, most = 12) =>
  write(element("span", { className: "face code" }), text, { end, compact: true, most });

// ---- the symbol under the pointer

function showSymbol(place) {
  byId("symbol").replaceChildren(symbolHead(place), timeline(place), readings(place), guessList(place));
}

function symbolHead(place) {
  const bits = bitsAt(place);
  const told = Number.isNaN(bits) ? "the first: nothing to guess it from" : `cost ${bits.toFixed(2)} bits`;
  const where = element("span", { className: "soft number", textContent: `symbol ${place + 1} of ${model.count}, ${told}` });
  return element("p", { className: "symbol-head" }, faceOf(model.symbols[place], model.ends.has(place)), where);
}

// The state and the memory as lines, the symbols under them, and the gates as strips.
function timeline(place) {
  const places = Array.from({ length: 2 * AROUND + 1 }, (_, at) => place - AROUND + at);
  const lines = model.signals.filter((signal) => signal.fine);
  const chart = svg("svg", { viewBox: `0 -1.1 ${places.length} 2.2`, preserveAspectRatio: "none", class: "chart" });
  chart.append(svg("line", { x1: 0, x2: places.length, y1: 0, y2: 0, class: "zero" }));
  chart.append(svg("rect", { x: AROUND, y: -1.1, width: 1, height: 2.2, class: "here" }));
  for (const signal of lines) chart.append(svg("path", { d: pathOf(signal, places), class: `line-${signal.name}` }));
  const strips = model.signals.filter((signal) => !signal.fine).map((signal) => strip(signal, places));
  const label = `State of unit ${unitName(state.unit)} around the symbol`;
  const plot = element("div", { className: "plot" }, chart);
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", label);
  return element("div", { className: "timeline" }, element("span", { className: "axis" }, element("span", {}, "+1"), element("span", {}, "−1")), plot,
    ...symbolStrip(places), ...strips.flat());
}

function pathOf(signal, places) {
  const row = signal.row(state.unit);
  let path = "";
  places.forEach((place, at) => {
    const value = place < 0 || place >= model.count ? NaN : signal.values[row[place]];
    if (!Number.isNaN(value)) path += `${path ? "L" : "M"}${at + 0.5} ${(-value).toFixed(3)}`;
  });
  return path;
}

function symbolStrip(places) {
  const cells = places.map((place) => {
    const cell = element("span", { className: place === places[AROUND] ? "here" : "" });
    const text = model.symbols[place];
    if (text !== undefined) cell.textContent = stripFace(text);
    return cell;
  });
  return [element("span"), element("div", { className: "strip code", ariaHidden: "true" }, ...cells)];
}

// One column is all a symbol gets here: what needs a box becomes a dot.
function stripFace(text) {
  const face = write(document.createElement("span"), text, { compact: true, most: 1 });
  return face.querySelector(".box") ? "\u00b7" : face.textContent;
}

function strip(signal, places) {
  const row = signal.row(state.unit);
  const shown = (place) => (place < 0 || place >= model.count ? "" : cssOf("u", signal.values[row[place]]));
  const cells = places.map((place) => element("span", { className: shown(place) }));
  const name = element("span", { className: "axis code", textContent: signal.name, title: signal.title });
  return [name, element("div", { className: "strip gates", ariaHidden: "true" }, ...cells)];
}

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function readings(place) {
  const list = element("dl", { className: "readings number" });
  for (const signal of model.signals) {
    const value = signal.at(state.unit, place);
    const told = Number.isNaN(value) ? "none" : signal.isGate ? value.toFixed(2) : signed(value);
    list.append(element("div", {}, element("dt", { className: `key-${signal.name}`, title: signal.short }, `${signal.title} ${signal.name}`),
      element("dd", {}, told)));
  }
  return list;
}

function guessList(place) {
  const rows = guessesAt(place).map((guess) => {
    const bar = element("span", { className: `fill ${cssOf("p", Math.max(guess.chance, 0.25))}` });
    bar.style.width = `${guess.chance * 100}%`;
    return element("li", { className: guess.came ? "came" : "" }, faceOf(guess.text, guess.end),
      element("span", { className: "track" }, bar), element("span", { className: "number" }, percent(guess.chance)));
  });
  const note = element("h3", { textContent: model.labels ? "Guesses for its label" : "Guesses for the next symbol" });
  if (!rows.length) return element("div");
  return element("div", {}, note, element("ol", { className: "guesses" }, ...rows));
}

// ---- the unit

function showUnit() {
  byId("unit-title").textContent = `Unit ${unitName(state.unit)}`;
  const probes = model.probesOf.get(state.unit) ?? [];
  byId("unit-means").replaceChildren(...probes.slice(0, 3).map((probe) =>
    element("p", {}, element("b", { textContent: probe.feature }), element("span", { className: "soft" }, ` ${scoreOf(probe)}`),
      element("br"), probe.means)));
  byId("histogram").replaceChildren(...histogram(state.signal));
  byId("saturation").replaceChildren(...model.signals.filter((signal) => signal.isGate).map(saturation));
}

function countsOf(signal) {
  const counts = new Uint32Array(256);
  for (const level of signal.row(state.unit)) counts[level]++;
  return counts;
}

function histogram(signal) {
  const levels = signal.top + 1;
  const size = Math.min(BINS, levels);
  const bins = new Float64Array(size);
  countsOf(signal).forEach((count, level) => { if (level < levels) bins[Math.floor((level * size) / levels)] += count; });
  const most = Math.max(...bins, 1);
  const bars = Array.from(bins, (count, bin) => {
    const value = signal.low + ((bin + 0.5) / size) * (1 - signal.low);
    const bar = element("span", { className: cssOf("u", value), title: `${value.toFixed(2)}: ${percent(count / model.count)}` });
    bar.style.height = count ? `max(2px, ${(count / most) * 100}%)` : "0";
    return bar;
  });
  const chart = element("div", { className: "bars" }, ...bars);
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", `How often the ${signal.title} takes each value`);
  const ends = signal.isGate ? ["0", signal.title, "1"] : ["−1", `${signal.title} ${signal.short}`, "+1"];
  const axis = element("p", { className: "ends soft number" }, ...ends.map((text) => element("span", { textContent: text })));
  return [chart, axis];
}

function saturation(signal) {
  const counts = countsOf(signal);
  let [closed, open] = [0, 0];
  for (let level = 0; level <= signal.top; level++) {
    if (signal.values[level] < 0.1) closed += counts[level];
    if (signal.values[level] > 0.9) open += counts[level];
  }
  const [low, high] = [closed / model.count, open / model.count];
  const told = `closed (<0.1) ${percent(low)}, open (>0.9) ${percent(high)}`;
  return element("p", { className: "saturation" }, element("b", { textContent: signal.title }),
    element("span", { className: "soft number", textContent: told }));
}

// ---- lists of units

function scoreOf({ kind, score, p }) {
  const chance = p === null ? "" : p < 0.001 ? ", p < 0.001" : `, p = ${p.toPrecision(2)}`;
  return `${kind} ${score === null ? "unknown" : score.toFixed(3)}${chance}`;
}

// A button that chooses a unit: its number and name, what is told at the right, and lines below.
function unitRow(unit, name, told, ...lines) {
  const top = element("span", { className: "row-top" }, element("span", { className: "code", textContent: unitName(unit) }),
    element("b", { textContent: name }), element("span", { className: "soft number", textContent: told }));
  const below = lines.filter(Boolean).map((line) => element("span", { className: "soft number", textContent: line }));
  const button = element("button", { type: "button", className: "plain row" }, top, ...below);
  button.addEventListener("click", () => chooseUnit(unit));
  button.dataset.unit = unit;
  return element("li", {}, button);
}

const probeRow = (probe) => unitRow(probe.unit, probe.feature, "", scoreOf(probe), probe.means);
const namesOf = (unit) => (model.probesOf.get(unit) ?? []).map((probe) => probe.feature).join(", ");

// A list that starts short and can be opened.
function showList(list, rows) {
  list.replaceChildren(...rows.slice(0, FEW));
  if (rows.length <= FEW) return;
  const more = element("button", { type: "button", className: "plain more", textContent: `Show all ${rows.length}` });
  more.addEventListener("click", () => { list.replaceChildren(...rows); showCurrentRows(); });
  list.append(element("li", {}, more));
}

function showLists() {
  byId("probes-card").hidden = !model.probes.length;
  showList(byId("probes"), model.probes.map(probeRow));
  byId("importance-card").hidden = !model.importance;
  const order = (model.importance ?? []).map((bits, unit) => [bits ?? 0, unit]).sort((a, b) => b[0] - a[0]).slice(0, 50);
  showList(byId("importance"), order.map(([bits, unit]) => unitRow(unit, namesOf(unit), `${signed(bits, 4)} bits`)));
}

function showCurrentRows() {
  for (const row of document.querySelectorAll(".row[data-unit]")) {
    row.ariaCurrent = String(Number(row.dataset.unit) === state.unit);
  }
}
