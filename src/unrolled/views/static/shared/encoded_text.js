// @ts-check
// Files as UTF-8: a mark at the beginning of a file says that it is UTF-16.

/** @param {Uint8Array} bytes */
function markedEncoding([first, second, third, fourth]) {
  if (first === 0xfe && second === 0xff) return "utf-16be";
  return first === 0xff && second === 0xfe && (third || fourth) ? "utf-16le" : null; // with two zeros it is UTF-32
}

/**
 * Return a file that is read as UTF-8: the file itself, unless it is UTF-16.
 * @param {Blob} file
 * @returns {Promise<Blob>}
 */
export async function inUtf8(file) {
  const encoding = markedEncoding(new Uint8Array(await file.slice(0, 4).arrayBuffer()));
  return encoding ? new Blob([new TextDecoder(encoding).decode(await file.arrayBuffer())]) : file;
}

/**
 * Return the text of a file with a table. Throws an error with a sentence for a person if it is none.
 * @param {Blob} file
 */
export async function textOfTable(file) {
  if (!file.size) throw new Error("The file is empty.");
  const bytes = new Uint8Array(await (await inUtf8(file)).arrayBuffer());
  if (bytes.includes(0)) throw new Error("The file is no CSV file: save the table as CSV, as spreadsheets do, or use unrolled predict, which reads other formats.");
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error("The file is not UTF-8: save it as UTF-8, or use unrolled predict with --encoding.");
  }
}
