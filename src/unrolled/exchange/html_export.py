"""`--to html`: one page that works offline, its arithmetic run by node before it is written, where there is node."""

from __future__ import annotations

import re
import shutil

from unrolled.errors import UsageError
from unrolled.exchange.export_job import ExportJob, ExportResult, check_rounding, run_program
from unrolled.exchange.vectors import make_vectors
from unrolled.runtime.portable import PortableNetwork
from unrolled.views.html_page import STATIC
from unrolled.views.js_linker import link
from unrolled.views.writer_page import writer_page

REPLAY = """
let text = "";
for await (const chunk of process.stdin) text += chunk;
const data = JSON.parse(text);
const { unpackNetwork, findDifference } = __modules["writer/model.js"];
for (const hasVectors of [true, false]) {
  const network = await unpackNetwork(data.network, hasVectors);
  if (hasVectors && !network.head.native) {
    console.error("node has no WebAssembly with vector instructions: node 16.4 or later has");
    process.exit(1);
  }
  const difference = findDifference(network, data.vectors);
  if (difference) {
    console.error(difference + (hasVectors ? " (WebAssembly)" : ""));
    process.exit(1);
  }
}
"""


def export(job: ExportJob) -> ExportResult:
    """Return the page of a model, checked. Raises `ExportError` if it computes something else."""
    if job.weights != "int8":
        raise UsageError(f"--weights is {job.weights}; the HTML page has int8 weights: leave --weights out.")
    portable = PortableNetwork(job.model.network)
    checks, facts = check_rounding(job, portable)
    vectors = make_vectors(portable)
    page = writer_page(portable, job.model.tokenizer, job.title, job.description, vectors.to_json())
    node = shutil.which("node")
    if node is None:
        checks.append("its script was not run: there is no node here. The page replays its test vectors when it opens")
    else:
        replay_in_node(node, page)
        steps, draws = len(vectors.tokens), len(vectors.drawn)
        checks.append(
            f"node: {steps} steps with all logits and states, {draws} draws, the same bits with and without WebAssembly"
        )
    return ExportResult({job.out: page.encode()}, checks, facts | {"weights": "int8"})


def replay_in_node(node: str, page: str) -> None:
    """Replay the test vectors of a page with its own arithmetic. Raises `ExportError` if a bit differs."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    data = found[1] if found else "{}"
    script = link(STATIC, "writer/model.js") + REPLAY
    command = [node, "--input-type=module", "--eval", script]
    run_program(command, "The page computes something else than the model", data)
