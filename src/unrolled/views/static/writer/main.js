// @ts-check
// A model in a page: it writes, scores a text, shows a unit, and holds it. Nothing leaves the page.

import { byId, element } from "../shared/dom.js";
import { nextTask } from "../shared/next_task.js";
import { UnsupportedBrowserError } from "../shared/packed_arrays.js";
import { pageData } from "../shared/page_data.js";
import { setUpTheme } from "../shared/theme.js";
import { writeText } from "../shared/visible_text.js";
import { createTokenizer, findDifference, unpackNetwork } from "./model.js";
import { createReading, meanBits } from "./reading.js";
import { MAX_BITS, createTextView } from "./text_view.js";

/** Milliseconds of work after which the page answers to its reader. */
const SLICE_MILLISECONDS = 25;
/** Milliseconds between two looks at a text that grows: laying it out takes as long as many steps of a model. */
const FRAME_MILLISECONDS = 100;
const MAX_PASTED_TOKENS = 20_000;
const MAX_UNKNOWN = 20;

const data = pageData();
const tokenizer = createTokenizer(data.tokens);
const { beginId, endId } = data.tokens;
const view = createTextView(byId("text"), byId("detail"), tokenizer);
/** @param {string} id */
const input = (id) => byId(id, HTMLInputElement);
/** @param {string} id */
const textOf = (id) => byId(id, HTMLTextAreaElement).value;
const color = byId("color", HTMLSelectElement);
/** Counts the tasks; a task that is not the last one stops. */
let task = 0;

/** @param {string} text */
const visible = (text) => writeText(element("span"), text, { compact: true });

/**
 * Return the whole number in an input, within its limits.
 * @param {string} id
 */
function integer(id) {
  const field = input(id);
  const value = Math.round(Math.min(Number(field.max || Infinity), Math.max(Number(field.min), Number(field.value) || 0)));
  field.value = String(value);
  return value;
}

function hold() {
  const value = Math.fround(Math.max(-1, Math.min(1, Number(input("value").value) || 0)));
  return input("hold").checked ? { layer: integer("layer"), unit: integer("unit"), value } : null;
}

function showOptions() {
  const legends = new Map([
    ["surprise", `stronger: more bits (up to ${MAX_BITS}); 1 bit is a probability of one half`],
    ["unit", "green: above 0, orange: below 0"],
    ["change", "red: more bits with the unit held, green: fewer; score a text with the unit held"],
  ]);
  byId("legend").textContent = legends.get(color.value) ?? "";
  view.setOptions({
    color: color.value,
    unit: integer("layer") * data.network.hiddenSize + integer("unit"),
    withGuesses: input("guesses").checked,
  });
}

/**
 * Return a sentence about unknown characters, as nodes.
 * @param {Map<string, string>} unknown each character, and what is read in its place
 */
function unknownNote(unknown) {
  const shown = [...unknown].slice(0, MAX_UNKNOWN);
  const groups = [...new Set(shown.map(([, text]) => text))].map((text) => {
    const characters = shown.filter((item) => item[1] === text).flatMap(([character]) => [" ", visible(character)]);
    return [...characters, ...(text ? [" read as ", visible(text)] : [" left out"])];
  });
  const more = unknown.size > MAX_UNKNOWN ? `; ${unknown.size - MAX_UNKNOWN} more. ` : ". ";
  return groups.length ? ["Not known to the model:", ...groups.flatMap((group, i) => (i ? [";", ...group] : group)), more] : [];
}

/**
 * Run work in slices; return false if another task began meanwhile.
 * @param {number} own the number of this task
 * @param {() => boolean} work does a little; false when all is done
 * @param {() => void} show
 */
async function inSlices(own, work, show) {
  for (let [goesOn, shownAt] = [true, -Infinity]; goesOn;) {
    const end = performance.now() + SLICE_MILLISECONDS;
    while (goesOn && performance.now() < end) goesOn = work();
    if (!goesOn || performance.now() >= shownAt + FRAME_MILLISECONDS) {
      show();
      shownAt = performance.now();
    }
    await nextTask();
    if (task !== own) return false;
  }
  return true;
}

/** Bring the text into view where it is below the forms, as on a phone. */
function scrollToText() {
  if (byId("text").getBoundingClientRect().top > window.innerHeight * 2 / 3) byId("view-controls").scrollIntoView();
}

/** @param {boolean} isRunning */
function setRunning(isRunning) {
  byId("stop", HTMLButtonElement).disabled = !isRunning;
}

