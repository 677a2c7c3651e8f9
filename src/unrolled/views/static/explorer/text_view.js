// @ts-check
// A long text as spans, built and colored only near what is seen: a change of neuron costs the same for any length.

import { byId, element } from "../shared/dom.js";
import { writeText } from "../shared/visible_text.js";
import { data, predictionsAt } from "./data.js";
import { colorClass, COLOR_CLASSES } from "./palette.js";
import { state } from "./state.js";

/**
 * The colors of a text: a level for each token, and the number of the color class of each level.
 * @typedef {{ levels: ArrayLike<number>, classOfLevel: number[] }} Coloring
 */

/**
 * A part of the text that is built as a whole: tokens from `start` to before `end`.
 * @typedef {{ start: number, end: number, isBuilt: boolean, element: HTMLElement }} Chunk
 */

/**
 * The smallest and the largest number of tokens in a chunk, and the size of a token in pixels, to estimate heights from.
 * @typedef {{ minTokens: number, maxTokens: number, tokenWidth: number, tokenHeight: number }} ChunkSize
 */

const KINDS = ["", " newline"];
/** Bits of a token's marks. */
export const MARK = { selected: 1, match: 2, currentMatch: 4, cursor: 8 };
/** @type {[number, string][]} */
const MARK_CLASSES = [[1, " selected"], [2, " match"], [4, " current-match"], [8, " cursor"]];

/** The marks of each token, as bits. */
export const marks = { ofToken: new Uint8Array(0) };
/** @type {WeakMap<Node, number>} */
const positionOfElement = new WeakMap();

/** A text whose tokens are colored. */
export class TextView {
  /**
   * @param {HTMLElement} root where the text goes
   * @param {HTMLElement} scroller what scrolls
   * @param {(position: number) => [HTMLElement, HTMLElement]} makeToken returns the element to add and the one to color
   * @param {ChunkSize} size
   */
  constructor(root, scroller, makeToken, size) {
    this.root = root;
    this.makeToken = makeToken;
    this.size = size;
    /** @type {HTMLElement[]} */
    this.spans = new Array(data.count);
    this.shownKeys = new Int32Array(data.count).fill(-1);
    this.kinds = Uint8Array.from(data.tokens, (text) => (text === "\n" ? 1 : 0));
    /** @type {Map<number, string>} */
    this.classNames = new Map();
    /** @type {Coloring} */
    this.coloring = { levels: new Uint8Array(data.count), classOfLevel: [0] };
    /** @type {Set<Chunk>} */
    this.nearChunks = new Set();
    this.chunks = splitIntoChunks(size);
    this.chunkOfElement = new Map(this.chunks.map((chunk) => [/** @type {Element} */ (chunk.element), chunk]));
    this.observer = new IntersectionObserver((entries) => this.onIntersection(entries), { root: scroller, rootMargin: "800px 0px" });
    this.layOut();
  }

  layOut() {
    const columns = Math.max(8, Math.floor((this.root.clientWidth || 800) / this.size.tokenWidth));
    for (const chunk of this.chunks) {
      chunk.element.style.minHeight = `${countRows(chunk, columns) * this.size.tokenHeight}px`;
      this.observer.observe(chunk.element);
    }
    this.root.replaceChildren(...this.chunks.map((chunk) => chunk.element));
  }

  /** @param {IntersectionObserverEntry[]} entries */
  onIntersection(entries) {
    for (const { target, isIntersecting } of entries) {
      const chunk = this.chunkOfElement.get(target);
      if (!chunk) continue;
      if (isIntersecting) {
        this.nearChunks.add(chunk);
        this.build(chunk);
        this.paint(chunk);
      } else this.nearChunks.delete(chunk);
    }
  }

  /** @param {Chunk} chunk */
  build(chunk) {
    if (chunk.isBuilt) return;
    chunk.isBuilt = true;
    const parts = [];
    for (let position = chunk.start; position < chunk.end; position++) {
      const [outer, span] = this.makeToken(position);
      positionOfElement.set(outer, position);
      this.spans[position] = span;
      parts.push(outer);
    }
    chunk.element.replaceChildren(...parts);
    chunk.element.style.minHeight = "";
  }

  /**
   * Only classes that differ are set: to set the same one again would cost a computation of styles.
   * @param {Chunk} chunk
   */
  paint(chunk) {
    const { spans, shownKeys, kinds } = this;
    const { levels, classOfLevel } = this.coloring;
    const marksOfToken = marks.ofToken;
    for (let position = chunk.start; position < chunk.end; position++) {
      const key = (marksOfToken[position] * KINDS.length + kinds[position]) * 256 + classOfLevel[levels[position]];
      if (key !== shownKeys[position]) {
        spans[position].className = this.classNameOf(key);
        shownKeys[position] = key;
      }
    }
  }

