"""The linker of the pages' scripts: modules keep their names to themselves, and mistakes are found when a page is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from unrolled.views.html_page import STATIC
from unrolled.views.js_linker import LinkError, link

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MODULES = {
    "main.js": 'import { add, Counter } from "./lib/sum.js";\nimport {\n  NAME,\n} from "./lib/name.js";\n'
    'const secret = "main";\nlog.push(NAME, add(1, 2), new Counter().count, secret, typeof hidden, typeof twice);\n',
    "lib/sum.js": 'import { NAME } from "./name.js";\nlog.push(`sum after ${NAME}`);\n'
    'const secret = "sum";\nconst hidden = 1;\n'
    "export function add(a, b) {\n  return secret === 'sum' ? a + b : 0;\n}\nexport class Counter {\n  count = 7;\n}\n"
    "/** Types for\n * the check. */\nexport async function unused() {\n  return /** @type {number} */ (hidden);\n}\n",
    "lib/name.js": 'log.push("name");\nexport const NAME = "abc";\nconst twice = 2;\n',
}


def write(folder: Path, modules: dict[str, str]) -> Path:
    for name, source in modules.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, "utf-8")
    return folder


def test_modules_run_once_in_order_and_keep_their_names(tmp_path: Path, browser: Browser) -> None:
    script = link(write(tmp_path, MODULES), "main.js")
    path = tmp_path / "page.html"
    path.write_text(f'<script>const log = [];</script><script type="module">{script}</script>', "utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    expected = ["name", "sum after abc", "abc", 3, 7, "main", "undefined", "undefined"]
    assert page.evaluate("log") == expected
    names = ["secret", "hidden", "twice", "add", "Counter", "NAME", "__modules"]
    assert page.evaluate(f"[{', '.join(f'typeof {name}' for name in names)}]") == ["undefined"] * len(names)
    page.close()


def test_the_same_modules_give_the_same_script(tmp_path: Path) -> None:
    write(tmp_path, MODULES)
    script = link(tmp_path, "main.js")
    assert script == link(tmp_path, "main.js")
    assert "the check" not in script
    assert "(hidden)" in script
    assert [script.index(f'__modules["{name}"] = (') for name in ("lib/name.js", "lib/sum.js", "main.js")] == sorted(
        script.index(f'__modules["{name}"] = (') for name in MODULES
    )
    assert script.count('__modules["lib/name.js"] = (') == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lib/name.js": "const NAME = 1;\n"}, r"lib/sum.js imports NAME, which lib/name.js does not export"),
        ({"lib/name.js": 'import { add } from "./sum.js";\n'}, r"circle: lib/sum.js -> lib/name.js -> lib/sum.js"),
        ({"main.js": 'import { a } from "./none.js";\n'}, r"none.js is imported and cannot be read: No such file"),
        ({"main.js": 'import * as all from "./lib/name.js";\n'}, r"main.js has a statement .*: import \* as all"),
        ({"main.js": 'import { NAME as other } from "./lib/name.js";\n'}, r"main.js imports NAME as other, which"),
        ({"main.js": 'import thing from "https://example.org/x.js";\n'}, r"main.js has a statement .*: import thing"),
        ({"main.js": 'import "./lib/name.js";\n'}, r"main.js has a statement"),
        ({"main.js": "export let counter = 0;\n"}, r"main.js has a statement .*: export let counter"),
        ({"main.js": "export default function f() {}\n"}, r"main.js has a statement .*: export default"),
        ({"main.js": "const a = 1;\nexport { a };\n"}, r"main.js has a statement .*: export \{ a \}"),
    ],
)
def test_mistakes_are_errors(tmp_path: Path, changed: dict[str, str], message: str) -> None:
    with pytest.raises(LinkError, match=message):
        link(write(tmp_path, MODULES | changed), "main.js")


def test_every_script_belongs_to_a_page() -> None:
    pages = (
        "explorer",
        "report",
        "rows",
        "series",
        "series_predictor",
        "surprisal",
        "text_classifier",
        "text_tagger",
        "writer",
    )
    linked = "".join(link(STATIC, f"{page}/main.js") for page in pages)
    for path in STATIC.rglob("*.js"):
        assert f'__modules["{path.relative_to(STATIC).as_posix()}"] = (' in linked, path
