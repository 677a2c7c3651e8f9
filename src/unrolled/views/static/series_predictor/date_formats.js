// @ts-check
// Dates as `tables/date_formats.py` reads and writes them; the patterns are in the page's data.

/**
 * Patterns of dates with named groups: ISO, others, and dates of digits alone that are hardly numbers (`sure`; `epochDigits` are those of
 * seconds since 1970, or of parts of them) or may be counted, too (`likely`).
 * @typedef {{ iso: string, patterns: string[], sure: { pattern: string, epochDigits?: number }[], likely: string[], monthNames: string[],
 *   weekdays: string[], centuryPivot: number, zones: Record<string, number> }} DateRules
 */

/** A date in seconds since 1970 on its own clock, and the offset of that from UTC, if it is known. @typedef {{ clock: number, offset: number | null }} Moment */
/** @typedef {{ read: (text: string) => Moment | null, write: (date: Moment, like: string) => string }} DateFormat */

const ZONE = /(?<rest>.*\d)(?: ?(?<utc>Z|UTC)| ?(?<sign>[+-])(?<hours>\d\d):?(?<minutes>\d\d))$/;
const OFFSET = /^(?:GMT|UTC)?([+-])(\d{1,2}?):?(\d\d)?$/;
const BASIC = String.raw`(?<year>\d{4})-?(?<month>\d\d)-?(?<day>\d\d)[Tt _](?<hour>\d\d)(?::?(?<minute>\d\d)(?::?(?<second>\d\d))?)?`;
const WEEK = /^(?<year>\d{4})-?W(?<week>\d\d)(?:-?(?<day>[1-7]))?$/;
const WITH_SECONDS = /[T ]\d{1,2}:\d\d:\d\d/;
const MONTHS_WITHOUT_ZEROS = /^\d{4}\.(?:0[1-9]|1[0-2]?)$/;
export const DAY = 86400;

/** @param {number} clock */
export const dateOf = (clock) => new Date(Math.floor(clock) * 1000);
/** @param {number} value @param {number} [width] */
const padded = (value, width = 2) => String(value).padStart(width, "0");
/** @param {number} month counted from the year 0, January is 1 */
export const daysOf = (month) => new Date(Date.UTC(2000 + (Math.floor((month - 1) / 12) % 400), ((month - 1) % 12) + 1, 0)).getUTCDate();
/** @param {number} year @param {number} month from 0 @param {number} day */
const clockOfDay = (year, month, day) => new Date(0).setUTCFullYear(year, month, day) / 1000;
/** @param {number} clock */
const millionths = (clock) => Math.round((clock - Math.floor(clock)) * 1e6);
/** Return the Thursday of a date's week, whose year is that of the week. @param {number} clock */
const thursdayOf = (clock) => dateOf(clock + DAY * (3 - (dateOf(clock).getUTCDay() + 6) % 7));

/** Return year, week and day of a date as ISO 8601 counts them. @param {number} clock */
function weekOf(clock) {
  const thursday = thursdayOf(clock);
  const year = thursday.getUTCFullYear();
  return { year, week: Math.floor((thursday.getTime() / 1000 - clockOfDay(year, 0, 1)) / DAY / 7) + 1, day: (dateOf(clock).getUTCDay() + 6) % 7 + 1 };
}

/**
 * Return the day of a week in seconds since 1970, or null if there is no such week.
 * @param {number} year
 * @param {number} week
 * @param {number} [day]
 */
function weekClock(year, week, day = 1) {
  const monday = thursdayOf(clockOfDay(year, 0, 4)).getTime() / 1000 - 3 * DAY;
  const clock = monday + DAY * (7 * (week - 1) + day - 1);
  const found = weekOf(clock);
  return found.year === year && found.week === week ? clock : null;
}

/** @param {Moment} date */
function isoText({ clock, offset }, separator = "T", hasSeconds = true) {
  const date = dateOf(clock);
  const day = `${padded(date.getUTCFullYear(), 4)}-${padded(date.getUTCMonth() + 1)}-${padded(date.getUTCDate())}`;
  const parts = [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()].map((part) => padded(part));
  const zone = offset === null ? "" : `${offset < 0 ? "-" : "+"}${padded(Math.floor(Math.abs(offset) / 3600))}:${padded(Math.abs(offset) / 60 % 60)}`;
  const fraction = millionths(clock);
  return `${day}${separator}${parts.slice(0, hasSeconds || fraction ? 3 : 2).join(":")}${fraction ? `.${padded(fraction, 6)}` : ""}${zone}`;
}

