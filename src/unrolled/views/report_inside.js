// What is inside: where the bits go, what is copied, what units follow, how far back, gates and values.

const GATES = { i: "input gate", f: "forget gate", o: "output gate", r: "reset gate", z: "update gate" };
const EXCITED = { light: "62 188 116", dark: "16 116 58" };
const CALM = { light: "112 164 255", dark: "45 92 205" };
const FIRST_ROWS = 10;

// ---- anatomy

function anatomySection({ models = [], rows = [] }) {
  const shown = rows.filter((row) => row.symbols > 0);
  if (!shown.length) return [];
  const sums = models.map((_, at) => shown.reduce((sum, row) => sum + (row.bits[at] ?? 0), 0));
  const symbols = shown.reduce((sum, row) => sum + row.symbols, 0);
  const largest = (of) => shown.flatMap((row) => models.map((_, at) => of(row, at))).reduce((a, b) => Math.max(a, b), 0) || 1;
  const part = (row, at) => (row.bits[at] ?? 0) / (sums[at] || 1);
  const mean = (row, at) => (row.bits[at] ?? 0) / row.symbols;
  const [mostPart, mostMean] = [largest(part), largest(mean)];
  const items = shown.map((row) => element("div", { className: "kind", role: "row" },
    element("span", { className: "name", role: "rowheader" }, put(element("span"), row.name), element("small", { className: "soft number" }, ` ${share(row.symbols / symbols)} of the symbols`)),
    barPair(models, (at) => [part(row, at) / mostPart, share(part(row, at))]),
    barPair(models, (at) => [mean(row, at) / mostMean, fixed(mean(row, at), 2)])));
  const head = element("div", { className: "kind head soft", role: "row" }, ...["kind of symbol", "share of all bits", "bits a symbol"].map((name) => element("span", { role: "columnheader" }, name)));
  return [legend(...models.map((name, at) => [at ? "other" : "first", name])), element("div", { className: "kinds", role: "table", ariaLabel: "Bits by kind of symbol" }, head, ...items)];
}

function barPair(models, of) {
  const bars = models.map((_, at) => {
    const [part, label] = of(at);
    return element("span", { className: "bar" }, bar(part, at ? "other" : "first"), element("span", { className: "number", textContent: label }));
  });
  return element("div", { className: "bar-pair", role: "cell" }, ...bars);
}

// ---- memory

function memorySection(memory) {
  const parts = [];
  const points = (column) => (memory.novelty ?? []).map((row) => [row[0], row[column]]);
  if (memory.novelty?.length) {
    const most = memory.novelty.at(-1)[0];
    const axes = { x: { domain: [1, most], title: "n, symbols in a run", ticks: memory.novelty.map((row) => row[0]).filter((n) => n === 1 || n % 5 === 0) },
      y: { domain: [0, 1], title: "runs not in the training text", format: (value) => `${Math.round(value * 100)}%` } };
    const draw = (width, height) => {
      const made = frame(width, height, axes);
      made.root.append(line(made, points(2), "reference-line"), line(made, points(1), "first"));
      return made.root;
    };
    parts.push(legend(["first", "samples"], ["reference-line", "real text it never saw"]), chart(noveltyTold(memory.novelty), 260, draw).box);
  }
  if (known(memory.longest)) parts.push(...copied(memory));
  if (memory.documents) {
    const { drawn, new: fresh, distinct } = memory.documents;
    parts.push(told(`Of ${whole(drawn)} documents drawn, ${share(fresh)} are not in the training text as a whole, and ${share(distinct)} differ from each other.`));
  }
  return parts;
}

function noveltyTold(rows) {
  const [n, own, real] = rows[Math.min(rows.length, 8) - 1];
  return `Of runs of ${n} symbols, ${share(own)} of those in samples and ${share(real)} of those in real text are not in the training text.`;
}

function copied({ longest, text, samples, symbols, seed }) {
  const where = known(samples) && known(symbols) ? ` in ${whole(samples)} samples of ${whole(symbols)} symbols in all` : "";
  const from = known(seed) ? `, with seed ${seed}` : "";
  const head = element("p", {}, "The longest run copied from the training text has ", element("b", {}, `${whole(longest)} symbols`), `${where}${from}:`);
  return text ? [head, prose(text)] : [head];
}

// ---- detectors

