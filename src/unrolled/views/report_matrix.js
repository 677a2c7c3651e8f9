// Heat maps of up to some hundred rows and columns: the confusion matrix and the attention maps.

const LEVELS = 16;
const CELLS = { least: 11, most: 34, room: 520 };
const LETTER = 6.6; // pixels that a letter of a label takes at most

// spec: { rows, columns: labels; of(row, column): [class, strength 0..1] or null; told(row, column): sentence; name;
// symbol: whether labels are symbols of a vocabulary; largest: pixels of a cell at most }
class Matrix {
  constructor(spec) {
    Object.assign(this, spec);
    const most = Math.max(this.rows.length, this.columns.length);
    this.cell = Math.round(Math.max(CELLS.least, Math.min(this.largest ?? CELLS.most, CELLS.room / most)));
    this.labels = { row: this.rows.map((text) => plainText(text, this)), column: this.columns.map((text) => plainText(text, this)) };
    this.upright = this.labels.column.every((label) => label.length * LETTER <= this.cell);
    this.at = [0, 0];
    this.readout = element("p", { className: "readout number", textContent: "Point at a cell, or use the arrow keys." });
  }

  parts() {
    const [left, top] = [this.room(this.labels.row), this.upright ? 18 : this.room(this.labels.column)];
    const grid = element("div", { className: "matrix" }, element("span", { className: "corner" }), this.columnLabels(top), this.rowLabels(left), this.cells());
    grid.style.gridTemplateColumns = `${left}px max-content`;
    const box = element("div", { className: "matrix-box", tabIndex: 0, role: "application", ariaLabel: `${this.name}; arrow keys move from cell to cell` }, grid);
    box.addEventListener("keydown", (event) => this.pressed(event));
    box.addEventListener("focus", () => this.choose(...this.at));
    this.box = box;
    return [box, this.readout];
  }

  room(labels) {
    return Math.ceil(labels.reduce((most, label) => Math.max(most, label.length), 1) * LETTER) + 10;
  }

  columnLabels(height) {
    const width = this.columns.length * this.cell;
    const texts = this.labels.column.map((label, at) => {
      if (this.upright) return svg("text", { x: (at + 0.5) * this.cell, y: height - 5, class: "label middle" }, label);
      const x = (at + 0.5) * this.cell + 4;
      return svg("text", { x, y: height - 5, transform: `rotate(-90 ${x} ${height - 5})`, class: "label" }, label);
    });
    return svg("svg", { width, height, class: "top-labels", "aria-hidden": "true" }, ...texts);
  }

  rowLabels(width) {
    const height = this.rows.length * this.cell;
    const texts = this.labels.row.map((label, at) => svg("text", { x: width - 6, y: (at + 0.5) * this.cell + 4, class: "label end" }, label));
    return svg("svg", { width, height, class: "left-labels", "aria-hidden": "true" }, ...texts);
  }

  // One path for each colour and strength: 65,000 cells as elements would be slow.
  cells() {
    const paths = new Map();
    const inner = this.cell - 1;
    this.rows.forEach((_, row) => this.columns.forEach((__, column) => {
      const [className, strength] = this.of(row, column) ?? [];
      if (!(strength > 0)) return;
      const key = `${className} ${Math.max(1, Math.round(Math.min(1, strength) * LEVELS))}`;
      paths.set(key, `${paths.get(key) ?? ""}M${column * this.cell} ${row * this.cell}h${inner}v${inner}h${-inner}z`);
    }));
    const [width, height] = [this.columns.length * this.cell, this.rows.length * this.cell];
    const drawing = svg("svg", { width, height, class: "cells", role: "img", "aria-label": this.name });
    for (const [key, d] of paths) {
      const [className, level] = key.split(" ");
      drawing.append(svg("path", { d, class: className, "fill-opacity": level / LEVELS }));
    }
    this.frame = svg("rect", { width: this.cell, height: this.cell, x: -99, class: "here" });
    drawing.append(this.frame);
    drawing.addEventListener("pointermove", (event) => this.pointed(event));
    drawing.addEventListener("pointerdown", (event) => this.pointed(event));
    this.drawing = drawing;
    return drawing;
  }

  pointed(event) {
    const { left, top } = this.drawing.getBoundingClientRect();
    this.choose(Math.floor((event.clientY - top) / this.cell), Math.floor((event.clientX - left) / this.cell));
  }

