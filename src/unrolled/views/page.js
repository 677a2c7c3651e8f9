// What the pages of unrolled share: elements, text whose parts may be invisible, packed numbers, light and dark.
// Text that comes from data is put on a page as text nodes only, never as HTML.

const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// ---- text

const PLAIN = /^[!-~]+$/;
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/u;
const SPACE = /\p{Zs}/u;
const COMBINING = /^\p{M}/u;
const PICTURE = /^\p{Extended_Pictographic}/u;
const MOST_POINTS = 80;
const MOST_COMBINING = 3;

// The name of a character without a face of its own: a control picture, or its number.
function nameOf(character) {
  const code = character.codePointAt(0);
  if (code < 32) return String.fromCodePoint(0x2400 + code);
  if (code === 127) return "\u2421";
  return "U+" + code.toString(16).toUpperCase().padStart(4, "0");
}

// How one character of a text looks: [what to write, whether it stands in a box].
function lookOf(character, joining, compact) {
  if (character === "\n") return [compact ? "\u21b5" : "\u21b5\n", false];
  if (character === "\t") return [compact ? "\u21e5" : "\u21e5\t", false];
  if (character === " ") return [compact ? "\u2423" : " ", false];
  if (SPACE.test(character) || (UNSEEN.test(character) && !joining)) return [nameOf(character), true];
  return [character, false];
}

// Put a text into an element so that all of it can be seen. Compact: on one line, a space as an open box.
function write(target, text, { end = false, compact = false, most = MOST_POINTS } = {}) {
  if (PLAIN.test(text) && text.length < most) {
    target.textContent = text;
    return target;
  }
  if (text === "") return boxed(target, end ? "end" : "byte");
  const joining = PICTURE.test(text);
  let run = "";
  let points = 0;
  let combining = 0;
  let cut = false;
  const flush = () => { if (run) target.append(run); run = ""; };
  for (const character of text) {
    if (++points > most) break;
    if (!COMBINING.test(character) || UNSEEN.test(character)) combining = 0;
    else if (++combining > MOST_COMBINING) {
      cut = true;
      continue;
    }
    else if (run === "") run = "\u25cc";
    const [look, apart] = lookOf(character, joining, compact);
    if (!apart) run += look;
    else { flush(); boxed(target, look); }
  }
  flush();
  if (cut || points > most) boxed(target, "\u2026");
  return target;
}

function boxed(target, label) {
  target.append(element("i", { className: [...label].length > 1 ? "box" : "box sign", textContent: label }));
  return target;
}

// ---- numbers

class OldBrowser extends Error {}

// Turn base64 of deflated bytes back into numbers.
async function unpack(text, Kind = Uint8Array) {
  if (typeof DecompressionStream === "undefined") throw new OldBrowser();
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at++) bytes[at] = raw.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Kind(await new Response(stream).arrayBuffer());
}

const signed = (value, digits = 2) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(digits);
const percent = (share) => (share > 0 && share < 0.01 ? "<1%" : Math.round(share * 100) + "%");

// ---- light and dark

function setUpTheme(button) {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => { button.ariaLabel = button.title = isDark() ? "Use light colours" : "Use dark colours"; };
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; show(); });
  system.addEventListener("change", show);
  show();
}
