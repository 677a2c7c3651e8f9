// @ts-check
// One sample on the page: its text, how it was made, and buttons to go on with it.

import { element } from "./shared/dom.js";
import { joinerFor } from "./byte_tokens.js";
import { setDisabled } from "./focus.js";
import { createFrames } from "./frames.js";
import { createTokenText, textOf } from "./token_text.js";

/** @typedef {import("./token_text.js").Token} Token */
/**
 * What a sample is, apart from its view; undo brings it back.
 * @typedef {{ tokens: Token[], seed: number, note: string }} SampleContent
 */
/**
 * @typedef {object} SampleListeners
 * @property {(index: number, isPinned: boolean) => void} onCurrent a token is pointed at, or was chosen; -1: none
 * @property {(index: number) => void} onFork
 * @property {() => void} onContinue
 */

/** Seconds between two announcements of a text that is being written. */
const ANNOUNCEMENT_SECONDS = 3;

/**
 * Return the card of a sample.
 * @param {number} number from 1
 * @param {SampleContent} content
 * @param {SampleListeners} listeners
 */
export function createSampleCard(number, content, { onCurrent, onFork, onContinue }) {
  const box = element("div", { className: "sample-text code", tabIndex: 0, role: "group" });
  box.ariaLabel = `Sample ${number}; arrow keys move from character to character, Enter writes on from there`;
  const note = element("span", { className: "muted number" });
  const goOn = element("button", { type: "button", textContent: "Continue" });
  const copy = element("button", { type: "button", className: "plain", textContent: "Copy" });
  const spoken = element("div", { className: "visually-hidden", role: "log" });
  const title = element("h2", { textContent: `Sample ${number}` });
  const card = element("article", { className: "sample" },
    element("div", { className: "sample-head" }, title, note, copy, goOn), box, spoken);
  const view = createTokenText(box, { onCurrent, onEnter: onFork });
  let [seed, isWriting, lastSpoken, start] = [content.seed, false, 0, 0];
  /** @type {Token[]} */
  let waiting = [];
  let [unspoken, written, join, unit] = ["", 0, joinerFor(undefined), "tokens"];

  function describe(text = "") {
    note.textContent = `seed ${seed}${text ? `, ${text}` : ""}`;
  }

  /** @param {boolean} isLast */
  function speak(isLast) {
    if (!unspoken || (!isLast && performance.now() - lastSpoken < ANNOUNCEMENT_SECONDS * 1000)) return;
    lastSpoken = performance.now();
    spoken.append(element("p", { textContent: unspoken }));
    if (spoken.childElementCount > 3) spoken.firstElementChild?.remove();
    unspoken = "";
  }

  function flush() {
    if (!waiting.length) return;
    view.append(waiting);
    written += waiting.length;
    unspoken += textOf(waiting);
    waiting = [];
    const seconds = (performance.now() - start) / 1000;
    describe(`${written} ${unit}, ${Math.round(written / Math.max(seconds, 1e-3)).toLocaleString("en")} a second`);
    speak(false);
  }
  const requestFrame = createFrames(flush);

  goOn.addEventListener("click", onContinue);
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(textOf(view.tokens())).catch(() => {});
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  view.show(content.tokens);
  describe(content.note);

  return {
    card,
    view,
    text: () => textOf(view.tokens()),
    /** @returns {SampleContent} */
    content: () => ({ tokens: [...view.tokens()], seed, note: (note.textContent ?? "").split(", ").slice(1).join(", ") }),
    isWriting: () => isWriting,
    /**
     * Get ready for tokens that a model writes with a seed.
     * @param {number} newSeed
     * @param {import("./models.js").Model | undefined} model
     */
    begin(newSeed, model) {
      [seed, isWriting, written, start, waiting, unspoken] = [newSeed, true, 0, performance.now(), [], ""];
      join = joinerFor(model);
      unit = model?.tokens === "characters" ? "characters" : "tokens";
      box.ariaBusy = "true";
      setDisabled(goOn, true, box);
      describe("waiting");
    },
    /** @param {Token[]} tokens */
    receive(tokens) {
      waiting.push(...join(tokens));
      requestFrame();
    },
    /** The text ended. @param {string} reason "" if it reached its length */
    end(reason) {
      flush();
      speak(true);
      isWriting = false;
      box.ariaBusy = "false";
      goOn.disabled = false;
      const speed = (note.textContent ?? "").split(", ").slice(1).join(", ").replace("waiting", `0 ${unit}`);
      describe(reason ? `${speed}, ${reason}` : speed);
    },
  };
}

/** @typedef {ReturnType<typeof createSampleCard>} SampleCard */
