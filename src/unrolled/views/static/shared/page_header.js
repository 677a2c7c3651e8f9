// @ts-check
// The header of a page (`page_header.html`), and the link from a page about a table to the one about its hidden units.

import { byId, element } from "./dom.js";
import { setUpTheme } from "./theme.js";
import { writeText } from "./visible_text.js";

/** @param {any} data The data of the page: its title and subtitle are shown. */
export function setUpHeader(data) {
  setUpTheme(byId("theme"));
  writeText(byId("title"), String(data.title), { max: 200 });
  writeText(byId("subtitle"), String(data.subtitle ?? ""), { max: 400 });
}

/**
 * Show where the page of the hidden units is, if there is one.
 * @param {string | null} file
 * @param {string} what What the model reads on that page.
 */
export function linkNeurons(file, what) {
  if (!file) return;
  const link = writeText(element("a", { href: encodeURI(file) }), file);
  byId("neurons").append(`The hidden units while the model reads these ${what}: `, link);
  byId("neurons").hidden = false;
}
