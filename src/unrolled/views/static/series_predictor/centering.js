// @ts-check
// Numbers of a series without their drift, as `NumbersColumn` takes it away: the median of each step, or median and spread of the series.

/**
 * What is taken away: of each step the median of its numbers, or of the series their median; and whether each series has a spread of its
 * own. The others are constants of `tables/scaling.py`.
 * @typedef {{ center: "none" | "row" | "group", scale: "all" | "group", rangeTail: number, normalIqr: number, maxScaledRange: number }} Centering
 */

const TINY = 1e-9;

/** Return a quantile of sorted numbers, between two of them if need be. @param {number[]} sorted @param {number} share */
export function quantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  return low + (high - low) * (place - Math.floor(place));
}

/** Return the numbers that are no gaps, in order. @param {(number | null)[]} values @returns {number[]} */
const sortedNumbers = (values) => /** @type {number[]} */ (values.filter((value) => value !== null && Number.isFinite(value))).sort((a, b) => a - b);

/** @param {number[]} values */
function standardDeviation(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}

/**
 * Return median and spread of the numbers of a column.
 * @param {(number | null)[]} values
 * @param {Centering} rules
 */
function fitColumn(values, { rangeTail, normalIqr, maxScaledRange }) {
  const sorted = sortedNumbers(values);
  if (!sorted.length) return { center: 0, spread: 1 };
  const tail = Math.min(0.25, Math.max(rangeTail, 2 / sorted.length));
  const [low, first, center, third, high] = [tail, 0.25, 0.5, 0.75, 1 - tail].map((share) => quantile(sorted, share));
  const least = TINY * (1 + Math.abs(center));
  const spreads = [Math.max((third - first) / normalIqr, (high - low) / maxScaledRange), standardDeviation(sorted), 1];
  return { center, spread: spreads.find((spread, index) => index === 2 || spread > least) ?? 1 };
}

/**
 * Return the numbers of a series without their drift, and what was taken away: of each column the median of the series and what its
 * numbers were divided by.
 * @param {(number | null)[][]} numbers
 * @param {Centering} rules
 */
export function centered(numbers, rules) {
  const width = numbers[0]?.length ?? 0;
  let [shift, factor] = [new Array(width).fill(0), new Array(width).fill(1)];
  const minus = (/** @type {number | null} */ value, /** @type {number} */ less, by = 1) => (value === null ? null : (value - less) / by);
  if (rules.center === "row") {
    numbers = numbers.map((row) => {
      const sorted = sortedNumbers(row);
      return sorted.length ? row.map((value) => minus(value, quantile(sorted, 0.5))) : row;
    });
  }
  if (rules.center === "group" || rules.scale === "group") {
    const own = shift.map((_, column) => fitColumn(numbers.map((row) => row[column]), rules));
    shift = own.map(({ center }) => center);
    if (rules.scale === "group") factor = own.map(({ spread }) => spread);
    numbers = numbers.map((row) => row.map((value, column) => minus(value, shift[column], factor[column])));
  }
  return { numbers, shift, factor };
}
