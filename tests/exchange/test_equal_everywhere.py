"""One seed is one text: 10,000 characters of each cell by every program that computes the portable step, and equal states."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from support.cli import Cli
from support.native import NATIVE, SETS
from support.pages import open_page
from support.text_networks import CELLS, HARD_CELLS, NEWER_CELLS, saved_model
from unrolled.exchange.vectors import hash_step
from unrolled.generation.sampling import encode_prompt
from unrolled.options import SampleOptions
from unrolled.runtime.native_portable import CELL_KINDS, NativePortableNetwork
from unrolled.runtime.portable import PortableNetwork
from unrolled.runtime.portable_draw import draw_token, token_odds
from unrolled.runtime.text_network import TextModel, read_text_model
from unrolled.views.html_page import STATIC
from unrolled.views.js_linker import link

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LENGTH, SEED = 10_000, 5
PORTABLE_CELLS = list(dict.fromkeys([*CELLS, *(cell for cell, _ in (*NEWER_CELLS, *HARD_CELLS))]))

WRITE = """
const { createStepper, drawToken, hashState } = __modules["writer/portable.js"];
async function write({ network, tokens, length, seed }, hasVectors) {
  const stepper = createStepper(await __modules["writer/model.js"].unpackNetwork(network, hasVectors));
  const decode = __modules["writer/model.js"].createTokenizer(tokens).decoder();
  const state = stepper.initialState();
  let [id, text] = [tokens.beginId, ""];
  stepper.step(state, id);
  for (let position = 0; position < length; position++) {
    id = drawToken(state.logits, 1, seed, position);
    text += decode(id);
    stepper.step(state, id);
  }
  return { text, hash: hashState(state) };
}
"""

NODE = """
let input = "";
for await (const chunk of process.stdin) input += chunk;
process.stdout.write(JSON.stringify(await write(JSON.parse(input), process.argv[1] === "vectors")));
"""

C_MAIN = """
#include <stdlib.h>
#define TEST
#define main replay
#include "m.c"
#undef main
int main(void) {
    static m_model model;
    char text[5];
    m_init(&model);
    m_step(&model, RNN_BEGIN);
    for (uint64_t position = 0; position < LENGTH; position++) {
        int token = m_sample(&model, 1.0f, SEED, position);
        fwrite(text, 1, (size_t)m_text(token, text), stdout);
        m_step(&model, token);
    }
    printf("\\n%lu", (unsigned long)hash_model(&model));
    return 0;
}
"""


class Written(NamedTuple):
    """A text, and the hash of all logits and states after it."""

    text: str
    hash: int


def by_definition(model: TextModel) -> Written:
    """Write with numpy."""
    portable = PortableNetwork(model.network)
    logits, state = portable.step(np.array([begin_id(model)]), portable.initial_state(1))
    ids = []
    for position in range(LENGTH):
        ids.append(draw_token(token_odds(logits[0], 1.0), SEED, position))
        logits, state = portable.step(np.array(ids[-1:]), state)
    return Written(model.tokenizer.decode(ids), hash_step(logits[0], state))


def by_native(model: TextModel) -> Written:
    """Write with the native module."""
    native = NativePortableNetwork(model.network)
    logits, state = native.step(np.array([begin_id(model)]), native.initial_state(1))
    ids, logits, state = native.sample(logits, state, [SEED], 0, LENGTH, SampleOptions(temperature=1.0))
    return Written(model.tokenizer.decode(ids[0].tolist()), hash_step(logits[0], state))


def begin_id(model: TextModel) -> int:
    return int(encode_prompt(model.tokenizer, "")[0][0])


def by_c() -> Iterator[tuple[str, Written]]:
    """Write with `m.c`, by every compiler of the machine for its processors."""
    Path("main.c").write_text(C_MAIN)
    flags = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-DLENGTH={LENGTH}", f"-DSEED={SEED}", "main.c", "-o", "m", "-lm")
    builds: list[tuple[list[str], str | None]] = [
        *(([name, *level], None) for name in ("gcc", "clang") for level in (["-O0"], ["-O3"], ["-O3", "-march=native"])),
        (["arm-linux-gnueabihf-gcc", "-O3", "-static"], "qemu-arm"),
        (["aarch64-linux-gnu-gcc", "-O3", "-static"], "qemu-aarch64"),
    ]
    for command, emulator in builds:
        if shutil.which(command[0]) and (emulator is None or shutil.which(emulator)):
            subprocess.run([*command, *flags], check=True)
            written = subprocess.run(
                [*([emulator] if emulator else []), "./m"], capture_output=True, check=True
            ).stdout.decode()
            text, _, number = written.rpartition("\n")
            yield " ".join(command), Written(text, int(number))


def by_node(node: str, data: dict[str, Any], mode: str) -> Written:
    """Write with the scripts of the page in node."""
    script = link(STATIC, "writer/model.js") + WRITE + NODE
    command = [node, "--input-type=module", "--eval", script, mode]
    done = subprocess.run(command, input=json.dumps(data), capture_output=True, text=True, check=True)
    return Written(**json.loads(done.stdout))


def by_chromium(browser: Browser, data: dict[str, Any]) -> Written:
    """Write with the scripts of the page in Chromium."""
    page = browser.new_page()
    script = link(STATIC, "writer/model.js") + WRITE + "window.write = write;"
    page.add_script_tag(content=script, type="module")
    page.wait_for_function("window.write !== undefined")
    written = page.evaluate("(data) => window.write(data, true)", data)
    page.close()
    return Written(**written)


def by_page(browser: Browser) -> str:
    """Write with the page `m.html` as a reader does."""
    with open_page(browser, Path("m.html").resolve(), ready="#verified[data-ready]") as page:
        for name, value in (("length", LENGTH), ("temperature", 1), ("seed", SEED)):
            page.fill(f"#{name}", str(value))
        page.press("#seed", "Enter")
        page.wait_for_selector("#stop[disabled]", timeout=600_000)
        text = page.evaluate("document.getElementById('text').textContent")
    return str(text).replace("\u21b5\n", "\n")


@pytest.mark.long
@pytest.mark.usefixtures("best_set_again", "compiler")
@pytest.mark.parametrize("cell", PORTABLE_CELLS)
def test_ten_thousand_characters_and_the_states_after_them(
    tmp_path: Path, node: str, browser: Browser, cli: Cli, cell: str
) -> None:
    path = saved_model(tmp_path / "m.safetensors", cell, "plain", has_eos=False)
    model = read_text_model(path)
    expected = by_definition(model)
    assert len(set(expected.text)) > 10
    for name in SETS if cell in CELL_KINDS else ():
        NATIVE.set_isa(name)
        assert by_native(model) == expected, name
    assert cli("sample", path, "--portable", "--length", LENGTH, "--seed", SEED).out == expected.text + "\n"
    for to in ("c", "html"):
        assert cli("export", path, "--to", to, "--out", f"m.{to}").code == 0
    for name, written in by_c():
        assert written == expected, name
    page = Path("m.html").read_text("utf-8")
    data = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    data |= {"length": LENGTH, "seed": SEED}
    assert by_node(node, data, "vectors") == by_node(node, data, "plain") == expected
    assert by_chromium(browser, data) == expected
    assert by_page(browser) == expected.text
