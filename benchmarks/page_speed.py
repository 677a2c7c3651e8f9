"""Characters per second of the HTML page in headless Chromium, compared with onnxruntime-web stepping the exported ONNX.

    python benchmarks/page_speed.py [--layers 2] [--hidden 256] [--runs 9] [--steps 300]

Needs npm, Chromium, playwright and `unrolled[export]`. Both run on one thread of the same page, in alternating runs; each step
is followed by the draw of the page. onnxruntime-web is installed in a temporary folder. Last, the page itself writes a text.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import statistics
import subprocess
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from unrolled.exchange.onnx_graph import build_graph
from unrolled.exchange.vectors import make_vectors
from unrolled.runtime.portable import PortableNetwork
from unrolled.runtime.portable_arithmetic import Floats
from unrolled.runtime.text_network import GATE_NAMES, TextLayer, TextNetwork
from unrolled.text.tokenizer import CharTokenizer
from unrolled.views.html_page import STATIC, to_script_json
from unrolled.views.js_linker import link
from unrolled.views.writer_page import network_data, writer_page

ONNXRUNTIME_WEB = "onnxruntime-web@1.30.0"
TIMEOUT = 60_000
CHARACTERS = "\n !$&',-.3:;?" + "".join(map(chr, [*range(65, 91), *range(97, 123)]))
HARNESS = """<!doctype html><meta charset="utf-8"><script type="application/json" id="data">{data}</script>
<script type="module">
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
{script}
const {{ unpackNetwork }} = __modules["writer/model.js"];
const {{ createStepper, drawToken }} = __modules["writer/portable.js"];
const data = JSON.parse(document.getElementById("data").textContent);
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = location.origin + "/node_modules/onnxruntime-web/dist/";
const session = await ort.InferenceSession.create("./step.onnx", {{ executionProviders: ["wasm"] }});
const names = session.inputNames.slice(1);

const pageStep = async (hasVectors) => {{
  const stepper = createStepper(await unpackNetwork(data.network, hasVectors));
  return (steps) => {{
    const state = stepper.initialState();
    for (let i = 0, token = 1; i < steps; i++) {{
      stepper.step(state, token);
      token = drawToken(state.logits, 0.8, 1, i);
    }}
  }};
}};

async function onnxSteps(steps) {{
  const size = data.network.hiddenSize;
  let states = names.map(() => new ort.Tensor("float32", new Float32Array(size), [1, size]));
  for (let i = 0, token = 1; i < steps; i++) {{
    const feeds = {{ token: new ort.Tensor("int64", BigInt64Array.of(BigInt(token)), [1]) }};
    names.forEach((name, index) => feeds[name] = states[index]);
    const results = await session.run(feeds);
    states = names.map((name) => results["next_" + name]);
    token = drawToken(results.logits.data, 0.8, 1, i);
  }}
}}

const kinds = {{ page: await pageStep(true), loops: await pageStep(false), onnx: onnxSteps }};
window.measure = async (kind, steps) => {{
  const begin = performance.now();
  await kinds[kind](steps);
  return steps / (performance.now() - begin) * 1000;
}};
window.ready = true;
</script>
"""


def random_network(num_layers: int, units: int) -> TextNetwork:
    """Return a residual LSTM with random weights: the time does not depend on them."""
    generator, names, vocab_size = np.random.default_rng(0), GATE_NAMES["lstm"], len(CHARACTERS)

    def draw(*shape: int) -> Floats:
        return generator.uniform(-1 / 16, 1 / 16, shape).astype(np.float32)

    norm = np.ones(units, np.float32)
    layers = [
        TextLayer(names, draw(4 * units, units), draw(4 * units, units), draw(4 * units), None, norm, draw(units))
        for _ in range(num_layers)
    ]
    return TextNetwork("lstm", tuple(layers), draw(vocab_size, units), draw(vocab_size), draw(vocab_size, units), True)


def write_site(folder: Path, num_layers: int, units: int) -> None:
    """Write the page, the ONNX file, the page that measures, and onnxruntime-web."""
    network = random_network(num_layers, units)
    portable = PortableNetwork(network)
    page = writer_page(portable, CharTokenizer(CHARACTERS), "speed", "", make_vectors(portable).to_json())
    (folder / "page.html").write_text(page, "utf-8")
    (folder / "step.onnx").write_bytes(build_graph(network, True, False, {}).SerializeToString())
    data = to_script_json({"network": network_data(portable)})
    (folder / "measure.html").write_text(HARNESS.format(data=data, script=link(STATIC, "writer/model.js")), "utf-8")
    subprocess.run(["npm", "install", "--silent", "--no-fund", ONNXRUNTIME_WEB], cwd=folder, check=True)


def measure(site: str, runs: int, steps: int, chromium: str) -> dict[str, Any]:
    """Return the speeds of each kind, by run, and what the page says of itself after it wrote a text."""
    speeds: dict[str, Any] = {"page": [], "loops": [], "onnx": []}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.on("pageerror", lambda error: print(error))
        page.goto(f"{site}/measure.html")
        page.wait_for_function("window.ready", timeout=TIMEOUT)
        for run in range(-1, runs):  # the first is not counted: the compiler of the browser is still at work
            for kind, results in speeds.items():
                speed = page.evaluate("([kind, steps]) => measure(kind, steps)", [kind, steps])
                if run >= 0:
                    results.append(speed)
        page.goto(f"{site}/page.html")
        page.wait_for_selector("#write button:not([disabled])")
        page.fill("#length", "3000")
        page.click("#write button")
        page.wait_for_selector("#speed:has-text('3000 tokens')", timeout=TIMEOUT)
        speeds["written"] = page.text_content("#speed")
        browser.close()
    return speeds


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and prints nothing."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript", ".wasm": "application/wasm"}

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


def main() -> None:
    """Print the medians and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("--layers", 2), ("--hidden", 256), ("--runs", 9), ("--steps", 300)):
        parser.add_argument(name, type=int, default=value)
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        parser.error("there is no Chromium here")
    with tempfile.TemporaryDirectory() as name:
        write_site(Path(name), options.layers, options.hidden)
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=name))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        speeds = measure(f"http://127.0.0.1:{server.server_port}", options.runs, options.steps, chromium)
        server.shutdown()
    written = speeds.pop("written")
    ratios = {kind: [a / b for a, b in zip(speeds[kind], speeds["onnx"], strict=True)] for kind in ("page", "loops")}
    print(f"{options.layers}x{options.hidden}, characters a second, medians of {options.runs}: " + json.dumps(
        {kind: round(statistics.median(results)) for kind, results in speeds.items()}
    ))  # fmt: skip
    print("compared with onnxruntime-web: " + json.dumps({k: round(statistics.median(r), 2) for k, r in ratios.items()}))
    print(f"the page itself: {written}")


if __name__ == "__main__":
    main()
