// @ts-check
// A language model that helps to label a text: a linear classifier of the mean, the maximum, the minimum and the last of its states.

import { createLayers } from "../portable/layers.js";
import { placeableLayers, rowOf, unpackFloatMatrix, unpackFloats } from "../portable/packed_network.js";
import { product } from "../portable/products.js";
import { createBaseReader } from "./tokens.js";

/**
 * @typedef {object} Base
 * @property {import("./tokens.js").BaseRules} reader
 * @property {import("../portable/products.js").FloatMatrix} vectorsWeight of the tokens
 * @property {import("../portable/layers.js").Layers} stack
 * @property {Float32Array} means of the features
 * @property {Float32Array} scales
 * @property {import("../portable/products.js").FloatMatrix} tableWeight a row for each label
 */

/**
 * Return the language model in the data of a page.
 * @param {any} data
 * @returns {Promise<Base>}
 */
export async function unpackBase(data) {
  const [vectorsWeight, tableWeight] = await Promise.all([data.vectorsWeight, data.tableWeight].map(unpackFloatMatrix));
  const [means, scales] = await Promise.all([data.means, data.scales].map(unpackFloats));
  return /** @type {Base} */ ({ reader: data.reader, stack: await placeableLayers(data.stack), vectorsWeight, tableWeight, means, scales });
}

/**
 * Return what gives the logits of a text. What it begins with as the text before is not read again.
 * @param {Base} base
 * @returns {(text: string) => number[]}
 */
export function createBase(base) {
  const [layers, read] = [createLayers(base.stack), createBaseReader(base.reader)];
  /** @typedef {import("../portable/layers.js").LayersState} LayersState */
  /** @type {{ id: number, state: LayersState, output: Float32Array }[]} the steps of the last text, with the states after them */
  let steps = [];

  /** @param {LayersState} state @returns {LayersState} */
  const copyOf = ({ h, others }) => ({ h: h.map((part) => part.slice()), others: others.map((parts) => parts.map((part) => part.slice())) });

  /** Return the features of a text. @param {number[]} ids */
  function featuresOf(ids) {
    const differs = ids.findIndex((id, place) => steps[place]?.id !== id);
    steps = steps.slice(0, differs < 0 ? ids.length : differs);
    const state = steps.length ? copyOf(steps[steps.length - 1].state) : layers.initialState();
    for (const id of ids.slice(steps.length)) {
      const output = layers.read(state, rowOf(base.vectorsWeight, id), null, null).slice();
      steps.push({ id, state: copyOf(state), output });
    }
    const outputs = steps.map(({ output }) => output);
    const [last] = outputs.slice(-1);
    const pooled = (/** @type {(a: number, b: number) => number} */ join, /** @type {number} */ start) => Array.from(last, (_, unit) => outputs.reduce((sum, output) => join(sum, output[unit]), start));
    const means = pooled((a, b) => a + b, 0).map((sum) => sum / outputs.length);
    return [...means, ...pooled(Math.max, -Infinity), ...pooled(Math.min, Infinity), ...last];
  }

  return (text) => {
    const standardized = featuresOf(read(text)).map((feature, index) => (feature - base.means[index]) * base.scales[index]);
    return Array.from(product(base.tableWeight, Float32Array.from(standardized)));
  };
}
