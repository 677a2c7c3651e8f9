"""Random tables train or are refused; the same rows in another format, normal form, or order of columns or rows are equal."""

import csv
import json
import math
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import unrolled
from unrolled.errors import DataError, UnrolledError, UsageError
from unrolled.tables.pair_batching import read_pairs
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table

Rows = list[dict[str, Any]]
SOURCE, TARGET = "te\u1ebfxt", "la\u0301bel"
OFF_DECIMALS = 1.0000037
"""A factor that takes means of short decimals, such as 3.5225, off the place where rounding may go either way."""

LENIENT: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}
MISSING = st.sampled_from([None, "", " ", "NA", "null", "None", "-", "?", ".", "\\N", "#DIV/0!"])
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "integers": st.integers(-3, 30),
    "floats": st.floats(-100, 100).map(lambda x: round(x, 3)),
    "edges": st.sampled_from(["inf", "-inf", "1e300", "1e39", 1e308, -4e38, 10**400, 1e-320, "1e-400", True, "0x1", "1_0"]),
    "labels": st.sampled_from(["good", "bad", "good ", "1", "1.0", "l\u1ebf", "le\u0302\u0301", "\u1112\u1161\u11ab"]),
    "texts": st.text(st.sampled_from("ab \u00e9\u1ebf\u0301\u0302\u1161\n'\"."), min_size=1, max_size=15),
    "words": st.lists(st.sampled_from(["the", "cat", "sat", "na\u00efve", "on."]), min_size=1, max_size=5).map(" ".join),
    "digits": st.lists(st.sampled_from("0123456789"), min_size=1, max_size=8).map(" ".join),
    "bits": st.text(st.sampled_from("01"), min_size=1, max_size=7),
    "commas": st.integers(0, 99).map(lambda n: f"{n},5"),
    "points": st.lists(st.floats(0, 9).map(lambda x: f"{x:.1f}"), min_size=3, max_size=3).map(" ".join),
    "units": st.integers(0, 2_000_000).map(lambda n: f"{n:,} kg".replace(",", " ")),
    "prices": st.integers(-9000, 9000).map(lambda n: f"({-n / 4:.2f} \u20ac)" if n < 0 else f"{n / 4:.2f} \u20ac"),
    "mixed units": st.tuples(st.integers(0, 99), st.sampled_from(["%", "%", "kg", "", " sq ft"])).map(
        lambda p: f"{p[0]}{p[1]}"
    ),
    "blanks": st.integers(0, 2_000_000).map(lambda n: f"{n:,}".replace(",", " ")),
    "marks": st.sampled_from([".", "!", "?", "-", "+"]),
    "answers": st.sampled_from(["yes", "No", "TRUE", "0", "true", "1.0", "?"]),
    "codes": st.sampled_from(["USA", "GER", "FRA", "012", "987", "#id"]),
    "spellings": st.sampled_from(["\u20135", "1.5x10^3", "2\u00b710\u00b2", "1.5D+03", "np.float64(2.5)", "7", "--", ".a"]),
    "thousands": st.integers(1, 900).map(lambda n: f"{n}.000 \u20ac"),
    "months": st.tuples(st.integers(1, 12), st.integers(2019, 2022)).map(lambda p: f"{p[0]:02d}.{p[1]}"),
    "times": st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda p: f"{p[0]}:{p[1]:02d}"),
    "places": st.tuples(st.floats(-90, 90), st.floats(-180, 180)).map(lambda p: f"{p[0]:.2f}, {p[1]:.2f}"),
    "tuples": st.tuples(st.integers(-9, 9), st.integers(1, 9)).map(lambda p: f"({p[0]}, {p[1]})"),
    "joined": st.sampled_from(["a", "b", "a|b", "b, a", "a;b", "|", "\u2014", "..."]),
    "marked": st.sampled_from(["<br />", "a&amp;b", "caf\\u00e9", "1.23E+12", "2-Sep", "\x1b[0m", "\u0643\u0640"]),
    "files": st.sampled_from(["x.npy", "a.png", "[", "[]x", "[1, 2", "{}"]),
}
LISTS: dict[str, st.SearchStrategy[Any]] = {
    "vectors": st.lists(st.floats(-9, 9) | st.none(), min_size=2, max_size=3),
    "lists": st.lists(st.sampled_from(["D", "N", "V", 1, 2.5, None]), max_size=4),
    "nested": st.sampled_from([[[1.0, 2.0], [3.0]], [[1.0], [2.0]], {"a": 1}, [[]], [{}]]),
}


