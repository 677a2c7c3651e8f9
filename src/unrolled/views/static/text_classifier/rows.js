// @ts-check
// Texts to be labeled: one in each line, or a column of a table.

import { findColumn, TableError } from "../shared/columns.js";
import { parseRows, separatorOf } from "../shared/csv.js";

/**
 * Return the texts, with their label if the table has it.
 * @param {string} content
 * @param {string} source the column of the texts
 * @param {string} target that of their labels
 * @returns {{ text: string, truth: string | null }[]}
 */
export function readTexts(content, source, target) {
  const [header = [], ...body] = parseRows(content, separatorOf(content));
  const [textPlace, truthPlace] = [source, target].map((name) => findColumn(header, name));
  const texts = textPlace < 0
    ? content.split(/\r?\n/).map((line) => ({ text: line, truth: null }))
    : body.map((row) => ({ text: row[textPlace] ?? "", truth: (truthPlace >= 0 && row[truthPlace]?.trim()) || null }));
  const filled = texts.filter(({ text }) => text.trim());
  if (!filled.length) throw new TableError("There are no texts: paste one in each line, or a table, or open a file.");
  return filled;
}
