// @ts-check
// Which neurons tell a selection from the rest of the text, and where else they are active together.

import { data } from "./data.js";

/** @typedef {import("./data.js").Activation} Activation */

/**
 * How well a neuron tells the selection from the rest. `sign` is -1 if it is active where its state is negative; `score` is
 * the distance of the two means in standard deviations.
 * @typedef {{ neuron: number, sign: number, score: number, precision: number, recall: number }} RankedNeuron
 */

/** A neuron is active where its state is beyond this. */
const ACTIVE = 0.3;
const MAX_RANKED = 12;
/** How many of the best neurons are looked for elsewhere, and the share of them that must be active at a token. */
const GROUP_SIZE = 5;
const GROUP_SHARE = 0.8;
const MAX_RUNS = 8;

/**
 * Return the neurons that are active in at least half of a selection, the clearest first.
 * @param {[number, number]} selection
 */
export function rankNeurons([first, last]) {
  const activation = data.activations[0];
  const ranked = [];
  for (let neuron = 0; neuron < data.neuronCount; neuron++) ranked.push(compare(activation, neuron, first, last));
  return ranked.filter(({ recall }) => recall >= 0.5).sort((a, b) => b.score - a.score).slice(0, MAX_RANKED);
}

/**
 * @param {Activation} activation
 * @param {number} neuron
 * @param {number} first
 * @param {number} last
 * @returns {RankedNeuron}
 */
function compare(activation, neuron, first, last) {
  const [insideCounts, outsideCounts] = [new Uint32Array(256), new Uint32Array(256)];
  const row = activation.row(neuron);
  for (let position = 0; position < row.length; position++) outsideCounts[row[position]]++;
  for (let position = first; position <= last; position++) {
    insideCounts[row[position]]++;
    outsideCounts[row[position]]--;
  }
  const [inside, outside] = [moments(insideCounts, activation), moments(outsideCounts, activation)];
  const deviation = Math.sqrt((inside.variance + outside.variance) / 2 + 0.001);
  const sign = inside.mean >= outside.mean ? 1 : -1;
  const [truePositives, falsePositives] = [countActive(insideCounts, activation, sign), countActive(outsideCounts, activation, sign)];
  const positives = truePositives + falsePositives;
  return {
    neuron, sign, score: Math.abs(inside.mean - outside.mean) / deviation,
    precision: positives ? truePositives / positives : 0, recall: truePositives / (last - first + 1),
  };
}

/**
 * @param {Uint32Array} counts of each level
 * @param {Activation} activation
 */
function moments(counts, activation) {
  let [count, sum, squares] = [0, 0, 0];
  for (let level = 0; level <= activation.maxLevel; level++) {
    count += counts[level];
    sum += counts[level] * activation.values[level];
    squares += counts[level] * activation.values[level] ** 2;
  }
  const mean = count ? sum / count : 0;
  return { mean, variance: count ? Math.max(0, squares / count - mean ** 2) : 0 };
}

/**
 * @param {Uint32Array} counts of each level
 * @param {Activation} activation
 * @param {number} sign
 */
function countActive(counts, activation, sign) {
  let active = 0;
  for (let level = 0; level <= activation.maxLevel; level++) if (sign * activation.values[level] > ACTIVE) active += counts[level];
  return active;
}

/**
 * Return runs of tokens outside a selection where nearly all of the best neurons are active together, the longest and
 * strongest first.
 * @param {RankedNeuron[]} ranked
 * @param {[number, number]} selection
 */
export function findSimilar(ranked, [first, last]) {
  const group = ranked.slice(0, GROUP_SIZE);
  const needed = Math.ceil(group.length * GROUP_SHARE);
  if (!needed) return [];
  const activeCounts = new Uint8Array(data.count);
  for (const { neuron, sign } of group) {
    const isActive = data.activations[0].values.map((value) => (sign * value > ACTIVE ? 1 : 0));
    data.activations[0].row(neuron).forEach((level, position) => { activeCounts[position] += isActive[level]; });
  }
  const runs = [];
  for (let position = 0; position < data.count; position++) {
    if (activeCounts[position] < needed) continue;
    const start = position;
    let weight = 0;
    while (position < data.count && activeCounts[position] >= needed) weight += activeCounts[position++];
    if (position - 1 < first || start > last) runs.push({ start, end: position - 1, weight });
  }
  return runs.sort((a, b) => b.weight - a.weight).slice(0, MAX_RUNS);
}
