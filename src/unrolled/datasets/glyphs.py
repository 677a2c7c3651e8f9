"""Images of characters, drawn with the fonts of this machine, and the characters' names: `builtin:glyphs`.

Nothing is downloaded or stored: the fonts are those of the machine, of Pillow and of matplotlib, the names those of Python's
`unicodedata`, and the images are drawn when they are used. The rows are the same for the same fonts.

Rows that nobody could answer are left out: of characters that look the same (a Latin, a Greek and a Cyrillic capital A) the
first in Unicode's order stays, and fonts whose letters look unlike those of all others are not used.
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

    GrayImage = npt.NDArray[np.uint8]

IMAGE_SIZE = 24
"""Height and width of an image in pixels."""

_BASELINE, _CAP_HEIGHT = 18, 12.5  # the row on which letters stand, and the height of an H, in every font
_SCALES = (0.94, 1.0, 1.06)
_BLOCKS = (  # Latin, Greek, Cyrillic, punctuation, currencies, arrows, mathematics
    (0x21, 0x17F), (0x386, 0x3CE), (0x400, 0x45F), (0x490, 0x491), (0x2010, 0x203A), (0x20A0, 0x20C0), (0x2190, 0x2199),
    (0x21D0, 0x21D9), (0x2200, 0x2265),
)  # fmt: skip
_LOOKALIKES = "ĸ‒―‚‛‟∅∆∏∑∕∖∗∙∣∥∶∼∲∳"  # nearly the shapes of more common characters
_CATEGORIES = frozenset(("Lu", "Ll", "Lo", "Nd", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "So"))  # no lone accents
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_UNASSIGNED = "\u0378"  # drawn as the box of a missing character
_FOLDERS = (
    "/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts",
    "/Library/Fonts", "/System/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
_NON_TEXT_FONTS = re.compile(r"symbol|emoji|dingbat|math|last resort|icon|awesome|^cm[a-z]+\d|stix(siz|nonuni)", re.IGNORECASE)
_VARIANT = re.compile(
    r"\b((semi|extra|ultra|demi)[ -]?)?(condensed|narrow|expanded|thin|light|medium|black|heavy|bold|italic|oblique)\b",
    re.IGNORECASE,
)
_UPRIGHT_STYLES = ("Regular", "Book", "Roman", "Normal", "Text")
_MIN_FAMILIES, _MAX_FAMILIES, _MAX_FACES = 3, 24, 8  # families that a character needs; then limits for machines with many fonts
_MIN_LIKENESS = 0.55  # least cosine of a font's letters with the median of all fonts: handwriting has less
_MAX_TWIN_DISTANCE, _MAX_COPY_DISTANCE = 0.01, 0.005  # squared distance of two images, as a share of the larger squared norm
_IMAGES_PER_CHAR, _MAX_VARIATIONS = 48, 6  # per character in the training part, and per character and font


@dataclass(frozen=True)
class Face:
    """One font of a family. `path` is empty for the font of Pillow; at `size`, its H has the height `_CAP_HEIGHT`."""

    family: str
    style: str
    path: str
    index: int
    size: float

    def font(self, scale: float = 1.0) -> FreeTypeFont:
        """Return the font at `scale` times the usual size."""
        return _open_font(self.path, self.index, self.size * scale)


FaceImages = dict[Face, dict[str, "GrayImage"]]


def glyphs(split: str) -> Iterator[dict[str, Any]]:
    """Yield `{"picture": (IMAGE_SIZE, IMAGE_SIZE) uint8, 255 is ink, "name": "latin small letter a"}`.

    The training part varies size and position a little; the test part is one font family, not varied.
    """
    images, characters = _draw_split(split)
    for image, character in zip(images, characters, strict=True):
        yield {"picture": image.copy(), "name": unicodedata.name(character).lower()}


@functools.cache
def _draw_split(split: str) -> tuple[GrayImage, str]:
    """Return all images of a part, `(N, IMAGE_SIZE, IMAGE_SIZE)`, and their characters, shuffled."""
    import numpy as np

    faces = _splits()[split]
    test_images = (
        {(c, char_images[c].tobytes()) for char_images in _splits()["test"].values() for c in char_images}
        if split == "train"
        else set()
    )
    rng, num_fonts = random.Random(0), Counter(c for char_images in faces.values() for c in char_images)
    rows: list[tuple[GrayImage, str]] = []
    for face, char_images in faces.items():
        scaled_fonts = [face.font(scale) for scale in _SCALES]
        for character, plain in char_images.items():
            rows.append((plain, character))
            num_variations = min(_MAX_VARIATIONS, -(-_IMAGES_PER_CHAR // num_fonts[character])) if split == "train" else 1
            for _ in range(num_variations - 1):
                shift_x, shift_y = rng.uniform(-1, 1), rng.choice((-1, 0, 0, 1))
                variation = _draw_char(rng.choice(scaled_fonts), character, shift_x, shift_y)
                if (character, variation.tobytes()) not in test_images:  # a moved full stop may equal that of another font
                    rows.append((variation, character))
    rng.shuffle(rows)
    return np.stack([image for image, _ in rows]), "".join(character for _, character in rows)


@functools.cache
def _splits() -> dict[str, FaceImages]:
    """Return for `train` and `test` the images (not varied) by face and character.

    Only characters with a training image are in the test part. A training image that equals one of the test family (families
    copy from each other) is left out.
    """
    images, test_family = _select_faces()
    test = {face: char_images for face, char_images in images.items() if face.family == test_family}
    train: FaceImages = {}
    for face, char_images in images.items():
        if face.family != test_family:
            train[face] = {
                c: char_images[c]
                for c in char_images
                if all(c not in t or _distance(char_images[c], t[c]) > _MAX_COPY_DISTANCE for t in test.values())
            }
    train_chars = {c for char_images in train.values() for c in char_images}
    return {
        "train": train,
        "test": {face: {c: char_images[c] for c in char_images if c in train_chars} for face, char_images in test.items()},
    }


def _select_faces() -> tuple[FaceImages, str]:
    """Return the images (not varied) of all faces and characters, and the family that is the test part.

    It is the one whose letters are nearest to the median of all fonts, among those that have most of the characters.
    """
    likeness = _text_faces()
    upright = {face.family: face for face in reversed(likeness)}
    if len(upright) < _MIN_FAMILIES:
        raise DataError(
            f"The built-in table 'glyphs' draws with at least {_MIN_FAMILIES} families of fonts, and this machine has "
            f"{len(upright)}: install some, such as Debian's fonts-dejavu-core, fonts-liberation and fonts-freefont-ttf, "
            "or those of matplotlib: pip install matplotlib"
        )
    images = {face: _draw_chars(face, _candidate_chars()) for face in likeness}
    upright_images = [images[face] for face in upright.values()]
    face_counts = Counter(character for char_images in upright_images for character in char_images)
    selected = _distinct_chars([c for c in _candidate_chars() if face_counts[c] >= _MIN_FAMILIES], upright_images)
    images = {face: {c: char_images[c] for c in selected if c in char_images} for face, char_images in images.items()}
    broad_faces = [face for face in upright.values() if len(images[face]) >= 0.8 * len(selected)] or list(upright.values())
    return images, max(broad_faces, key=lambda face: likeness[face]).family


def _distinct_chars(characters: list[str], faces: list[dict[str, GrayImage]]) -> list[str]:
    """Return the characters that look different from all earlier ones in two thirds of the faces that have both."""
    import numpy as np

    count = len(characters)
    num_both, num_alike = np.zeros((count, count)), np.zeros((count, count))
    for char_images in faces:
        has_char = np.array([c in char_images for c in characters])
        blank = np.zeros((IMAGE_SIZE, IMAGE_SIZE))
        flat = np.array([char_images.get(c, blank).ravel() for c in characters], np.float32) / 255
        square = (flat * flat).sum(1)
        distances = square[:, None] + square - 2 * flat @ flat.T
        both_drawn = has_char[:, None] & has_char
        num_both += both_drawn
        num_alike += both_drawn & (distances < _MAX_TWIN_DISTANCE * np.maximum(np.maximum(square[:, None], square), 1e-6))
    twins = 3 * num_alike > num_both
    distinct: list[int] = []
    for i in range(count):
        if not twins[i, distinct].any():
            distinct.append(i)
    return [characters[i] for i in distinct]


def _distance(first: GrayImage, second: GrayImage) -> float:
    """Return the squared distance of two images as a share of the larger squared norm."""
    a, b = first.astype(float), second.astype(float)
    return float(((a - b) ** 2).sum() / max((a * a).sum(), (b * b).sum(), 1.0))


@functools.cache
def _candidate_chars() -> tuple[str, ...]:
    """Return all characters that may be used: visible ones that are not a compatibility variant of another."""
    candidates = (chr(code) for first, last in _BLOCKS for code in range(first, last + 1))
    return tuple(
        c
        for c in candidates
        if unicodedata.category(c) in _CATEGORIES and unicodedata.normalize("NFKC", c) == c and c not in _LOOKALIKES
    )


def _text_faces() -> dict[Face, float]:
    """Return the faces for text, by family, the upright first, with the similarity of their letters to the median."""
    import numpy as np

    faces_found: dict[tuple[str, str], tuple[Face, GrayImage]] = {}
    for path, index in _font_files():
        face = _load_face(path, index)
        char_images = _draw_chars(face, _LETTERS) if face and (face.family, face.style) not in faces_found else {}
        if face and len(char_images) == len(_LETTERS):
            faces_found[face.family, face.style] = face, np.array([char_images[c].ravel() for c in _LETTERS])
    if not faces_found:
        return {}
    sampled = list(faces_found.values())[:: len(faces_found) // 200 + 1]  # a median needs at most 200 of thousands of fonts
    median = _normalize_rows(np.median([_normalize_rows(letters) for _, letters in sampled], axis=0))
    likeness = {face: float((_normalize_rows(letters) * median).sum(1).mean()) for face, letters in faces_found.values()}
    faces = [face for face in likeness if likeness[face] >= _MIN_LIKENESS]
    return {face: likeness[face] for face in _limit_families(faces)}


def _normalize_rows(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the rows scaled to norm 1."""
    import numpy as np

    return np.asarray(rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True))


