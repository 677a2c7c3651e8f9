// @ts-check
// Times of steps as `tables/step_times.py` and `tables/date_formats.py` read and continue them; what they know is in the page's data.

/**
 * The formats of dates, as patterns with named groups: `iso`, others, and dates of digits alone; and the limits of the rules.
 * @typedef {{ iso: string, patterns: string[], compact: string, monthNames: string[], centuryPivot: number, minOrderedTimes: number,
 *   minSpanRatio: number, maxComparedTimes: number, minUsualShare: number }} DateRules
 */

/** A date in seconds since 1970 on its own clock, and the offset of that from UTC, if it is known. @typedef {{ clock: number, offset: number | null }} Moment */
/** @typedef {number | Moment} Key */
/** Times that were read: in the `pattern` of dates that are not ISO. @typedef {{ keys: Key[], pattern: RegExp | null }} Reading */

const ZONE = /(?<rest>.*\d)(?: ?(?<utc>Z|UTC)| ?(?<sign>[+-])(?<hours>\d\d):?(?<minutes>\d\d))$/;
const WEEK = /^(?<year>\d{4})-?W(?<week>\d\d)(?:-?(?<day>[1-7]))?$/;
const DAY = 86400;
const WITH_SECONDS = /[T ]\d{1,2}:\d\d:\d\d/;
const NUMBER = /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i;

/** @param {Key} key @returns {key is Moment} */
const isDate = (key) => typeof key !== "number";
/** Return where a time is among others. @param {Key} key */
export const orderOf = (key) => (isDate(key) ? key.clock - (key.offset ?? 0) : key);
/** @param {number} clock */
const dateOf = (clock) => new Date(Math.floor(clock) * 1000);
/** @param {number} value @param {number} [width] */
const padded = (value, width = 2) => String(value).padStart(width, "0");

/** @param {number} month counted from the year 0, January is 1 */
const daysOf = (month) => new Date(Date.UTC(2000 + (Math.floor((month - 1) / 12) % 400), ((month - 1) % 12) + 1, 0)).getUTCDate();

/** Return the Thursday of a date's week, whose year is that of the week. @param {number} clock */
const thursdayOf = (clock) => dateOf(clock + DAY * (3 - (dateOf(clock).getUTCDay() + 6) % 7));

/**
 * Return the week of a date as ISO 8601 writes it, with the day.
 * @param {number} clock
 */
function weekOf(clock) {
  const thursday = thursdayOf(clock);
  const week = Math.floor((thursday.getTime() - Date.UTC(thursday.getUTCFullYear(), 0, 1)) / 1000 / DAY / 7) + 1;
  return `${padded(thursday.getUTCFullYear(), 4)}-W${padded(week)}-${(dateOf(clock).getUTCDay() + 6) % 7 + 1}`;
}

/**
 * Return the day of a week in seconds since 1970, or null if there is no such week.
 * @param {string} time
 */
function weekClock(time) {
  const { year, week, day = "1" } = WEEK.exec(time)?.groups ?? {};
  if (!year) return null;
  const monday = thursdayOf(Date.UTC(Number(year), 0, 4) / 1000).getTime() / 1000 - 3 * DAY;
  const clock = monday + DAY * (7 * (Number(week) - 1) + Number(day) - 1);
  return weekOf(clock) === `${year}-W${week}-${day}` ? clock : null;
}

/** Return the differences of numbers that follow each other. @param {number[]} values */
const steps = (values) => values.slice(1).map((value, index) => value - values[index]);

/** @param {number[]} values */
function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.floor(sorted.length / 2)]) / 2;
}

/**
 * Read and continue times by the rules of the data.
 * @param {DateRules} rules
 */
