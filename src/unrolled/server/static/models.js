// @ts-check
// The models of the server, and the fields in which one is chosen.

import { element } from "./shared/dom.js";
import { plainText } from "./report/format.js";
import { request } from "./api.js";

/**
 * @typedef {{ id: string, kind: "text" | "table", tokens: string | null, layers: number, hidden: number, cell: string, parameters: number, steps?: number | null }} Model
 */

/** Return the list of models, which tells its listeners when it changes. */
export function createModels() {
  /** @type {Model[]} */
  let models = [];
  /** @type {Map<string, Promise<any>>} */
  const details = new Map();
  /** @type {(() => void)[]} */
  const listeners = [];
  let isLoaded = false;

  return {
    isLoaded: () => isLoaded,
    async load() {
      models = (await request("/v1/models")).data;
      isLoaded = true;
      details.clear();
      for (const listener of listeners) listener();
    },
    /** @param {() => void} listener called at every change */
    listen(listener) {
      listeners.push(listener);
      listener();
    },
    /** @param {"text" | "table"} kind */
    of: (kind) => models.filter((model) => model.kind === kind),
    /** @param {string} id */
    find: (id) => models.find((model) => model.id === id),
    /**
     * Return all that the server knows of a model.
     * @param {string} id
     * @returns {Promise<any>}
     */
    details(id) {
      const known = details.get(id) ?? request(`/api/models/${encodeURIComponent(id)}`);
      details.set(id, known);
      known.catch(() => details.delete(id));
      return known;
    },
  };
}

/** @typedef {ReturnType<typeof createModels>} Models */

/**
 * Let a field offer the models of a kind; the chosen one stays chosen, and first it is one that has learned something.
 * @param {HTMLSelectElement} field
 * @param {Model[]} models
 * @param {string | undefined} wanted
 */
export function offerModels(field, models, wanted) {
  const chosen = models.find((model) => model.id === field.value) ?? models.find((model) => model.id === wanted)
    ?? models.find((model) => model.steps !== 0) ?? models[0];
  field.replaceChildren(...models.map((model) => element("option", { value: model.id, textContent: plainText(model.id, { max: 60 }) })));
  field.disabled = !models.length;
  field.value = chosen?.id ?? "";
}

/** @param {Model | undefined} model */
export function describeModel(model) {
  if (!model) return "";
  const parameters = model.parameters.toLocaleString("en");
  const network = [`${model.layers} x ${model.hidden} ${model.cell.toUpperCase()}`, ...(model.tokens ? [model.tokens] : [])];
  return `${network.join(", ")}, ${parameters} parameters`;
}

/** @param {string} unknown characters that the model does not know */
export const unknownNote = (unknown) => (unknown ? `Not known to the model, which reads the nearest characters instead: ${plainText(unknown, { max: 20 })}` : "");
