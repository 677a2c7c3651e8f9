// Charts as SVG: drawn for the width that they get, and drawn again when it changes.

const LN2 = Math.LN2;
const MARGIN = { left: 52, right: 18, top: 26, bottom: 38 };

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// ---- numbers as a reader has them

const known = (value) => typeof value === "number" && Number.isFinite(value);
const fixed = (value, digits = 3) => (known(value) ? value.toFixed(digits).replace("-", "\u2212") : "unknown");
const whole = (value) => (known(value) ? Math.round(value).toLocaleString("en") : "unknown");

function short(value) {
  const size = Math.abs(value);
  for (const [least, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= least) return `${Number((value / (unit === "k" ? 1e3 : least)).toPrecision(3))}${unit}`;
  }
  if (size > 0 && size < 1e-4) return value.toExponential(Number.isInteger(Math.log10(size)) ? 0 : 1).replace("-", "\u2212");
  return Number(value.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 7 }).replace("-", "\u2212");
}

function duration(seconds) {
  if (!known(seconds)) return "unknown time";
  if (seconds < 60) return `${Number(seconds.toPrecision(seconds < 10 ? 2 : 3))} s`;
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${Math.floor(seconds % 60)} s`;
}

// A share in percent: with a decimal where it is near none or near all.
function share(value) {
  if (!known(value)) return "unknown";
  const near = Math.min(value, 1 - value) < 0.1 && value > 0 && value < 1;
  return `${(100 * value).toFixed(near ? 1 : 0)}%`;
}

// ---- texts

// An empty text is said to be empty: page.js takes it for a byte within a character.
const put = (target, text, options = {}) => ((text ?? "") === "" ? target : write(target, String(text), options));

// A text as data has it, set off from the page's own words. Symbol: one symbol of a vocabulary, whose blanks are shown.
function face(text, { most = 60, symbol = false } = {}) {
  const made = element("span", { className: "face code" });
  if (symbol || (text ?? "") !== "") return write(made, String(text ?? ""), { compact: symbol, most, end: true });
  made.classList.add("soft");
  made.append("(empty)");
  return made;
}

// A short text on one line, as characters only: for a place where a box has no room.
function plainText(text, { most = 14, symbol = false } = {}) {
  return face(text, { most, symbol }).textContent.replaceAll("\n", "");
}

// ---- scales

function linearTicks([low, high], most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const ticks = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) ticks.push(Number((at * step).toPrecision(12)));
  return ticks;
}

function logTicks([low, high], most) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const factors = last - first <= 2 ? [1, 2, 5] : [1];
  const skip = Math.max(1, Math.ceil((last - first) / most));
  const all = [];
  for (let power = first; power <= last; power += skip) for (const factor of factors) all.push(Number((factor * 10 ** power).toPrecision(3)));
  return all.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
}

// From the least to the most of some values, and a share of that beyond.
function domainOf(values, pad = 0) {
  const sure = values.filter(known);
  const [low, high] = [sure.reduce((a, b) => Math.min(a, b), Infinity), sure.reduce((a, b) => Math.max(a, b), -Infinity)];
  return low > high ? [0, 1] : [low - (high - low) * pad, high + (high - low) * pad];
}

// A function from value to pixel, with its ticks. domain: [least, most]; range: pixels.
function scaleOf({ domain, log = false, ticks }, range, most) {
  let [low, high] = domain;
  if (!(high > low)) [low, high] = log ? [low / 2, low * 2] : [low - 0.5, low + 0.5];
  const turn = log ? Math.log : (value) => value;
  const [start, end] = [turn(low), turn(high)];
  const scale = (value) => range[0] + ((turn(value) - start) / (end - start)) * (range[1] - range[0]);
  scale.ticks = ticks ?? (log ? logTicks : linearTicks)([low, high], most);
  scale.back = (pixel) => {
    const at = start + ((pixel - range[0]) / (range[1] - range[0])) * (end - start);
    return log ? Math.exp(at) : at;
  };
  return scale;
}

// ---- a frame with axes

// x and y: { domain, log, ticks, title, format }; bare: whether the x axis has no numbers, as a chart below has them.
function frame(width, height, { x, y, bare = false, margin = MARGIN }) {
  const bottom = height - (bare ? 10 : margin.bottom);
  const [left, right] = [margin.left, width - margin.right];
  const made = {
    root: svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "drawing" }),
    x: scaleOf(x, [left, right], Math.max(2, Math.floor((right - left) / 64))),
    y: scaleOf(y, [bottom, margin.top], Math.max(2, Math.floor((bottom - margin.top) / 38))),
    left, right, top: margin.top, bottom,
  };
  made.root.append(...yAxis(made, y), ...xAxis(made, x, bare));
  return made;
}

function yAxis({ y, left, right }, { title = "", format = short }) {
  const lines = y.ticks.flatMap((tick) => [
    svg("line", { x1: left, x2: right, y1: y(tick), y2: y(tick), class: "grid" }),
    svg("text", { x: left - 8, y: y(tick) + 4, class: "tick end" }, format(tick)),
  ]);
  return [...lines, svg("text", { x: 0, y: 12, class: "axis-title" }, title)];
}

function xAxis({ x, left, right, bottom }, { title = "", format = short }, bare) {
  const line = svg("line", { x1: left, x2: right, y1: bottom, y2: bottom, class: "base" });
  if (bare) return [line];
  const room = spaced(x.ticks, x, format);
  const ticks = room.flatMap((tick) => [
    svg("line", { x1: x(tick), x2: x(tick), y1: bottom, y2: bottom + 4, class: "base" }),
    svg("text", { x: x(tick), y: bottom + 16, class: "tick middle" }, format(tick)),
  ]);
  return [line, ...ticks, svg("text", { x: right, y: bottom + 32, class: "axis-title end" }, title)];
}

// The ticks whose numbers do not touch.
function spaced(ticks, scale, format) {
  let free = -Infinity;
  return ticks.filter((tick) => {
    const half = format(tick).length * 3.6 + 4;
    if (scale(tick) - half < free) return false;
    free = scale(tick) + half;
    return true;
  });
}

// ---- what a frame holds

// The path of points [x, y] in pixels. Of more points than pixels, each column keeps its first, least, most and last.
function pathOf(points) {
  const kept = points.length > 3000 ? columnsOf(points) : points;
  return kept.map(([x, y], at) => `${at ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

function columnsOf(points) {
  const kept = [];
  for (let start = 0, end; start < points.length; start = end) {
    for (end = start + 1; end < points.length && Math.floor(points[end][0]) === Math.floor(points[start][0]);) end++;
    const column = points.slice(start, end);
    const heights = column.map((point) => point[1]);
    const ends = [0, heights.indexOf(Math.min(...heights)), heights.indexOf(Math.max(...heights)), column.length - 1];
    kept.push(...[...new Set(ends)].sort((a, b) => a - b).map((at) => column[at]));
  }
  return kept;
}

function line(made, points, className) {
  const pixels = points.filter(([x, y]) => known(x) && known(y)).map(([x, y]) => [made.x(x), made.y(y)]);
  return svg("path", { d: pathOf(pixels.filter((pixel) => pixel.every(known))), class: `line ${className}` });
}

// Dots of one look as one path: zero-length strokes with round ends.
function dots(made, points, className) {
  const path = points.filter(([x, y]) => known(x) && known(y)).map(([x, y]) => `M${made.x(x).toFixed(1)} ${made.y(y).toFixed(1)}h0`);
  return svg("path", { d: path.join(""), class: `dots ${className}` });
}

// Horizontal dashed lines of [name, value], with their names beyond the right end, kept apart from each other.
function references(made, list) {
  const placed = list.map(([name, value]) => ({ name, y: made.y(value) })).filter(({ y }) => y >= made.top).sort((a, b) => a.y - b.y);
  let free = -Infinity;
  return placed.flatMap(({ name, y }, at) => {
    const below = placed.slice(at + 1).filter((other) => other.y - y < 13).length;
    free = Math.max(y + 4 - below * 6, free + 12);
    return [
      svg("line", { x1: made.left, x2: made.right, y1: y, y2: y, class: "reference" }),
      svg("text", { x: made.right + 5, y: free, class: "tick" }, plainText(name)),
    ];
  });
}

// What is drawn outside the axes is cut off: a drawing within the drawing, a little larger than its axes.
function clipped({ left, right, top, bottom }, ...parts) {
  const [x, y, width, height] = [left - 8, top - 4, right - left + 16, bottom - top + 12];
  return svg("svg", { x, y, width, height, viewBox: `${x} ${y} ${width} ${height}` }, ...parts);
}

// A box that draws itself: draw(width, height) returns an SVG. sentence: what it shows, to be heard.
function chart(sentence, height, draw) {
  const box = element("div", { className: "chart" });
  let width = 0;
  const redraw = () => {
    if (!width) return;
    const drawing = draw(width, height);
    drawing.setAttribute("role", "img");
    drawing.setAttribute("aria-label", sentence);
    box.replaceChildren(drawing);
  };
  const fit = () => {
    const now = Math.floor(box.clientWidth);
    if (!now || now === width) return;
    width = now;
    redraw();
  };
  new ResizeObserver(() => requestAnimationFrame(fit)).observe(box);
  return { box, redraw };
}

// ---- pieces that sections share

// A row of choices of which one is on. options: [[value, label], ...]
function choices(label, options, chosen, choose) {
  const group = element("div", { className: "choices", role: "group", ariaLabel: label });
  const show = (value) => { for (const button of group.children) button.ariaPressed = String(button.dataset.value === String(value)); };
  for (const [value, name] of options) {
    const button = element("button", { type: "button" }, put(element("span"), name, { most: 40 }));
    button.dataset.value = value;
    button.addEventListener("click", () => { show(value); choose(value); });
    group.append(button);
  }
  show(chosen);
  return group;
}

const legend = (...names) => element("p", { className: "legend" },
  ...names.map(([className, name]) => element("span", { className: `key ${className}` }, put(element("span"), name))));

// A longer text as it is: lines and tabs stay, what cannot be seen stands in boxes.
function prose(text, className = "prose code") {
  const pane = element("div", { className });
  for (const part of String(text).split(/([\n\t])/)) {
    if (part === "\n" || part === "\t") pane.append(part);
    else if (part) pane.append(write(element("span"), part, { most: Infinity }));
  }
  return pane;
}

// A sentence that comes from data.
const told = (text, className = "") => put(element("p", { className }), text, { most: 2000 });
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
