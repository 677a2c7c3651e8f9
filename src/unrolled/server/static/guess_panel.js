// @ts-check
// What is known of one token: its bits, and the five tokens that the model held most likely there.

import { element } from "./shared/dom.js";
import { percent } from "./report/format.js";
import { writeText } from "./shared/visible_text.js";

/** @typedef {import("./token_text.js").Token} Token */

/** @param {string} text */
const visible = (text) => writeText(element("span", { className: "code" }), text, { end: true, compact: true, max: 20 });

/**
 * @param {Token} token
 * @param {number} index
 */
function heading(token, index) {
  const bits = token.bits === null ? (token.isPrompt ? "part of the prompt" : "no bits known") : `${token.bits.toFixed(2)} bits`;
  const value = token.value === undefined ? "" : `, activation ${token.value.toFixed(2)}`;
  const noun = [...token.text].length > 1 && !token.isPrompt ? "Token" : "Character";
  return element("p", { className: "guess-title" }, `${noun} ${index + 1}: `, visible(token.text), `, ${bits}${value}`);
}

/**
 * Show a token in an element; nothing if there is none.
 * @param {HTMLElement} panel
 * @param {Token | undefined} token
 * @param {number} index
 * @param {object} [actions] what a person can do at this token; without: the guesses are text
 * @param {() => void} actions.onFork
 * @param {(text: string) => void} actions.onReplace
 */
export function showToken(panel, token, index, actions) {
  if (!token) {
    panel.replaceChildren(element("p", { className: "muted", textContent: panel.dataset.empty ?? "" }));
    return;
  }
  const guesses = token.guesses.map(({ text, probability, isPart }) => {
    const parts = [visible(text), element("span", { className: "number muted", textContent: percent(probability) })];
    if (!actions || isPart || text === "") return element("span", { className: "guess" }, ...parts);
    const button = element("button", { type: "button", className: "guess", title: "Write on with this instead" }, ...parts);
    button.addEventListener("click", () => actions.onReplace(text));
    return button;
  });
  guesses.forEach((guess, at) => guess.style.setProperty("--share", String(token.guesses[at].probability)));
  const row = element("div", { className: "guesses" }, ...guesses);
  if (actions) {
    const fork = element("button", { type: "button", className: "fork", textContent: "Write on from here" });
    fork.addEventListener("click", actions.onFork);
    row.prepend(fork);
  }
  panel.replaceChildren(heading(token, index), row);
}
