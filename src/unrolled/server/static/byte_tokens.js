// @ts-check
// Tokens of models of bytes: the server names a byte of a longer character `\xNN`; the page shows characters.

/** @typedef {import("./token_text.js").Token} Token */

const HIGH_BYTE = /^\\x([89a-f][0-9a-f])$/;

/** @param {string} text */
const byteOf = (text) => parseInt(HIGH_BYTE.exec(text)?.[1] ?? "", 16);

/**
 * Return a function that joins the tokens of one text, as they arrive, to characters: the bits of a character are the sum of
 * those of its bytes, and its guesses are those of its first byte.
 * @returns {(tokens: Token[]) => Token[]}
 */
export function createByteJoiner() {
  const decoder = new TextDecoder();
  /** @type {Token | null} */
  let begun = null;

  /** @param {Token} token */
  function join(token) {
    const byte = byteOf(token.text);
    const bytes = Number.isNaN(byte) ? new TextEncoder().encode(token.text) : new Uint8Array([byte]);
    const text = decoder.decode(bytes, { stream: true });
    const bits = begun?.bits && token.bits !== null ? begun.bits + token.bits : token.bits;
    const joined = { ...(begun ?? named(token)), value: token.value, bits, text };
    begun = text ? null : joined;
    return text ? [joined] : [];
  }
  return (tokens) => tokens.flatMap(join);
}

/** @param {Token} token */
const named = (token) => ({
  ...token,
  guesses: token.guesses.map((guess) => (HIGH_BYTE.test(guess.text)
    ? { ...guess, text: `byte-${byteOf(guess.text).toString(16)}`, isPart: true } : guess)),
});

/**
 * Return a function that joins tokens where the model is one of bytes.
 * @param {import("./models.js").Model | undefined} model
 */
export const joinerFor = (model) => (model?.tokens === "bytes" ? createByteJoiner() : (/** @type {Token[]} */ tokens) => tokens);
