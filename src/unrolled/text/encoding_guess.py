"""The encoding that bytes which are not UTF-8 most likely have: the one in which they are the usual letters of a language."""

from __future__ import annotations

import codecs
import contextlib
import math
import re

import numpy as np

from unrolled.text.file_signatures import marked_encoding

GUESSED_BYTES = 1 << 16
"""Bytes of a file from which its encoding is guessed."""

MIN_ZEROS = 0.3
"""Share of zeros among the bytes in even or odd places, from which on a file is most likely UTF-16 or UTF-32."""

MAX_ODD = 0.02
"""Share of characters that are none, or that cannot be printed, in a text of UTF-16 or UTF-32, at most."""

MIN_ASCII = 0.05
"""Share of blanks, digits and line ends in UTF-16 of other scripts than Latin, at least."""

MIN_SHARE = 0.55
"""Share of the characters above 127 that must be usual ones of a language of the Latin script."""

LOG_RATIO, LOG_CAPITAL, LOG_UNLIKELY = math.log(0.9), math.log(1.15), math.log(0.01)
MIN_LOG_LIKELIHOOD = -1.7
"""Mean for a text, at least; about -1 is usual, and letters at random have -1.7."""

_LATIN_RUNS = re.compile(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])|(?<=[A-Za-z])[\xc0-\xff]{2}(?=[a-z])")
"""Bytes above 127 that stand alone, and pairs of letters of Windows-1252 inside a word."""

_INSIDE_WORD = re.compile(r"(?<=[^\W\d_])[^\w\s\u2019](?=[^\W\d_])|(?<=[a-z])[A-Z\u00c0-\u00de\u0160\u017d\u0178]")
"""Signs between letters and capitals after small ones, which are there in a wrong encoding."""

_CAPITAL_INSIDE = re.compile(r"(?<=[\u03ac-\u03ce\u0430-\u045f])[\u0386-\u03ab\u0400-\u042f]")
"""Greek and Cyrillic capitals after small letters, which Chinese and Korean are full of if they are read so."""

MAX_CAPITALS_INSIDE = 0.05

_SIGNS = (
    "\u201c\u201d\u201e\u2018\u2019\u2013\u2014\u2026\u20ac\u00a3\u00a7\u00a9"
    "\u00ae\u00ab\u00bb\u00b0\u00b2\u00b3\u00b5\u00bd\u00a0"
)
_WESTERN = (
    "\u00e9\u00e8\u00ea\u00eb\u00e0\u00e2\u00f9\u00fb\u00fc\u00ee\u00ef\u00f4\u0153\u00e7\u00e6",  # French
    "\u00e4\u00f6\u00fc\u00df\u00e9",  # German
    "\u00e1\u00e9\u00ed\u00f3\u00fa\u00f1\u00fc\u00bf\u00a1\u00ba\u00aa\u00e7\u00e0\u00e8\u00f2",  # Spanish, Catalan
    "\u00e3\u00f5\u00e1\u00e9\u00ed\u00f3\u00fa\u00e2\u00ea\u00f4\u00e0\u00e7\u00e8\u00ec\u00f2\u00f9",  # Portuguese, Italian
    "\u00e5\u00e4\u00f6\u00f8\u00e6\u00e9",  # Scandinavian languages, Finnish
    "\u00e1\u00e6\u00f0\u00e9\u00ed\u00f3\u00f6\u00fa\u00fd\u00fe",  # Icelandic
)
_CENTRAL = (
    "\u0105\u0107\u0119\u0142\u0144\u00f3\u015b\u017a\u017c",  # Polish
    # Czech, Slovak
    "\u00e1\u010d\u010f\u00e9\u011b\u00ed\u0148\u00f3\u0159\u0161\u0165\u00fa\u016f\u00fd\u017e\u013e\u0155\u00f4",
    "\u00e1\u00e9\u00ed\u00f3\u00f6\u0151\u00fa\u00fc\u0171",  # Hungarian
    "\u0103\u00e2\u00ee\u015f\u0163",  # Romanian
    "\u010d\u0107\u0111\u0161\u017e",  # Croatian, Slovene
)
_TURKISH = ("\u00e7\u011f\u0131\u00f6\u015f\u00fc\u00e2\u00ee\u00fb\u0130",)
_BALTIC = (
    "\u0101\u010d\u0113\u0123\u012b\u0137\u013c\u0146\u0161\u016b\u017e",
    "\u0105\u010d\u0119\u0117\u012f\u0161\u0173\u016b\u017e",
)
LATIN_ENCODINGS = (
    ("windows-1252", "cp1252", _WESTERN),
    ("windows-1250", "cp1250", _CENTRAL),
    ("iso-8859-2", "iso8859-2", _CENTRAL),
    ("windows-1254", "cp1254", _TURKISH),
    ("windows-1257", "cp1257", _BALTIC),
    ("macintosh", "mac-roman", _WESTERN),
    ("cp850", "cp850", _WESTERN),
)
"""Encodings of the Latin script: the name for `iconv`, that of Python, and the letters of languages."""

