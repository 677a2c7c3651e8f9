"""One cell of a table, and its parsers: text, words, a number, an array, an image."""

from __future__ import annotations

import json
import math
import re
import string
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from unrolled.errors import DataError, did_you_mean_file, first_line
from unrolled.tables.digit_groups import with_ascii_digits, with_plain_signs, without_blanks
from unrolled.tables.printed_lists import printed_list

Array = npt.NDArray[Any]
Parsed = TypeVar("Parsed")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff")
LIST_STARTS = ("[", "array([", "tensor([")
MAX_PIXELS = 1 << 24
MAX_NUMBER = float(np.finfo(np.float32).max)
"""A network computes with numbers up to this one, 3.4e38."""

_NUMBER_SEPARATORS = re.compile(r"[,;\s]+")
_BLANKS_OR_SEMICOLONS = re.compile(r"[;\s]+")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
BLANKS = "".join(char for char in map(chr, range(0x3001)) if char.isspace()) + (
    "\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
"""White space, and characters without width, such as marks of direction: they are no part of a cell or name at its ends."""

_DECIMAL_COMMA = re.compile(r"[+-]?(\d*|\d{1,3}(\.\d{3})+),\d+(e[+-]?\d+)?", re.IGNORECASE)
_GROUPED_BY_POINTS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")


class Cell(NamedTuple):
    """A value and its location; a path in it is relative to `folder`. A named tuple, since one is made for each cell.

    Without a `folder`, the cell may not name a file: it comes from other people, who must not read the files of this machine.
    `others` are the cells of the other source columns in the row, if a model reads several.
    """

    value: Any
    table_name: str
    line: int = 0
    folder: Path | None = Path()
    others: tuple[Cell, ...] = ()

    @property
    def location(self) -> str:
        """The location of the cell for error messages: `table, line N`."""
        return f"{self.table_name}, line {self.line:,}" if self.line else self.table_name


NAMES_OF_MISSING_VALUES = frozenset(
    (
        "NA", "<NA>", "N/A", "n/a", "#N/A", "#NA", "NaN", "nan", "NaT", "null", "NULL", "None", "-", "–", "—", "\\N",
        "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!",
    )
)  # fmt: skip
"""What R, pandas, spreadsheets, databases and JSON write into a cell without a value, and the errors of Excel."""

PUNCTUATION_MARKS = frozenset(("-", "–", "—", "?", "."))
"""Names of missing values that may be labels, too, among others that are punctuation."""

MISSING_ONLY_IN_NUMBERS = frozenset(
    (
        ".", "..", "...", "…", ":", "--", "---", "n.a.", "N.A.", "n.d.", "(null)", "(blank)", "1.#IND", "-1.#IND", "1.#QNAN",
        "-1.#QNAN", "-nan", "-NaN", "NAN", "#N/A N/A", *(f".{letter}" for letter in string.ascii_lowercase),
    )
)  # fmt: skip
"""Names of missing values that are words or tags elsewhere: SAS and Stata write `.` and `.a` to `.z`, the World Bank `..`,
Eurostat `:`, weather services `--`, programs in C `1.#IND`."""

MISSING_IN_NUMBERS = NAMES_OF_MISSING_VALUES | PUNCTUATION_MARKS | MISSING_ONLY_IN_NUMBERS
"""Names of missing values in columns of numbers: also `?`, as UCI and Weka write it."""


def is_empty(value: Any) -> bool:
    """Return whether a cell has no value: None, a blank text, an empty list, or NaN."""
    if isinstance(value, str):
        return not value.strip(BLANKS)
    return (
        value is None
        or (isinstance(value, list) and not value)
        or (isinstance(value, float | np.floating) and math.isnan(value))
    )


MAX_SHOWN_NUMBERS = 64
"""The numbers of longer arrays are not shown as a text."""


def is_missing(value: Any, names: frozenset[str] = NAMES_OF_MISSING_VALUES) -> bool:
    """Return whether a cell is empty or has one of these names of missing values."""
    return is_empty(value) or (isinstance(value, str) and value.strip(BLANKS) in names)


def is_single(value: Any) -> bool:
    """Return whether a value is a list of one text, as doccano writes the label of a text."""
    return isinstance(value, list) and len(value) == 1 and isinstance(value[0], str)


def parse_text(cell: Cell) -> str:
    """Return a cell as text; numbers and booleans as JSON writes them. A list of one value is that value."""
    value = cell.value
    if isinstance(value, str):
        return value
    if is_single(value):
        value = value[0]
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float | np.generic):
        return json.dumps(value.item() if isinstance(value, np.generic) else value)
    if value is None:
        return ""
    if isinstance(value, list) and (parts := _parts_of_text(value)):
        return "".join(parts)
    hint = "; name one of its keys, as in COLUMN.KEY, or in a list COLUMN.0.KEY" if isinstance(value, dict) else ""
    if isinstance(value, list):
        hint = "; texts, or one list of texts, are read; name one value in it by its place, as in COLUMN.0"
    raise DataError(f"{cell.location}: a text is expected, and this is {_short_repr(value)}{hint}.")


