// @ts-check
// The page of `unrolled serve`: its tabs, its theme, and its models. Each part is a module, loaded when its tab is first opened.

import { sentenceOf, setKeyPrompt } from "./api.js";
import { createModels } from "./models.js";
import { createSettings } from "./settings.js";
import { byId } from "./shared/dom.js";
import { setUpTheme } from "./shared/theme.js";

const THEME_NAME = "unrolled-theme";
const TABS = ["write", "learn", "inside", "tables"];

/**
 * What every part of the page is given.
 * @typedef {object} App
 * @property {import("./models.js").Models} models
 * @property {ReturnType<typeof createSettings>} settings
 * @property {(error: unknown) => void} showError
 * @property {() => void} clearError
 * @property {{ text: string }} written the text that Write shows first
 */

/** What a part may do when its tab is opened and left. @typedef {{ open?: () => void, leave?: () => void }} Part */

/** @type {Record<string, (app: App) => Promise<Part>>} */
const PARTS = {
  write: async (app) => (await import("./write.js")).setUpWrite(app),
  learn: async (app) => (await import("./learn.js")).setUpLearn(app),
  inside: async (app) => (await import("./inside.js")).setUpInside(app),
  tables: async (app) => (await import("./tables.js")).setUpTables(app),
};

/** @param {unknown} error */
function showError(error) {
  byId("error").textContent = sentenceOf(error);
  byId("error").hidden = false;
}

function clearError() {
  byId("error").hidden = true;
}

/** Ask a person for the API key. @returns {Promise<string | null>} */
function askForKey() {
  const dialog = byId("key-dialog", HTMLDialogElement);
  const field = byId("key", HTMLInputElement);
  dialog.returnValue = ""; // Escape leaves it as it is
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "ok" && field.value ? field.value : null);
      field.value = "";
    }, { once: true });
  });
}

/**
 * Let the tabs open their parts: by click, by arrow keys, and by the address.
 * @param {App} app
 */
function setUpTabs(app) {
  /** @type {Map<string, Promise<Part>>} */
  const parts = new Map();
  let current = "";

  /** @param {string} name */
  async function open(name) {
    if (name === current) return;
    clearError();
    if (current) {
      void parts.get(current)?.then((part) => part.leave?.());
      app.models.load().catch(showError); // a training may have made one meanwhile
    }
    current = name;
    for (const tab of TABS) {
      const button = byId(`tab-${tab}`, HTMLButtonElement);
      button.ariaSelected = String(tab === name);
      button.tabIndex = tab === name ? 0 : -1;
      byId(`panel-${tab}`).hidden = tab !== name;
    }
    const part = parts.get(name) ?? PARTS[name](app);
    parts.set(name, part);
    const opened = await part;
    if (current === name) opened.open?.();
    byId(`panel-${name}`).dataset.ready = "true";
  }

  for (const [index, tab] of TABS.entries()) {
    const button = byId(`tab-${tab}`);
    button.addEventListener("click", () => {
      app.settings.setTab(tab);
      open(tab).catch(showError);
    });
    button.addEventListener("keydown", (event) => {
      const place = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: -1 }[event.key];
      if (place === undefined) return;
      event.preventDefault();
      const next = byId(`tab-${TABS[(place + TABS.length) % TABS.length]}`);
      next.focus();
      next.click();
    });
  }
  return open;
}

/** Let the colors that the button chose stay when the page is loaded again. */
function rememberTheme() {
  const root = document.documentElement;
  const before = localStorage.getItem(THEME_NAME);
  if (before === "light" || before === "dark") root.dataset.theme = before;
  new MutationObserver(() => localStorage.setItem(THEME_NAME, root.dataset.theme ?? "")).observe(root, { attributeFilter: ["data-theme"] });
}

async function start() {
  rememberTheme();
  setUpTheme(byId("theme"));
  setKeyPrompt(askForKey);
  const settings = createSettings(TABS);
  settings.read();
  const app = { models: createModels(), settings, showError, clearError, written: { text: "" } };
  const open = setUpTabs(app);
  addEventListener("focus", () => void app.models.load().catch(() => {})); // another tab may have trained one
  addEventListener("hashchange", () => {
    settings.read();
    document.dispatchEvent(new Event("settings"));
    open(settings.tab()).catch(showError);
  });
  await Promise.all([open(settings.tab()), app.models.load()]);
  document.documentElement.dataset.ready = "true";
}

start().catch(showError);
