// @ts-check
// Text whose invisible characters can be seen: control characters, blanks and format characters get a placeholder.

import { element } from "./dom.js";

const PRINTABLE_ASCII = /^[!-~]+$/;
const INVISIBLE = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/u;
const SPACE = /\p{Zs}/u;
const COMBINING_MARK = /^\p{M}/u;
const PICTOGRAPH = /^\p{Extended_Pictographic}/u;
const MAX_CODE_POINTS = 80;
const MAX_COMBINING_MARKS = 3;

/**
 * Return a count and its noun, such as "1 row" or "1,200 rows".
 * @param {number} count
 * @param {string} noun
 */
export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/**
 * Return the name of an invisible character: a control picture, or its code point.
 * @param {string} character
 */
function placeholderName(character) {
  const code = character.codePointAt(0) ?? 0;
  if (code < 32) return String.fromCodePoint(0x2400 + code);
  if (code === 127) return "\u2421";
  return "U+" + code.toString(16).toUpperCase().padStart(4, "0");
}

/**
 * Return what to write for one character of a text, and whether it is a placeholder.
 * @param {string} character
 * @param {boolean} inPictograph whether format characters join parts of a pictograph, and stay
 * @param {boolean} compact
 * @returns {[string, boolean]}
 */
function visibleForm(character, inPictograph, compact) {
  if (character === "\n") return [compact ? "\u21b5" : "\u21b5\n", false];
  if (character === "\t") return [compact ? "\u21e5" : "\u21e5\t", false];
  if (character === " ") return [compact ? "\u2423" : " ", false];
  if (SPACE.test(character) || (INVISIBLE.test(character) && !inPictograph)) return [placeholderName(character), true];
  return [character, false];
}

/**
 * Write a text into an element so that all of it can be seen.
 * @template {Element} T
 * @param {T} target
 * @param {string} text "" stands for a byte within a character, or for the end of a document
 * @param {object} [options]
 * @param {boolean} [options.end] whether an empty text is the end of a document
 * @param {boolean} [options.compact] on one line, with a space as an open box
 * @param {number} [options.max] code points that are written at most
 * @returns {T} the element
 */
export function writeText(target, text, { end = false, compact = false, max = MAX_CODE_POINTS } = {}) {
  if (PRINTABLE_ASCII.test(text) && text.length < max) {
    target.textContent = text;
    return target;
  }
  if (text === "") return appendPlaceholder(target, end ? "end" : "byte");
  const inPictograph = PICTOGRAPH.test(text);
  let [run, codePoints, combining, shortened] = ["", 0, 0, false];
  const flush = () => {
    if (run) target.append(run);
    run = "";
  };
  for (const character of text) {
    if (++codePoints > max) break;
    if (!COMBINING_MARK.test(character) || INVISIBLE.test(character)) combining = 0;
    else if (++combining > MAX_COMBINING_MARKS) {
      shortened = true;
      continue;
    }
    else if (run === "") run = "\u25cc";
    const [form, isPlaceholder] = visibleForm(character, inPictograph, compact);
    if (!isPlaceholder) run += form;
    else {
      flush();
      appendPlaceholder(target, form);
    }
  }
  flush();
  if (shortened || codePoints > max) appendPlaceholder(target, "\u2026");
  return target;
}

/**
 * @template {Element} T
 * @param {T} target
 * @param {string} label
 * @returns {T}
 */
function appendPlaceholder(target, label) {
  target.append(element("i", { className: [...label].length > 1 ? "placeholder" : "placeholder single", textContent: label }));
  return target;
}
