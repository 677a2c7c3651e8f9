// A scored text: every symbol on the colour of its bits.

const MOST_BITS = 10;
const data = JSON.parse(byId("data").textContent);

function symbolSpan(text, hundredths) {
  const made = write(element("span", { className: "s" }), text);
  if (hundredths < 0) return made;
  const share = Math.min(1, hundredths / 100 / MOST_BITS);
  made.style.backgroundColor = `color-mix(in srgb, var(--heat) ${Math.round(share * 100)}%, transparent)`;
  made.title = `${(hundredths / 100).toFixed(2)} bits`;
  return made;
}

function lineItem(line, own) {
  const code = element("code", {}, ...line.text.map((symbol, at) => symbolSpan(symbol, line.bits[at] ?? -1)));
  if (line.cut) code.append(element("i", { className: "box", textContent: "…" }));
  const number = own
    ? element("a", { textContent: line.number.toLocaleString("en"), href: `#line-${line.number}` })
    : element("a", { textContent: line.number.toLocaleString("en") });
  const means = element("span", { className: "means", textContent: line.means.map((bits) => bits.toFixed(2)).join("  ") });
  return element("li", own ? {} : { id: `line-${line.number}` }, number, means, code);
}

function showModels() {
  byId("models").hidden = false;
  byId("models").tBodies[0].append(...data.models.map((model) => element("tr", {},
    write(element("td"), model.name, { most: 200 }),
    element("td", { textContent: model.bits.toFixed(4) }),
    element("td", { textContent: model.best.toLocaleString("en") }))));
}

setUpTheme(byId("theme"));
write(byId("title"), data.title, { most: 200 });
const unknown = data.unknown ? `, ${data.unknown.toLocaleString("en")} of them unknown to the model` : "";
byId("about").textContent = `${data.models[0].bits.toFixed(3)} bits a character over ${data.characters.toLocaleString("en")} ` +
  `characters${unknown}, ${data.count.toLocaleString("en")} lines`;
byId("most").textContent = `${MOST_BITS}+`;
if (data.models.length > 1) showModels();
byId("top").append(...data.top.map((line) => lineItem(line, true)));
byId("lines").append(...data.lines.map((line) => lineItem(line, false)));
if (data.count > data.lines.length) byId("rest").textContent = `... and ${(data.count - data.lines.length).toLocaleString("en")} lines more`;