def _parts_of_text(value: list[Any]) -> list[str]:
    """Return the texts of a list of them with objects between that have a text too, as messages of Telegram with links are."""
    parts = [part.get("text") if isinstance(part, dict) and "type" in part else part for part in value]
    texts = [part for part in parts if isinstance(part, str)]
    return texts if len(texts) == len(value) and texts != value else []


def parse_label(cell: Cell) -> str:
    """Return a cell as a text; a text that is a list of one, such as `['good']`, is that one."""
    value = parse_list(cell.value)
    return parse_text(cell._replace(value=value) if is_single(value) else cell)


def display_text(value: Any) -> str:
    """Return the value of a cell as a text for people: the elements of a list and of a short array, else the array's shape.

    Example:
        >>> display_text(np.array([[1.5], [np.nan]])), display_text(np.zeros((100, 2)))
        ('[1.5, gap]', 'numbers, 100 x 2')
    """
    if isinstance(value, np.ndarray):
        if 0 < value.size <= MAX_SHOWN_NUMBERS and value.dtype.kind in "iuf":
            rows = [["gap" if np.isnan(number) else f"{number:.6g}" for number in np.ravel(row)] for row in value]
            parts = [row[0] if len(row) == 1 else f"[{', '.join(row)}]" for row in rows]
            return f"[{', '.join(parts)}]"
        return "numbers, " + " x ".join(map(str, value.shape))
    return " ".join(map(str, value)) if isinstance(value, list) else parse_text(Cell(value, "value"))


def parse_words(cell: Cell) -> list[str]:
    """Return the elements of a list, or the words of a text; the text may be a JSON list."""
    value = parse_list(cell.value)
    if isinstance(value, list | np.ndarray):
        return [parse_text(Cell([element] if isinstance(element, list) else element, *cell[1:])) for element in value]
    return parse_text(Cell(value, *cell[1:])).split()


def parse_list(value: Any) -> Any:
    """Return a text in brackets as the list that it is, in JSON or as Python prints it; anything else unchanged."""
    if isinstance(value, str) and value.lstrip().startswith(LIST_STARTS):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            found = printed_list(value)
            return value if found is None else found
    return value


def to_number(text: str, decimal_comma: bool = False) -> float | None:
    """Return the number that a text is, perhaps infinite, or None. Unlike in Python, `1_000` and `nan` are none.

    With `decimal_comma`, `1,5` and `1.234,5` are numbers too, and `1.234` is none: it may be 1234. Blanks and apostrophes may
    group digits (see `without_blanks`).
    """
    text = plain_digits(text)
    if decimal_comma and _GROUPED_BY_POINTS.fullmatch(text):
        return None
    if decimal_comma and _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(".", "").replace(",", ".")
    return float(text) if _NUMBER.fullmatch(text) else None


def plain_digits(text: str) -> str:
    """Return a text without blanks around it; if it is a number, without those that group digits, with normal signs and with
    the digits 0 to 9."""
    return without_blanks(with_plain_signs(with_ascii_digits(text.strip(BLANKS))))


def has_decimal_comma(text: str) -> bool:
    """Return whether a text is a number with a decimal comma, such as `119,58`."""
    return _DECIMAL_COMMA.fullmatch(plain_digits(text)) is not None


def with_decimal_points(cell: Cell) -> Cell:
    """Return a cell of one or more numbers with decimal commas, separated by blanks or semicolons, with points instead.

    Any other cell is returned as it is. Raises `DataError` for a number such as `1.234`, which may be 1234.
    """
    if not isinstance(cell.value, str):
        return cell
    parts = _BLANKS_OR_SEMICOLONS.split(cell.value.strip())
    if any(_GROUPED_BY_POINTS.fullmatch(part) for part in parts):
        problem = "the point may group digits, as others have a decimal comma"
        raise DataError(f"{cell.location}: a number is expected, and of {_short_repr(cell.value)} {problem}.")
    numbers = [to_number(part, decimal_comma=True) for part in parts]
    return cell if None in numbers else cell._replace(value=" ".join(map(repr, numbers)))


