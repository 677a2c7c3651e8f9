// The data of the page, unpacked: what was read, and what each unit did meanwhile.

const NAMES = {
  h: "state", c: "memory", i: "input gate", f: "forget gate", g: "candidate", o: "output gate",
  r: "reset gate", z: "update gate", n: "candidate",
};
const SHORT = { c: "tanh c" };
const NO_SURPRISE = 65535;
const NO_CHANGE = -32768;
let model;

// One signal of all units: a level for each symbol, unit by unit.
class Signal {
  constructor(spec, bytes, count) {
    Object.assign(this, { name: spec.name, fine: spec.fine, low: spec.low, top: spec.top, bytes, count });
    this.width = spec.fine ? count : Math.ceil(count / 2);
    this.title = NAMES[spec.name] ?? spec.name;
    this.short = SHORT[spec.name] ?? spec.name;
    this.isGate = spec.low === 0;
    this.values = Float32Array.from({ length: spec.fine ? 256 : 16 }, (_, level) => this.valueOf(level));
    this.opened = { unit: -1, row: null };
    if (spec.moving) undoMoves(bytes, this.width);
  }

  valueOf(level) {
    return level > this.top ? NaN : this.low + (level / this.top) * (1 - this.low);
  }

  // The levels of one unit. A signal in half bytes is spread out, and the last one asked for is kept.
  row(unit) {
    const packed = this.bytes.subarray(unit * this.width, (unit + 1) * this.width);
    if (this.fine) return packed;
    if (this.opened.unit !== unit) {
      const row = new Uint8Array(this.width * 2);
      for (let at = 0; at < packed.length; at++) {
        row[2 * at] = packed[at] & 15;
        row[2 * at + 1] = packed[at] >> 4;
      }
      this.opened = { unit, row: row.subarray(0, this.count) };
    }
    return this.opened.row;
  }

  at(unit, place) {
    return this.values[this.row(unit)[place]];
  }
}

function undoMoves(bytes, width) {
  for (let start = 0; start < bytes.length; start += width) {
    for (let at = start + 1; at < start + width; at++) bytes[at] += bytes[at - 1];
  }
}

async function load(raw) {
  const count = raw.symbols.length;
  const signals = Promise.all(raw.signals.map(async (spec) => new Signal(spec, await unpack(spec.data), count)));
  const effects = Promise.all(raw.effects.map(async (spec) => ({ ...spec, changes: await unpack(spec.changes, Int16Array) })));
  return {
    ...raw,
    count,
    units: raw.layers * raw.hidden,
    ends: new Set(raw.ends),
    endIds: new Set(raw.endIds),
    guessIds: await unpack(raw.guessIds, Uint32Array),
    guessChances: await unpack(raw.guessChances, Uint16Array),
    surprise: await unpack(raw.surprise, Uint16Array),
    signals: await signals,
    effects: await effects,
    probesOf: Map.groupBy ? Map.groupBy(raw.probes, (probe) => probe.unit) : grouped(raw.probes),
  };
}

function grouped(probes) {
  const groups = new Map();
  for (const probe of probes) groups.set(probe.unit, [...(groups.get(probe.unit) ?? []), probe]);
  return groups;
}

const unitName = (unit) => `${Math.floor(unit / model.hidden)}.${unit % model.hidden}`;

function bitsAt(place) {
  const level = model.surprise[place];
  return level === NO_SURPRISE ? NaN : level / 1000;
}

function changeAt(effect, place) {
  const level = effect.changes[place];
  return level === NO_CHANGE ? NaN : level / 100;
}

function guessesAt(place) {
  const next = model.symbols[place + 1];
  return Array.from({ length: model.guesses }, (_, rank) => {
    const id = model.guessIds[place * model.guesses + rank];
    const text = model.alphabet[id] ?? "\ufffd";
    const end = model.endIds.has(id);
    const came = model.labels ? false : end ? model.ends.has(place + 1) : text !== "" && text === next;
    return { text, end, came, chance: model.guessChances[place * model.guesses + rank] / 65535 };
  });
}

// The unit that a reader means by "0.12", by "12" (in the layer shown), or null.
function unitMeant(text, layer) {
  const found = /^\s*(?:(\d+)\s*[.:]\s*)?(\d+)\s*$/.exec(text);
  if (!found) return null;
  const [inLayer, unit] = [Number(found[1] ?? layer), Number(found[2])];
  return inLayer < model.layers && unit < model.hidden ? inLayer * model.hidden + unit : null;
}
