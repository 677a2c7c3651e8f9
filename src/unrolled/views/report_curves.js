// The curves of a run: loss, learning rate and size of the gradient over one axis, with a cursor that reads them.

const AXES = [["seconds", "Time", 1], ["symbols", "Read", 2], ["steps", "Steps", 0]];
const STEEP = 0.1; // the share of a run that a close-up leaves out
const SERIES = { train: "training", validation: "validation", lr: "learning rate", gradient_norm: "gradient norm" };

// The samples of the run: which one is shown, and who wants to know.
const player = { samples: [], at: 0, watchers: [] };

function chooseSample(at) {
  player.at = Math.max(0, Math.min(player.samples.length - 1, at));
  for (const watcher of player.watchers) watcher();
}

// What a series had at a step: the last value at or before it, else the first.
function rowAt(rows, step) {
  let found = rows[0];
  for (const row of rows) {
    if (row[0] > step) break;
    found = row;
  }
  return found;
}

class Curves {
  constructor(data, samples) {
    this.unit = plainText(data.unit || "symbol", { most: 20 });
    this.rows = Object.fromEntries(Object.keys(SERIES).map((name) => [name, (data[name] ?? []).filter((row) => known(row[3]))]));
    this.references = (data.references ?? []).filter((reference) => known(reference.nats));
    this.samples = samples;
    this.axis = this.axes()[0]?.[0] ?? "steps";
    this.bits = false;
    this.close = false;
    this.margin = { ...MARGIN, right: this.references.reduce((most, { name }) => Math.max(most, plainText(name).length * 6 + 12), MARGIN.right) };
    this.guide = this.steps();
    this.place = this.guide.length - 1;
    this.frames = [];
  }

  // A row for each step that any series has: where the cursor can stand.
  steps() {
    const all = new Map(Object.values(this.rows).flat().map((row) => [row[0], row]));
    return [...all.values()].filter((row) => known(row[0])).sort((a, b) => a[0] - b[0]);
  }

  axes() {
    const all = Object.values(this.rows).flat();
    return AXES.filter(([, , column]) => all.some((row) => known(row[column]) && row[column] > 0));
  }

  // ---- values

  column() {
    return AXES.find(([name]) => name === this.axis)[2];
  }

  // The x axis: how far it goes, and in which unit it counts.
  spanOfX() {
    const column = this.column();
    const most = Object.values(this.rows).flat().reduce((top, row) => Math.max(top, row[column] ?? 0), 0);
    if (this.axis === "seconds") {
      const [size, title] = most >= 7200 ? [3600, "hours"] : most >= 120 ? [60, "minutes"] : [1, "seconds"];
      return { size, domain: [0, most / size], title };
    }
    return { size: 1, domain: [0, most], title: this.axis === "steps" ? "steps" : `${this.unit}s read` };
  }

  loss(nats) {
    return this.bits ? nats / LN2 : nats;
  }

  points(name, of = (value) => value) {
    const [column, { size }] = [this.column(), this.spanOfX()];
    return this.rows[name].map((row) => [known(row[column]) ? row[column] / size : NaN, of(row[3])]);
  }

  // Where a sample stands: its own time and step; what it had read is told by the curve.
  placeOf(sample) {
    const rows = this.rows.validation.length ? this.rows.validation : this.rows.train;
    const near = rows.length ? rowAt(rows, sample.step) : [];
    const own = { seconds: sample.seconds, steps: sample.step, symbols: this.readAt(sample.step) }[this.axis];
    return [(known(own) ? own : near[this.column()]) / this.spanOfX().size, this.loss(known(sample.val_nats) ? sample.val_nats : near[3])];
  }

  readAt(step) {
    const before = rowAt(this.guide, step);
    const after = this.guide.find((row) => row[0] >= step) ?? before;
    const along = after[0] > before[0] ? (step - before[0]) / (after[0] - before[0]) : 0;
    return before[2] + Math.max(0, along) * (after[2] - before[2]);
  }