_CYRILLIC = "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъёіїєґ"
_GREEK = "αοιετσνηυρπκμλςίόάήέδώγχβύθφξζψϊ"
_ARABIC = "اليمنروتبدهعةفسكحقجأشىصخطءضغذزئثظإآؤ"
_HEBREW = "יוהלאתרבמשנדקחפגעצכםטסזןךףץ"
_THAI = "านรอกเงมยลวดท่้ัสีตะิบปคขใแไชจพหโผณซถธฉ็ศุูืำึฟภฐญฎฏ"
OTHER_ENCODINGS = (
    ("windows-1251", "cp1251", _CYRILLIC),
    ("mac-cyrillic", "mac-cyrillic", _CYRILLIC),
    ("koi8-r", "koi8-r", _CYRILLIC),
    ("cp866", "cp866", _CYRILLIC),
    ("iso-8859-5", "iso8859-5", _CYRILLIC),
    ("windows-1253", "cp1253", _GREEK),
    ("windows-1256", "cp1256", _ARABIC),
    ("iso-8859-6", "iso8859-6", _ARABIC),
    ("windows-1255", "cp1255", _HEBREW),
    ("cp874", "cp874", _THAI),
)
"""Encodings of other alphabets, with their letters, the most frequent first."""

ASIAN_ENCODINGS = (
    ("shift_jis", "cp932", r"[\u3041-\u30ff]", 0.2),
    ("euc-jp", "euc_jp", r"[\u3041-\u30ff]", 0.2),
    ("euc-kr", "cp949", r"[\uac00-\ud7a3]", 0.9),
)
"""Encodings of Japanese and Korean, with the letters that Chinese has not, and their least share."""

_GB_COMMON = re.compile(rb"[\xb0-\xd7][\xa1-\xfe]")
_BIG5_COMMON = re.compile(rb"[\xa4-\xc6][\x40-\x7e\xa1-\xfe]")


_TWICE = re.compile("[\u00c2-\u00f4][\u0080-\u00bf\u0152-\u02dc\u2013-\u2122]+")


def encoded_twice(text: str) -> str:
    """Return a part of a text that is UTF-8 read as Windows-1252, such as `Ã©` for `é`; an empty text if there is none.

    Example:
        >>> encoded_twice("dÃ©jÃ "), encoded_twice("déjà Â ©")
        ('Ã©', '')
    """
    for found in () if text.isascii() else _TWICE.finditer(text):
        data = b"".join(character.encode("cp1252" if character > "\xff" else "latin-1", "replace") for character in found[0])
        with contextlib.suppress(UnicodeDecodeError):
            if not data.decode("utf-8").isascii():
                return found[0]
    return ""


_SEVEN_BIT = (
    ("ISO-2022-JP", re.compile(rb"\x1b\$[@B]")),
    ("ISO-2022-KR", re.compile(rb"\x1b\$\)C")),
    ("UTF-7", re.compile(rb"\+[A-Za-z0-9+/]{3}")),
    ("HZ", re.compile(rb"~\{(?:[!-w][!-~])+~\}")),
)
"""Encodings whose bytes are all below 128, with what is found in each."""

MIN_WIDE = 3
"""Characters above 127, at least, that such a text has."""


def seven_bit_encoding(data: bytes) -> str | None:
    """Return the encoding of a text whose bytes are all below 128, if some of them stand for other characters.

    Example:
        >>> seven_bit_encoding("日本語".encode("iso-2022-jp")), seven_bit_encoding(b"1+1=2")
        ('ISO-2022-JP', None)
    """
    data = data[:GUESSED_BYTES]
    for name, marks in _SEVEN_BIT if data.isascii() else ():
        if marks.search(data) is not None:
            with contextlib.suppress(UnicodeError):
                text = codecs.getincrementaldecoder(name)().decode(data)
                if sum(character > "\x7f" for character in text) >= MIN_WIDE and "".join(text.split()).isprintable():
                    return name
    return None