export function createTimes(rules) {
  const whole = (/** @type {string} */ source) => new RegExp(`^(?:${source})$`, "d");
  const [iso, compact] = [whole(rules.iso), whole(rules.compact)];
  const patterns = rules.patterns.map(whole);

  /** @param {string} name of a month */
  function monthOf(name) {
    const lower = name.toLowerCase();
    return rules.monthNames.findIndex((month) => lower === month || lower === month.slice(0, 3) || (lower === "sept" && month.startsWith(lower))) + 1;
  }

  /**
   * Return the date of a match in seconds since 1970, or null if there is no such date.
   * @param {RegExpExecArray} found
   */
  function clockOf({ groups = {} }) {
    const { year, month, name, quarter, half, fraction = "" } = groups;
    const [day, minute, second] = [groups.day ?? 1, groups.minute ?? 0, groups.second ?? 0].map(Number);
    const full = Number(year) + (year.length > 2 ? 0 : Number(year) >= rules.centuryPivot ? 1900 : 2000);
    const number = name ? monthOf(name) : quarter ? 3 * Number(quarter) - 2 : Number(month);
    let hour = Number(groups.hour ?? 0);
    if (half) hour = hour % 12 + (/p/i.test(half) ? 12 : 0);
    const exists = full > 0 && number >= 1 && number <= 12 && day >= 1 && day <= daysOf(12 * full + number) && hour < 24 && minute < 60 && second < 60;
    if (!exists) return null;
    const date = new Date(0);
    date.setUTCFullYear(full, number - 1, day);
    return date.getTime() / 1000 + 3600 * hour + 60 * minute + second + Number(`0.${fraction || 0}`);
  }

  /** @param {string} time @returns {Key | null} */
  function readIso(time) {
    const zone = time.includes(":") ? ZONE.exec(time)?.groups : undefined;
    const found = iso.exec(zone ? zone.rest : time);
    const clock = found ? clockOf(found) : weekClock(time);
    if (clock === null) return null;
    const offset = zone?.sign ? Number(`${zone.sign}1`) * (3600 * Number(zone.hours) + 60 * Number(zone.minutes)) : zone ? 0 : null;
    return { clock, offset };
  }

  /** @type {{ pattern: RegExp | null, read: (time: string) => Key | null }[]} */
  const formats = [
    { pattern: null, read: (time) => (NUMBER.test(time) ? Number(time) : null) },
    { pattern: null, read: readIso },
    ...patterns.map((pattern) => ({ pattern, read: (/** @type {string} */ time) => {
      const found = pattern.exec(time);
      const clock = found && clockOf(found);
      return clock === null ? null : { clock, offset: null };
    } })),
  ];

  /** Return dates of digits alone as ISO dates, if all are such. @param {string[]} times */
  function expand(times) {
    const found = times.map((time) => compact.exec(time));
    if (found.some((match) => match === null || match[0].length !== found[0]?.[0].length)) return times;
    return found.map((match) => {
      const { year, month, day, hour, minute = "00", second = "00" } = match?.groups ?? {};
      return [year, month, day].filter(Boolean).join("-") + (hour ? `T${hour}:${minute}:${second}` : "");
    });
  }

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
   * Return what times are, or the index of the first that does not fit the others.
   * @param {string[]} texts
   * @returns {Reading | number}
   */
  function read(texts) {
    const times = expand(texts.map((text) => text.trim()));
    /** @type {Reading[]} */
    let fitting = [];
    let mostFitting = 0;
    for (const { pattern, read: readOne } of formats) {
      /** @type {Key[]} */
      const keys = [];
      for (const time of times) {
        const key = readOne(time);
        if (key === null || (isDate(key) && keys.length && isDate(keys[0]) && (key.offset === null) !== (keys[0].offset === null))) break;
        keys.push(key);
      }
      mostFitting = Math.max(mostFitting, keys.length);
      if (keys.length < times.length) continue;
      const isNew = fitting.every((other) => other.keys.some((key, index) => orderOf(key) !== orderOf(keys[index])));
      if (isNew) fitting.push({ keys, pattern });
    }
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

  /** @param {number} clock */
  const monthNumber = (clock) => 12 * dateOf(clock).getUTCFullYear() + dateOf(clock).getUTCMonth() + 1;

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

  /**
   * Return times as another one is written.
   * @param {string} time
   * @param {Reading} reading of it
   * @param {Key} key
   */
  function writtenLike(time, { pattern }, key) {
    if (!isDate(key)) return String(Number(key.toPrecision(12)));
    const [text, date] = [time.trim(), dateOf(key.clock)];
    const day = `${padded(date.getUTCFullYear(), 4)}-${padded(date.getUTCMonth() + 1)}-${padded(date.getUTCDate())}`;
    const found = pattern?.exec(text);
    if (found) return replacedParts(text, found, key.clock);
    const clock = [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()].map((part) => padded(part));
    if (/^\d+$/.test(text)) return (day.replaceAll("-", "") + clock.join("")).slice(0, text.length);
    if (text.includes("W")) return weekOf(key.clock).slice(0, text.length);
    if (!text.includes(":")) return day.slice(0, text.length < 8 ? 7 : 10);
    const millionths = Math.round((key.clock - Math.floor(key.clock)) * 1e6);
    const hasSeconds = clock[2] !== "00" || millionths || WITH_SECONDS.test(text);
    const zone = key.offset === null ? "" : `${key.offset < 0 ? "-" : "+"}${padded(Math.floor(Math.abs(key.offset) / 3600))}:${padded(Math.abs(key.offset) / 60 % 60)}`;
    const part = clock.slice(0, hasSeconds ? 3 : 2).join(":") + (millionths ? `.${padded(millionths, 6)}` : "");
    return day + (text.includes(" ") ? " " : "T") + part + zone;
  }

  /**
   * Return a text with the parts of another date, each as long and in such letters as it was.
   * @param {string} text
   * @param {RegExpExecArray} found
   * @param {number} clock
   */
  function replacedParts(text, found, clock) {
    const places = Object.entries(found.indices?.groups ?? {}).filter(([, place]) => place).sort((a, b) => b[1][1] - a[1][1]);
    for (const [name, [start, end]] of places) {
      text = text.slice(0, start) + partLike(name, text.slice(start, end), clock, Boolean(found.groups?.half)) + text.slice(end);
    }
    return text;
  }

  /**
   * @param {string} name of a part of a date
   * @param {string} written
   * @param {number} clock
   * @param {boolean} isHalf whether hours are those of half a day
   */
  function partLike(name, written, clock, isHalf) {
    const date = dateOf(clock);
    const [month, hour] = [date.getUTCMonth(), date.getUTCHours()];
    if (name === "name") {
      const isFull = written.length > 4 || rules.monthNames.slice(5, 7).includes(written.toLowerCase());
      const text = isFull ? rules.monthNames[month] : rules.monthNames[month].slice(0, 3);
      return written === written.toUpperCase() ? text.toUpperCase() : written === written.toLowerCase() ? text : text[0].toUpperCase() + text.slice(1);
    }
    if (name === "half") return written === written.toUpperCase() ? (hour >= 12 ? "P" : "A") : hour >= 12 ? "p" : "a";
    if (name === "separator") return written;
    if (name === "fraction") return padded(Math.round((clock - Math.floor(clock)) * 1e6), 6).slice(0, written.length);
    /** @type {Record<string, number>} */
    const numbers = {
      year: written.length === 2 ? date.getUTCFullYear() % 100 : date.getUTCFullYear(), month: month + 1, day: date.getUTCDate(),
      hour: isHalf ? hour % 12 || 12 : hour, minute: date.getUTCMinutes(), second: date.getUTCSeconds(), quarter: Math.floor(month / 3) + 1,
    };
    return padded(numbers[name], written.length);
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
      const last = times[times.length - 1];
      return nextKeys(reading.keys, count, examples).map((key) => writtenLike(last, reading, key));
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