  // ---- drawing

  panels() {
    const small = ["lr", "gradient_norm"].filter((name) => this.rows[name].length);
    const first = this.rows.train.length + this.rows.validation.length ? ["loss"] : [];
    const names = [...first, ...small];
    this.charts = names.map((name, at) => {
      const bare = at < names.length - 1;
      const draw = (width, height) => (name === "loss" ? this.drawLoss(width, height, bare) : this.drawSmall(name, width, height, bare));
      return chart(this.sentence(name), (name === "loss" ? 300 : 104) + (bare ? 0 : 28), draw);
    });
    return this.charts;
  }

  drawLoss(width, height, bare) {
    const series = ["train", "validation"].map((name) => this.points(name, (nats) => this.loss(nats)));
    const drawn = this.close ? series.map((points) => this.late(points)) : series;
    const lines = this.references.map(({ name, nats }) => [name, this.loss(nats)]);
    const domain = domainOf([...drawn.flat().map((point) => point[1]), ...lines.map((one) => one[1])], 0.04);
    const made = this.frame(width, height, { domain, title: `${this.bits ? "bits" : "nats"} a ${this.unit}` }, bare);
    const parts = [line(made, series[0], "second"), line(made, series[1], "first")];
    if (series[1].length <= 60) parts.push(dots(made, series[1], "first"));
    made.root.append(...references(made, lines), clipped(made, ...parts, ...this.marks(made)), this.cursor("loss", made));
    return made.root;
  }

  // What comes after the first steep fall.
  late(points) {
    const from = this.spanOfX().domain[1] * STEEP;
    return points.filter(([x]) => x >= from);
  }

  frame(width, height, y, bare) {
    return frame(width, height, { x: this.spanOfX(), y, bare, margin: this.margin });
  }

  drawSmall(name, width, height, bare) {
    const points = this.points(name);
    const values = points.map((point) => point[1]).filter((value) => value > 0);
    const most = values.reduce((a, b) => Math.max(a, b), 0);
    const log = name === "gradient_norm" && most > 20 * median(values);
    const domain = log ? [values.reduce((a, b) => Math.min(a, b)), most] : [0, most * 1.06 || 1];
    const made = this.frame(width, height, { domain, log, title: SERIES[name] }, bare);
    made.root.append(line(made, log ? points.filter((point) => point[1] > 0) : points, "third"), this.cursor(name, made));
    return made.root;
  }

  marks(made) {
    return this.samples.map((sample, at) => {
      const [x, y] = this.placeOf(sample);
      if (!known(x) || !known(y)) return svg("g");
      const now = at === player.at;
      const mark = svg("circle", { cx: made.x(x), cy: made.y(y), r: now ? 6 : 4, class: now ? "mark now" : "mark" });
      mark.append(svg("title", {}, `sample at step ${whole(sample.step)}`));
      mark.addEventListener("click", () => chooseSample(at));
      return mark;
    });
  }

  // ---- the cursor

  cursor(name, made) {
    const node = svg("line", { y1: made.top, y2: made.bottom, class: "cursor" });
    this.frames = this.frames.filter((one) => one.name !== name).concat({ name, made, node });
    this.move(node, made);
    return node;
  }

  move(node, made) {
    const value = this.guide[this.place]?.[this.column()];
    const x = made.x((known(value) ? value : 0) / this.spanOfX().size);
    node.setAttribute("x1", x);
    node.setAttribute("x2", x);
  }

  read(place) {
    this.place = Math.max(0, Math.min(this.guide.length - 1, place));
    for (const { node, made } of this.frames) this.move(node, made);
    this.readout.replaceChildren(...this.reading());
    this.focus.setAttribute("aria-valuenow", this.place);
    this.focus.setAttribute("aria-valuetext", this.readout.textContent);
  }

