// @ts-check
// Ticks of an axis of time, and times as texts. Times are seconds since 1970, without a time zone.

const DAY = 86_400;
const SECONDS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800,
  21_600, 43_200, DAY, 2 * DAY, 7 * DAY, 14 * DAY,
];
const MONTHS = [1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200];
const NAMES = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const FIRST_MONDAY = 4 * DAY;

/**
 * Return the ticks of an axis of time, at most about so many, and what is written at them.
 * @param {[number, number]} domain
 * @param {number} maxTicks
 * @returns {{ ticks: number[], format: (time: number) => string }}
 */
export function timeTicks([low, high], maxTicks) {
  const step = SECONDS.find((seconds) => (high - low) / seconds <= maxTicks);
  if (step === undefined) return monthTicks([low, high], maxTicks);
  const start = step >= 7 * DAY ? FIRST_MONDAY : 0;
  const ticks = [];
  for (let index = Math.ceil((low - start) / step - 1e-9); start + index * step <= high + step * 1e-9; index++) {
    ticks.push(start + index * step);
  }
  return { ticks, format: (time) => (step >= DAY || time % DAY === 0 ? dayText(time) : clockText(time, step)) };
}

/**
 * @param {[number, number]} domain
 * @param {number} maxTicks
 */
function monthTicks([low, high], maxTicks) {
  const [first, last] = [monthOf(low), monthOf(high)];
  const step = MONTHS.find((months) => (last - first) / months <= maxTicks) ?? 2400;
  const ticks = [];
  for (let month = Math.ceil(first / step) * step; month <= last; month += step) {
    const tick = new Date(0).setUTCFullYear(Math.floor(month / 12), month % 12, 1) / 1000;
    if (tick >= low) ticks.push(tick);
  }
  return { ticks, format: monthText };
}

/** @param {number} time */
function monthOf(time) {
  const date = new Date(time * 1000);
  return date.getUTCFullYear() * 12 + date.getUTCMonth();
}

/** @param {number} time */
function monthText(time) {
  const date = new Date(time * 1000);
  return date.getUTCMonth() ? NAMES[date.getUTCMonth()] : String(date.getUTCFullYear());
}

/** @param {number} time */
function dayText(time) {
  const date = new Date(time * 1000);
  return `${NAMES[date.getUTCMonth()]} ${date.getUTCDate()}`;
}

/**
 * @param {number} time
 * @param {number} step
 */
function clockText(time, step) {
  const text = new Date(Math.round(time * 1000)).toISOString();
  return text.slice(11, step < 1 ? 23 : step < 60 ? 19 : 16);
}

/**
 * Return a time as a date, with the clock where it is not midnight.
 * @param {number} time
 */
export function fullTime(time) {
  const text = new Date(Math.round(time * 1000)).toISOString().replace("T", " ").replace(/(\.000)?Z$/, "");
  return text.replace(/ 00:00:00$/, "").replace(/(:\d\d):00$/, "$1");
}
