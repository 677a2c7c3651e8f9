// @ts-check
// The text on the page: a block for each line, with a span for each token, its color, the guesses under it, and the token that
// the keyboard is at. A text that grows is laid out anew from its last line on.

import { element } from "../shared/dom.js";
import { writeText } from "../shared/visible_text.js";

/** @typedef {import("./reading.js").Token} Token */

/** Bits from which on a color is at its strongest. */
export const MAX_BITS = 8;
const MAX_CHANGE_BITS = 4;

/**
 * @param {string} color
 * @param {number} strength from 0 to 1
 */
const mixed = (color, strength) =>
  `color-mix(in srgb, var(--${color}) ${Math.round(Math.min(1, Math.abs(strength)) * 85)}%, transparent)`;

/**
 * Return the view of a text.
 * @param {HTMLElement} container
 * @param {HTMLElement} detail where the current token is described
 * @param {(id: number) => string} label the text of a token
 */
export function createTextView(container, detail, label) {
  /** @type {Token[]} */
  let tokens = [];
  /** @type {number[]} */
  let changes = [];
  let [color, unit, current, withGuesses] = ["surprise", 0, -1, false];

  /** @param {number} index */
  function background(index) {
    const token = tokens[index];
    if (color === "unit") {
      const value = token.units[unit] / 127;
      return mixed(value < 0 ? "negative" : "positive", value);
    }
    const change = changes[index];
    if (color === "change") return change ? mixed(change > 0 ? "surprise" : "positive", change / MAX_CHANGE_BITS) : "";
    return color === "surprise" && token.bits > 0 ? mixed("surprise", token.bits / MAX_BITS) : "";
  }

  /** @param {number} id */
  const visible = (id) => writeText(element("span"), label(id), { end: label(id) === "", compact: true });

  /** @param {number} index */
  function span(index) {
    const token = tokens[index];
    const created = element("span", { className: token.isPrompt ? "character prompt" : "character" });
    if (withGuesses) {
      created.append(visible(token.id), ...token.guesses.map(([id, p]) => {
        const guess = writeText(element("span", { className: "guess" }), label(id), { end: label(id) === "", compact: true });
        guess.style.opacity = String(0.65 + 0.35 * p); // the least likely one is still readable
        return guess;
      }));
    } else writeText(created, label(token.id));
    created.style.backgroundColor = background(index);
    return created;
  }

  /** Add the tokens from an index on to the end. @param {number} first */
  function append(first) {
    let line = container.lastElementChild;
    for (let index = first; index < tokens.length; index++) {
      if (!line || (index > 0 && label(tokens[index - 1].id).endsWith("\n"))) {
        line = element("div");
        container.append(line);
      }
      line.append(span(index));
    }
  }

  /** @param {number} index */
  const spanAt = (index) => container.querySelectorAll(".character")[index];

  /** @param {number} index */
  function select(index) {
    container.querySelector(".current")?.classList.remove("current");
    current = Math.max(0, Math.min(tokens.length - 1, index));
    const token = tokens[current];
    if (!token) return detail.replaceChildren();
    spanAt(current)?.classList.add("current");
    const change = changes[current] ? ` (${changes[current] < 0 ? "" : "+"}${changes[current].toFixed(2)} with the unit held)` : "";
    const bits = Number.isNaN(token.bits) ? "nothing before it" : `${token.bits.toFixed(2)} bits${change}`;
    const heading = element("h2", {}, `Character ${current + 1}: `, visible(token.id), `, ${bits}`);
    const rows = token.guesses.map(([id, p]) => {
      const bar = element("span", { className: "bar" });
      bar.style.width = `${Math.round(p * 160)}px`;
      return element("tr", {}, element("td", { className: "code" }, visible(id)),
        element("td", { className: "number", textContent: `${(p * 100).toFixed(1)}%` }), element("td", {}, bar));
    });
    const value = `unit value ${(token.units[unit] / 127).toFixed(2)}`;
    detail.replaceChildren(heading, element("p", { className: "muted", textContent: value }), element("table", {}, ...rows));
  }

  function draw() {
    container.classList.toggle("columns", withGuesses);
    container.replaceChildren();
    append(0);
    if (current >= 0) select(current);
  }

  container.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target.closest(".character") : null;
    if (target) select([...container.querySelectorAll(".character")].indexOf(target));
  });
  container.addEventListener("keydown", (event) => {
    const moves = { ArrowRight: current + 1, ArrowLeft: current - 1, Home: 0, End: tokens.length - 1 };
    const index = moves[/** @type {keyof typeof moves} */ (event.key)];
    if (index === undefined || !tokens.length) return;
    event.preventDefault();
    select(index);
    spanAt(current)?.scrollIntoView({ block: "nearest" });
  });

  return {
    /**
     * Show a text; with changes of its bits, one for each token, if a unit is held.
     * @param {Token[]} shown
     * @param {number[]} [bitChanges]
     */
    show(shown, bitChanges = []) {
      [tokens, changes, current] = [shown, bitChanges, -1];
      detail.replaceChildren();
      draw();
    },

    /** Show tokens that were added to the end. @param {number} first index of the first new one */
    showNew(first) {
      append(first);
      container.scrollTop = container.scrollHeight;
    },

    /** @param {{ color: string, unit: number, withGuesses: boolean }} options */
    setOptions(options) {
      ({ color, unit, withGuesses } = options);
      draw();
    },
  };
}
