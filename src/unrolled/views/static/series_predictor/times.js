// @ts-check
// Times of steps as `tables/step_times.py` reads and continues them; what it knows is in the page's data.

import { createFormats, DAY, dateOf, daysOf, plainTexts, writtenLike } from "./date_formats.js";

/** @typedef {import("./date_formats.js").Moment} Moment */
/** @typedef {import("./date_formats.js").DateFormat} DateFormat */
/**
 * The formats of dates, and the limits of the rules.
 * @typedef {import("./date_formats.js").DateRules & { minOrderedTimes: number, minSpanRatio: number, maxComparedTimes: number,
 *   minUsualShare: number }} TimeRules
 */

/** @typedef {number | Moment} Key */
/** Times that were read, in a `format`: none of numbers. @typedef {{ keys: Key[], format: DateFormat | null }} Reading */

const NUMBER = /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i;

/** @param {Key} key @returns {key is Moment} */
const isDate = (key) => typeof key !== "number";
/** Return where a time is among others. @param {Key} key */
export const orderOf = (key) => (isDate(key) ? key.clock - (key.offset ?? 0) : key);

/** Return the differences of numbers that follow each other. @param {number[]} values */
const steps = (values) => values.slice(1).map((value, index) => value - values[index]);

/** @param {number[]} values */
function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.floor(sorted.length / 2)]) / 2;
}

/** @param {number} clock */
const monthNumber = (clock) => 12 * dateOf(clock).getUTCFullYear() + dateOf(clock).getUTCMonth() + 1;

/** Return the share of distinct times at the most common distance from the one before, in months if all are of one day. @param {Key[]} keys */
function evenShare(keys) {
  const ordered = [...new Set(keys.map(orderOf))].sort((a, b) => a - b);
  const days = new Set(ordered.map((clock) => `${dateOf(clock).getUTCDate()} ${clock - Math.floor(clock / DAY) * DAY}`));
  const isDates = isDate(keys[0]);
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const step of steps(isDates && days.size === 1 ? ordered.map(monthNumber) : ordered)) {
    const name = isDates ? String(step) : step.toPrecision(6);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return Math.max(0, ...counts.values()) / Math.max(1, ordered.length - 1);
}

/**
 * Read and continue times by the rules of the data.
 * @param {TimeRules} rules
 */