@st.composite
def columns(draw: st.DrawFn, kinds: dict[str, st.SearchStrategy[Any]], num_rows: int) -> list[Any]:
    """Return a column: nearly all cells of one kind, or of many."""
    main = kinds[draw(st.sampled_from(sorted(kinds)))]
    odd_share = draw(st.sampled_from([0, 0, 1, 4]))
    any_kind = st.one_of(*kinds.values(), MISSING)
    return [draw(any_kind if draw(st.integers(0, 19)) < odd_share else main) for _ in range(num_rows)]


@st.composite
def tables(draw: st.DrawFn, kinds: dict[str, st.SearchStrategy[Any]]) -> Rows:
    num_rows = draw(st.sampled_from([1, 2, 5, 12, 25, 40]))
    sources, targets, others = (draw(columns(kinds, num_rows)) for _ in range(3))
    return [{SOURCE: s, TARGET: t, "other": o} for s, t, o in zip(sources, targets, others, strict=True)]


def write_json_lines(rows: Rows) -> str:
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return "t.jsonl"


def write_json(rows: Rows) -> str:
    Path("t.json").write_text(
        json.dumps([{key: row[key] for key in reversed(row)} for row in rows], ensure_ascii=False), "utf-8"
    )
    return "t.json"


def write_lists(rows: Rows) -> str:
    Path("l.jsonl").write_text(
        "".join(json.dumps(list(row)) + "\n" for row in [rows[0], *(row.values() for row in rows)]), "utf-8"
    )
    return "l.jsonl"


def write_comma(rows: Rows) -> str:
    """Write a CSV file with the columns in another order, and two more of one name."""
    with open("t.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        source_name, target_name, _ = rows[0]
        writer.writerow([target_name, "x", source_name, "x"])
        for row in rows:
            source, target = (
                value if isinstance(value, str) else "" if value is None else json.dumps(value)
                for value in (row[source_name], row[target_name])
            )
            writer.writerow([target, 1, source, 2])
    return "t.csv"


def write_tabs(rows: Rows) -> str:
    """Write a TSV file with all names and texts quoted, as R does."""
    with open("t.tsv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow(
                "" if value is None else value if isinstance(value, str) else json.dumps(value) for value in row.values()
            )
    return "t.tsv"


def write_parquet(rows: Rows) -> str:
    """Write a Parquet file; JSON lines of a column whose values have several types, which it cannot have.

    Of truth values among numbers, some versions of pyarrow make numbers.
    """
    if any({bool} < {type(row[name]) for row in rows if row[name] is not None} for name in rows[0]):
        return write_json_lines(rows)
    try:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), "t.parquet")
    except (pyarrow.ArrowException, OverflowError):
        return write_json_lines(rows)
    return "t.parquet"


def in_form(form: Any, write: Callable[[Rows], str]) -> Callable[[Rows], str]:
    def normalized(value: Any) -> Any:
        return unicodedata.normalize(form, value) if isinstance(value, str) else value

    return lambda rows: write([{normalized(key): normalized(value) for key, value in row.items()} for row in rows])


def outcome(name: str) -> Any:
    """Return columns and encoded rows of a table, of which the model is made; or the kind of error that refuses it."""
    try:
        table = open_table(name)
        spec, _ = infer_spec(table, SOURCE, TARGET)
        dataset = read_pairs(table, spec)
    except (DataError, UsageError) as refused:
        error = refused
    else:
        rows = [(dataset.source[i].tolist(), dataset.target[i].tolist()) for i in range(len(dataset))]
        columns = [column.to_dict() for column in (spec.source, spec.target)]
        return [spec.mode.name, spec.source.kind, spec.target.kind, columns, rows, dataset.unreadable.count]
    check_refusal(error)
    return type(error)


