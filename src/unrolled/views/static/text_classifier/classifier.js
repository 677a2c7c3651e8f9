// @ts-check
// A model that labels a text: recurrent layers, pooling, a linear classifier of n-grams, and what each part of a text does to the
// answer. The recurrent layers are those of the portable step with float32 weights.

import { add, f, layerNorm, tanh } from "../portable/arithmetic.js";
import { createLayers, unroll } from "../portable/layers.js";
import { placeableLayers, placeFloatLayers, rowOf, unpackFloatMatrix, unpackFloats } from "../portable/packed_network.js";
import { product } from "../portable/products.js";
import { createBase, unpackBase } from "./base.js";
import { hashNgrams, isBlank, splitBlanks } from "./ngrams.js";
import { createReader } from "./tokens.js";

/** @typedef {import("../portable/products.js").FloatMatrix} FloatMatrix */
/** @typedef {import("../portable/layers.js").Layers} Layers */

/** A layer of which half of the units read forward and half backward. @typedef {{ normWeight: Float32Array, normBias: Float32Array, forward: Layers, backward: Layers }} BothWays */

/**
 * The linear classifier of n-grams: a row of `table` for each of the `buckets`, their `weights`, and the length of their sum.
 * @typedef {import("./ngrams.js").NgramRules & { buckets: number, table: FloatMatrix, weights: Float32Array, bias: number[], share: number,
 *   scale: number, minSquares: number }} Ngrams
 */

/**
 * @typedef {object} Classifier
 * @property {string[]} labels
 * @property {number | null} threshold of two labels: the probability from which the second one is the answer
 * @property {import("./tokens.js").TokenRules} reader
 * @property {FloatMatrix} embedding
 * @property {BothWays[]} bothWays
 * @property {Layers | null} stack
 * @property {Float32Array} normWeight
 * @property {Float32Array} normBias
 * @property {"last" | "mean" | "max" | "attention" | null} pool null: each token has a label
 * @property {FloatMatrix | null} poolHidden
 * @property {Float32Array | null} poolHiddenBias
 * @property {FloatMatrix | null} poolScore
 * @property {FloatMatrix} head
 * @property {Float32Array} headBias
 * @property {number} temperature
 * @property {Ngrams | null} ngrams
 * @property {import("./base.js").Base | null} base a language model that helps
 * @property {number} maxParts
 * @property {number} maxLogOdds
 */

/** A text that was read. @typedef {{ ids: number[], tokens: string[], text: string, numLeftOut: number }} Reading */

/**
 * Return the model in the data of a page.
 * @param {any} data
 * @param {boolean} [hasVectors] whether products are computed by vector instructions, where there are any
 * @returns {Promise<Classifier>}
 */
export async function unpackClassifier(data, hasVectors = true) {
  const bothWays = [];
  for (const { normWeight, normBias, forward, backward } of data.bothWays) {
    bothWays.push({ normWeight: await unpackFloats(normWeight), normBias: await unpackFloats(normBias), forward: await placeableLayers(forward), backward: await placeableLayers(backward) });
  }
  const [embedding, poolHidden, poolScore, head] = await Promise.all([data.embeddingWeight, data.poolHiddenWeight, data.poolScoreWeight, data.headWeight].map(unpackFloatMatrix));
  const [normWeight, normBias, poolHiddenBias, headBias] = await Promise.all([data.normWeight, data.normBias, data.poolHiddenBias, data.headBias].map(unpackFloats));
  const ngrams = data.ngrams && { ...data.ngrams, table: await unpackFloatMatrix(data.ngrams.tableWeight), weights: await unpackFloats(data.ngrams.weights) };
  const stack = data.stack && await placeableLayers(data.stack);
  const base = data.base && await unpackBase(data.base);
  const networks = [...bothWays.flatMap(({ forward, backward }) => [forward, backward]), ...[stack, base?.stack].filter(Boolean)];
  if (hasVectors) await placeFloatLayers(data.products, networks, [poolHidden, poolScore, head, base?.tableWeight ?? null]);
  return /** @type {Classifier} */ ({ ...data, bothWays, stack, embedding, poolHidden, poolScore, head, normWeight, normBias, poolHiddenBias, headBias, ngrams, base });
}

/**
 * What labels texts.
 * @param {Classifier} model
 */
