"""Messages that a Python program gets name keyword arguments; those of commands name flags."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import unrolled
import unrolled.options
from support.cli import TINY_RUN, Cli
from unrolled.errors import UsageError
from unrolled.flag_names import PROSE, naming_flags, with_keywords

SOURCE = Path(unrolled.__file__).parent
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("--minutes is 0; expected a number", "minutes= is 0; expected a number"),
        ("add --group-by id --order-by time, or not", "add group_by='id' order_by='time', or not"),
        ("leave out --int8.", "leave out int8=True."),
        ("--residual is 'no'; expected true or false.", "residual is 'no'; expected true or false."),
        ("--no-residual is for texts", "residual=False is for texts"),
        ("as in --header text,label.", "as in header='text,label'."),
        ("--header NAME,NAME) or --alert-rate 0.001.", "header=NAME,NAME) or alert_rate=0.001."),
        ("name it with --from builtin:english; then", "name it with init_from='builtin:english'; then"),
        ("--keep-if 'grep -q x': nothing", "keep_if='grep -q x': nothing"),
        ("use `unrolled sample --int8`, or --int8", "use `unrolled sample --int8`, or int8=True"),
        ("go on: unrolled train --resume runs/a, or --out b", "go on: unrolled train --resume runs/a, or out='b'"),
        ("a -- b, x--y, ---", "a -- b, x--y, ---"),
    ],
)
def test_flags_become_keywords(message: str, expected: str) -> None:
    assert with_keywords(message) == expected
    with naming_flags():
        assert str(UsageError(message)) == message
    assert str(UsageError(message)) == expected


def _messages() -> Iterator[str]:
    """Yield the texts of the package that are no docstrings, with X for what is put in."""
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).parts[0] in ("cli", "bench"):
            continue
        tree = ast.parse(path.read_text())
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        inside |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                yield node.value


VALUES = """0 0.001 X cell decay card numpy onnx c mse group row quantiles keep key script record midi fasta none first on
season tensorboard regex bytes session file line utf-16 character gaussian series:numbers fasta:X midi:X refuse
characters text,label abc smiles date,time year,month,day,hour"""


@pytest.mark.slow
def test_every_word_after_a_flag_is_known_as_prose_or_as_a_value() -> None:
    """A new message with another word after a flag: it belongs to PROSE, or to VALUES."""
    following = {
        word.rstrip(".,:;)`")
        for text in _messages()
        for word in re.findall(FLAG.pattern + r" ([^\s\"'(]+)", text)
        if not re.match(r"[A-Z0-9]|X", word)
    }
    assert len(following) > 40
    assert following <= {*PROSE, *VALUES.split(), ""}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> unrolled.Model:
    folder = tmp_path_factory.mktemp("model")
    (folder / "book.txt").write_text("the cat sat on the mat\n" * 40)
    return unrolled.train(folder / "book.txt", steps=2, hidden=8, batch=2, bptt=8, out=folder / "run", progress=False)


CALLS = {
    "minutes=": "unrolled.train(book, minutes=0)",
    "source=": "unrolled.train_table(table, source='a,,b', target='label')",
    "group_by='('": "unrolled.train(book, group_by='(', steps=1)",
    "documents='record' is for tokens='fasta'": "unrolled.train(book, tokens='words', documents='record', steps=1)",
    "train_fraction=0.9 and test_fraction=0.5": "unrolled.train(book, train_fraction=0.9, test_fraction=0.5, steps=1)",
    "residual=False": "unrolled.train_table(table, 'text', 'label', residual=False, steps=1)",
    "embedding=": "unrolled.train_table(table, 'text', 'label', embedding=3, steps=1)",
    "target=": "unrolled.train(table, source='number:number', steps=1)",
    "header='none'": "unrolled.train_table(table, '7', 'label', steps=1)",
    "encoding=": "unrolled.train(latin, steps=1)",
    "header=": "unrolled.train_table(table, 'text', 'label', header='a', steps=1)",
    "init_from=": "unrolled.train(book, shrink_vocabulary=True, steps=1)",
    "out=": "unrolled.train(book, out=book, steps=1)",
    "temperature=0": "model.sample(temperature=0, top_k=3)",
    "clamp=": "model.sample(clamp=['a'])",
    "keep_if=": "next(model.samples(keep_if='no-such-program'))",
    "portable=True and int8=True": "model.sample(portable=True, int8=True)",
    "alert_rate=": "model.score(text='a', alert_rate=0.5, alert_above=3)",
    "test_fraction=": "model.evaluate(split='test')",
    "device=": "unrolled.load(model.path, device='mps')",
    "hidden=": "unrolled.train(book, hidden=-1)",
}


@pytest.mark.parametrize(("keyword", "call"), CALLS.items(), ids=CALLS.values())
def test_errors_of_python_calls_name_keywords(keyword: str, call: str, model: unrolled.Model, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("book", "latin", "table.csv")}
    files["book"].write_text("the cat sat on the mat\n" * 40)
    files["latin"].write_bytes("d\u00e9j\u00e0 vu \u00e9t\u00e9\n".encode("latin-1") * 40)
    files["table.csv"].write_text("text,number,label\n" + "good day,1,a\nbad night,2,b\n" * 20)
    names = {"unrolled": unrolled, "model": model, "book": str(files["book"]), "latin": str(files["latin"])}
    with pytest.raises(unrolled.UnrolledError) as caught:
        eval(call, names | {"table": str(files["table.csv"])})
    without_commands = re.sub(r"unrolled train .*", "", str(caught.value))
    assert keyword in without_commands
    assert not FLAG.search(without_commands)


def test_notes_name_keywords_in_python_and_flags_in_commands(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("text,label\n" + "good day,a\nbad bad night,b\n" * 20)
    columns: dict[str, Any] = {"source": "text:characters", "target": "label", "max_length": 9, "steps": 1}
    flags = [part for name, value in columns.items() for part in (f"--{name}", value)]
    assert "(see --max-length)" in cli("train", table, *flags, "--out", tmp_path / "a", *TINY_RUN[:2]).err
    unrolled.train_table(table, **columns, hidden=8, out=tmp_path / "b")
    assert "(see max_length=)" in capsys.readouterr().err