/**
 * Return times that are numbers without what programs add to them or take off: 20241231.0, and 2024.1 of October.
 * @param {string[]} times
 */
export function plainTexts(times) {
  const texts = times.map((time) => time.trim()).map((text) => (text.endsWith(".0") && text.length > 7 ? text.slice(0, -2) : text));
  return texts.every((text) => MONTHS_WITHOUT_ZEROS.test(text)) ? texts.map((text) => text.padEnd(7, "0")) : texts;
}

/**
 * Return a date as another one is written in a format; as an ISO date where another one would be read from that.
 * @param {Moment} date
 * @param {string} like
 * @param {DateFormat | null} format
 */
export function writtenLike(date, like, format) {
  const text = format?.write(date, like) ?? "";
  const found = format?.read(text);
  return found && found.clock === date.clock ? text : isoText(date);
}

/**
 * Return the formats of the rules.
 * @param {DateRules} rules
 */
export function createFormats(rules) {
  /** @param {string} name of a month */
  function monthOf(name) {
    const lower = name.toLowerCase();
    return rules.monthNames.findIndex((month) => lower === month || lower === month.slice(0, 3) || (lower === "sept" && month.startsWith(lower))) + 1;
  }

  /**
   * Return the day of the parts of a date in seconds since 1970, or the first one; null if there is none.
   * @param {Record<string, string | undefined>} groups
   * @param {number} year
   */
  function dayOf(groups, year) {
    if (groups.week) return weekClock(year, Number(groups.week));
    if (groups.day_of_year) {
      const clock = clockOfDay(year, 0, Number(groups.day_of_year));
      return dateOf(clock).getUTCFullYear() === year ? clock : null;
    }
    const month = groups.name ? monthOf(groups.name) : groups.quarter ? 3 * Number(groups.quarter) - 2 : Number(groups.month);
    const day = Number(groups.day ?? 1);
    return year > 0 && month >= 1 && month <= 12 && day >= 1 && day <= daysOf(12 * year + month) ? clockOfDay(year, month - 1, day) : null;
  }

  /**
   * Return the date of a match in seconds since 1970, or null if there is no such date. Hour 24 is midnight of the next day.
   * @param {RegExpExecArray} found
   */
  function clockOf({ groups = {} }) {
    const { year, half, fraction = "" } = groups;
    const day = dayOf(groups, Number(year) + (year.length > 2 ? 0 : Number(year) >= rules.centuryPivot ? 1900 : 2000));
    const [minute, second] = [groups.minute ?? 0, groups.second ?? 0].map(Number);
    let hour = Number(groups.hour ?? 0);
    if (half) hour = hour % 12 + (/p/i.test(half) ? 12 : 0);
    const isMidnight = hour === 24 && !minute && !second && !Number(fraction);
    const exists = day !== null && (hour < 24 || isMidnight) && minute < 60 && second < 60;
    return exists ? day + 3600 * hour + 60 * minute + second + Number(`0.${fraction || 0}`) : null;
  }

  /**
   * Return a part of a date as long, and in such letters, as another one is written.
   * @param {string} name
   * @param {string} written
   * @param {number} clock
   * @param {Record<string, unknown>} groups the parts that there are
   */
  function partLike(name, written, clock, groups) {
    const date = dateOf(clock);
    const [month, hour, week] = [date.getUTCMonth(), date.getUTCHours(), weekOf(clock)];
    if (name === "name" || name === "weekday") {
      const full = name === "name" ? rules.monthNames[month] : rules.weekdays[week.day - 1];
      const isFull = written.length > 4 || rules.monthNames.slice(5, 7).includes(written.toLowerCase());
      const text = (isFull ? full : full.slice(0, 3)).toLowerCase();
      return written === written.toUpperCase() ? text.toUpperCase() : written === written.toLowerCase() ? text : text[0].toUpperCase() + text.slice(1);
    }
    if (name === "half") return written === written.toUpperCase() ? (hour >= 12 ? "P" : "A") : hour >= 12 ? "p" : "a";
    if (name === "separator" || name === "zone") return written;
    if (name === "fraction") return padded(millionths(clock), 6).slice(0, written.length);
    const year = groups.week ? week.year : date.getUTCFullYear();
    /** @type {Record<string, number>} */
    const numbers = {
      year: written.length === 2 ? year % 100 : year, month: month + 1, day: date.getUTCDate(), quarter: Math.floor(month / 3) + 1, week: week.week,
      hour: groups.half ? hour % 12 || 12 : hour, minute: date.getUTCMinutes(), second: date.getUTCSeconds(),
      day_of_year: Math.floor((clock - clockOfDay(date.getUTCFullYear(), 0, 1)) / DAY) + 1,
    };
    return padded(numbers[name], written.length);
  }

  /** Return how many seconds a zone is ahead of UTC, or null if it is not known. @param {string} zone */
  function offsetOf(zone) {
    const [, sign, hours, minutes = "0"] = OFFSET.exec(zone) ?? [];
    if (sign) return Number(`${sign}1`) * (3600 * Number(hours) + 60 * Number(minutes));
    return zone in rules.zones ? 3600 * rules.zones[zone] : null;
  }

  /** @param {string} source @returns {DateFormat & { pattern: RegExp }} */
  function formatOf(source) {
    const pattern = new RegExp(`^(?:${source})$`, "d");
    return {
      pattern,
      read(text) {
        const found = pattern.exec(text);
        const clock = found && clockOf(found);
        const zone = found?.groups?.zone;
        const offset = zone ? offsetOf(zone) : null;
        return clock === null || (zone && offset === null) ? null : { clock, offset };
      },
      write({ clock }, like) {
        const groups = pattern.exec(like)?.indices?.groups ?? {};
        for (const [name, [start, end]] of Object.entries(groups).filter(([, place]) => place).sort((a, b) => b[1][1] - a[1][1])) {
          like = like.slice(0, start) + partLike(name, like.slice(start, end), clock, groups) + like.slice(end);
        }
        return like;
      },
    };
  }

  const [plainIso, basicIso] = [formatOf(rules.iso), formatOf(BASIC)];

  /** @type {DateFormat} */
  const iso = {
    read(text) {
      const zone = text.includes(":") ? ZONE.exec(text)?.groups : undefined;
      const { year, week, day = "1" } = WEEK.exec(text)?.groups ?? {};
      const rest = zone ? zone.rest : text;
      const clock = plainIso.read(rest)?.clock ?? basicIso.read(rest)?.clock ?? (year ? weekClock(Number(year), Number(week), Number(day)) : null);
      const offset = zone?.sign ? Number(`${zone.sign}1`) * (3600 * Number(zone.hours) + 60 * Number(zone.minutes)) : zone ? 0 : null;
      return clock === null ? null : { clock, offset };
    },
    write(date, like) {
      const { year, week, day } = weekOf(date.clock);
      if (like.includes(":")) return isoText(date, like.includes(" ") ? " " : "T", dateOf(date.clock).getUTCSeconds() > 0 || WITH_SECONDS.test(like));
      return like.includes("W") ? `${padded(year, 4)}-W${padded(week)}-${day}`.slice(0, like.length) : isoText(date).slice(0, like.length < 8 ? 7 : 10);
    },
  };

  /** @param {number} numDigits @returns {DateFormat} */
  const epochFormat = (numDigits) => ({
    read: (text) => (new RegExp(`^1\\d{${numDigits - 1}}$`).test(text)
      ? { clock: Number(text.slice(0, 10)) + Math.round(Number(`0.${text.slice(10) || 0}`) * 1e6) / 1e6, offset: null } : null),
    write: ({ clock }) => Math.floor(clock) + padded(millionths(clock), 6).padEnd(9, "0").slice(0, numDigits - 10),
  });

  return {
    dates: [iso, ...rules.patterns.map(formatOf)],
    sure: rules.sure.map(({ pattern, epochDigits }) => (epochDigits ? epochFormat(epochDigits) : formatOf(pattern))),
    likely: rules.likely.map(formatOf),
  };
}
