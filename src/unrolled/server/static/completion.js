// @ts-check
// Texts that the server writes: a request, the tokens that arrive, and states to go on from.

import { events, post, request, sentenceOf } from "./api.js";

/** @typedef {import("./token_text.js").Token} Token */
/** @typedef {{ layer: number, unit: number, value: number }} Hold */
/**
 * What arrived for one of the samples of a request; `finish` is why it ended, or null.
 * @typedef {{ index: number, tokens: Token[], finish: string | null }} Piece
 */

export const NUM_GUESSES = 5;
const MAX_STATES = 32;

/**
 * Return the tokens in a choice of an answer.
 * @param {any} choice
 * @returns {Token[]}
 */
function tokensOf({ text, logprobs }) {
  if (!logprobs) return text ? [{ text, bits: null, guesses: [] }] : [];
  return logprobs.tokens.map((/** @type {string} */ token, /** @type {number} */ index) => {
    const logProbability = logprobs.token_logprobs[index];
    const top = Object.entries(logprobs.top_logprobs?.[index] ?? {});
    const guesses = top.map(([guess, value]) => ({ text: guess, probability: Math.exp(Number(value)) }));
    guesses.sort((a, b) => b.probability - a.probability);
    return { text: token, bits: logProbability === null ? null : -logProbability / Math.LN2, guesses };
  });
}

/**
 * Ask for texts, until they end or the request is stopped: the server stops drawing when the connection is closed.
 * @param {Record<string, unknown>} body
 * @param {AbortSignal} signal
 * @param {(pieces: Piece[]) => void} onPieces
 * @param {(unknown: string) => void} onUnknown receives the characters of the prompt that the model does not know
 */
export async function complete(body, signal, onPieces, onUnknown) {
  const options = { method: "POST", body: { ...body, stream: true, guesses: NUM_GUESSES }, signal };
  for await (const arrived of events("/v1/completions", options)) {
    for (const { data } of arrived) {
      if (data === "[DONE]") return;
      const frame = JSON.parse(data);
      if (frame.error) throw new Error(frame.error.message);
      if (frame.unknown) onUnknown(frame.unknown);
      onPieces(frame.choices.map((/** @type {any} */ choice) => (
        { index: choice.index, tokens: tokensOf(choice), finish: choice.finish_reason ?? null })));
    }
  }
}

/** Return the states that the server keeps for this page: the last ones that were asked for. */
export function createStates() {
  /** @type {Map<string, Promise<string>>} */
  const states = new Map();

  /** @param {string} key */
  async function drop(key) {
    const id = await states.get(key)?.catch(() => null);
    states.delete(key);
    if (id) await request(`/api/state/${id}`, { method: "DELETE" }).catch((error) => console.debug(sentenceOf(error)));
  }

  return {
    /**
     * Return the id of the state of a model after a text.
     * @param {string} model
     * @param {string} prompt
     * @param {Hold | null} hold
     */
    async after(model, prompt, hold) {
      const key = JSON.stringify([model, prompt, hold]);
      const known = states.get(key);
      if (known) return known;
      const made = post("/api/state", { model, prompt, ...(hold ? { hold } : {}) }).then((answer) => String(answer.state));
      states.set(key, made);
      made.catch(() => states.delete(key));
      if (states.size > MAX_STATES) void drop([...states.keys()][0]);
      return made;
    },
    /** Forget all states: the server may have dropped them. */
    clear: () => states.clear(),
  };
}
