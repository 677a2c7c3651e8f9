// @ts-check
// Which sample of the run is shown: the samples and the curves follow each other.

/**
 * @typedef {{ step: number, seconds: number | null, val_nats: number | null, text: string }} Sample
 */

export const player = {
  /** @type {Sample[]} */
  samples: [],
  index: 0,
  /** @type {(() => void)[]} called when another sample is chosen */
  listeners: [],
};

/** @param {number} index */
export function chooseSample(index) {
  player.index = Math.max(0, Math.min(player.samples.length - 1, index));
  for (const listener of player.listeners) listener();
}
