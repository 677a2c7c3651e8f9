// @ts-check
// Server-sent events out of text that arrives in pieces (HTML standard, section 9.2).

/** @typedef {{ event: string, data: string }} ServerEvent */

/** Return a parser; each piece of text gives the events that it completes. */
export function createEventParser() {
  let [rest, event] = ["", ""];
  /** @type {string[]} */
  let data = [];

  /**
   * @param {string} line
   * @returns {ServerEvent[]}
   */
  function readLine(line) {
    if (line === "") {
      const complete = data.length ? [{ event: event || "message", data: data.join("\n") }] : [];
      [event, data] = ["", []];
      return complete;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") data.push(value);
    if (name === "event") event = value;
    return [];
  }

  return {
    /** @param {string} text */
    push(text) {
      const lines = (rest + text).split(/\r\n|\n|\r(?=.)/s);
      rest = lines.pop() ?? "";
      return lines.flatMap(readLine);
    },
  };
}
