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

/** Settings that a form calls otherwise than the server, with the end of the field's id. */
const OTHER_NAMES = new Map([["order_by", "time"], ["group_by", "series"], ["known_covariates", "known"]]);

/**
 * Return a message in which each setting `name=` that has a field in the form of a training is called as that field.
 * @param {string} message
 */
export const inFormWords = (message) => message.replace(/\b([a-z_]+)=/g, (all, name, at) => {
  const field = document.getElementById(`train-${OTHER_NAMES.get(name) ?? name}`);
  const label = (field?.querySelector("legend") ?? field?.closest("label")?.firstChild)?.textContent?.trim();
  return label ? `“${label}”${/[^\s.,:;)]/.test(message[at + all.length] ?? "") ? " " : ""}` : all;
});

const ESCAPES = new Map([["n", "\n"], ["t", "\t"], ["r", "\r"], ["\\", "\\"]]);

/**
 * Return the lines of a field with `\n`, `\t`, `\r` and `\\` replaced; empty lines are left out.
 * @param {string} id
 */
export function textsIn(id) {
  const lines = byId(id, HTMLTextAreaElement).value.split("\n").filter((line) => line !== "");
  return lines.map((line) => line.replace(/\\([ntr\\])/g, (_, letter) => ESCAPES.get(letter) ?? letter));
}
