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

SCRIPT = "writer/model.js"
REPLAY = """
const { unpackNetwork, findDifference } = __modules["writer/model.js"];
for (const hasVectors of [true, false]) {
  const network = await unpackNetwork(data.network, hasVectors);
  if (hasVectors && !network.head.native) fail("node has no WebAssembly with vector instructions: node 16.4 or later has");
  const difference = findDifference(network, data.vectors);
  fail(difference && difference + (hasVectors ? " (WebAssembly)" : ""));
}
"""
READ_DATA = """
let text = "";
for await (const chunk of process.stdin) text += chunk;
const data = JSON.parse(text);
const fail = (difference) => {
  if (!difference) return;
  console.error(difference);
  process.exit(1);
};
"""


def export(job: ExportJob) -> ExportResult:
    """Return the page of a model, checked. Raises `ExportError` if it computes something else."""
    if job.weights != "int8":
        raise UsageError(f"--weights is {job.weights}; the HTML page has int8 weights: leave --weights out.")
    portable = PortableNetwork(job.model.network)
    checks, facts = check_rounding(job, portable)
    vectors = make_vectors(portable)
    page = writer_page(portable, job.model.tokenizer, job.title, job.description, vectors.to_json())
    steps, draws = len(vectors.tokens), len(vectors.drawn)
    checked = f"{steps} steps with all logits and states, {draws} draws, the same bits with and without WebAssembly"
    checks.append(check_in_node(page, SCRIPT, REPLAY, checked))
    return ExportResult({job.out: page.encode()}, checks, facts | {"weights": "int8"})


def check_in_node(page: str, entry: str, replay: str, checked: str) -> str:
    """Replay the test vectors of a page with its own arithmetic, where there is node; say what was checked.

    Args:
        page: The page; its data are parsed.
        entry: The module that computes, in the folder of static files.
        replay: JavaScript that calls `fail` with what differs between `data.vectors` and what the module computes.
        checked: What node checks, in words.

    Raises:
        ExportError: Something differs.
    """
    node = shutil.which("node")
    if node is None:
        return "its script was not run: there is no node here. The page replays its test vectors when it opens"
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    script = link(STATIC, entry) + READ_DATA + replay
    command = [node, "--input-type=module", "--eval", script]
    run_program(command, "The page computes something else than the model", found[1] if found else "{}")
    return f"node: {checked}"
