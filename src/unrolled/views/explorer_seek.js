// The two fields: going to a unit, and finding text.

// ---- going to a unit

function unitHits(text) {
  const meant = unitMeant(text, Math.floor(state.unit / model.hidden));
  const wanted = text.trim().toLowerCase();
  const matches = model.probes.filter((probe) => `${probe.feature} ${probe.means}`.toLowerCase().includes(wanted));
  const rows = meant === null ? [] : [unitRow(meant, namesOf(meant), "")];
  return rows.concat(matches.slice(0, FEW).map(probeRow));
}

function setUpUnitSearch(field) {
  const hits = byId("unit-hits");
  const close = () => { hits.hidden = true; };
  field.addEventListener("input", () => {
    const rows = field.value.trim() ? unitHits(field.value) : [];
    const nothing = element("p", { className: "soft", textContent: `No such unit or feature. Units run from 0.0 to ${unitName(model.units - 1)}.` });
    hits.replaceChildren(rows.length ? element("ul", { className: "rows" }, ...rows) : nothing);
    hits.hidden = !field.value.trim();
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") hits.querySelector("button")?.click();
    if (event.key === "Escape") { field.value = ""; close(); field.blur(); }
    if (event.key === "ArrowDown") { event.preventDefault(); hits.querySelector("button")?.focus(); }
  });
  hits.addEventListener("click", () => { field.value = ""; close(); });
  addEventListener("pointerdown", (event) => { if (!event.target.closest?.(".seek")) close(); });
}

// ---- finding text

let offsets;
let whole;

function setUpText() {
  whole = model.symbols.join("");
  offsets = new Uint32Array(model.count + 1);
  model.symbols.forEach((text, place) => { offsets[place + 1] = offsets[place] + text.length; });
}

// The symbol that covers a character of the text.
function symbolAt(offset) {
  let [low, high] = [0, model.count - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (offsets[middle] <= offset) low = middle;
    else high = middle - 1;
  }
  return low;
}

function findAll(wanted) {
  if (!wanted) return [];
  const pattern = new RegExp(wanted.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "giu");
  return Array.from(whole.matchAll(pattern), (hit) => [symbolAt(hit.index), symbolAt(hit.index + hit[0].length - 1)]);
}

function find(wanted) {
  for (let place = 0; place < model.count; place++) marks[place] &= ~(MARK.found | MARK.current);
  state.found = findAll(wanted);
  for (const [first, last] of state.found) for (let place = first; place <= last; place++) marks[place] |= MARK.found;
  state.current = -1;
  if (state.found.length) goToFound(1);
  else showFound();
}

function goToFound(step) {
  if (!state.found.length) return;
  const mark = (on) => {
    const [first, last] = state.found[state.current] ?? [1, 0];
    for (let place = first; place <= last; place++) marks[place] = on ? marks[place] | MARK.current : marks[place] & ~MARK.current;
  };
  mark(false);
  state.current = (state.current + step + state.found.length) % state.found.length;
  mark(true);
  showFound();
  flowShown().reveal(state.found[state.current][0]);
}

function showFound() {
  repaintAll();
  byId("find-count").textContent = byId("find").value ? `${state.current + 1} of ${state.found.length}` : "";
  for (const name of ["find-previous", "find-next"]) byId(name).hidden = !state.found.length;
}

function setUpFind(field) {
  field.addEventListener("input", () => find(field.value));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") goToFound(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") { field.value = ""; find(""); field.blur(); }
  });
  byId("find-previous").addEventListener("click", () => goToFound(-1));
  byId("find-next").addEventListener("click", () => goToFound(1));
}
