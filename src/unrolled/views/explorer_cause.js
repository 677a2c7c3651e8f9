// What changes when a unit is held at a value: the text in bits, and a sample with and without it.

function setUpCause() {
  model.effects.forEach(measureEffect);
  byId("effects").replaceChildren(...model.effects.map(effectRow));
}

// The colours of the text, from the change at which nearly all places are no stronger.
function measureEffect(effect) {
  const sizes = Array.from(effect.changes).filter((level) => level !== NO_CHANGE).map((level) => Math.abs(level) / 100);
  sizes.sort((a, b) => a - b);
  effect.scale = Math.max(0.1, sizes[Math.floor(sizes.length * 0.99)] ?? 0);
  const levels = Uint8Array.from({ length: model.count }, (_, place) => shade("e", changeAt(effect, place) / effect.scale));
  effect.colour = { levels, table: CLASSES.map((_, index) => index) };
}

const heldAs = (effect) => (effect.value ? `held at ${signed(effect.value)}` : "silenced");

function effectRow(effect) {
  const top = element("span", { className: "row-top" },
    element("span", { className: "code", textContent: unitName(effect.unit) }),
    element("b", { textContent: heldAs(effect) }));
  const cost = element("span", { className: "soft number", textContent: `${signed(effect.bits ?? 0, 3)} bits a symbol` });
  const button = element("button", { type: "button", className: "plain row" }, top, cost);
  if (effect.feature) button.append(element("span", { className: "soft", textContent: effect.feature }));
  button.addEventListener("click", () => chooseEffect(model.effects.indexOf(effect)));
  return element("li", {}, button);
}

function showSamples(effect) {
  const [before, after] = [Array.from(effect.before), Array.from(effect.after)];
  let same = 0;
  while (same < before.length && same < after.length && before[same] === after[same]) same++;
  byId("samples").replaceChildren(
    sample("As the model writes", before, same),
    sample(`With unit ${unitName(effect.unit)} at ${signed(effect.value ?? 0)}`, after, same),
    element("p", { className: "soft", textContent: `Both from seed ${effect.seed}. ${differenceOf(before, after, same)}` }));
}

function differenceOf(before, after, same) {
  if (same === before.length && same === after.length) return "They do not differ.";
  return `They are the same for ${same} characters; the first that differs is marked.`;
}

function sample(title, points, same) {
  const rest = (from, to) => write(document.createElement("span"), points.slice(from, to).join("") || " ", { most: Infinity });
  const text = element("div", { className: "sample code" });
  if (same) text.append(Object.assign(rest(0, same), { className: "same" }));
  if (same < points.length) text.append(write(document.createElement("mark"), points[same], { most: Infinity }));
  if (same + 1 < points.length) text.append(rest(same + 1));
  return element("div", {}, element("h2", { textContent: title }), text);
}