/** @param {import("./portable.js").Network} network */
function setUp(network) {
  /** @param {import("./portable.js").Hold | null} held */
  const newReading = (held) => createReading(network, beginId, endId, held);

  /**
   * Write one text; return its tokens, or null if it was stopped.
   * @param {number} own
   * @param {ReturnType<typeof newReading>} reading
   * @param {number[]} promptIds
   * @param {boolean} isShown
   */
  async function writeTokens(own, reading, promptIds, isShown) {
    const [temperature, seed, length] = [Math.max(0, Number(input("temperature").value) || 0), integer("seed"), integer("length")];
    reading.beginDocument();
    if (isShown) view.show(reading.tokens);
    let [shown, numRead, written, start] = [0, 0, 0, 0];
    return inSlices(own, () => {
      if (numRead < promptIds.length) return Boolean(reading.append(promptIds[numRead++], true));
      start ||= performance.now();
      return written < length && reading.write(temperature, seed) !== null && ++written < length;
    }, () => {
      if (!isShown) return;
      view.showNew(shown);
      shown = reading.tokens.length;
      const speed = written / Math.max(1, performance.now() - start) * 1000;
      byId("speed").textContent = `${written} tokens, ${Math.round(speed).toLocaleString("en")} a second`;
    });
  }

  async function write() {
    const [own, held] = [++task, hold()];
    const { ids, unknown } = tokenizer.encodePrompt(textOf("prompt"));
    setRunning(true);
    byId("summary").replaceChildren(...unknownNote(unknown));
    byId("held").hidden = true;
    scrollToText();
    const reading = newReading(null);
    const isDone = await writeTokens(own, reading, ids, true);
    if (isDone && held) {
      const heldReading = newReading(held);
      if (await writeTokens(own, heldReading, ids, false)) showHeld(textFrom(reading.tokens), textFrom(heldReading.tokens));
    }
    if (task === own) setRunning(false);
  }

  async function score() {
    const [own, held] = [++task, hold()];
    const encoded = tokenizer.encode(textOf("pasted"));
    const ids = encoded.ids.slice(0, MAX_PASTED_TOKENS);
    setRunning(true);
    byId("held").hidden = true;
    scrollToText();
    const readings = held ? [newReading(null), newReading(held)] : [newReading(null)];
    readings.forEach((reading) => reading.beginDocument());
    view.show(readings[0].tokens);
    let [next, shown] = [0, 0];
    const isDone = await inSlices(own, () => {
      if (next >= ids.length) return false;
      readings.forEach((reading) => reading.append(ids[next], false));
      return ++next < ids.length;
    }, () => {
      view.showNew(shown);
      shown = readings[0].tokens.length;
    });
    if (!isDone) return;
    const [plain, other] = readings.map((reading) => reading.tokens);
    view.show(plain, other?.map((token, index) => token.bits - plain[index].bits));
    const cut = encoded.ids.length > ids.length ? `Only the first ${ids.length.toLocaleString("en")} tokens. ` : "";
    const mean = meanBits(plain);
    const change = other ? ` With the unit held: ${meanBits(other).toFixed(3)} (${signed(meanBits(other) - mean)}).` : "";
    const scored = Number.isNaN(mean) ? "At least two known characters are needed." : `${mean.toFixed(3)} bits per token.${change}`;
    byId("summary").replaceChildren(...unknownNote(encoded.unknown), cut + scored);
    setRunning(false);
  }

  byId("write", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void write();
  });
  byId("score", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void score();
  });
}

/** @param {number} value */
const signed = (value) => (value < 0 ? "" : "+") + value.toFixed(3);

/** @param {import("./reading.js").Token[]} tokens */
function textFrom(tokens) {
  const decode = tokenizer.decoder();
  return tokens.map((token) => decode(token.id)).join("");
}

/**
 * Show the text that was written with the unit held; from the first difference on, it is marked.
 * @param {string} plain
 * @param {string} held
 */
function showHeld(plain, held) {
  const [before, after] = [[...plain], [...held]];
  const firstChange = after.findIndex((character, index) => character !== before[index]);
  const at = firstChange < 0 ? after.length : firstChange;
  byId("held-text").replaceChildren(after.slice(0, at).join(""), element("mark", { textContent: after.slice(at).join("") }));
  byId("held").hidden = false;
}

async function start() {
  setUpTheme(byId("theme"));
  byId("title").textContent = data.title;
  byId("about").textContent = data.subtitle;
  input("layer").max = String(data.network.layers.length - 1);
  input("unit").max = String(data.network.hiddenSize - 1);
  for (const id of ["color", "layer", "unit", "guesses"]) byId(id).addEventListener("change", showOptions);
  byId("stop").addEventListener("click", () => {
    task++;
    setRunning(false);
  });
  const network = await unpackNetwork(data.network);
  setUp(network);
  showOptions();
  await nextTask();
  const difference = findDifference(network, data.vectors);
  byId("verified").textContent = difference
    ? `This browser computes something else than the model (${difference}): its texts are not those of the other programs.`
    : "This browser computes the same bits as the model: a seed is the same text as in the other programs.";
  byId("verified").classList.toggle("failed", difference !== "");
  byId("verified").dataset.products = network.head.native ? "wasm" : "loops";
  byId("verified").dataset.ready = "true";
}

start().catch((error) => {
  const isOld = error instanceof UnsupportedBrowserError;
  byId("verified").textContent = isOld ? "This browser is too old to read the model: it has no DecompressionStream." : String(error);
  byId("verified").classList.add("failed");
});
