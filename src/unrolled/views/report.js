// The report: which sections there are, and what each is made of. A section without data is taken off the page.

const filled = (value) => value !== null && value !== undefined && value !== "" && (typeof value !== "object" || Object.keys(value).length > 0);

// Name of a section: [what of the data it shows, how].
const SECTIONS = {
  result: [(all) => all, resultSection],
  samples: [(all) => all.samples, samplesSection],
  curves: [(all) => all.curves, curvesSection],
  table: [(all) => all.table, tableSection],
  confusion: [(all) => all.table?.confusion, confusionSection],
  attention: [(all) => all.attention, attentionSection],
  errors: [(all) => all.errors, errorsSection],
  baselines: [(all) => all.baselines, baselinesSection],
  counting: [(all) => all.ngram_samples, countingSection],
  anatomy: [(all) => all.anatomy, anatomySection],
  memory: [(all) => all.memory, memorySection],
  detectors: [(all) => all.detectors, detectorsSection],
  reach: [(all) => all.reach, reachSection],
  gates: [(all) => all.gates, gatesSection],
  histograms: [(all) => all.histograms, histogramsSection],
  settings: [(all) => all.settings, settingsSection],
};

// ---- the result

function resultSection({ headline, verdict, advice, command }) {
  const parts = [];
  if (filled(headline)) parts.push(element("dl", { className: "tiles" }, ...headline.map(tile)));
  if (filled(verdict)) parts.push(told(verdict, "verdict"));
  if (filled(advice)) {
    const items = advice.map((text) => put(element("li"), text, { most: 1000 }));
    parts.push(element("div", { className: "advice" }, element("h3", { textContent: "What to try next" }), element("ul", {}, ...items)));
  }
  if (filled(command)) {
    const line = put(element("code", { className: "command" }), command, { most: 1000 });
    parts.push(element("div", { className: "advice" }, element("h3", { textContent: "To go on from here" }), line));
  }
  return parts;
}

// A value whose number is large and whose unit is small.
function tile({ name, value, note }) {
  const [, number, unit] = /^(\S*\d\S*)\s+(\S.*)$/.exec(String(value ?? "")) ?? [null, String(value ?? ""), ""];
  const shown = element("dd", { className: "value number" }, put(element("span"), number, { most: 24 }));
  if (unit) shown.append(element("small", {}, " ", put(element("span"), unit, { most: 40 })));
  return element("div", {}, put(element("dt"), name ?? ""), shown, element("dd", { className: "soft" }, put(element("span"), note ?? "", { most: 120 })));
}

// ---- settings

const isGiven = (row) => row[2] === "given";

function settingsSection(groups) {
  const shown = groups.filter((group) => filled(group.rows));
  const given = shown.flatMap((group) => group.rows.filter(isGiven));
  const list = given.map(([name, value]) => element("span", { className: "chip code" }, write(element("span"), `${name} ${value}`, { most: 120 })));
  const summary = element("p", { className: "given" }, given.length ? "Given: " : "Nothing was given: all of it is the recipe's.", ...list);
  return shown.length ? [summary, ...shown.map(settingsGroup)] : [];
}

function settingsGroup({ group, rows }) {
  const given = rows.filter(isGiven).length;
  const head = element("summary", {}, put(element("b"), group), element("span", { className: "soft small" }, ` ${rows.length} settings${given ? `, ${given} given` : ""}`));
  const lines = rows.map((row) => element("tr", { className: isGiven(row) ? "is-given" : "" },
    put(element("th", { scope: "row" }), row[0]), put(element("td", { className: "code" }), row[1] ?? "", { most: 400 }),
    put(element("td", { className: "soft" }), row[2] ?? "", { most: 120 })));
  return element("details", {}, head, element("div", { className: "scroller" }, element("table", { className: "settings" }, element("tbody", {}, ...lines))));
}

// ---- the page

function fill(id, [of, make], all) {
  const section = byId(id);
  let parts = [];
  try {
    const data = of(all);
    parts = filled(data) ? make(data, all) : [];
  } catch (error) {
    parts = [told(`This part could not be shown: ${error.message}`, "soft")];
    console.error(error);
  }
  if (parts.length) section.querySelector(".body").append(...parts);
  else section.remove();
}

// Some of what is said about a chart holds only of some runs.
function setUpHints(all) {
  const holds = { references: filled(all.curves?.references), texts: !filled(all.table) };
  for (const hint of document.querySelectorAll("[data-for]")) if (!holds[hint.dataset.for]) hint.remove();
}

function setUpContents() {
  const links = new Map();
  for (const section of byId("sections").children) {
    const link = element("a", { href: `#${section.id}`, textContent: section.querySelector("h2").textContent });
    links.set(section, link);
    byId("contents").append(element("li", {}, link));
  }
  const inView = new Set();
  const watcher = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) inView[isIntersecting ? "add" : "delete"](target);
    const current = [...links.keys()].find((section) => inView.has(section));
    if (current) for (const [section, link] of links) link.ariaCurrent = String(section === current);
  }, { rootMargin: "-15% 0px -55% 0px" });
  for (const section of links.keys()) watcher.observe(section);
}

// On paper nothing can be opened.
function setUpPrint() {
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
}

function start() {
  const all = JSON.parse(byId("data").textContent);
  setUpTheme(byId("theme"));
  write(byId("title"), String(all.title), { most: 200 });
  if (filled(all.subtitle)) write(byId("subtitle"), String(all.subtitle), { most: 400 });
  if (filled(all.made)) write(byId("made"), String(all.made), { most: 300 });
  byId("app").hidden = false;
  for (const [id, spec] of Object.entries(SECTIONS)) fill(id, spec, all);
  setUpHints(all);
  setUpContents();
  setUpPrint();
}

start();
