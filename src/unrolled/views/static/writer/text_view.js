// @ts-check
// The text on the page: a block for each line, with a span for each token, its color, the guesses under it, and the token that
// the keyboard is at. A text that grows is laid out anew from its last line on.

import { element } from "../shared/dom.js";
import { writeText } from "../shared/visible_text.js";

/** @typedef {import("./reading.js").Token} Token */
/** @typedef {ReturnType<typeof import("./model.js").createTokenizer>} Tokenizer */

/** Bits from which on a color is at its strongest. */
export const MAX_BITS = 8;
const MAX_CHANGE_BITS = 4;
const MAX_CHARACTER_BYTES = 4;

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
 * @param {Tokenizer} tokenizer
 */
export function createTextView(container, detail, tokenizer) {
  const { label } = tokenizer;
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

  /**
   * Return the text of a token; of a character of several bytes, the last one shows it, and "" stands for the others.
   * @param {number} index
   */
  function textAt(index) {
    const { id } = tokens[index];
    if (!tokenizer.isPartOfCharacter(id)) return label(id);
    let start = index;
    while (start > 0 && index - start < MAX_CHARACTER_BYTES - 1 && (tokens[start].id & 0xc0) === 0x80) start--;
    const lead = tokens[start].id;
    const stop = start + (lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2);
    const character = tokenizer.characterOf(tokens.slice(start, stop).map((token) => token.id));
    if (character === null || index >= stop) return label(id);
    return index === stop - 1 ? character : "";
  }

  /** @param {number} index */
  function span(index) {
    const token = tokens[index];
    const text = textAt(index);
    const created = element("span", { className: token.isPrompt ? "character prompt" : "character" });
    if (withGuesses) {
      created.append(text === "" ? visible(token.id) : writeText(element("span"), text, { compact: true }), ...token.guesses.map(([id, p]) => {
        const guess = writeText(element("span", { className: "guess" }), label(id), { end: label(id) === "", compact: true });
        guess.style.opacity = String(0.65 + 0.35 * p); // the least likely one is still readable
        return guess;
      }));
    } else if (text === "" && token.id !== tokenizer.endId) created.classList.add("part");
    else writeText(created, text);
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
    const heading = element("h2", {}, `${tokenizer.isBytes ? "Byte" : "Character"} ${current + 1}: `, visible(token.id), `, ${bits}`);
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

  container.addEventListener("copy", (event) => {
    const [selection, decode] = [window.getSelection(), tokenizer.decoder()];
    const spans = [...container.querySelectorAll(".character")];
    const chosen = tokens.filter((_, index) => selection?.containsNode(spans[index], true));
    event.clipboardData?.setData("text/plain", chosen.map(({ id }) => decode(id)).join("")); // without the signs of line ends
    event.preventDefault();
  });
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
      let begin = first; // bytes that may be a character now
      while (begin > 0 && first - begin < MAX_CHARACTER_BYTES && tokenizer.isPartOfCharacter(tokens[begin - 1].id)) begin--;
      const spans = begin < first ? container.querySelectorAll(".character") : [];
      for (let index = begin; index < first; index++) spans[index].remove();
      append(begin);
      container.scrollTop = container.scrollHeight;
    },

    /** @param {{ color: string, unit: number, withGuesses: boolean }} options */
    setOptions(options) {
      ({ color, unit, withGuesses } = options);
      draw();
    },
  };
}