  readAtPointer(event) {
    const made = this.frames[0]?.made;
    if (!made) return;
    const box = event.currentTarget.getBoundingClientRect();
    const wanted = made.x.back(event.clientX - box.left) * this.spanOfX().size;
    const column = this.column();
    const gap = (row) => (known(row[column]) ? Math.abs(row[column] - wanted) : Infinity);
    this.read(this.guide.reduce((best, row, at) => (gap(row) < gap(this.guide[best]) ? at : best), 0));
  }

  reading() {
    const [step, seconds, symbols] = this.guide[this.place];
    const where = [`step ${whole(step)}`, known(seconds) && duration(seconds), known(symbols) && `${short(symbols)} ${this.unit}s read`];
    const parts = [element("span", { className: "where" }, where.filter(Boolean).join(", "))];
    for (const [name, title] of Object.entries(SERIES)) {
      if (!this.rows[name].length) continue;
      const value = rowAt(this.rows[name], step)[3];
      const isLoss = name === "train" || name === "validation";
      const look = { train: "second", validation: "first" }[name] ?? "third";
      parts.push(element("span", { className: `key ${look}` }, `${title} `, element("b", {}, isLoss ? fixed(this.loss(value)) : short(value))));
    }
    return parts;
  }

  sentence(name) {
    const tell = (key) => {
      const rows = this.rows[key];
      return rows.length ? `${SERIES[key]} from ${short(rows[0][3])} to ${short(rows.at(-1)[3])}` : "";
    };
    const names = name === "loss" ? ["train", "validation"] : [name];
    const unit = name === "loss" ? ` nats a ${this.unit}` : "";
    return `${names.map(tell).filter(Boolean).join(", ")}${unit}.`;
  }

  // ---- the section

  redraw() {
    for (const { redraw } of this.charts) redraw();
    this.read(this.place);
  }

  parts() {
    const titles = { seconds: "Time", symbols: `${this.unit[0].toUpperCase()}${this.unit.slice(1)}s read`, steps: "Steps" };
    const xs = choices("What the x axis counts", this.axes().map(([name]) => [name, titles[name]]), this.axis, (axis) => { this.axis = axis; this.redraw(); });
    const ys = choices("Unit of the loss", [["nats", "nats"], ["bits", "bits"]], "nats", (unit) => { this.bits = unit === "bits"; this.redraw(); });
    this.readout = element("p", { className: "readout number" });
    const panels = this.panels().map((one) => one.box);
    this.focus = element("div", { className: "panels", tabIndex: 0, role: "slider", ariaLabel: "Read the curves", ariaValueMin: "0" }, ...panels);
    this.focus.setAttribute("aria-valuemax", this.guide.length - 1);
    this.focus.addEventListener("keydown", (event) => this.pressed(event));
    for (const box of panels) for (const kind of ["pointermove", "pointerdown"]) box.addEventListener(kind, (event) => this.readAtPointer(event));
    this.focus.addEventListener("pointerleave", () => this.read(this.guide.length - 1));
    player.watchers.push(() => this.charts[0].redraw());
    this.read(this.guide.length - 1);
    return [element("div", { className: "controls" }, xs, ys, this.closer()), this.readout, this.focus];
  }

  closer() {
    const options = [["whole", "Whole"], ["close", "Close-up"]];
    return choices("How much of the loss is shown", options, "whole", (range) => { this.close = range === "close"; this.redraw(); });
  }

  pressed(event) {
    const page = Math.max(1, Math.round(this.guide.length / 10));
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageDown: -page, PageUp: page, Home: -Infinity, End: Infinity };
    if (!(event.key in moves)) return;
    event.preventDefault();
    this.read(this.place + moves[event.key]);
  }
}

function curvesSection(data, all) {
  const curves = new Curves(data, (all.samples ?? []).filter((sample) => known(sample.step)));
  return curves.guide.length ? curves.parts() : [];
}
