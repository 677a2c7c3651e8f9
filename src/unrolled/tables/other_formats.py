"""Files of rows in formats that are not read as tables: what they are, and how to get a table out of them."""

from __future__ import annotations

import re
from pathlib import PurePath

_MARKUP = re.compile(r"<(?:!doctype html|html|\?xml|table|head|meta)\b|<[a-z][\w:.-]*(?:\s[^<>\n]*)?>\s*\n\s*<", re.IGNORECASE)
"""How files begin that are often taken for tables: with a tag, alone in its line, before another one."""

_SVMLIGHT_ROW = re.compile(r"[+-]?\d[\d.,eE+-]*(?: qid:\d+)?(?: \d+:[+-]?[\d.]+(?:[eE][+-]?\d+)?)+ *(?:#.*)?")
_NUMBERED_FEATURE = r"[^\s|:]+:[+-]?[\d.]+(?:[eE][+-]?\d+)?(?= |$)"
_VOWPAL_ROW = re.compile(rf"(?:[+-]?[\d.]+(?: [\d.]+){{0,2}})? ?(?:'?[^\s|]+ ?)?\|.* {_NUMBERED_FEATURE}.*")
_OTHERS = (
    (
        (".yaml", ".yml"),
        re.compile(r"(?:---\s*\n)?- [\w-]+: .*\n  [\w-]+:"),
        "YAML, and no table: write its rows as JSON lines (yq -o=json -I=0 '.[]' FILE > NEW.jsonl)",
    ),
    ((".toml",), re.compile(r"\[\[[\w.-]+\]\]\s*\n[\w-]+ *="), "TOML, and no table: write its rows as CSV or as JSON lines"),
    (
        (".tex",),
        re.compile(r"(?:\s*%.*\n|\s)*\\(?:documentclass|begin)\b"),
        "LaTeX, and no table: write its rows as CSV, without & and \\\\",
    ),
    (
        (".po", ".pot"),
        re.compile(r"(?:#.*\n|\s)*msgid \".*\n(?:\".*\n)*msgstr "),
        "translations of gettext, and no table: write them as CSV (po2csv of the Translate Toolkit)",
    ),
    (
        (".xlf", ".xliff", ".tmx"),
        re.compile(r"(?!)"),
        "a file of translations, and no table: write it as CSV (the Translate Toolkit reads it)",
    ),
    (
        (".sdf", ".mol"),
        re.compile(r"(?:.*\n){3}.{6}.*V[23]000\s*\n"),
        "molecules as atoms and bonds, and no table: write SMILES and properties as CSV (obabel FILE -O NEW.smi, or "
        "rdkit.Chem.PandasTools.LoadSDF)",
    ),
    (
        (".gb", ".gbk", ".genbank", ".embl"),
        re.compile(r"LOCUS {2,}\S+|ID {3}\S+;"),
        "sequences with annotations, and no table: write them as FASTA (Bio.SeqIO.convert)",
    ),
    (
        (".ini", ".cfg"),
        re.compile(r"(?:[#;].*\n|\s)*\[[\w .-]+\]\s*\n[\w .-]+ ?[=:]"),
        "settings in sections, and no table: write one row for each section as CSV or as JSON lines",
    ),
    (
        (".bib", ".ics", ".ris", ".enw"),
        re.compile(
            r"@\w+\{[^,\s]+,\s*\n\s*[\w-]+\s*=|BEGIN:V(?:CARD|CALENDAR)\s*\n|TY  - .*\n"
        ),
        "a file of records of several lines, and no table: write one row for each as CSV or as JSON lines",
    ),
    (
        (".sql",),
        re.compile(r"(?!)"),
        "a dump of a database, and no table: write a table of it as CSV (sqlite3 -header -csv, or \\copy TABLE to 'FILE' csv "
        "header)",
    ),
)  # fmt: skip
"""Suffixes, how a file begins, and what it is; the last part is what to do."""

MAX_COMPARED_LINES = 20


def describe_no_table(name: str, head: str) -> str | None:
    """Return what a file is that has rows but is no table, for the end of a sentence, given its first lines; else None.

    Example:
        >>> describe_no_table("rows.txt", "+1 1:0.5 3:1\\n-1 2:0.25\\n")[:28]
        'in the format of SVMlight, a'
        >>> describe_no_table("rows.csv", "text,label\\n") is None
        True
    """
    head = head.lstrip("\ufeff")
    suffix = PurePath(name).suffix.lower()
    named = next((text for suffixes, _, text in _OTHERS if suffix in suffixes), None)
    if _MARKUP.match(head.lstrip()):
        return named or "HTML or XML, and no table: save its rows as CSV or as JSON lines"
    lines = [line for line in head.splitlines()[:MAX_COMPARED_LINES] if not line.startswith("#")]
    if lines and all(_SVMLIGHT_ROW.fullmatch(line) for line in lines):
        row = '{"label": 1, "features": [0.5, 0, 1]}'
        reader = "sklearn.datasets.load_svmlight_file reads it"
        return f"in the format of SVMlight, and no table: write all numbers of a row in a list, as JSON lines: {row} ({reader})"
    if suffix == ".vw" or (lines and all(_VOWPAL_ROW.fullmatch(line) for line in lines)):
        return "in the format of Vowpal Wabbit, and no table: write one row for each line as CSV or as JSON lines"
    return next((text for suffixes, start, text in _OTHERS if suffix in suffixes or start.match(head)), None)