export function createTimes(rules) {
  const formats = createFormats(rules);

  /** @param {Key[]} keys */
  const isOrdered = (keys) => [1, -1].some((sign) => steps(keys.map(orderOf)).every((step) => sign * step >= 0));
  /** @param {Key[]} keys */
  const spanOf = (keys) => keys.map(orderOf).reduce((high, key) => Math.max(high, key), -Infinity) - keys.map(orderOf).reduce((low, key) => Math.min(low, key), Infinity);

  /**
   * Return the readings in which many times are in order; of two-digit years, the one in which they are close together.
   * @param {string[]} times
   * @param {Reading[]} fitting
   */
  function likely(times, fitting) {
    if (times.length < rules.minOrderedTimes) return fitting;
    const inOrder = fitting.filter(({ keys }) => isOrdered(keys));
    const ordered = inOrder.length ? inOrder : fitting;
    if (times.some((time) => /\d{4}/.test(time))) return ordered;
    const shortest = Math.min(...ordered.map(({ keys }) => spanOf(keys)));
    const close = ordered.filter(({ keys }) => spanOf(keys) < rules.minSpanRatio * shortest);
    return close.length === 1 ? close : ordered;
  }

  /**
   * Return the dates that times may be, if their distances are more equal than those of the numbers, the first reading. Where both are
   * as equal, many times are dates if they are a month apart at most.
   * @param {Reading[]} fitting
   */
  function moreEven([number, ...dates]) {
    const [numTimes, least] = [new Set(number.keys).size, evenShare(number.keys)];
    const shares = dates.map(({ keys }) => {
      const [share, isNear] = [evenShare(keys), spanOf(keys) <= numTimes * 31 * DAY && numTimes >= rules.minOrderedTimes];
      return share < least || (share === least && !isNear) ? 0 : share;
    });
    const best = Math.max(...shares);
    return best ? dates.filter((_, place) => shares[place] === best) : [number];
  }

  /**
   * Return what times are, up to the first that cannot be read or, unlike the others, has an offset from UTC or none.
   * @param {(time: string) => Key | null} readOne
   * @param {string[]} times
   */
  function readAll(readOne, times) {
    /** @type {Key[]} */
    const keys = [];
    for (const time of times) {
      const key = readOne(time);
      if (key === null || (isDate(key) && keys.length && isDate(keys[0]) && (key.offset === null) !== (keys[0].offset === null))) break;
      keys.push(key);
    }
    return keys;
  }

  /**
   * Return what times are, or the index of the first that does not fit the others.
   * @param {string[]} texts
   * @returns {Reading | number}
   */
  function read(texts) {
    const [times, digits] = [texts.map((text) => text.trim()), plainTexts(texts)];
    for (const format of times.length ? formats.sure : []) {
      const keys = readAll(format.read, digits);
      if (keys.length === times.length) return { keys, format };
    }
    /** @type {[DateFormat | null, (time: string) => Key | null, string[]][]} */
    const readers = [[null, (time) => (NUMBER.test(time) ? Number(time) : null), times]];
    for (const format of formats.likely) readers.push([format, format.read, digits]);
    for (const format of formats.dates) readers.push([format, format.read, times]);
    /** @type {Reading[]} */
    let fitting = [];
    let mostFitting = 0;
    for (const [format, readOne, values] of readers) {
      const keys = readAll(readOne, values);
      mostFitting = Math.max(mostFitting, keys.length);
      const differs = (/** @type {Reading} */ other) => other.keys.some((key, index) => isDate(key) !== isDate(keys[index]) || orderOf(key) !== orderOf(keys[index]));
      if (keys.length === times.length && fitting.every(differs)) fitting.push({ keys, format });
    }
    if (fitting.length > 1 && fitting[0].format === null) fitting = moreEven(fitting);
    if (fitting.length > 1) fitting = likely(times, fitting);
    return fitting.length === 1 ? fitting[0] : fitting.length ? 0 : mostFitting;
  }

  // ---- what follows

  /** Return the distance that nearly all steps have, or null. @param {number[]} distances */
  function usual(distances) {
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const distance of distances) counts.set(distance.toPrecision(6), (counts.get(distance.toPrecision(6)) ?? 0) + 1);
    const [most, count] = [...counts].reduce((best, entry) => (entry[1] > best[1] ? entry : best), ["", 0]);
    return count && count >= rules.minUsualShare * distances.length ? distances.find((distance) => distance.toPrecision(6) === most) ?? null : null;
  }

  /**
   * @param {number} clock
   * @param {number} month counted from the year 0
   * @param {boolean} isEnd whether it is the last day of the month
   */
  function inMonth(clock, month, isEnd) {
    const [days, date] = [daysOf(month), dateOf(clock)];
    const timeOfDay = clock - Math.floor(clock / DAY) * DAY;
    date.setUTCHours(0, 0, 0, 0);
    date.setUTCFullYear(Math.floor((month - 1) / 12), (month - 1) % 12, isEnd ? days : Math.min(date.getUTCDate(), days));
    return date.getTime() / 1000 + timeOfDay;
  }

  /**
   * Return the clocks after the last date at the usual distance, in months or in time; none if there is none.
   * @param {Moment[]} dates
   * @param {number} count
   */
  function nextDates(dates, count) {
    const clocks = dates.map(({ clock }) => clock);
    const months = clocks.map(monthNumber);
    const last = clocks[clocks.length - 1];
    const isEnd = clocks.every((clock, index) => dateOf(clock).getUTCDate() === daysOf(months[index]));
    const distances = new Set(steps(months));
    const [distance] = distances;
    const places = new Set(clocks.map((clock) => `${isEnd || dateOf(clock).getUTCDate()} ${clock - Math.floor(clock / DAY) * DAY}`));
    const numbers = Array.from({ length: count }, (_, index) => index + 1);
    if (distances.size === 1 && distance > 0 && places.size === 1) return numbers.map((number) => inMonth(last, months[months.length - 1] + distance * number, isEnd));
    const step = usual(steps(dates.map(orderOf))) ?? usual(steps(clocks));
    return step === null ? [] : numbers.map((number) => last + step * number);
  }

  /**
   * Return the time before one: the last of two others is as long after the first.
   * @param {Key} key
   * @param {Key[]} others
   * @returns {Key | null}
   */
  function before(key, [first, last]) {
    if (!isDate(key) || !isDate(first) || !isDate(last)) return isDate(key) || isDate(first) || isDate(last) ? null : key - (last - first);
    const months = monthNumber(last.clock) - monthNumber(first.clock);
    const difference = last.clock - first.clock;
    if (months && nextDates([first, last], 1)[0] !== last.clock + difference) {
      const isEnd = dateOf(key.clock).getUTCDate() === daysOf(monthNumber(key.clock));
      return { ...key, clock: inMonth(key.clock, monthNumber(key.clock) - months, isEnd) };
    }
    return { ...key, clock: key.clock - difference };
  }

  /**
   * Return the keys after the last one, none if they have no usual distance; `examples` are two times of another series.
   * @param {Key[]} keys
   * @param {number} count
   * @param {string[]} examples
   * @returns {Key[]}
   */
  function nextKeys(keys, count, examples) {
    let recent = keys.slice(-rules.maxComparedTimes);
    if (recent.length === 1 && examples.length === 2) {
      const known = read(examples);
      const earlier = typeof known === "number" ? null : before(recent[0], known.keys);
      if (earlier !== null) recent = [earlier, ...recent];
    }
    if (recent.length < 2) return [];
    const last = recent[recent.length - 1];
    if (isDate(last)) return nextDates(/** @type {Moment[]} */ (recent), count).map((clock) => ({ ...last, clock }));
    const distances = steps(/** @type {number[]} */ (recent));
    if (usual(distances) === null) return [];
    return Array.from({ length: count }, (_, index) => last + median(distances) * (index + 1));
  }

  return {
    read,

    /**
     * Return the seconds since 1970 of dates on their own clock; none for numbers.
     * @param {Key[]} keys
     */
    secondsOf: (keys) => keys.filter(isDate).map(({ clock }) => clock),

    /**
     * Return whether dates are in order, but for hours that occur twice, as where the clocks are set back.
     * @param {Key[]} keys
     */
    followsClock(keys) {
      if (!keys.every((key) => isDate(key) && key.offset === null)) return false;
      const [clocks, distances] = [keys.map(orderOf), steps(keys.map(orderOf))];
      const back = distances.flatMap((distance, place) => (distance <= 0 ? [place] : []));
      const isRare = back.every((place, index) => index === 0 || clocks[place] - clocks[back[index - 1]] > 30 * DAY);
      return back.length > 0 && isRare && back.every((place) => place > 0 && distances[place] === distances[place - 1] - 3600);
    },

    nextKeys,

    /**
     * Return the times after the last one, written like it.
     * @param {string[]} times
     * @param {number} count
     * @param {string[]} examples
     */
    nextTimes(times, count, examples) {
      const reading = times.length ? read(times) : 0;
      if (typeof reading === "number") return [];
      const last = plainTexts(times)[times.length - 1];
      const keys = nextKeys(reading.keys, count, examples);
      return keys.map((key) => (isDate(key) ? writtenLike(key, last, reading.format) : String(Number(key.toPrecision(12)))));
    },

    /**
     * Return the seconds that follow those of dates: at their usual distance, else at the median of all.
     * @param {number[]} seconds
     * @param {number} count
     */
    nextSeconds(seconds, count) {
      const recent = seconds.slice(-rules.maxComparedTimes).map((clock) => ({ clock, offset: null }));
      const following = recent.length > 1 ? nextDates(recent, count) : [];
      const step = seconds.length > 1 ? median(steps(seconds)) : 0;
      return following.length ? following : Array.from({ length: count }, (_, index) => seconds[seconds.length - 1] + step * (index + 1));
    },
  };
}
