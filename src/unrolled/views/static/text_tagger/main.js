// @ts-check
// A model that gives each token of a text a label, in a page: the labels while one types, and rows. Nothing leaves the page.

import { percent } from "../report/format.js";
import { labelHue } from "../report/label_strips.js";
import { byId, element } from "../shared/dom.js";
import { startAndVerify } from "../shared/model_page.js";
import { nextTask } from "../shared/next_task.js";
import { pageData } from "../shared/page_data.js";
import { setUpHeader } from "../shared/page_header.js";
import { plural, writeText } from "../shared/visible_text.js";
import { createClassifier, findDifference, unpackClassifier } from "../text_classifier/classifier.js";
import { setUpTable, setUpText } from "../text_classifier/table.js";

/** The label of tokens outside of all entities, in the notations of named entities; it has no color. */
const OUTSIDE = "O";
const MAX_TOKEN = 60;

const data = pageData();

/** Return the kind of the entity of a label, such as `PER` of `B-PER`: its labels have one color. @param {string} label */
const kindOf = (label) => label.replace(/^[A-Z]-/, "");

/** @param {ReturnType<typeof createClassifier>} classifier */
function setUp(classifier) {
  /** @type {{ labels: string[], separator: string }} */
  const { labels, separator } = data.model;
  const kinds = [...new Set(labels.filter((label) => label !== OUTSIDE).map(kindOf))];

  /** @param {{ reading: import("../text_classifier/classifier.js").Reading, labels: number[], probabilities: number[] }} found @param {number} own */
  function show({ reading, labels: found, probabilities }, own) {
    const counts = new Map([...new Set(found)].sort((a, b) => a - b).map((label) => [label, found.filter((other) => other === label).length]));
    byId("label").textContent = [...counts].map(([label, count]) => `${plural(count, "token")} ${labels[label]}`).slice(0, 8).join(", ");
    byId("parts").replaceChildren(...reading.tokens.flatMap((token, step) => {
      const name = element("rt", {}, labels[found[step]]);
      const part = element("ruby", { className: "tag", title: `${labels[found[step]]} ${percent(probabilities[step])}` }, writeText(element("span"), token.trim() || token, { max: MAX_TOKEN }), name);
      if (labels[found[step]] !== OUTSIDE) part.style.setProperty("--hue", String(labelHue(kinds.indexOf(kindOf(labels[found[step]])), kinds.length)));
      else part.classList.add("outside");
      return [part, " "];
    }));
    byId("parts").dataset.ready = String(own);
  }

  setUpText(data.model.reader.maxSteps, classifier.tag, show);
  setUpTable(data, (text) => {
    const found = classifier.tag(text);
    if (!found) return ["", ""];
    const mean = found.probabilities.reduce((sum, value) => sum + Math.log(value), 0) / found.probabilities.length;
    return [found.labels.map((label) => labels[label]).join(separator), Math.exp(mean).toFixed(4)];
  }, (truth, answer) => {
    const found = partsOf(answer);
    return partsOf(truth).map((label, step) => label === found[step]);
  });

  /** @param {string} text */
  const partsOf = (text) => (separator ? text.split(/\s+/).filter(Boolean) : Array.from(text));
}

async function start() {
  setUpHeader(data);
  byId("text-hint").textContent = "Type or paste a text: the label of each token follows while you write. The text stays in this page: it has no network.";
  for (const id of ["probabilities", "scale"]) byId(id).remove();
  const model = await unpackClassifier(data.model);
  setUp(createClassifier(model));
  await nextTask();
  return findDifference(model, data.vectors);
}

void startAndVerify(start);
