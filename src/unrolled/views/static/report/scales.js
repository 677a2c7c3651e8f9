// @ts-check
// Scales of charts: from values to pixels, with ticks.

import { isNumber } from "./format.js";

/**
 * What an axis shows. `domain` is the smallest and the largest value.
 * @typedef {object} AxisSpec
 * @property {[number, number]} domain
 * @property {boolean} [log]
 * @property {number[]} [ticks]
 * @property {string} [title]
 * @property {(value: number) => string} [format]
 */

/**
 * A function from value to pixel.
 * @typedef {((value: number) => number) & { ticks: number[], invert: (pixel: number) => number }} Scale
 */

/**
 * @param {[number, number]} domain
 * @param {number} maxTicks
 */
function linearTicks([low, high], maxTicks) {
  const minStep = (high - low) / maxTicks;
  const power = 10 ** Math.floor(Math.log10(minStep));
  const step = ([1, 2, 2.5, 5].find((factor) => factor * power >= minStep) ?? 10) * power;
  const ticks = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index++) {
    ticks.push(Number((index * step).toPrecision(12)));
  }
  return ticks;
}

/**
 * @param {[number, number]} domain
 * @param {number} maxTicks
 */
function logTicks([low, high], maxTicks) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const factors = last - first <= 2 ? [1, 2, 5] : [1];
  const step = Math.max(1, Math.ceil((last - first) / maxTicks));
  const ticks = [];
  for (let power = first; power <= last; power += step) {
    for (const factor of factors) ticks.push(Number((factor * 10 ** power).toPrecision(3)));
  }
  return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
}

/**
 * Return the smallest and the largest of some values, extended by a share of the distance at both ends.
 * @param {unknown[]} values
 * @returns {[number, number]}
 */
export function domainOf(values, padding = 0) {
  const numbers = values.filter(isNumber);
  const low = numbers.reduce((a, b) => Math.min(a, b), Infinity);
  const high = numbers.reduce((a, b) => Math.max(a, b), -Infinity);
  return low > high ? [0, 1] : [low - (high - low) * padding, high + (high - low) * padding];
}

/**
 * Return the scale of an axis.
 * @param {AxisSpec} axis
 * @param {[number, number]} range pixels where the domain begins and ends
 * @param {number} maxTicks
 * @returns {Scale}
 */
export function createScale({ domain, log = false, ticks }, range, maxTicks) {
  let [low, high] = domain;
  if (!(high > low)) [low, high] = log ? [low / 2, low * 2] : [low - 0.5, low + 0.5];
  const transform = log ? Math.log : (/** @type {number} */ value) => value;
  const [start, end] = [transform(low), transform(high)];
  const scale = (/** @type {number} */ value) =>
    range[0] + ((transform(value) - start) / (end - start)) * (range[1] - range[0]);
  const invert = (/** @type {number} */ pixel) => {
    const value = start + ((pixel - range[0]) / (range[1] - range[0])) * (end - start);
    return log ? Math.exp(value) : value;
  };
  return Object.assign(scale, { ticks: ticks ?? (log ? logTicks : linearTicks)([low, high], maxTicks), invert });
}

/**
 * Return the ticks whose labels do not touch.
 * @param {Scale} scale
 * @param {(value: number) => string} format
 */
export function ticksWithRoom(scale, format) {
  let free = -Infinity;
  return scale.ticks.filter((tick) => {
    const half = format(tick).length * 3.6 + 4;
    if (scale(tick) - half < free) return false;
    free = scale(tick) + half;
    return true;
  });
}
