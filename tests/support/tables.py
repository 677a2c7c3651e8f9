"""Small tables, one for each mode, that can be learned in seconds; the tests write them, since no data of others is here."""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

from unrolled.tables.pair_batching import PairDataset, read_pairs
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table

COLORS = {"red": "warm", "orange": "warm", "blue": "cold", "green": "cold"}


def many_to_one(count: int, seed: int) -> list[dict[str, Any]]:
    """Sentences, and whether the color in them is warm."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        color = draw.choice(list(COLORS))
        rows.append(
            {
                "text": f"{draw.choice(['a', 'the'])} {color} {draw.choice(['dog', 'cat', 'old fox'])} sleeps",
                "label": COLORS[color],
            }
        )
    return rows


def many_to_many(count: int, seed: int) -> list[dict[str, Any]]:
    """Words, and the same words spelled backwards."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcd", k=draw.randint(1, 5))) for _ in range(count)]
    return [{"word": word, "back": word[::-1] + "!" * (len(word) % 2)} for word in words]


def synced(count: int, seed: int) -> list[dict[str, Any]]:
    """Frames of two numbers, and which of them is the larger one at each step."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        frames = [[round(draw.random(), 3), round(draw.random(), 3)] for _ in range(draw.randint(2, 9))]
        rows.append({"frames": frames, "larger": ["left" if a > b else "right" for a, b in frames]})
    return rows


def one_to_one(count: int, seed: int) -> list[dict[str, Any]]:
    """Pictures of one bright line, and whether it lies or stands."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        at, lying = draw.randrange(4), draw.random() < 0.5
        picture = [[255 * ((row if lying else column) == at) for column in range(4)] for row in range(4)]
        rows.append({"picture": picture, "line": "lying" if lying else "standing"})
    return rows


def one_to_many(count: int, seed: int) -> list[dict[str, Any]]:
    """A number's name, and so many marks."""
    draw = random.Random(seed)
    names = ["one", "two", "three", "four"]
    return [{"name": names[n], "marks": "|" * (n + 1) + ".."} for n in (draw.randrange(4) for _ in range(count))]


MODES = {
    "many-to-one": (many_to_one, "text", "label"),
    "many-to-many": (many_to_many, "word", "back"),
    "synced": (synced, "frames", "larger"),
    "one-to-one": (one_to_one, "picture", "line"),
    "one-to-many": (one_to_many, "name:label", "marks:text"),
}


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as CSV; lists as JSON."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow([cell if isinstance(cell, str) else json.dumps(cell) for cell in row.values()])
    return path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def read_mode(tmp_path: Path, mode: str, count: int) -> PairDataset:
    """Write a table of one of the modes and read it back as pairs."""
    make, source, target = MODES[mode]
    table = open_table(str(write_jsonl(tmp_path / f"{mode}.jsonl", make(count, 3))))
    return read_pairs(table, infer_spec(table, source, target)[0])


def write_long(name: str, columns: dict[str, Any]) -> str:
    """Write columns as CSV."""
    with open(name, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return name


def rows_of(text: str) -> list[dict[str, str]]:
    """Return printed CSV as rows."""
    return list(csv.DictReader(io.StringIO(text)))
