// @ts-check
// A text as the steps of a model: characters or words with their ids, as `tables/text_column.py` and `tables/word_tokenizer.py`.

import { splitBlanks } from "./ngrams.js";

/**
 * The tokens of a model, by id: characters, or words, of which those that begin with NUL are shapes of rare words. `spaces` says
 * whether words are separated by white space; `replacements` are pairs of a character and the unknown characters it is read for.
 * @typedef {{ isWords: boolean, tokens: string[], spaces: boolean, wordPattern: string, otherDigits: string, replacements: [string, string][],
 *   otherReplacement: string, normalForm: string | null, unknownId: number, maxSteps: number }} TokenRules
 */

/**
 * How a language model reads a text: its characters, or null for bytes, and the id of what nothing replaces.
 * @typedef {{ tokens: string[] | null, replacements: [string, string][], otherReplacement: string, otherId: number, normalForm: string | null,
 *   maxCharacters: number }} BaseRules
 */

const DECIMAL = /\p{Nd}/u;
const UPPER = /\p{Uppercase}/u;
const NOT_UPPER = /[\p{Lowercase}\p{Lt}]/u;

/**
 * Return the names of the shape of a word, the most specific first.
 * @param {string} word
 * @param {string} otherDigits those that are no decimal digits
 */
function wordShapes(word, otherDigits) {
  const characters = Array.from(word.trim());
  const text = characters.join("");
  const marks = (characters.some((character) => DECIMAL.test(character) || otherDigits.includes(character)) ? "9" : "") + (characters.slice(1).includes("-") ? "-" : "");
  const isUpper = UPPER.test(text) && !NOT_UPPER.test(text) && characters.length > 1;
  const start = isUpper ? "A" : characters.length && UPPER.test(characters[0]) ? "a" : "";
  const lengths = [4, 3, 2, 1, 0].filter((length) => length < characters.length);
  return lengths.map((length) => `\0${start}${marks}~${length ? characters.slice(-length).join("").toLowerCase() : ""}`);
}

/** Return replacements by the character that they are for. @param {[string, string][]} replacements @returns {Map<string, string>} */
const byCharacter = (replacements) => new Map(replacements.flatMap(([text, characters]) => Array.from(characters, (character) => [character, text])));

/**
 * Return what turns texts into the ids that a language model reads: of their first characters, between two line ends.
 * @param {BaseRules} rules
 * @returns {(text: string) => number[]}
 */
export function createBaseReader(rules) {
  const replacementOf = byCharacter(rules.replacements);
  const idOf = new Map((rules.tokens ?? []).map((token, id) => [token, id]));
  return (text) => {
    const start = `\n${Array.from(text).slice(0, rules.maxCharacters).join("")}\n`;
    const line = rules.normalForm ? start.normalize(rules.normalForm) : start;
    if (!rules.tokens) return Array.from(new TextEncoder().encode(line));
    return Array.from(line, (character) => idOf.get(character) ?? idOf.get(replacementOf.get(character) ?? rules.otherReplacement) ?? rules.otherId);
  };
}

/**
 * Return what turns texts into ids.
 * @param {TokenRules} rules
 */
export function createReader(rules) {
  const idOf = new Map(rules.tokens.map((token, id) => [token, id]));
  const replacementOf = byCharacter(rules.replacements);
  const words = new RegExp(rules.wordPattern, "gu");

  /** @param {string} word */
  const wordId = (word) => [word, word.toLowerCase(), ...wordShapes(word, rules.otherDigits)].map((name) => idOf.get(name)).find((id) => id !== undefined);

  /** @param {string} character */
  function characterId(character) {
    const replacement = replacementOf.get(character) ?? rules.otherReplacement;
    return idOf.get(character) ?? (splitBlanks(replacement).length ? idOf.get(replacement) : undefined);
  }

  /** @param {string} text */
  function tokensOf(text) {
    if (!rules.isWords) return Array.from(text);
    return rules.spaces ? splitBlanks(text) : ` ${text}`.match(words) ?? [];
  }

  return {
    separator: rules.isWords ? " " : "",

    /**
     * Return the steps of a text, those that are read, and the text that n-grams are taken from.
     * @param {string} text
     */
    read(text) {
      const normal = rules.normalForm ? text.normalize(rules.normalForm) : text;
      const all = tokensOf(normal);
      const tokens = all.slice(0, rules.maxSteps);
      const ids = tokens.map((token) => (rules.isWords ? wordId(token) : characterId(token)) ?? rules.unknownId);
      const separator = rules.isWords && rules.spaces ? " " : "";
      return { ids, tokens, text: all.length > tokens.length ? tokens.join(separator) : normal, numLeftOut: all.length - tokens.length };
    },
  };
}
