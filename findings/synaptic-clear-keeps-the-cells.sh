#!/usr/bin/env bash
# One would guess: `network.clear()` of synaptic ("the network forgets its context, but not what was trained") sets the memory cells
#   of an LSTM to zero, so that the next sequence starts as the first one did.
# What happens: it clears what training traces; states and activations of all neurons stay. After it, a sequence is read with the
#   memory of the last one. `toJSON` keeps the states too, so that a network from a file starts with the last sequence before it
#   was saved. `reset()` sets them to zero, and draws new weights.
# Version: synaptic 1.1.4, node 18 or later.
# Why it matters: outputs depend on what was read before, in training as well, and a test on one sequence after loading gives other
#   numbers than after training. Set `state`, `old` and `activation` of each neuron to zero, in `network.neurons()`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts synaptic@1.1.4 >/dev/null
cat >run.js <<'JS'
const { Architect, Network } = require("synaptic");
console.log("synaptic", require("synaptic/package.json").version);

let seed = 1;
const draw = () => (seed = (seed * 48271) % 2147483647) / 1073741824 - 1; // -1 to 1
const saved = new Architect.LSTM(2, 4, 1).toJSON();
saved.connections.forEach((connection) => (connection.weight = connection.weight === 1 ? 1 : 2 * draw()));
saved.neurons.forEach((neuron) => Object.assign(neuron, { bias: draw(), state: 0, old: 0, activation: 0 }));
const network = Network.fromJSON(saved);

const sequence = [[0, 1], [1, 0], [1, 1], [0, 0], [1, 0]];
const read = (net, steps) => steps.map((step) => net.activate(step)[0]);
const difference = (a, b) => Math.max(...a.map((value, i) => Math.abs(value - b[i])));

const first = read(network, sequence);
network.clear();
const cleared = read(network, sequence);
read(network, [[1, 1], [1, 1], [1, 1]]);
network.clear();
const loaded = read(Network.fromJSON(JSON.parse(JSON.stringify(network.toJSON()))), sequence);
network.neurons().forEach(({ neuron }) => Object.assign(neuron, { state: 0, old: 0, activation: 0 }));
const zeroed = read(network, sequence);

const seen = { cleared, loaded, zeroed };
for (const name in seen) console.log(`${name}: differs by ${difference(first, seen[name]).toExponential(1)} from the first reading`);
process.exit(difference(first, cleared) > 0.01 && difference(first, loaded) > 0.01 && difference(first, zeroed) < 1e-12 ? 0 : 1);
JS
node run.js
