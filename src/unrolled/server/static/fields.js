// @ts-check
// The values of fields.

import { byId } from "./shared/dom.js";

/**
 * Return the number in a field, which its form has checked.
 * @param {string} id
 */
export const numberIn = (id) => Number(byId(id, HTMLInputElement).value);

/**
 * Return an object with the number of a field under a name; without it, if the field is empty.
 * @param {string} name
 * @param {string} id
 */
export const optionalNumberIn = (name, id) => (byId(id, HTMLInputElement).value === "" ? {} : { [name]: numberIn(id) });

const ESCAPES = new Map([["n", "\n"], ["t", "\t"], ["r", "\r"], ["\\", "\\"]]);

/**
 * Return the lines of a field with `\n`, `\t`, `\r` and `\\` replaced; empty lines are left out.
 * @param {string} id
 */
export function textsIn(id) {
  const lines = byId(id, HTMLTextAreaElement).value.split("\n").filter((line) => line !== "");
  return lines.map((line) => line.replace(/\\([ntr\\])/g, (_, letter) => ESCAPES.get(letter) ?? letter));
}