  choose(row, column) {
    this.at = [Math.max(0, Math.min(this.rows.length - 1, row)), Math.max(0, Math.min(this.columns.length - 1, column))];
    this.frame.setAttribute("x", this.at[1] * this.cell - 0.5);
    this.frame.setAttribute("y", this.at[0] * this.cell - 0.5);
    this.readout.replaceChildren(...this.told(...this.at));
  }

  pressed(event) {
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
    if (!down && !right) return;
    event.preventDefault();
    this.choose(this.at[0] + down, this.at[1] + right);
    this.follow();
  }

  // Scroll the box so that the cell stands clear of the labels, which stay in place.
  follow() {
    const [box, cell] = [this.box.getBoundingClientRect(), this.frame.getBoundingClientRect()];
    const [row, column] = [this.drawing.previousElementSibling.clientWidth, this.drawing.parentElement.firstElementChild.clientHeight];
    this.box.scrollBy(outside(cell.left, cell.right, box.left + row, box.right - 12), outside(cell.top, cell.bottom, box.top + column, box.bottom - 12));
  }
}

const outside = (start, end, low, high) => (start < low ? start - low : end > high ? end - high : 0);

// ---- confusion

function confusionSection(counts, { table }) {
  const labels = counts.map((_, at) => String(table.labels?.[at] ?? at));
  const sums = counts.map((row) => row.reduce((sum, count) => sum + (count ?? 0), 0));
  const of = (row, column) => [row === column ? "right" : "wrong", Math.sqrt((counts[row][column] ?? 0) / (sums[row] || 1))];
  const tell = (row, column) => [
    face(labels[row]), element("span", {}, row === column ? "answered right " : "answered as "), ...(row === column ? [] : [face(labels[column])]),
    element("b", {}, `${whole(counts[row][column] ?? 0)} times`), element("span", {}, `${share((counts[row][column] ?? 0) / (sums[row] || 1))} of ${whole(sums[row])}`),
  ];
  const name = `Confusion matrix of ${labels.length} labels, true labels down, answers across`;
  const matrix = new Matrix({ rows: labels, columns: labels, of, told: tell, name });
  const axes = element("p", { className: "soft small" }, "down: the true label; across: the answer");
  const [box, readout] = matrix.parts();
  return [element("div", { className: "confusion" }, element("div", {}, axes, box, readout), largestErrors(counts, labels, sums))];
}

function largestErrors(counts, labels, sums) {
  const all = counts.flatMap((row, at) => row.map((count, column) => [count ?? 0, at, column]).filter(([count, , column]) => count > 0 && column !== at));
  const rows = all.sort((a, b) => b[0] - a[0]).slice(0, 10).map(([count, row, column]) => element("li", {},
    element("span", {}, face(labels[row], { most: 24 }), " as ", face(labels[column], { most: 24 })),
    element("span", { className: "soft number" }, `${whole(count)} times, ${share(count / sums[row])}`)));
  const list = rows.length ? element("ol", { className: "pairs" }, ...rows) : told("It made no error.", "soft");
  return element("div", { className: "largest" }, element("h3", { textContent: "Most frequent errors" }), list);
}

// ---- attention

function attentionSection(maps) {
  return [element("div", { className: "maps" }, ...maps.map((map, at) => attentionMap(map, at)))];
}

function attentionMap({ source = [], target = [], weights = [], truth }, number) {
  const of = (row, column) => ["look", weights[row]?.[column] ?? 0];
  const tell = (row, column) => [element("span", {}, "writing"), face(target[row], { symbol: true }), element("span", {}, "it looked at"), face(source[column], { symbol: true }),
    element("b", {}, share(weights[row]?.[column]))];
  const matrix = new Matrix({ rows: target, columns: source, of, told: tell, name: `Attention map ${number + 1}`, largest: 22, symbol: true });
  const written = target.join("");
  const caption = element("figcaption", {}, face(source.join(""), { most: 80 }), element("span", { className: "soft" }, " \u2192 "), face(written, { most: 80 }));
  if (truth !== undefined && truth !== null) {
    caption.append(written === truth ? element("span", { className: "good" }, " right")
      : element("span", { className: "soft" }, " truth: ", face(truth, { most: 80 })));
  }
  return element("figure", {}, caption, ...matrix.parts());
}
