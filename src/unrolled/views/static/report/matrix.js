// @ts-check
// A matrix of cells as a heat map, with up to some hundred rows and columns: confusion matrices and attention maps.

import { element, svgElement } from "../shared/dom.js";
import { plainText } from "./format.js";

const STRENGTHS = 16;
const CELL_SIZE = { min: 11, max: 34 };
const ROOM = 520; // pixels that a matrix may take, if its cells are not at their smallest
const LETTER_WIDTH = 6.6; // pixels that a letter of a label takes at most

/**
 * @typedef {object} MatrixSpec
 * @property {string} name
 * @property {string[]} rows labels
 * @property {string[]} columns labels
 * @property {(row: number, column: number) => { className: string, strength: number }} cell `strength` is 0 to 1
 * @property {(row: number, column: number) => Node[]} describe
 * @property {boolean} [isToken] whether labels are tokens of a vocabulary
 * @property {number} [maxCellSize] in pixels
 */

export class Matrix {
  /** @param {MatrixSpec} spec */
  constructor(spec) {
    this.spec = spec;
    this.height = spec.rows.length;
    this.width = spec.columns.length;
    const size = Math.min(spec.maxCellSize ?? CELL_SIZE.max, ROOM / Math.max(this.height, this.width));
    this.cellSize = Math.round(Math.max(CELL_SIZE.min, size));
    this.rowLabels = spec.rows.map((text) => plainText(text, spec));
    this.columnLabels = spec.columns.map((text) => plainText(text, spec));
    this.isUpright = this.columnLabels.every((label) => label.length * LETTER_WIDTH <= this.cellSize);
    this.current = { row: 0, column: 0 };
    this.readout = element("p", { className: "readout number", textContent: "Point at a cell, or use the arrow keys." });
    this.frame = svgElement("rect", { width: this.cellSize, height: this.cellSize, x: -99, class: "current-cell" });
    this.drawing = this.drawCells();
    this.left = this.drawRowLabels(labelRoom(this.rowLabels));
    this.top = this.drawColumnLabels(this.isUpright ? 18 : labelRoom(this.columnLabels));
    this.box = this.createBox();
  }

  createBox() {
    const corner = element("span", { className: "corner" });
    const grid = element("div", { className: "matrix" }, corner, this.top, this.left, this.drawing);
    grid.style.gridTemplateColumns = `${labelRoom(this.rowLabels)}px max-content`;
    const ariaLabel = `${this.spec.name}; arrow keys move from cell to cell`;
    const box = element("div", { className: "matrix-box", tabIndex: 0, role: "application", ariaLabel }, grid);
    box.addEventListener("keydown", (event) => this.onKey(event));
    box.addEventListener("focus", () => this.choose(this.current.row, this.current.column));
    return box;
  }

  /** @param {number} height */
  drawColumnLabels(height) {
    const texts = this.columnLabels.map((label, index) => {
      const [middle, y] = [(index + 0.5) * this.cellSize, height - 5];
      if (this.isUpright) return svgElement("text", { x: middle, y, class: "label middle" }, label);
      const x = middle + 4;
      return svgElement("text", { x, y, transform: `rotate(-90 ${x} ${y})`, class: "label" }, label);
    });
    const width = this.width * this.cellSize;
    return svgElement("svg", { width, height, class: "top-labels", "aria-hidden": "true" }, ...texts);
  }

  /** @param {number} width */
  drawRowLabels(width) {
    const texts = this.rowLabels.map((label, index) =>
      svgElement("text", { x: width - 6, y: (index + 0.5) * this.cellSize + 4, class: "label end" }, label));
    const height = this.height * this.cellSize;
    return svgElement("svg", { width, height, class: "left-labels", "aria-hidden": "true" }, ...texts);
  }

  /** Return one path for each color and strength: 65,000 cells as elements would be slow. */
  drawCells() {
    const [width, height] = [this.width * this.cellSize, this.height * this.cellSize];
    const drawing = svgElement("svg", { width, height, class: "cells", role: "img", "aria-label": this.spec.name });
    for (const [key, d] of this.cellPaths()) {
      const [className, level] = key.split(" ");
      drawing.append(svgElement("path", { d, class: className, "fill-opacity": Number(level) / STRENGTHS }));
    }
    drawing.append(this.frame);
    drawing.addEventListener("pointermove", (event) => this.onPointer(event));
    drawing.addEventListener("pointerdown", (event) => this.onPointer(event));
    return drawing;
  }

  /** @returns {Map<string, string>} path data by class and strength */
  cellPaths() {
    const paths = new Map();
    const inner = this.cellSize - 1;
    for (let row = 0; row < this.height; row++) {
      for (let column = 0; column < this.width; column++) {
        const { className, strength } = this.spec.cell(row, column);
        if (!(strength > 0)) continue;
        const key = `${className} ${Math.max(1, Math.round(Math.min(1, strength) * STRENGTHS))}`;
        const square = `M${column * this.cellSize} ${row * this.cellSize}h${inner}v${inner}h${-inner}z`;
        paths.set(key, (paths.get(key) ?? "") + square);
      }
    }
    return paths;
  }

  /** @param {PointerEvent} event */
  onPointer(event) {
    const { left, top } = this.drawing.getBoundingClientRect();
    this.choose(Math.floor((event.clientY - top) / this.cellSize), Math.floor((event.clientX - left) / this.cellSize));
  }

  /**
   * @param {number} row
   * @param {number} column
   */
  choose(row, column) {
    this.current = {
      row: Math.max(0, Math.min(this.height - 1, row)), column: Math.max(0, Math.min(this.width - 1, column)),
    };
    this.frame.setAttribute("x", String(this.current.column * this.cellSize - 0.5));
    this.frame.setAttribute("y", String(this.current.row * this.cellSize - 0.5));
    this.readout.replaceChildren(...this.spec.describe(this.current.row, this.current.column));
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    /** @type {Record<string, [number, number]>} */
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const [down, right] = moves[event.key] ?? [0, 0];
    if (!down && !right) return;
    event.preventDefault();
    this.choose(this.current.row + down, this.current.column + right);
    this.scrollToCurrent();
  }

  /** Scroll the box so that the labels, which stay in place, do not cover the current cell. */
  scrollToCurrent() {
    const [box, cell] = [this.box.getBoundingClientRect(), this.frame.getBoundingClientRect()];
    this.box.scrollBy(
      distanceOutside(cell.left, cell.right, box.left + this.left.clientWidth, box.right - 12),
      distanceOutside(cell.top, cell.bottom, box.top + this.top.clientHeight, box.bottom - 12));
  }
}

/** @param {string[]} labels */
const labelRoom = (labels) => Math.ceil(Math.max(1, ...labels.map((label) => label.length)) * LETTER_WIDTH) + 10;

/**
 * @param {number} start
 * @param {number} end
 * @param {number} low
 * @param {number} high
 */
const distanceOutside = (start, end, low, high) => (start < low ? start - low : end > high ? end - high : 0);
