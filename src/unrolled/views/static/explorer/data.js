// @ts-check
// The data of the page, unpacked: the tokens that were read, and the activations of every neuron at each of them.

import { pageData } from "../shared/page_data.js";
import { unpack } from "../shared/packed_arrays.js";

/**
 * A neuron that follows a feature of the text.
 * @typedef {object} Probe
 * @property {number} neuron its number among all layers: layer * hiddenSize + number in the layer
 * @property {string} feature
 * @property {string} description what the feature is, in words
 * @property {string} metric
 * @property {number | null} score
 * @property {number | null} pValue
 */

/**
 * What changes when a neuron is clamped to a value.
 * @typedef {object} Intervention
 * @property {number} neuron
 * @property {number | null} value
 * @property {string} feature what the neuron follows, or ""
 * @property {number | null} meanChange mean change of the surprisal, in bits
 * @property {Int16Array} surprisalChanges for each token, in hundredths of a bit
 * @property {string} originalSample
 * @property {string} clampedSample
 * @property {number} seed
 */

/**
 * The activations of one kind, as packed: levels from `min` to 1, those above `maxLevel` stand for no value.
 * @typedef {object} ActivationSpec
 * @property {string} name
 * @property {boolean} highResolution a byte for each level, not half a byte
 * @property {number} min
 * @property {number} maxLevel
 * @property {boolean} deltaEncoded whether each level is stored as the difference from the last one
 * @property {string} data
 */

/**
 * @typedef {object} ExplorerData
 * @property {string} title
 * @property {string} subtitle
 * @property {string[]} tokens the text of each token; "" for a byte within a character and for the end of a document
 * @property {number} count
 * @property {number} layers
 * @property {number} hiddenSize
 * @property {number} neuronCount
 * @property {Set<number>} documentEnds positions where a document ends
 * @property {string[]} vocabulary
 * @property {Set<number>} eosIds entries of the vocabulary that end a document
 * @property {number} topK predictions for each token
 * @property {boolean} predictsLabels whether the predictions are labels of the tokens, and not the next tokens
 * @property {boolean} isSeries whether the steps of a series were read, and not the tokens of a text
 * @property {Uint32Array} topIds
 * @property {Uint16Array} topProbabilities
 * @property {Uint16Array} surprisal in thousandths of a bit
 * @property {Activation[]} activations
 * @property {Probe[]} probes
 * @property {Map<number, Probe[]>} probesOfNeuron
 * @property {(number | null)[] | null} importance for each neuron, the increase of the loss without it, in bits
 * @property {Intervention[]} interventions
 */

/** @type {Record<string, string>} */
const TITLES = {
  h: "state", c: "memory", i: "input gate", f: "forget gate", g: "candidate", o: "output gate",
  r: "reset gate", z: "update gate", n: "candidate",
};
/** @type {Record<string, string>} */
const SHORT_TITLES = { c: "tanh c" };
export const NO_SURPRISAL = 65535;
export const NO_CHANGE = -32768;

/** What the page shows; filled by `loadData` before anything else runs. */
export const data = /** @type {ExplorerData} */ ({});

/**
 * Return a text of the page as it is said of what was read: of a series, a token is a step.
 * @param {string} text
 */
export const named = (text) => data.isSeries
  ? text.replace(/\btoken(s?)\b/g, "step$1").replace(/\b(T|t)ext\b/g, (_, first) => (first === "T" ? "Series" : "series"))
  : text;

/** The activations of one kind (state, memory or gate) of all neurons: a level for each token, neuron by neuron. */
export class Activation {
  /**
   * @param {ActivationSpec} spec
   * @param {Uint8Array} bytes
   * @param {number} count tokens
   */
  constructor(spec, bytes, count) {
    this.name = spec.name;
    this.highResolution = spec.highResolution;
    this.min = spec.min;
    this.maxLevel = spec.maxLevel;
    this.bytes = bytes;
    this.count = count;
    this.width = spec.highResolution ? count : Math.ceil(count / 2);
    this.title = TITLES[spec.name] ?? spec.name;
    this.shortTitle = SHORT_TITLES[spec.name] ?? spec.name;
    this.isGate = spec.min === 0;
    this.values = Float32Array.from({ length: spec.highResolution ? 256 : 16 }, (_, level) => this.valueOfLevel(level));
    this.lastRow = { neuron: -1, levels: bytes };
    if (spec.deltaEncoded) decodeDeltas(bytes, this.width);
  }

  /** @param {number} level */
  valueOfLevel(level) {
    return level > this.maxLevel ? NaN : this.min + (level / this.maxLevel) * (1 - this.min);
  }