function detectorsSection({ share: part, symbols, rows = [], snippet }) {
  const parts = [];
  if (known(part)) {
    parts.push(element("p", {}, element("b", {}, share(part)), ` of the units are detectors: they follow something that takes memory to know${known(symbols) ? `, on ${whole(symbols)} symbols` : ""}.`));
  }
  if (snippet?.rows?.length) parts.push(...snippetOf(snippet));
  if (rows.length) parts.push(...detectorTable(rows));
  return parts;
}

function snippetOf({ symbols, rows }) {
  const scale = element("p", { className: "scale soft" }, "\u22121 not excited", element("span", { className: "ramp", ariaHidden: "true" }), "+1 excited");
  const stretch = element("div", { className: "stretch code", tabIndex: 0, role: "region", ariaLabel: "Text coloured by a unit" });
  const spans = symbols.map((symbol) => put(element("span"), symbol));
  stretch.append(...spans);
  const show = (number) => spans.forEach((span, at) => { span.style.backgroundColor = colourOf(rows[number].values[at]); });
  show(0);
  const names = rows.map(({ layer, unit, feature }, at) => [at, `${layer}.${unit} ${feature}`]);
  return [element("div", { className: "controls" }, choices("Unit", names, 0, show), scale), stretch];
}

function colourOf(value) {
  if (!known(value)) return "";
  const { light, dark } = value > 0 ? EXCITED : CALM;
  const strength = Math.min(1, Math.abs(value)).toFixed(2);
  return `light-dark(rgb(${light} / ${strength}), rgb(${dark} / ${strength}))`;
}

function detectorTable(rows) {
  const head = ["unit", "follows", "score", "p", ""];
  const line = ({ layer, unit, feature, means, kind, score, sign, p, strong }) => [
    element("span", { className: "code" }, `${layer}.${unit}`),
    element("span", {}, put(element("b"), feature), " ", put(element("span", { className: "soft" }), means ?? "", { most: 200 })),
    element("span", { className: "number nowrap" }, `${kind ?? ""} ${fixed(score)}`, sign < 0 ? element("small", { className: "soft", title: "the unit goes down where the feature goes up" }, " inverted") : ""),
    element("span", { className: "number nowrap" }, known(p) ? (p < 0.001 ? "< 0.001" : String(Number(p.toPrecision(2)))) : "\u2013"),
    strong ? element("span", { className: "badge" }, "detector") : "",
  ];
  const table = (most) => grid(head, rows.slice(0, most).map(line), "detectors");
  if (rows.length <= FIRST_ROWS) return [table(rows.length)];
  const holder = element("div", {}, table(FIRST_ROWS));
  const more = element("button", { type: "button", className: "plain more", textContent: `Show all ${rows.length}` });
  more.addEventListener("click", () => { holder.replaceChildren(table(rows.length)); more.remove(); });
  return [holder, more];
}

// ---- reach

function reachSection({ contexts = [], nats = [], enough, gradient = [] }, all) {
  const parts = [];
  const unit = plainText(all.curves?.unit || "symbol", { most: 20 });
  const losses = contexts.map((context, at) => [context, nats[at]]).filter((point) => point.every(known));
  const shares = gradient.map((value, at) => [at + 1, value]).filter(([, value]) => known(value) && value > 0);
  if (losses.length > 1) parts.push(contextChart(losses, enough, unit));
  if (shares.length > 1) parts.push(gradientChart(shares));
  const sentence = known(enough) && losses.length > 1
    ? [element("p", {}, "With ", element("b", {}, `${whole(enough)} ${unit}s`), " of context it guesses nearly as well as with all it was given.")] : [];
  return parts.length ? [...sentence, element("div", { className: "halves" }, ...parts)] : [];
}

function contextChart(points, enough, unit) {
  const x = { domain: domainOf(points.map((point) => point[0])), log: true, ticks: points.map((point) => point[0]), title: `${unit}s of context` };
  const y = { domain: domainOf(points.map((point) => point[1]), 0.06), title: `nats a ${unit}` };
  const sentence = `Loss by context: ${points.map(([n, loss]) => `${n}: ${fixed(loss, 2)}`).join(", ")}.`;
  return chart(sentence, 250, (width, height) => {
    const made = frame(width, height, { x, y });
    if (known(enough)) {
      const at = made.x(enough);
      made.root.append(svg("line", { x1: at, x2: at, y1: made.top, y2: made.bottom, class: "reference" }),
        svg("text", { x: at - 5, y: made.top + 10, class: "tick halo end" }, "enough"));
    }
    made.root.append(line(made, points, "first"), dots(made, points, "first"));
    return made.root;
  }).box;
}