def _limit_families(faces: list[Face]) -> list[Face]:
    """Return the sorted faces of at most `_MAX_FAMILIES` families: those that have most of the characters."""
    families: dict[str, list[Face]] = {}
    for face in sorted(faces, key=lambda face: (face.family, face.style not in _UPRIGHT_STYLES, len(face.style), face.style)):
        families.setdefault(face.family, []).append(face)
    sampled_chars = _candidate_chars()[::8]
    widest = sorted(families, key=lambda family: -len(_draw_chars(families[family][0], sampled_chars)))[:_MAX_FAMILIES]
    return [face for family in sorted(widest) for face in families[family][:_MAX_FACES]]


def _font_files() -> Iterator[tuple[str, int]]:
    """Yield path and index of every font, sorted; the path of the font of Pillow is empty."""
    yield "", 0
    folders = [Path(folder).expanduser() for folder in _FOLDERS]
    package = importlib.util.find_spec("matplotlib")  # found, not imported
    if package and package.origin:
        folders.append(Path(package.origin).parent / "mpl-data" / "fonts" / "ttf")
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".ttf", ".otf", ".ttc"}):
            yield from ((str(path), index) for index in range(8 if path.suffix.lower() == ".ttc" else 1))


def _load_face(path: str, index: int) -> Face | None:
    """Return the face in a file; None if it cannot be read, is not for text, or has no H to measure."""
    try:
        font = _open_font(path, index, 4 * IMAGE_SIZE)
        name, style = (field or "" for field in font.getname())
        height = -font.getbbox("H", anchor="ls")[1]
    except (OSError, ValueError):
        return None
    if height <= 0 or _NON_TEXT_FONTS.search(name):
        return None
    family = " ".join(_VARIANT.sub(" ", name).split())
    variant = " ".join(match.group() for match in _VARIANT.finditer(name))
    return Face(family, f"{variant} {style}".strip(), path, index, 4 * IMAGE_SIZE * _CAP_HEIGHT / height)