  /** @param {number} key marks, kind and color class in one number */
  classNameOf(key) {
    const known = this.classNames.get(key);
    if (known !== undefined) return known;
    const marksAndKind = Math.floor(key / 256);
    const bits = Math.floor(marksAndKind / KINDS.length);
    const markClasses = MARK_CLASSES.filter(([bit]) => bits & bit).map(([, name]) => name);
    const name = COLOR_CLASSES[key % 256] + KINDS[marksAndKind % KINDS.length] + markClasses.join("");
    this.classNames.set(key, name);
    return name;
  }

  repaint(coloring = this.coloring) {
    this.coloring = coloring;
    for (const chunk of this.nearChunks) this.paint(chunk);
  }

  /**
   * Scroll to a token. Chunks above it may grow when they are built, so its place is checked again a frame later.
   * @param {number} position
   */
  reveal(position, moreFrames = 2) {
    const chunk = this.chunks.find(({ end }) => position < end);
    if (!chunk) return;
    this.build(chunk);
    this.paint(chunk);
    const scroller = byId("text-scroller");
    const [token, frame] = [this.spans[position].getBoundingClientRect(), scroller.getBoundingClientRect()];
    if (token.top < frame.top + 24 || token.bottom > frame.bottom - 24) {
      scroller.scrollTop += token.top - frame.top - frame.height / 3;
    }
    if (moreFrames) requestAnimationFrame(() => this.reveal(position, moreFrames - 1));
  }
}

/**
 * Split the text into chunks that end with a line; a line that is too long is split where the chunk is full.
 * @param {ChunkSize} size
 */
function splitIntoChunks({ minTokens, maxTokens }) {
  /** @type {Chunk[]} */
  const chunks = [];
  let start = 0;
  for (let position = 0; position < data.count; position++) {
    const length = position + 1 - start;
    const atLineEnd = data.tokens[position].endsWith("\n");
    if (position + 1 < data.count && length < maxTokens && (length < minTokens || !atLineEnd)) continue;
    chunks.push({ start, end: position + 1, isBuilt: false, element: element("div", { className: "chunk" }) });
    start = position + 1;
  }
  return chunks;
}

/**
 * Estimate how many rows a chunk takes.
 * @param {Chunk} chunk
 * @param {number} columns
 */
function countRows(chunk, columns) {
  const { tokens } = data;
  let [rows, column] = [0, 0];
  for (let position = chunk.start; position < chunk.end; position++) {
    column++;
    if (column < columns && !tokens[position].endsWith("\n")) continue;
    rows++;
    column = 0;
  }
  return rows + (column > 0 ? 1 : 0);
}

/**
 * Return the position of the token that an element of the page belongs to, or -1.
 * @param {EventTarget | null} target
 */
export function positionOf(target) {
  for (let node = target instanceof Node ? target : null; node && node !== document.body; node = node.parentNode) {
    const position = positionOfElement.get(node);
    if (position !== undefined) return position;
  }
  return -1;
}

// ---- the two views

/** @type {{ text?: TextView, predictions?: TextView }} */
const textViews = {};

/** Create the view of the plain text. */
export function createTextView() {
  const size = { minTokens: 300, maxTokens: 1200, tokenWidth: 8.5, tokenHeight: 27 };
  textViews.text = new TextView(byId("text"), byId("text-scroller"), textSpan, size);
}

/** Create the view of predictions, unless it is there. */
export function createPredictionsView() {
  const size = { minTokens: 60, maxTokens: 240, tokenWidth: 24, tokenHeight: 142 };
  textViews.predictions ??= new TextView(byId("predictions"), byId("text-scroller"), predictionColumn, size);
}

/** Return the text view that is seen. */
export function visibleTextView() {
  const view = state.view === "prediction" ? textViews.predictions : textViews.text;
  if (!view) throw new Error("There is no text view yet.");
  return view;
}

export function repaintAll() {
  for (const view of Object.values(textViews)) view.repaint();
}

/**
 * @param {number} position
 * @returns {[HTMLElement, HTMLElement]}
 */
function textSpan(position) {
  const span = writeText(element("span"), data.tokens[position], { end: data.documentEnds.has(position) });
  return [span, span];
}

/**
 * @param {number} position
 * @returns {[HTMLElement, HTMLElement]}
 */
function predictionColumn(position) {
  const end = data.documentEnds.has(position);
  const head = writeText(element("b"), data.tokens[position], { end, compact: true, max: 12 });
  const column = element("span", { className: "prediction-column" }, head);
  for (const { text, isEnd, isCorrect, probability } of predictionsAt(position)) {
    const cell = element("span", { className: colorClass("probability", probability) });
    if (probability >= 0.69) cell.classList.add("strong");
    if (isCorrect) cell.classList.add("correct");
    column.append(writeText(cell, text, { end: isEnd, compact: true, max: 12 }));
  }
  return [data.tokens[position].endsWith("\n") ? element("span", { className: "line-end" }, column) : column, head];
}
