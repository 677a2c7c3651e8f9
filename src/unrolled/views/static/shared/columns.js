// @ts-check
// Columns of a table by name, and its errors.

/** A table that cannot be read: the message is a sentence for a person. */
export class TableError extends Error {}

/** @param {string} name */
export const plainName = (name) => name.trim().normalize("NFC").replace(/\s+/g, " ").toLowerCase();

/**
 * Return the place of a column, -1 if there is none: that very name, else one that differs in blanks or in case.
 * @param {string[]} names
 * @param {string} name
 */
export function findColumn(names, name) {
  const exact = names.indexOf(name);
  return exact >= 0 ? exact : names.map(plainName).indexOf(plainName(name));
}