function gradientChart(points) {
  const x = { domain: [1, points.at(-1)[0]], log: true, title: "symbols back" };
  const y = { domain: domainOf(points.map((point) => point[1])), log: true, title: "share of the gradient", format: (value) => `${Number((100 * value).toPrecision(2))}%` };
  const sentence = `Share of a guess owed to the symbol so far back: ${share(points[0][1])} one back, ${short(100 * points.at(-1)[1])}% ${points.at(-1)[0]} back.`;
  return chart(sentence, 250, (width, height) => {
    const made = frame(width, height, { x, y });
    made.root.append(line(made, points, "first"));
    return made.root;
  }).box;
}

// ---- gates and values

function gatesSection({ names = [], layers = 1, points = {}, hidden }) {
  const shown = names.filter((name) => points[name]?.length);
  if (!shown.length) return [];
  const size = hidden || Math.ceil(points[shown[0]].length / layers);
  const plots = shown.map((name) => saturationPlot(name, points[name], layers, size));
  const keys = layers > 1 ? [legend(...Array.from({ length: layers }, (_, layer) => [`layer${layer % 4}`, `layer ${layer}`]))] : [];
  return [...keys, element("div", { className: "small-plots few" }, ...plots)];
}

function saturationPlot(name, points, layers, size) {
  const title = GATES[name] ?? name;
  const percents = (value) => `${Math.round(value * 100)}%`;
  const axis = { domain: [0, 1], ticks: [0, 0.5, 1], format: percents };
  const mean = (at) => share(points.reduce((sum, point) => sum + (point[at] ?? 0), 0) / points.length);
  const sentence = `${title}: on average open (above 0.9) ${mean(1)} of the time, shut (below 0.1) ${mean(0)}.`;
  const { box } = chart(sentence, 240, (width, height) => {
    const made = frame(width, height, { x: { ...axis, title: "open > 0.9" }, y: { ...axis, title: "shut < 0.1" } });
    made.root.append(svg("line", { x1: made.x(0), y1: made.y(1), x2: made.x(1), y2: made.y(0), class: "reference" }));
    for (let layer = 0; layer < layers; layer++) {
      const own = points.slice(layer * size, (layer + 1) * size).map(([left, right]) => [right, left]);
      made.root.append(dots(made, own, `faint layer${layer % 4}`));
    }
    return made.root;
  });
  return element("figure", {}, element("figcaption", {}, element("b", {}, title), element("span", { className: "soft small" }, ` open ${mean(1)}, shut ${mean(0)}`)), box);
}

function histogramsSection(list) {
  return [element("div", { className: "small-plots" }, ...list.filter((one) => one.counts?.length).map(histogram))];
}

function histogram({ name, low, high, counts }) {
  const most = counts.reduce((top, count) => Math.max(top, count ?? 0), 0) || 1;
  const sum = counts.reduce((all, count) => all + (count ?? 0), 0) || 1;
  const margin = { left: 8, right: 8, top: 6, bottom: 22 };
  const middle = (low + high) / 2;
  const { box } = chart(`Values of ${plainText(name, { most: 40 })}, from ${short(low)} to ${short(high)}.`, 110, (width, height) => {
    const x = { domain: [low, high], ticks: [low, middle, high] };
    const made = frame(width, height, { x, y: { domain: [0, 1], ticks: [] }, margin });
    const step = (made.right - made.left) / counts.length;
    const path = counts.map((count, at) => `M${(made.left + at * step).toFixed(1)} ${made.bottom}v${(-(count ?? 0) / most * (made.bottom - made.top)).toFixed(1)}h${Math.max(1, step - 1).toFixed(1)}V${made.bottom}z`);
    made.root.append(svg("path", { d: path.join(""), class: "columns-of" }));
    return made.root;
  });
  const ends = `ends ${share((counts[0] ?? 0) / sum)}, ${share((counts.at(-1) ?? 0) / sum)}`;
  return element("figure", {}, element("figcaption", {}, put(element("b"), name), element("span", { className: "soft small number" }, ` ${ends}`)), box);
}