def _open_font(path: str, index: int, size: float) -> FreeTypeFont:
    from PIL import ImageFont

    basic = ImageFont.Layout.BASIC  # Pillow may lack the complex one, which single characters do not need
    if path:
        return ImageFont.truetype(path, size, index=index, layout_engine=basic)
    font = ImageFont.load_default(size)
    if isinstance(font, ImageFont.FreeTypeFont):
        return font.font_variant(layout_engine=basic)
    raise OSError("This Pillow cannot draw outlines")


def _draw_chars(face: Face, characters: Iterable[str]) -> dict[str, GrayImage]:
    """Return the images (not varied) of the characters that a face has and that fit."""
    font = face.font()
    missing_glyph = _draw_char(font, _UNASSIGNED).tobytes()
    images: dict[str, GrayImage] = {}
    for character in characters:
        left, top, right, bottom = font.getbbox(character, anchor="ls")
        if right - left <= IMAGE_SIZE and -top <= _BASELINE and bottom <= IMAGE_SIZE - _BASELINE:
            image = _draw_char(font, character)
            if image.any() and image.tobytes() != missing_glyph:
                images[character] = image
    return images


def _draw_char(font: FreeTypeFont, character: str, shift_x: float = 0.0, shift_y: int = 0) -> GrayImage:
    """Draw a character on the baseline, centered horizontally."""
    import numpy as np
    from PIL import Image, ImageDraw

    image = Image.new("L", (IMAGE_SIZE, IMAGE_SIZE))
    start, _, end, _ = font.getbbox(character, anchor="ls")
    position = (IMAGE_SIZE / 2 - (start + end) / 2 + shift_x, _BASELINE + shift_y)
    ImageDraw.Draw(image).text(position, character, fill=255, font=font, anchor="ls")
    return np.array(image)