  /**
   * Return the levels of one neuron. Levels of half a byte are expanded, and the last row that was asked for is kept.
   * @param {number} neuron
   * @returns {Uint8Array}
   */
  row(neuron) {
    const packed = this.bytes.subarray(neuron * this.width, (neuron + 1) * this.width);
    if (this.highResolution) return packed;
    if (this.lastRow.neuron !== neuron) {
      const levels = new Uint8Array(this.width * 2);
      for (let index = 0; index < packed.length; index++) {
        levels[2 * index] = packed[index] & 15;
        levels[2 * index + 1] = packed[index] >> 4;
      }
      this.lastRow = { neuron, levels: levels.subarray(0, this.count) };
    }
    return this.lastRow.levels;
  }

  /**
   * @param {number} neuron
   * @param {number} position
   */
  at(neuron, position) {
    return this.values[this.row(neuron)[position]];
  }
}

/**
 * @param {Uint8Array} bytes
 * @param {number} width
 */
function decodeDeltas(bytes, width) {
  for (let start = 0; start < bytes.length; start += width) {
    for (let index = start + 1; index < start + width; index++) bytes[index] += bytes[index - 1];
  }
}

/** Unpack the data of the page into `data`. */
export async function loadData() {
  const raw = pageData();
  const count = raw.tokens.length;
  const activations = Promise.all(raw.activations.map(
    async (/** @type {ActivationSpec} */ spec) => new Activation(spec, await unpack(spec.data, Uint8Array), count)));
  const interventions = Promise.all(raw.interventions.map(
    async (/** @type {{ surprisalChanges: string }} */ spec) =>
      ({ ...spec, surprisalChanges: await unpack(spec.surprisalChanges, Int16Array) })));
  Object.assign(data, raw, {
    count,
    neuronCount: raw.layers * raw.hiddenSize,
    documentEnds: new Set(raw.documentEnds),
    eosIds: new Set(raw.eosIds),
    topIds: await unpack(raw.topIds, Uint32Array),
    topProbabilities: await unpack(raw.topProbabilities, Uint16Array),
    surprisal: await unpack(raw.surprisal, Uint16Array),
    activations: await activations,
    interventions: await interventions,
    probesOfNeuron: groupByNeuron(raw.probes),
  });
}

/**
 * @param {Probe[]} probes
 * @returns {Map<number, Probe[]>}
 */
function groupByNeuron(probes) {
  const groups = new Map();
  for (const probe of probes) groups.set(probe.neuron, [...(groups.get(probe.neuron) ?? []), probe]);
  return groups;
}

/**
 * Return the name of a neuron: its layer and its number in the layer.
 * @param {number} neuron
 */
export const neuronName = (neuron) => `${Math.floor(neuron / data.hiddenSize)}.${neuron % data.hiddenSize}`;

/**
 * Return the features that a neuron follows, as a text.
 * @param {number} neuron
 */
export const featuresOf = (neuron) => (data.probesOfNeuron.get(neuron) ?? []).map((probe) => probe.feature).join(", ");

/**
 * Return the surprisal of a token in bits; NaN where there was no prediction.
 * @param {number} position
 */
export function bitsAt(position) {
  const level = data.surprisal[position];
  return level === NO_SURPRISAL ? NaN : level / 1000;
}

/**
 * Return how an intervention changes the surprisal of a token, in bits; NaN where it is unknown.
 * @param {Intervention} intervention
 * @param {number} position
 */
export function changeAt(intervention, position) {
  const level = intervention.surprisalChanges[position];
  return level === NO_CHANGE ? NaN : level / 100;
}

/**
 * @typedef {{ text: string, isEnd: boolean, isCorrect: boolean, probability: number }} Prediction
 */

/**
 * Return the top predictions after a token was read, the most probable first.
 * @param {number} position
 * @returns {Prediction[]}
 */
export function predictionsAt(position) {
  const next = data.tokens[position + 1];
  return Array.from({ length: data.topK }, (_, rank) => {
    const id = data.topIds[position * data.topK + rank];
    const text = data.vocabulary[id] ?? "\ufffd";
    const isEnd = data.eosIds.has(id);
    const isNext = isEnd ? data.documentEnds.has(position + 1) : text !== "" && text === next;
    const probability = data.topProbabilities[position * data.topK + rank] / 65535;
    return { text, isEnd, isCorrect: !data.predictsLabels && isNext, probability };
  });
}

/**
 * Return the neuron that a reader means by "0.12", or by "12" (in a given layer), or null.
 * @param {string} text
 * @param {number} layer
 */
export function parseNeuron(text, layer) {
  const match = /^\s*(?:(\d+)\s*[.:]\s*)?(\d+)\s*$/.exec(text);
  if (!match) return null;
  const [inLayer, number] = [Number(match[1] ?? layer), Number(match[2])];
  return inLayer < data.layers && number < data.hiddenSize ? inLayer * data.hiddenSize + number : null;
}

/**
 * Return a number with its sign.
 * @param {number} value
 */
export const signed = (value, digits = 2) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(digits);

/**
 * @param {number} fraction
 */
export const percent = (fraction) => (fraction > 0 && fraction < 0.01 ? "<1%" : Math.round(fraction * 100) + "%");
