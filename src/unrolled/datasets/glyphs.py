"""Pictures of characters, drawn with the fonts of this machine, and the characters' names: `builtin:glyphs`.

Nothing is downloaded and no picture is kept: the fonts are those that the machine, Pillow and matplotlib bring along, the
names are those of Python's `unicodedata`, and whoever trains on them draws them anew. So the rows depend on the fonts
that are there, and are the same for the same fonts.

What no reader could tell is not asked: of characters that look the same (a Latin, a Greek and a Cyrillic capital A) the
first in Unicode's order stays, and fonts whose letters look like nobody else's are left out.
"""

from __future__ import annotations

import functools
import importlib.util
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.ImageFont import FreeTypeFont

    Picture = npt.NDArray[np.uint8]

SIDE = 24
"""Height and width of a picture in pixels."""

_BASELINE, _CAPITAL = 18, 12.5  # the row on which letters stand, and how tall an H is: the same in every font
_SCALES = (0.94, 1.0, 1.06)
_BLOCKS = (  # Latin, Greek, Cyrillic, punctuation, currencies, arrows, mathematics: what people write and read
    (0x21, 0x17F), (0x386, 0x3CE), (0x400, 0x45F), (0x490, 0x491), (0x2010, 0x203A), (0x20A0, 0x20C0), (0x2190, 0x2199),
    (0x21D0, 0x21D9), (0x2200, 0x2265),
)  # fmt: skip
_DOUBLES = "ĸ‒―‚‛‟∅∆∏∑∕∖∗∙∣∥∶∼∲∳"  # shapes of commoner characters, a hair apart where a font draws them apart
_KINDS = frozenset(("Lu", "Ll", "Lo", "Nd", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "So"))  # no lone accents
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_UNASSIGNED = "\u0378"  # drawn as the box that stands for whatever a font lacks
_FOLDERS = (
    "/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts",
    "/Library/Fonts", "/System/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
_NO_TEXT = re.compile(r"symbol|emoji|dingbat|math|last resort|icon|awesome|^cm[a-z]+\d|stix(siz|nonuni)", re.IGNORECASE)
_VARIANT = re.compile(
    r"\b((semi|extra|ultra|demi)[ -]?)?(condensed|narrow|expanded|thin|light|medium|black|heavy|bold|italic|oblique)\b",
    re.IGNORECASE,
)
_UPRIGHT = ("Regular", "Book", "Roman", "Normal", "Text")
_FAMILIES, _MOST_FAMILIES, _MOST_FACES = 3, 24, 8  # for a character to be asked; then bounds for machines full of fonts
_PLAIN = 0.55  # a font's letters have at least this cosine with everyone's: handwriting has less
_ALIKE, _SAME = 0.01, 0.005  # squared distance of two pictures, as a share of the larger one's square
_PICTURES, _MOST_VARIATIONS = 48, 6  # of a character in the training part, and of it in one font


@dataclass(frozen=True)
class Face:
    """One font of a family. `path` is empty for the one that Pillow brings; `size` makes its H as tall as everyone's."""

    family: str
    style: str
    path: str
    index: int
    size: float

    def font(self, scale: float = 1.0) -> FreeTypeFont:
        """Return the font at `scale` times the usual size."""
        return _open(self.path, self.index, self.size * scale)


Pictures = dict[Face, dict[str, "Picture"]]


def glyphs(part: str) -> Iterator[dict[str, Any]]:
    """Yield `{"picture": (SIDE, SIDE) uint8, ink is 255, "name": "latin small letter a"}`.

    The training part varies size and place a little; the test part is one family with its bold and slanted faces, plain.
    """
    pictures, characters = _drawn(part)
    for picture, character in zip(pictures, characters, strict=True):
        yield {"picture": picture.copy(), "name": unicodedata.name(character).lower()}


@functools.cache
def _drawn(part: str) -> tuple[Picture, str]:
    """Return all pictures of a part, `(N, SIDE, SIDE)`, and their characters, mixed."""
    import numpy as np

    faces = _parts()[part]
    tested = {(c, own[c].tobytes()) for own in _parts()["test"].values() for c in own} if part == "train" else set()
    draw, fonts = random.Random(0), Counter(c for own in faces.values() for c in own)
    rows: list[tuple[Picture, str]] = []
    for face, own in faces.items():
        sizes = [face.font(scale) for scale in _SCALES]
        for character, plain in own.items():
            rows.append((plain, character))
            wanted = min(_MOST_VARIATIONS, -(-_PICTURES // fonts[character])) if part == "train" else 1
            for _ in range(wanted - 1):
                right, down = draw.uniform(-1, 1), draw.choice((-1, 0, 0, 1))
                varied = _picture(draw.choice(sizes), character, right, down)
                if (character, varied.tobytes()) not in tested:  # a full stop, moved by a pixel, is that of another font
                    rows.append((varied, character))
    draw.shuffle(rows)
    return np.stack([picture for picture, _ in rows]), "".join(character for _, character in rows)


@functools.cache
def _parts() -> dict[str, Pictures]:
    """Return for `train` and `test` the plain pictures by face and character.

    Only characters with a training picture are tested. A training font that draws a character with the very outline of
    the held-out family (families borrow from each other) has it left out: nothing that is tested has been seen.
    """
    pictures, held_out = _survey()
    test = {face: own for face, own in pictures.items() if face.family == held_out}
    train: Pictures = {}
    for face, own in pictures.items():
        if face.family != held_out:
            train[face] = {c: own[c] for c in own if all(c not in t or _distance(own[c], t[c]) > _SAME for t in test.values())}
    known = {c for own in train.values() for c in own}
    return {"train": train, "test": {face: {c: own[c] for c in own if c in known} for face, own in test.items()}}


def _survey() -> tuple[Pictures, str]:
    """Return the plain pictures of all that is asked, and the family that is kept for testing.

    It is the one whose letters are most like everyone's, among those that have most of the characters.
    """
    likeness = _text_faces()
    upright = {face.family: face for face in reversed(likeness)}
    if len(upright) < _FAMILIES:
        raise DataError(
            f"The built-in table 'glyphs' draws with at least {_FAMILIES} families of fonts, and this machine has "
            f"{len(upright)}: install some, such as Debian's fonts-dejavu-core, fonts-liberation and fonts-freefont-ttf, "
            "or those of matplotlib: pip install matplotlib"
        )
    pictures = {face: _pictures(face, _characters()) for face in likeness}
    plain = [pictures[face] for face in upright.values()]
    shared = Counter(character for own in plain for character in own)
    asked = _different([c for c in _characters() if shared[c] >= _FAMILIES], plain)
    pictures = {face: {c: own[c] for c in asked if c in own} for face, own in pictures.items()}
    wide = [face for face in upright.values() if len(pictures[face]) >= 0.8 * len(asked)] or list(upright.values())
    return pictures, max(wide, key=lambda face: likeness[face]).family


def _different(characters: list[str], faces: list[dict[str, Picture]]) -> list[str]:
    """Return the characters that look like no earlier one in a third of the faces that have both, or more."""
    import numpy as np

    count = len(characters)
    both, alike = np.zeros((count, count)), np.zeros((count, count))
    for own in faces:
        here = np.array([c in own for c in characters])
        flat = np.array([own[c].ravel() if c in own else np.zeros(SIDE * SIDE) for c in characters], np.float32) / 255
        square = (flat * flat).sum(1)
        apart = square[:, None] + square - 2 * flat @ flat.T
        pairs = here[:, None] & here
        both += pairs
        alike += pairs & (apart < _ALIKE * np.maximum(np.maximum(square[:, None], square), 1e-6))
    twins = 3 * alike > both
    kept: list[int] = []
    for i in range(count):
        if not twins[i, kept].any():
            kept.append(i)
    return [characters[i] for i in kept]


def _distance(one: Picture, other: Picture) -> float:
    """Return the squared distance of two pictures as a share of the larger one's square."""
    a, b = one.astype(float), other.astype(float)
    return float(((a - b) ** 2).sum() / max((a * a).sum(), (b * b).sum(), 1.0))


@functools.cache
def _characters() -> tuple[str, ...]:
    """Return all characters that may be asked: visible ones that are no mere variant of another."""
    found = (chr(code) for first, last in _BLOCKS for code in range(first, last + 1))
    return tuple(
        c for c in found if unicodedata.category(c) in _KINDS and unicodedata.normalize("NFKC", c) == c and c not in _DOUBLES
    )


def _text_faces() -> dict[Face, float]:
    """Return the faces that set ordinary text, by family and the upright first, with their likeness to all the others'."""
    import numpy as np

    found: dict[tuple[str, str], tuple[Face, Picture]] = {}
    for path, index in _font_files():
        face = _face(path, index)
        own = _pictures(face, _LETTERS) if face and (face.family, face.style) not in found else {}
        if face and len(own) == len(_LETTERS):
            found[face.family, face.style] = face, np.array([own[c].ravel() for c in _LETTERS])
    if not found:
        return {}
    some = list(found.values())[:: len(found) // 200 + 1]  # as many as a median needs, of the thousands that a machine may have
    middle = _unit(np.median([_unit(letters) for _, letters in some], axis=0))
    likeness = {face: float((_unit(letters) * middle).sum(1).mean()) for face, letters in found.values()}
    faces = [face for face in likeness if likeness[face] >= _PLAIN]
    return {face: likeness[face] for face in _bounded(faces)}


def _unit(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return rows of length one."""
    import numpy as np

    return np.asarray(rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True))


def _bounded(faces: list[Face]) -> list[Face]:
    """Return the faces in order, of no more families than are needed: those that have most of the characters."""
    families: dict[str, list[Face]] = {}
    for face in sorted(faces, key=lambda face: (face.family, face.style not in _UPRIGHT, len(face.style), face.style)):
        families.setdefault(face.family, []).append(face)
    some = _characters()[::8]
    widest = sorted(families, key=lambda family: -len(_pictures(families[family][0], some)))[:_MOST_FAMILIES]
    return [face for family in sorted(widest) for face in families[family][:_MOST_FACES]]


def _font_files() -> Iterator[tuple[str, int]]:
    """Yield path and index of every font that can be found, sorted; the path of Pillow's own is empty."""
    yield "", 0
    folders = [Path(folder).expanduser() for folder in _FOLDERS]
    package = importlib.util.find_spec("matplotlib")  # found, not imported
    if package and package.origin:
        folders.append(Path(package.origin).parent / "mpl-data" / "fonts" / "ttf")
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".ttf", ".otf", ".ttc"}):
            yield from ((str(path), index) for index in range(8 if path.suffix.lower() == ".ttc" else 1))


def _face(path: str, index: int) -> Face | None:
    """Return the face in a file, or None for what cannot be read, is no font for text or has no H to measure it by."""
    try:
        font = _open(path, index, 4 * SIDE)
        name, style = (part or "" for part in font.getname())
        height = -font.getbbox("H", anchor="ls")[1]
    except (OSError, ValueError):
        return None
    if height <= 0 or _NO_TEXT.search(name):
        return None
    family = " ".join(_VARIANT.sub(" ", name).split())
    variant = " ".join(found.group() for found in _VARIANT.finditer(name))
    return Face(family, f"{variant} {style}".strip(), path, index, 4 * SIDE * _CAPITAL / height)


def _open(path: str, index: int, size: float) -> FreeTypeFont:
    from PIL import ImageFont

    basic = ImageFont.Layout.BASIC  # whether Pillow can shape text depends on how it was built; a character needs none
    if path:
        return ImageFont.truetype(path, size, index=index, layout_engine=basic)
    font = ImageFont.load_default(size)
    if isinstance(font, ImageFont.FreeTypeFont):
        return font.font_variant(layout_engine=basic)
    raise OSError("this Pillow draws no outlines")


def _pictures(face: Face, characters: Iterable[str]) -> dict[str, Picture]:
    """Return the plain pictures of those characters that a face has and that fit."""
    font = face.font()
    lacking = _picture(font, _UNASSIGNED).tobytes()
    pictures: dict[str, Picture] = {}
    for character in characters:
        left, top, right, bottom = font.getbbox(character, anchor="ls")
        if right - left <= SIDE and -top <= _BASELINE and bottom <= SIDE - _BASELINE:
            picture = _picture(font, character)
            if picture.any() and picture.tobytes() != lacking:
                pictures[character] = picture
    return pictures


def _picture(font: FreeTypeFont, character: str, right: float = 0.0, down: int = 0) -> Picture:
    """Draw a character, centred from left to right, on its baseline."""
    import numpy as np
    from PIL import Image, ImageDraw

    image = Image.new("L", (SIDE, SIDE))
    start, _, end, _ = font.getbbox(character, anchor="ls")
    place = (SIDE / 2 - (start + end) / 2 + right, _BASELINE + down)
    ImageDraw.Draw(image).text(place, character, fill=255, font=font, anchor="ls")
    return np.array(image)
