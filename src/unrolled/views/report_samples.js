// Samples as training went on, with a slider; and what counting writes beside what the network writes.

const PLAY_EVERY = 1100; // milliseconds

function samplesSection(samples) {
  player.samples = samples;
  player.at = samples.length - 1;
  const pane = element("div", { className: "stage", tabIndex: 0, role: "region", ariaLabel: "The sample" });
  pane.style.height = `${heightOf(samples)}px`;
  const where = element("p", { className: "readout number" });
  const slider = element("input", { type: "range", min: 0, max: samples.length - 1, step: 1, ariaLabel: "Sample" });
  const show = () => {
    const sample = samples[player.at];
    pane.replaceChildren(prose(sample.text ?? "", "code prose bare"));
    pane.scrollTop = 0;
    where.replaceChildren(...whereOf(sample));
    slider.value = player.at;
    slider.ariaValueText = where.textContent;
  };
  player.watchers.push(show);
  const controls = playerControls(slider);
  show();
  return samples.length > 1 ? [controls, where, pane] : [where, pane];
}

// One height for all samples, so that the page stands still as they change; the longest scrolls.
function heightOf(samples) {
  const lines = samples.map(({ text }) => String(text ?? "").split("\n").reduce((sum, one) => sum + Math.ceil((one.length + 1) / 90), 0));
  return Math.min(340, Math.max(120, Math.max(...lines) * 21 + 26));
}

function whereOf(sample) {
  const parts = [element("b", {}, `step ${whole(sample.step)}`)];
  if (known(sample.seconds)) parts.push(element("span", {}, `after ${duration(sample.seconds)}`));
  if (known(sample.val_nats)) parts.push(element("span", {}, `validation ${fixed(sample.val_nats)} nats (${fixed(sample.val_nats / LN2)} bits)`));
  return parts;
}

function playerControls(slider) {
  const button = (label, sign, work) => {
    const made = element("button", { type: "button", className: "square", ariaLabel: label, title: label, textContent: sign });
    made.addEventListener("click", work);
    return made;
  };
  let timer = 0;
  const stop = () => { clearInterval(timer); timer = 0; play.ariaPressed = "false"; play.textContent = "Play"; };
  const by = (step) => () => { stop(); chooseSample(player.at + step); };
  const next = () => {
    chooseSample(player.at + 1);
    if (player.at === player.samples.length - 1) stop();
  };
  const play = element("button", { type: "button", className: "play", textContent: "Play", ariaPressed: "false" });
  play.addEventListener("click", () => {
    if (timer) return stop();
    chooseSample(player.at === player.samples.length - 1 ? 0 : player.at);
    timer = setInterval(next, PLAY_EVERY);
    play.ariaPressed = "true";
    play.textContent = "Pause";
    return undefined;
  });
  slider.addEventListener("input", () => { stop(); chooseSample(slider.valueAsNumber); });
  return element("div", { className: "player" }, button("Previous sample", "\u2039", by(-1)), slider, button("Next sample", "\u203a", by(1)), play);
}

// ---- counting beside the network

function countingSection(grams, all) {
  const written = element("div", { className: "stage", tabIndex: 0, role: "region", ariaLabel: "What the n-gram wrote" });
  const show = (name) => {
    const gram = grams.find((one) => one.name === name) ?? grams[0];
    written.replaceChildren(prose(gram.text ?? "", "code prose bare"));
  };
  const start = grams.at(-1).name;
  show(start);
  const heads = grams.length > 1
    ? choices("Which n-gram", grams.map(({ name }) => [name, name]), start, show)
    : told(start, "soft");
  const left = element("div", { className: "half" }, element("div", { className: "half-head" }, element("h3", { textContent: "Counting" }), heads), written);
  if (!all.model_sample) return [left];
  const stage = element("div", { className: "stage", tabIndex: 0, role: "region", ariaLabel: "What the network wrote" }, prose(all.model_sample, "code prose bare"));
  const head = element("div", { className: "half-head" }, element("h3", { textContent: "The network" }));
  return [element("div", { className: "halves" }, left, element("div", { className: "half" }, head, stage))];
}