export function createClassifier(model) {
  const reader = createReader(model.reader);
  const stack = model.stack && createLayers(model.stack);
  const bothWays = model.bothWays.map(({ normWeight, normBias, forward, backward }) => ({ normWeight, normBias, forward: createLayers(forward), backward: createLayers(backward) }));
  const baseLogits = model.base && createBase(model.base);

  /** Return the outputs of the encoder. @param {number[]} ids */
  function encode(ids) {
    /** @type {Float32Array[]} */
    let xs = ids.map((id) => rowOf(model.embedding, id));
    if (stack) xs = unroll(stack, xs);
    for (const { normWeight, normBias, forward, backward } of bothWays) {
      const normed = xs.map((x) => layerNorm(x, normWeight, normBias).slice());
      const [ahead, back] = [unroll(forward, normed), unroll(backward, normed.toReversed()).reverse()];
      xs = xs.map((x, step) => add(x, Float32Array.from([...ahead[step], ...back[step]])));
    }
    return xs.map((x) => layerNorm(x, model.normWeight, model.normBias).slice());
  }

  /** Return the weights of the steps in a mean. @param {Float32Array[]} memory */
  function poolWeights(memory) {
    if (model.pool === "mean" || !model.poolHidden || !model.poolScore) return memory.map(() => 1 / memory.length);
    const { poolHidden, poolScore } = model;
    const scores = memory.map((x) => product(poolScore, add(product(poolHidden, x), model.poolHiddenBias).map(tanh))[0]);
    const largest = scores.reduce((best, score) => Math.max(best, score), -Infinity);
    const weights = scores.map((score) => Math.exp(score - largest));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return weights.map((weight) => weight / total);
  }

  /** @param {Float32Array[]} memory */
  function pooled(memory) {
    const last = memory[memory.length - 1];
    if (model.pool === "last") return bothWays.length ? last.map((value, unit) => (unit < last.length >> 1 ? value : memory[0][unit])) : last;
    if (model.pool === "max") return last.map((_, unit) => memory.reduce((best, x) => Math.max(best, x[unit]), -Infinity));
    const weights = poolWeights(memory);
    return last.map((_, unit) => memory.reduce((sum, x, step) => sum + weights[step] * x[unit], 0));
  }

  /** Return the logits of the classifier of n-grams. @param {Ngrams} ngrams @param {string} text */
  function ngramLogits(ngrams, text) {
    const sums = model.labels.map(() => 0);
    let squares = 0;
    for (const hash of hashNgrams(text, ngrams)) {
      const bucket = hash % ngrams.buckets;
      const weight = ngrams.weights[bucket];
      squares += weight * weight;
      rowOf(ngrams.table, bucket).forEach((value, label) => { sums[label] += weight * value; });
    }
    const factor = ngrams.scale / Math.sqrt(Math.max(squares, ngrams.minSquares));
    return sums.map((sum, label) => sum * factor + ngrams.bias[label]);
  }

  /**
   * Return the logits of the labels of a text that was read.
   * @param {number[]} ids
   * @param {string} text
   */
  function logitsOf(ids, text) {
    const { ngrams, temperature } = model;
    const logits = Array.from(add(product(model.head, pooled(encode(ids))), model.headBias));
    const [linear, helped] = [ngrams ? ngramLogits(ngrams, text) : [], baseLogits?.(text)];
    return logits.map((logit, label) => f(ngrams ? logit + ngrams.share * (linear[label] + (helped?.[label] ?? 0)) : logit) / temperature);
  }

  /** Return the logits of the labels of each step of a text. @param {number[]} ids */
  const stepLogitsOf = (ids) => encode(ids).map((x) => Array.from(add(product(model.head, x), model.headBias), (logit) => f(logit) / model.temperature));

  /** @param {number[]} logits */
  function probabilitiesOf(logits) {
    const largest = Math.max(...logits);
    const weights = logits.map((logit) => Math.exp(logit - largest));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return weights.map((weight) => weight / total);
  }

  /** Return the label that is the answer. @param {number[]} probabilities */
  function answerOf(probabilities) {
    if (model.threshold !== null && probabilities.length === 2) return Number(probabilities[1] >= model.threshold);
    return probabilities.reduce((best, value, label) => (value > probabilities[best] ? label : best), 0);
  }

  /** Return log p / (1 - p) of a label, in nats. @param {number[]} logits @param {number} label */
  function logOdds(logits, label) {
    if (logits.length < 2) return model.maxLogOdds;
    const others = logits.filter((_, index) => index !== label);
    const largest = Math.max(...others);
    const odds = logits[label] - largest - Math.log(others.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
    return Math.max(-model.maxLogOdds, Math.min(model.maxLogOdds, odds));
  }

  /**
   * Return the first step of each part of a text, and after them the number of steps: tokens, or words of characters.
   * @param {string[]} tokens
   */
  function partStarts(tokens) {
    const places = tokens.map((_, index) => index);
    const isSplit = tokens.some((token) => [...token].length > 1);
    const words = places.filter((index) => index === 0 || (isBlank(tokens[index - 1]) && !isBlank(tokens[index])));
    const starts = isSplit || words.length < 2 ? places : words;
    const size = Math.ceil(starts.length / model.maxParts);
    return [...starts.filter((_, index) => index % size === 0), tokens.length];
  }

  return {
    /**
     * Return what is predicted for a text; null if there is nothing in it.
     * @param {string} text
     */
    classify(text) {
      const reading = reader.read(text);
      if (!splitBlanks(text).length || !reading.ids.length) return null;
      const logits = logitsOf(reading.ids, reading.text);
      const probabilities = probabilitiesOf(logits);
      return { reading, logits, probabilities, answer: answerOf(probabilities) };
    },

    /**
     * Return the label of each token of a text, with their probabilities; null if there is nothing in it.
     * @param {string} text
     */
    tag(text) {
      const reading = reader.read(text);
      if (!splitBlanks(text).length || !reading.ids.length) return null;
      const logits = stepLogitsOf(reading.ids);
      const probabilities = logits.map(probabilitiesOf);
      const labels = probabilities.map(answerOf);
      return { reading, logits: logits.flat(), labels, probabilities: labels.map((label, step) => probabilities[step][label]) };
    },

    /**
     * Return the parts of a text, such as its words.
     * @param {Reading} reading
     */
    partsOf({ tokens }) {
      const starts = partStarts(tokens);
      return starts.slice(1).map((stop, index) => tokens.slice(starts[index], stop).join(reader.separator) + reader.separator);
    },

    /**
     * Yield for each part of a text how much larger the log odds of a label are with it.
     * @param {Reading} reading
     * @param {string[]} parts
     * @param {number[]} logits
     * @param {number} label
     * @returns {Generator<number, void, void>}
     */
    * effects({ ids, tokens }, parts, logits, label) {
      const [starts, whole] = [partStarts(tokens), logOdds(logits, label)];
      if (parts.length < 2) return;
      for (const [index, start] of starts.slice(0, -1).entries()) {
        const left = ids.filter((_, step) => step < start || step >= starts[index + 1]);
        yield whole - logOdds(logitsOf(left, parts.filter((_, other) => other !== index).join("")), label);
      }
    },
  };
}

/** Test vectors: texts with the logits of their labels, and the effect of each of their parts. @typedef {{ tolerance: number, cases: { text: string, logits: number[], effects: number[] | null }[] }} Vectors */

/**
 * Replay test vectors; return what differs, "" if nothing does.
 * @param {Classifier} model
 * @param {Vectors} vectors
 */
export function findDifference(model, vectors) {
  const classifier = createClassifier(model);
  for (const [number, { text, logits, effects }] of vectors.cases.entries()) {
    const found = model.pool ? classifier.classify(text) : classifier.tag(text);
    if (!found) return `text ${number} is empty`;
    const differs = (/** @type {number[]} */ ours, /** @type {number[]} */ expected, tolerance = vectors.tolerance) =>
      ours.length === expected.length ? expected.findIndex((value, index) => !(Math.abs(ours[index] - value) <= tolerance)) : 0;
    const label = differs(found.logits, logits);
    if (label >= 0) return `text ${number}, label ${label}: logit ${found.logits[label]}, expected ${logits[label]}`;
    if (!effects || !("answer" in found)) continue;
    const ours = [...classifier.effects(found.reading, classifier.partsOf(found.reading), found.logits, found.answer)];
    const part = differs(ours, effects, 4 * vectors.tolerance); // of differences of logits
    if (part >= 0) return `text ${number}, part ${part}: effect ${ours[part]}, expected ${effects[part]}`;
  }
  return "";
}
