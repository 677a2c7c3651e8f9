// @ts-check
// Parts of a row in the color of what each of them does to the answer.

import { fixed, isNumber } from "./format.js";

const MIN_STRENGTH = 0.04;

/**
 * Color a part by its effect, and say it.
 * @param {HTMLElement} target
 * @param {number | null} effect
 * @param {number} scale the effect of the strongest color
 * @param {string} unit
 */
export function paintEffect(target, effect, scale, unit) {
  target.classList.add("part");
  if (!isNumber(effect)) return target;
  const strength = Math.min(1, Math.abs(effect) / scale);
  if (strength >= MIN_STRENGTH) {
    target.classList.add(effect > 0 ? "for" : "against");
    target.style.setProperty("--strength", strength.toFixed(2));
  }
  target.title = `${effect > 0 ? "+" : ""}${fixed(effect)} ${unit}`;
  return target;
}
