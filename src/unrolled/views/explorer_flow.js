// A long text as spans, built and painted only near what is seen: a switch of units costs the same for any length.

const STEPS = 20;
const KINDS = ["", " line"];
const MARK = { stretch: 1, found: 2, current: 4, cursor: 8 };
const MARK_NAMES = { 1: " stretch", 2: " found", 4: " current", 8: " cursor" };

// Each palette: its letter, the colours at its ends in light and dark, and whether it runs from -1 or from 0.
const PALETTES = {
  u: { high: ["62 188 116", "16 116 58"], low: ["112 164 255", "45 92 205"] },
  e: { high: ["255 150 50", "168 78 10"], low: ["45 185 190", "10 108 114"] },
  s: { high: ["190 122 255", "122 54 196"] },
  p: { high: ["160 0 0", "196 40 34"] },
};
const CLASSES = [""];
const FIRST = {};
let marks; // a byte of MARKs for each symbol

// The classes u0..u40 (blue, none, green), e0..e40, s0..s20 and p0..p20, written once into a style sheet.
function setUpPalettes() {
  const rules = [];
  for (const [letter, { high, low }] of Object.entries(PALETTES)) {
    const span = low ? 2 * STEPS : STEPS;
    FIRST[letter] = CLASSES.length;
    for (let step = 0; step <= span; step++) {
      const strength = low ? (step - STEPS) / STEPS : step / STEPS;
      const [light, dark] = (strength < 0 ? low : high).map((ends) => `rgb(${ends} / ${Math.abs(strength)})`);
      CLASSES.push(letter + step);
      rules.push(`.${letter}${step}{background-color:light-dark(${light},${dark})}`);
    }
  }
  document.head.append(element("style", { textContent: rules.join("\n") }));
}

// The class for a value in -1..1 (u, e) or 0..1 (s, p); 0 is no class.
function shade(letter, value) {
  if (Number.isNaN(value)) return 0;
  const low = PALETTES[letter].low ? -1 : 0;
  return FIRST[letter] + Math.round((Math.min(1, Math.max(low, value)) - low) * STEPS);
}

function cssOf(letter, value) {
  return CLASSES[shade(letter, value)];
}

class Flow {
  // root: where the text goes; scroller: what scrolls; make(place) returns [element to add, span to paint];
  // size: the fewest and the most symbols of a piece, and width and height of one symbol, to guess heights from.
  constructor(root, scroller, make, size) {
    Object.assign(this, { root, make, size });
    this.spans = new Array(model.count);
    this.shown = new Int32Array(model.count).fill(-1);
    this.kinds = kindsOfSymbols();
    this.names = new Map();
    this.colour = { levels: new Uint8Array(model.count), table: [0] };
    this.near = new Set();
    this.pieces = pieces(size.least, size.most);
    this.watcher = new IntersectionObserver((seen) => this.notice(seen), { root: scroller, rootMargin: "800px 0px" });
    this.lay();
  }

  lay() {
    const across = Math.max(8, Math.floor((this.root.clientWidth || 800) / this.size.width));
    for (const piece of this.pieces) {
      piece.element = element("div", { className: "piece" });
      piece.element.piece = piece;
      piece.element.style.minHeight = `${rowsOf(piece, across) * this.size.height}px`;
      this.watcher.observe(piece.element);
    }
    this.root.replaceChildren(...this.pieces.map((piece) => piece.element));
  }

  notice(seen) {
    for (const { target, isIntersecting } of seen) {
      if (isIntersecting) {
        this.near.add(target.piece);
        this.build(target.piece);
        this.paint(target.piece);
      } else this.near.delete(target.piece);
    }
  }

  build(piece) {
    if (piece.built) return;
    piece.built = true;
    const parts = [];
    for (let place = piece.start; place < piece.end; place++) {
      const [outer, span] = this.make(place);
      outer.place = place;
      this.spans[place] = span;
      parts.push(outer);
    }
    piece.element.replaceChildren(...parts);
    piece.element.style.minHeight = "";
  }

  // Only classes that differ are set: setting the same one again would cost a style.
  paint(piece) {
    const { levels, table } = this.colour;
    for (let place = piece.start; place < piece.end; place++) {
      const key = (marks[place] * KINDS.length + this.kinds[place]) * 256 + table[levels[place]];
      if (key !== this.shown[place]) {
        this.spans[place].className = this.nameOf(key);
        this.shown[place] = key;
      }
    }
  }

  nameOf(key) {
    if (!this.names.has(key)) {
      const rest = Math.floor(key / 256);
      const bits = Math.floor(rest / KINDS.length);
      const marked = Object.keys(MARK_NAMES).filter((bit) => bits & bit).map((bit) => MARK_NAMES[bit]);
      this.names.set(key, CLASSES[key % 256] + KINDS[rest % KINDS.length] + marked.join(""));
    }
    return this.names.get(key);
  }

  repaint(colour = this.colour) {
    this.colour = colour;
    for (const piece of this.near) this.paint(piece);
  }

  // Bring a symbol into sight; pieces above it may grow when they are built, so look again a frame later.
  reveal(place, settle = 2) {
    const piece = this.pieces.find(({ end }) => place < end);
    this.build(piece);
    this.paint(piece);
    const [spot, frame] = [this.spans[place].getBoundingClientRect(), byId("pane").getBoundingClientRect()];
    if (spot.top < frame.top + 24 || spot.bottom > frame.bottom - 24) {
      byId("pane").scrollTop += spot.top - frame.top - frame.height / 3;
    }
    if (settle) requestAnimationFrame(() => this.reveal(place, settle - 1));
  }
}

// Cut the text into pieces that end with a line; a line that is too long is cut where it is.
function pieces(least, most) {
  const cut = [];
  let start = 0;
  for (let place = 0; place < model.count; place++) {
    const length = place + 1 - start;
    if (place + 1 < model.count && length < most && (length < least || !model.symbols[place].endsWith("\n"))) continue;
    cut.push({ start, end: place + 1, built: false });
    start = place + 1;
  }
  return cut;
}

function rowsOf(piece, across) {
  let [rows, column] = [0, 0];
  for (let place = piece.start; place < piece.end; place++) {
    column++;
    if (column < across && !model.symbols[place].endsWith("\n")) continue;
    rows++;
    column = 0;
  }
  return rows + (column > 0 ? 1 : 0);
}

function kindsOfSymbols() {
  return Uint8Array.from(model.symbols, (text) => (text === "\n" ? 1 : 0));
}

// The symbol that an element of the page belongs to, or -1.
function placeOf(node) {
  for (let at = node; at && at !== document.body; at = at.parentNode) if (at.place !== undefined) return at.place;
  return -1;
}

function textSpan(place) {
  const span = write(document.createElement("span"), model.symbols[place], { end: model.ends.has(place) });
  return [span, span];
}

function guessColumn(place) {
  const end = model.ends.has(place);
  const head = write(document.createElement("b"), model.symbols[place], { end, compact: true, most: 12 });
  const column = element("span", { className: "column" }, head);
  for (const guess of guessesAt(place)) {
    const cell = element("span", { className: cssOf("p", guess.chance) });
    if (guess.chance >= 0.69) cell.classList.add("strong");
    if (guess.came) cell.classList.add("came");
    column.append(write(cell, guess.text, { end: guess.end, compact: true, most: 12 }));
  }
  return [model.symbols[place].endsWith("\n") ? element("span", { className: "last" }, column) : column, head];
}