def in_any_order(found: Any) -> Any:
    """Return an outcome without regard to the order of rows, and to the rounding of sums over them."""

    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value * OFF_DECIMALS:.4g}") + 0.0 if abs(value) > 1e-5 else 0.0
        if isinstance(value, dict):
            return {key: rounded(element) for key, element in value.items()}
        return [rounded(element) for element in value] if isinstance(value, list | tuple) else value

    return [*rounded(found[:4]), sorted(map(repr, rounded(found[4]))), found[5]] if isinstance(found, list) else found


def check_refusal(error: UnrolledError) -> None:
    """Assert that a table was refused with one sentence."""
    assert isinstance(error, DataError | UsageError), error
    assert "\n" not in str(error)
    assert len(str(error)) < 600


def is_same_in_all_files(rows: Rows) -> None:
    writers = [write_json_lines, write_json, write_lists, write_comma, write_parquet, in_form("NFC", write_json)]
    writers += [in_form("NFD", write_comma), in_form("NFD", write_parquet)]
    if not any("," in str(value) for row in rows for value in row.values()):  # in a TSV file, 0,5 is a number
        writers.append(write_tabs)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        expected = outcome(write_json_lines(rows))
        for write in writers:
            assert outcome(write(rows)) == expected, write
        middle = len(rows) // 2
        assert in_any_order(outcome(write_json_lines([*rows[middle:], *rows[:middle]][::-1]))) == in_any_order(expected)


def train(name: str) -> unrolled.TableModel | UnrolledError:
    try:
        return unrolled.train_table(
            name, SOURCE, TARGET, steps=2, hidden=4, layers=1, batch=4, threads=1, kernels="torch", sample_length=0, out="r",
            progress=False,
        )  # fmt: skip
    except UnrolledError as error:
        return error


def trains_or_is_refused(rows: Rows) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        name = write_json_lines(rows)
        model = train(name)
        if isinstance(model, UnrolledError):
            check_refusal(model)
            assert not Path("r").exists()
            return
        assert model.result is not None
        assert model.result.val_nats is None or math.isfinite(model.result.val_nats)
        options: dict[str, Any] = {"beam": 1} if model.spec.mode.output == "generated" else {}
        _, answers = model.predict_table(name, **options)
        for _, prediction in answers:
            assert "nan" not in prediction.text.lower() or model.spec.target.kind != "number"
            assert prediction.probability is None or 0 <= prediction.probability <= 1.001


@settings(max_examples=15, **LENIENT)
@given(rows=tables(CELLS))
@example(rows=[{SOURCE: i * 0.5, TARGET: True if i == 3 else i * 1.5, "other": 1} for i in range(30)])
@example(rows=[{SOURCE: "0.0 0.0 0.0", TARGET: "0.0 0.0 0.0", "other": 1}, {SOURCE: 0, TARGET: 0, "other": 1}])
def test_the_same_rows_in_other_files_are_the_same(rows: Rows) -> None:
    is_same_in_all_files(rows)


@pytest.mark.slow
@settings(max_examples=5, **LENIENT)
@given(rows=tables(CELLS | LISTS))
@example(rows=[{SOURCE: [0.5, None, 1.0] if i == 1 else [0.5, i, 1.0], TARGET: "ab"[i % 2], "other": 1} for i in range(20)])
def test_a_random_table_trains_or_is_refused(rows: Rows) -> None:
    trains_or_is_refused(rows)


@pytest.mark.long
@settings(max_examples=2000, **LENIENT)
@given(rows=tables(CELLS))
def test_the_same_rows_in_other_files_are_the_same_in_many_tables(rows: Rows) -> None:
    is_same_in_all_files(rows)


@pytest.mark.long
@settings(max_examples=2000, **LENIENT)
@given(rows=tables(CELLS | LISTS))
def test_many_random_tables_train_or_are_refused(rows: Rows) -> None:
    trains_or_is_refused(rows)
