"""One cell of a table, and its parsers: text, words, a number, an array, an image."""

from __future__ import annotations

import json
import math
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from unrolled.errors import DataError, did_you_mean

Array = npt.NDArray[Any]
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff")
MAX_PIXELS = 1 << 24
_NUMBER_SEPARATORS = re.compile(r"[,;\s]+")


class Cell(NamedTuple):
    """A value and its location; a path in it is relative to `folder`. A named tuple, since one is made for each cell."""

    value: Any
    table_name: str
    line: int = 0
    folder: Path = Path()

    @property
    def location(self) -> str:
        """The location of the cell for error messages: `table, line N`."""
        return f"{self.table_name}, line {self.line:,}" if self.line else self.table_name


NAMES_OF_MISSING_VALUES = frozenset(("NA", "N/A", "#N/A", "NaN", "nan", "null", "None", "-"))
"""What R, pandas, spreadsheets and JSON write into a cell without a value."""


def is_empty(value: Any) -> bool:
    """Return whether a cell has no value: None, a blank text, an empty list, or NaN."""
    if isinstance(value, str):
        return not value.strip()
    return (
        value is None
        or (isinstance(value, list) and not value)
        or (isinstance(value, float | np.floating) and math.isnan(value))
    )


def is_missing(value: Any) -> bool:
    """Return whether a cell is empty or has one of `NAMES_OF_MISSING_VALUES`."""
    return is_empty(value) or (isinstance(value, str) and value.strip() in NAMES_OF_MISSING_VALUES)


def parse_text(cell: Cell) -> str:
    """Return a cell as text; numbers and booleans as JSON writes them."""
    value = cell.value
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float | np.generic):
        return json.dumps(value.item() if isinstance(value, np.generic) else value)
    if value is None:
        return ""
    raise DataError(f"{cell.location}: a text is expected, and this is {_short_repr(value)}.")


def parse_words(cell: Cell) -> list[str]:
    """Return the elements of a list, or the words of a text; the text may be a JSON list."""
    value = parse_list(cell.value)
    if isinstance(value, list | np.ndarray):
        return [parse_text(Cell(element, *cell[1:])) for element in value]
    return parse_text(Cell(value, *cell[1:])).split()


def parse_list(value: Any) -> Any:
    """Return a text in brackets as the JSON list that it is; anything else unchanged."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def parse_number(cell: Cell) -> float:
    """Return a cell as a finite number."""
    try:
        number = float(cell.value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{cell.location}: a number is expected, and this is {_short_repr(cell.value)}.") from None
    if not math.isfinite(number):
        raise DataError(f"{cell.location}: a finite number is expected, and this is {cell.value}.")
    return number


def parse_vector(cell: Cell) -> Array:
    """Return a cell as numbers `(D,)`: a list, an array file, or numbers separated by spaces or commas."""
    return parse_array(cell).ravel()


def parse_array(cell: Cell) -> Array:
    """Return a cell as a float64 array of any shape: nested lists, a `.npy` file, or numbers in one text."""
    value = parse_list(cell.value)
    if isinstance(value, str):
        if value.lower().endswith(".npy"):
            value = _load_array(cell)
        else:
            value = _NUMBER_SEPARATORS.split(value.strip())
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError):
        problem = f"numbers are expected, in lists of equal length, and this is {_short_repr(cell.value)}"
        raise DataError(f"{cell.location}: {problem}.") from None
    if array.ndim == 0:
        array = array[None]
    if array.size == 0 or not np.isfinite(array).all():
        raise DataError(f"{cell.location}: finite numbers are expected, and this is {_short_repr(cell.value)}.")
    return array


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
    path = _resolve_path(cell)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(f"{cell.location}: {path} has {image.width} x {image.height} pixels, which is too many.")
                gray = image.mode in ("1", "L", "I", "F", "I;16", "LA")
                return np.asarray(image.convert("L" if gray else "RGB"), dtype=np.float64)
    except DataError:
        raise
    except Exception as error:  # Pillow may raise any exception for a damaged image
        raise DataError(f"{cell.location}: {path} is not an image that can be read: {_first_line(error)}.") from error


def _load_array(cell: Cell) -> Array:
    path = _resolve_path(cell)
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("error")
            array = np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except Exception as error:  # numpy may raise any exception for a damaged header
        raise DataError(f"{cell.location}: {path} is not a .npy file of numbers: {_first_line(error)}.") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{cell.location}: {path} has the type {array.dtype}, which is not real numbers.")
    return array


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _resolve_path(cell: Cell) -> Path:
    """Return the path in a cell: relative to the table's folder, or to the working directory."""
    for path in (cell.folder / cell.value, Path(cell.value)):
        if path.is_file():
            return path
    folder = (cell.folder / cell.value).parent
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    raise DataError(f"{cell.location}: there is no file {cell.value}{did_you_mean(Path(cell.value).name, names) or '.'}")


def _short_repr(value: Any) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or an integer of thousands of digits
        text = type(value).__name__
    return text if len(text) <= 40 else text[:40] + "..."