def parse_number(cell: Cell) -> float:
    """Return a cell as a number of at most `MAX_NUMBER`."""
    value = cell.value
    try:
        number = None if isinstance(value, bool) else to_number(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None:
        raise DataError(f"{cell.location}: a number is expected, and this is {_short_repr(value)}{_comma_hint(value)}.")
    if not abs(number) <= MAX_NUMBER:
        raise DataError(f"{cell.location}: a number of at most 3.4e38 is expected, and this is {str(value).strip():.40}.")
    return number


def _comma_hint(value: Any) -> str:
    if not isinstance(value, str) or not has_decimal_comma(value):
        return ""
    point = f"write its comma as a point, {value.strip().replace(',', '.'):.40}"
    return f": {point}, or separate the columns of a CSV file by semicolons"


def parse_vector(cell: Cell) -> Array:
    """Return a cell as numbers `(D,)`: a list, an array file, or numbers separated by spaces or commas."""
    return parse_array(cell).ravel()


def parse_array(cell: Cell) -> Array:
    """Return a cell as a float64 array of any shape: nested lists, a `.npy` file, or numbers in one text."""
    value = parse_list(cell.value)
    if isinstance(value, str):
        value = load_array(cell) if value.lower().endswith(".npy") else split_numbers(value)
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError):
        problem = f"numbers are expected, in lists of equal length, and this is {_short_repr(cell.value)}"
        if isinstance(value, list) and isinstance(value[0], list) and any(isinstance(part, str) for part in value[0]):
            problem += "; of places in a text with labels, write a list with a label for each word instead"
        raise DataError(f"{cell.location}: {problem}.") from None
    if array.ndim == 0:
        array = array[None]
    if array.size == 0:
        raise DataError(f"{cell.location}: numbers are expected, and this is {_short_repr(cell.value)}.")
    is_number = np.abs(array) <= MAX_NUMBER
    if not is_number.all():
        index = np.argwhere(~is_number)[0]
        place = f"value {int(index[0]) + 1:,} of {len(array):,}" + "".join(f", {int(i) + 1:,}" for i in index[1:])
        found = "missing" if np.isnan(array[tuple(index)]) else f"{array[tuple(index)]:g}"
        hint = "; COLUMN:numbers reads a series with gaps" if found == "missing" else ""
        raise DataError(f"{cell.location}: {place} is {found}, and a number of at most 3.4e38 is expected{hint}.")
    return array


def split_numbers(text: str) -> list[str]:
    """Return the parts of a text that may be numbers, as `(48.1, 11.5)`: between blanks, commas or semicolons."""
    text = text.strip()
    return _NUMBER_SEPARATORS.split(text[1:-1].strip() if text.startswith("(") and text.endswith(")") else text)


def readable(cells: Iterable[Cell], parse: Callable[[Cell], Parsed]) -> Iterator[Parsed]:
    """Yield `parse(cell)` of each cell that can be read. Raises the first error if none can."""
    first_error: DataError | None = None
    num_read = 0
    for cell in cells:
        try:
            value = parse(cell)
        except DataError as error:
            first_error = first_error or error
            continue
        num_read += 1
        yield value
    if first_error is not None and not num_read:
        raise first_error


def parse_image(cell: Cell) -> Array:
    """Return an image as a float64 array `(H, W, C)`: from a file, from nested lists, or from H W numbers if it is square."""
    value = parse_list(cell.value)
    if isinstance(value, str) and value.lower().endswith(IMAGE_SUFFIXES):
        values = _load_image(cell)
    else:
        values = parse_array(cell)
    if values.ndim == 1:
        side = math.isqrt(len(values))
        if side * side != len(values):
            raise DataError(f"{cell.location}: {len(values)} numbers are not a square image; write them as a list of rows.")
        values = values.reshape(side, side)
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or values.shape[2] > 4:
        raise DataError(f"{cell.location}: an image is (height, width) or (height, width, channels); this is {values.shape}.")
    return values


def _load_image(cell: Cell) -> Array:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(f"{cell.location}: images need the package Pillow: pip install 'unrolled[data]'") from error
    path = resolve_path(cell)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(
                        f"{cell.location}: {path} has {image.width} x {image.height} pixels, and at most "
                        f"{MAX_PIXELS:,} are read: make it smaller."
                    )
                gray = image.mode in ("1", "L", "I", "F", "I;16", "LA")
                return np.asarray(image.convert("L" if gray else "RGB"), dtype=np.float64)
    except DataError:
        raise
    except Exception as error:  # Pillow may raise any exception for a damaged image
        raise DataError(f"{cell.location}: {path} is not an image that can be read: {first_line(error)}.") from error


def load_array(cell: Cell) -> Array:
    """Return the array of real numbers in the `.npy` file that a cell names."""
    path = resolve_path(cell)
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("error")
            array = np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except Exception as error:  # numpy may raise any exception for a damaged header
        are_objects = "allow_pickle" in str(error)
        reason = "it holds Python objects, such as lists of different lengths" if are_objects else first_line(error)
        raise DataError(f"{cell.location}: {path} is not a .npy file of numbers: {reason}.") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{cell.location}: {path} has the type {array.dtype}, which is not real numbers.")
    return array


def resolve_path(cell: Cell) -> Path:
    """Return the path of the file that a cell names: relative to the table's folder, or to the working directory.

    A name is also found in another Unicode normal form, since macOS writes names of files in NFD. Raises `DataError` if there
    is no such file, or the cell may name none.
    """
    if cell.folder is None:
        raise DataError(f"{cell.location}: files of this machine cannot be named here: send the numbers or pixels themselves.")
    for form in (None, "NFC", "NFD"):
        name = cell.value if form is None else unicodedata.normalize(form, cell.value)
        for path in (cell.folder / name, Path(name)):
            if path.is_file():
                return path
    folder = (cell.folder / cell.value).parent
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    raise DataError(f"{cell.location}: there is no file {cell.value}{did_you_mean_file(Path(cell.value).name, names) or '.'}")


def _short_repr(value: Any) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or an integer of thousands of digits
        text = type(value).__name__
    return text if len(text) <= 40 else text[:40] + "..."
