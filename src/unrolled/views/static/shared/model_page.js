// @ts-check
// What the pages of exported models of tables and series share: a status, the check of the arithmetic, and a file that is opened.

import { byId } from "./dom.js";
import { textOfTable } from "./encoded_text.js";
import { UnsupportedBrowserError } from "./packed_arrays.js";

/**
 * Say how far the work is, or what is wrong.
 * @param {string} text
 * @param {boolean} [isError]
 */
export function say(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("failed", isError);
}

/** Say what is wrong. @param {unknown} error */
export const sayError = (error) => say(error instanceof Error ? error.message : String(error), true);

/** Let the button that stops the work be used while there is some. @param {boolean} isRunning */
export function setRunning(isRunning) {
  byId("stop", HTMLButtonElement).disabled = !isRunning;
}

/**
 * Hand over the text and the name of each file that the reader opens.
 * @param {(text: string, name: string) => void} take
 */
export function setUpFile(take) {
  const file = byId("file", HTMLInputElement);
  file.addEventListener("change", async () => {
    const chosen = file.files?.[0];
    if (!chosen) return;
    try {
      take(await textOfTable(chosen), chosen.name);
    } catch (error) {
      sayError(error);
    }
    file.value = "";
  });
}

/**
 * Start a page, and say whether this browser computes what the model computes.
 * @param {() => Promise<string>} start returns what differs, "" if nothing does
 */
export async function startAndVerify(start) {
  const verified = byId("verified");
  try {
    const difference = await start();
    verified.textContent = difference
      ? `This browser computes something else than the model (${difference}): do not use its answers.`
      : "This browser computes what the model computes: it has replayed the test vectors of the page.";
    verified.classList.toggle("failed", difference !== "");
    verified.dataset.ready = "true";
  } catch (error) {
    const isOld = error instanceof UnsupportedBrowserError;
    verified.textContent = isOld ? "This browser is too old to read the model: it has no DecompressionStream." : String(error);
    verified.classList.add("failed");
  }
}
