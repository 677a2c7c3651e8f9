// Tables of numbers: the metrics of a model of rows, its errors, and the text models beside simpler ones.

function grid(head, rows, className = "") {
  const cell = (tag) => (value) => (value instanceof Node ? element(tag, {}, value) : put(element(tag), value ?? "", { most: 400 }));
  const body = rows.map((row) => element("tr", {}, ...row.map(cell("td"))));
  const titles = element("thead", {}, element("tr", {}, ...head.map(cell("th"))));
  for (const title of titles.querySelectorAll("th")) title.scope = "col";
  return element("div", { className: "scroller" }, element("table", { className }, titles, element("tbody", {}, ...body)));
}

const metric = (value) => (known(value) ? String(Number(value.toPrecision(4))).replace("-", "\u2212") : "\u2013");

function tableSection(data) {
  const metrics = Object.entries(data.metrics ?? {});
  const others = Object.entries(data.baselines ?? {});
  const parts = [];
  if (metrics.length) {
    const rows = metrics.map(([name, value]) => [
      put(element(name === data.headline ? "b" : "span"), name),
      element("b", { className: "ours", textContent: metric(value) }), ...others.map(([, own]) => metric(own[name])),
    ]);
    parts.push(grid(["metric", "this model", ...others.map(([name]) => name)], rows, "number metrics"));
  }
  if (known(data.rows)) parts.push(told(`On ${whole(data.rows)} rows.`, "soft small"));
  if (data.notes?.length) parts.push(element("ul", { className: "notes" }, ...data.notes.map((note) => put(element("li"), note, { most: 600 }))));
  return parts;
}

// ---- errors

function errorsSection(errors) {
  const sure = (error) => (known(error.probability) ? error.probability : -1);
  const items = [...errors].sort((a, b) => sure(b) - sure(a)).map(errorItem);
  return [element("ol", { className: "errors" }, ...items)];
}

function errorItem({ source, truth, predicted, probability }) {
  const field = (name, text, className = "") => element("span", { className: `field-of ${className}` }, element("small", { className: "soft", textContent: name }), face(text, { most: 400 }));
  const item = element("li", {}, field("source", source, "wide"), field("truth", truth), field("answer", predicted));
  if (known(probability)) {
    const sure = element("span", { className: "field-of sure" }, element("small", { className: "soft", textContent: "sure" }), element("b", { className: "number", textContent: share(probability) }));
    item.append(sure);
  }
  return item;
}

// ---- baselines

function bar(part, className) {
  const fill = element("span", { className: `fill ${className}` });
  fill.style.width = `${Math.max(0, Math.min(1, part)) * 100}%`;
  return element("span", { className: "track", ariaHidden: "true" }, fill);
}

function baselinesSection({ rows = [], note }) {
  const measured = rows.filter((row) => known(row.nats)).sort((a, b) => a.nats - b.nats);
  const most = measured.reduce((top, row) => Math.max(top, row.nats), 0) || 1;
  const items = measured.map((row) => element("li", { className: row.is_model ? "ours" : "" },
    put(element("span", { className: "name" }), row.name), bar(row.nats / most, row.is_model ? "first" : "other"),
    element("span", { className: "number" }, element("b", {}, fixed(row.nats)), " nats"),
    element("span", { className: "number soft" }, `${fixed(row.bits ?? row.nats / LN2)} bits`)));
  const parts = measured.length ? [element("ol", { className: "baselines" }, ...items)] : [];
  return note && parts.length ? [...parts, told(note, "soft small")] : parts;
}
