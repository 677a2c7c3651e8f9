// @ts-check
// Colors of values, as classes of one style sheet: to recolor a token is to change its class.

import { element } from "../shared/dom.js";

/** @typedef {"activation" | "change" | "surprisal" | "probability"} Palette */

const STEPS = 20;

/**
 * The colors at the ends of each palette, in light and dark. One with a `low` color runs from -1, others from 0.
 * @type {Record<Palette, { high: string[], low?: string[] }>}
 */
const PALETTES = {
  activation: { high: ["62 188 116", "16 116 58"], low: ["112 164 255", "45 92 205"] },
  change: { high: ["255 150 50", "168 78 10"], low: ["45 185 190", "10 108 114"] },
  surprisal: { high: ["190 122 255", "122 54 196"] },
  probability: { high: ["160 0 0", "196 40 34"] },
};

/** All color classes; number 0 is no color. */
export const COLOR_CLASSES = [""];
/** @type {Record<string, number>} */
const firstClass = {};

/** Write the classes activation0 to activation40 (blue, none, green), change0 to 40, surprisal0 to 20, probability0 to 20. */
export function setUpPalettes() {
  const rules = [];
  for (const [palette, { high, low }] of Object.entries(PALETTES)) {
    const lastStep = low ? 2 * STEPS : STEPS;
    firstClass[palette] = COLOR_CLASSES.length;
    for (let step = 0; step <= lastStep; step++) {
      const strength = low ? (step - STEPS) / STEPS : step / STEPS;
      const [light, dark] = ((strength < 0 && low) || high).map((color) => `rgb(${color} / ${Math.abs(strength)})`);
      COLOR_CLASSES.push(palette + step);
      rules.push(`.${palette}${step}{background-color:light-dark(${light},${dark})}`);
    }
  }
  document.head.append(element("style", { textContent: rules.join("\n") }));
}

/**
 * Return the number of the color class of a value in -1..1 or 0..1, as the palette has it; 0 for NaN.
 * @param {Palette} palette
 * @param {number} value
 */
export function colorClassNumber(palette, value) {
  if (Number.isNaN(value)) return 0;
  const min = PALETTES[palette].low ? -1 : 0;
  return firstClass[palette] + Math.round((Math.min(1, Math.max(min, value)) - min) * STEPS);
}

/**
 * @param {Palette} palette
 * @param {number} value
 */
export const colorClass = (palette, value) => COLOR_CLASSES[colorClassNumber(palette, value)];