def likely_encoding(data: bytes) -> str | None:
    """Return the encoding that the bytes of a file which is not UTF-8 most likely have, as `iconv` names it, or None.

    UTF-16 and UTF-32 are seen by their zeros. In other encodings, the characters above 127 are to be letters of one language.

    Example:
        >>> likely_encoding("на дворе трава, на траве дрова".encode("koi8-r")), likely_encoding("déjà".encode("latin-1"))
        ('KOI8-R', 'WINDOWS-1252')
    """
    data = data[: data.rfind(b"\n", 0, GUESSED_BYTES) + 1 or GUESSED_BYTES] if len(data) > GUESSED_BYTES else data
    if (seven_bit := seven_bit_encoding(data)) is not None:
        return seven_bit
    if (wide := marked_encoding(data) or _likely_wide_encoding(data)) is not None or b"\0" in data:
        return wide
    if is_mostly_utf8(data):
        return None
    num_high = sum(byte > 127 for byte in data)
    is_latin = 2 * sum(map(len, _LATIN_RUNS.findall(data))) > num_high
    found = (not is_latin and (_likely_alphabet(data) or _likely_asian(data))) or _likely_latin(data)
    return found.upper() if found else None


def is_mostly_utf8(data: bytes) -> bool:
    """Return whether more characters above 127 are UTF-8 than bytes are not."""
    high = [character for character in data[:GUESSED_BYTES].decode("utf-8", "replace") if character > "\x7f"]
    return 2 * high.count("\ufffd") <= len(high)


def _likely_wide_encoding(data: bytes) -> str | None:
    """Return UTF-16 or UTF-32 with its byte order, if the zeros in the data, or its blanks and line ends, are those of it."""
    values = np.frombuffer(data, dtype=np.uint8)
    zeros = [float((values[first::2] == 0).mean()) if len(values) > 1 else 0.0 for first in (0, 1)]
    order = "LE" if zeros[1] > zeros[0] else "BE"
    if max(zeros) > MIN_ZEROS:  # the upper bytes of Latin letters
        name = f"UTF-{32 if min(zeros) > MIN_ZEROS else 16}{order}"
        text = data[: len(data) // 4 * 4].decode(name, "replace")
        num_odd = sum(character == "\ufffd" or not (character.isprintable() or character.isspace()) for character in text)
        return name if num_odd <= MAX_ODD * len(text) else None
    uppers = values[zeros[1] > zeros[0] :: 2]
    uppers = uppers[uppers > 0]
    if max(zeros) > MIN_ASCII and 2 * int(np.bincount(uppers, minlength=1).max()) > len(uppers) > 0:  # letters of one alphabet
        return f"UTF-16{order}"
    return None


def _likely_latin(data: bytes) -> str | None:
    def share_of_usual(codec: str, letters: str) -> float:
        text = data.decode(codec, "replace")
        num_high = sum(character > "\x7f" for character in text)
        num_wrong = sum(found > "\x7f" for found in _INSIDE_WORD.findall(text))
        usual = {character for character in letters + letters.upper() + _SIGNS if character > "\x7f"}
        num_usual = sum(character in usual for character in text)
        return float(num_usual - num_wrong) / max(1, num_high)

    shares = {name: max(share_of_usual(codec, letters) for letters in languages) for name, codec, languages in LATIN_ENCODINGS}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= MIN_SHARE else None


def _likely_alphabet(data: bytes) -> str | None:
    """Return the encoding in which the characters above 127 are the most likely: each letter 0.9 times as much as the one
    before it in its alphabet, capitals less than small letters, anything else hardly at all."""

    def mean_log_likelihood(codec: str, letters: str) -> float:
        text = data.decode(codec, "replace")
        high = [character for character in text if character > "\x7f"]
        if len(_CAPITAL_INSIDE.findall(text)) > MAX_CAPITALS_INSIDE * len(high):
            return LOG_UNLIKELY
        ranks = [letters.find(character.lower()) for character in high]
        logs = [
            LOG_UNLIKELY if rank < 0 else rank * LOG_RATIO - (character.isupper() and LOG_CAPITAL)
            for character, rank in zip(high, ranks, strict=True)
        ]
        return sum(logs) / max(1, len(logs))

    found = {name: mean_log_likelihood(codec, letters) for name, codec, letters in OTHER_ENCODINGS}
    best = max(found, key=lambda name: found[name])
    return best if found[best] >= MIN_LOG_LIKELIHOOD else None


def _likely_asian(data: bytes) -> str | None:
    """Return the encoding of Japanese, Korean or Chinese, where a character above 127 has two bytes."""
    for name, codec, letters, min_share in ASIAN_ENCODINGS:
        text = data.decode(codec, "replace")
        high = [character for character in text if character > "\x7f"]
        if text.count("\ufffd") <= len(high) // 100 and len(re.findall(letters, text)) >= min_share * len(high):
            return name
    num_high = sum(byte > 127 for byte in data)
    common = {"gb18030": 2 * len(_GB_COMMON.findall(data)), "big5": 0}
    common["big5"] = sum(1 + (pair[1] > 127) for pair in _BIG5_COMMON.findall(data))
    best = max(common, key=lambda name: common[name])
    is_valid = data.decode(best, "replace").count("\ufffd") <= num_high // 200
    return best if is_valid and common[best] >= 0.8 * num_high else None
