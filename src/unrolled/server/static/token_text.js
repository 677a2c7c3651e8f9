// @ts-check
// A text whose tokens have colors: by surprise or by the activation of a unit. One token is current: by click or arrow key.

import { element } from "./shared/dom.js";
import { writeText } from "./shared/visible_text.js";

/**
 * A guess is a text and its probability; `isPart`: it is no whole character. `bits` is null where nothing was guessed; `value`
 * is an activation.
 * @typedef {{ text: string, probability: number, isPart?: boolean }} Guess
 * @typedef {{ text: string, bits: number | null, guesses: Guess[], isPrompt?: boolean, value?: number }} Token
 * @typedef {"surprise" | "unit" | "none"} Coloring
 */

/** Bits from which on a color is at its strongest. */
export const MAX_BITS = 8;

/**
 * @param {string} color
 * @param {number} strength from 0 to 1
 */
const mixed = (color, strength) =>
  `color-mix(in srgb, var(--${color}) ${Math.round(Math.min(1, Math.abs(strength)) * 85)}%, transparent)`;

/**
 * @param {Token} token
 * @param {Coloring} coloring
 */
function background({ bits, value }, coloring) {
  if (coloring === "unit" && value) return mixed(value < 0 ? "below" : "above", value);
  return coloring === "surprise" && bits ? mixed("surprise", bits / MAX_BITS) : "";
}

/**
 * Return the view of a text in a container.
 * @param {HTMLElement} container
 * @param {object} listeners
 * @param {(index: number, isPinned: boolean) => void} listeners.onCurrent a token is pointed at, or was chosen; -1: none
 * @param {(index: number) => void} [listeners.onEnter] the key Enter at the current token
 */
export function createTokenText(container, { onCurrent, onEnter }) {
  /** @type {Token[]} */
  let tokens = [];
  /** @type {HTMLElement[]} */
  let spans = [];
  /** @type {Coloring} */
  let coloring = "surprise";
  let current = -1;

  /** @param {Token} token */
  function span(token) {
    const created = writeText(element("span", { className: token.isPrompt ? "token prompt" : "token" }), token.text);
    created.dataset.index = String(spans.length);
    created.style.backgroundColor = background(token, coloring);
    spans.push(created);
    return created;
  }

  /** @param {number} index */
  function choose(index) {
    spans[current]?.classList.remove("current");
    current = Math.min(tokens.length - 1, index);
    spans[current]?.classList.add("current");
    onCurrent(current, true);
  }

  /** @param {Event} event */
  function indexAt(event) {
    const target = event.target instanceof Element ? event.target.closest(".token") : null;
    return target instanceof HTMLElement ? Number(target.dataset.index) : -1;
  }

  container.addEventListener("click", (event) => {
    const index = indexAt(event);
    if (getSelection()?.isCollapsed !== false) choose(index === current ? -1 : index);
  });
  container.addEventListener("pointerover", (event) => onCurrent(indexAt(event), false));
  container.addEventListener("pointerleave", () => onCurrent(-1, false));
  container.addEventListener("keydown", (event) => {
    const moves = { ArrowRight: current + 1, ArrowLeft: Math.max(0, current - 1), Home: 0, End: tokens.length - 1 };
    const index = moves[/** @type {keyof typeof moves} */ (event.key)];
    if (event.key === "Enter" && current >= 0) onEnter?.(current);
    if (event.key === "Escape" && current >= 0) choose(-1);
    if (index === undefined || !tokens.length) return;
    event.preventDefault();
    choose(index);
    spans[current]?.scrollIntoView({ block: "nearest" });
  });

  /** @param {Token[]} added */
  function append(added) {
    const isAtEnd = container.scrollHeight - container.scrollTop - container.clientHeight < 40;
    tokens.push(...added);
    const fragment = document.createDocumentFragment();
    for (const token of added) fragment.append(span(token));
    container.append(fragment);
    if (isAtEnd) container.scrollTop = container.scrollHeight;
  }

  return {
    append,
    /** @param {Token[]} shown */
    show(shown) {
      [tokens, spans, current] = [[], [], -1];
      container.replaceChildren();
      append(shown);
    },
    /** @param {Coloring} chosen */
    setColoring(chosen) {
      coloring = chosen;
      spans.forEach((item, index) => { item.style.backgroundColor = background(tokens[index], coloring); });
    },
    /** Let no token be current. */
    release() {
      spans[current]?.classList.remove("current");
      current = -1;
    },
    tokens: () => tokens,
    focus: () => container.focus(),
  };
}

/** @typedef {ReturnType<typeof createTokenText>} TokenText */

/** @param {Token[]} tokens */
export const textOf = (tokens) => tokens.map((token) => token.text).join("");

/** Characters at the end of a prompt that are tokens of their own: an element for each of a long text would take seconds. */
const MAX_PROMPT_TOKENS = 2000;

/**
 * Return a prompt as tokens, one for each character, without guesses; the beginning of a long one is one token.
 * @param {string} text
 * @returns {Token[]}
 */
export function promptTokens(text) {
  const characters = [...text];
  const beginning = characters.splice(0, characters.length - MAX_PROMPT_TOKENS).join("");
  const texts = beginning ? [beginning, ...characters] : characters;
  return texts.map((part) => ({ text: part, bits: null, guesses: [], isPrompt: true }));
}
