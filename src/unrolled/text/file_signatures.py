"""What the name and the first bytes of a file say: its encoding, that it is a document or MIDI, or no text, and what to do."""

from __future__ import annotations

import codecs
from pathlib import Path, PurePath

from unrolled.display import shell_argument

OFFICE_NOUNS = {
    ".docx": "Word document", ".docm": "Word document", ".odt": "OpenDocument text", ".epub": "e-book", ".pdf": "PDF document",
    ".eml": "e-mail", ".mbox": "mailbox",
}  # fmt: skip
"""Suffixes of documents that are read as text, and what they are called in messages."""

MAIL_SUFFIXES = (".eml", ".mbox")
MIDI_MAGIC, MIDI_SUFFIXES = b"MThd", (".mid", ".midi", ".smf")
SUBTITLE_SUFFIXES = (".srt", ".vtt", ".ass", ".ssa", ".lrc")

_COMPRESSED = (
    (b"\x1f\x8b", "gzip", ".gz"),
    (b"BZh91AY&SY", "bzip2", ".bz2"),
    (b"\xfd7zXZ\0", "xz", ".xz"),
    (b"\x28\xb5\x2f\xfd", "zstd", ".zst"),
)
_SIGNATURES = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it, and name what is in it"),
    (b"Rar!\x1a\x07", "a rar archive: unpack it, and name what is in it"),
    (b"%PDF-", "a PDF document: save it as text (pdftotext -layout NAME)"),
    (b"{\\rtf1", "a document in rich text format: save it as plain text (UTF-8)"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a file of an old Office (.xls, .doc): save it as CSV or as plain text (UTF-8)"),
    (b"SQLite format 3\0", "an SQLite database: write a table of it as CSV (sqlite3 -header -csv NAME 'SELECT * FROM TABLE')"),
    (b"ARROW1\0\0", "an Arrow (Feather) file: name columns of it (--source COLUMN --target COLUMN)"),
    (b"FEA1", "a Feather file of version 1: write it as Parquet or CSV (pyarrow.feather.read_table reads it)"),
    (b"ORC\n", "an ORC file: write it as Parquet or CSV (pyarrow.orc.read_table reads it)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file: write its table as Parquet or CSV"),
    ((b"$FL2", b"$FL3"), "a file of SPSS: write it as CSV (pandas.read_spss reads it)"),
    (
        (b"<stata_dta>", *(bytes((version, order, 1, 0)) for version in (110, 111, 113, 114, 115) for order in (1, 2))),
        "a file of Stata: write it as CSV (pandas.read_stata reads it)",
    ),
    (b"\0" * 12 + b"\xc2\xea\x81\x60", "a file of SAS: write it as CSV (pandas.read_sas reads it)"),
    (b"HEADER RECORD*******LIB", "a file of SAS: write it as CSV (pandas.read_sas reads it)"),
    (b"MATLAB 5.0 MAT-file", "a file of MATLAB: write its table as CSV (scipy.io.loadmat reads it)"),
    (b"Obj\x01", "an Avro file: write it as Parquet, JSON lines or CSV"),
    (b"\x93NUMPY", "a NumPy array: a cell of a table names it, as in a column of .npy files"),
    (b"GIF8", "an image: save it as PNG, and a cell of a table names it, as in a column of .png files"),
    ((b"ID3", b"OggS", b"fLaC"), "compressed audio: save it as WAV (ffmpeg -i NAME NEW.wav), and a cell of a table names that"),
    (b"\x89PNG\r\n", "an image: a cell of a table names it, as in a column of .png files"),
    (b"\xff\xd8\xff", "an image: a cell of a table names it, as in a column of .jpg files"),
    (
        (b"\x80\x02", b"\x80\x03", b"\x80\x04\x95", b"\x80\x05\x95"),
        "a Python pickle: load it in Python, and give the object, or write it as CSV",
    ),
)  # fmt: skip
_SHEET = "name columns of its sheet (--source COLUMN --target COLUMN), or save it as CSV (UTF-8)"
_ZIPPED_SHEETS = (".xlsx", ".xlsm", ".xlsb", ".ods")
_ZIPPED_DOCUMENTS = (".docx", ".odt", ".epub", ".pptx", ".odp")
_IWORK = {".numbers": "CSV (File, Export To)", ".pages": "Word or plain text (File, Export To)", ".key": "text"}
_SPSS_MARK = b"ASCII SPSS PORT FILE"
_TAR_MARK, _MOBI_MARK = slice(257, 262), slice(60, 68)


def marked_encoding(data: bytes) -> str | None:
    """Return the encoding that a byte order mark names, other than UTF-8."""
    marks = ((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"))
    return next((name for mark, name in marks if data.startswith(mark)), None)


def has_office_suffix(name: str) -> bool:
    """Return whether the name of a file is that of a document that is read as text.

    Example:
        >>> has_office_suffix("Novel.DOCX"), has_office_suffix("novel.txt")
        (True, False)
    """
    return Path(name).suffix.lower() in OFFICE_NOUNS


def is_office_head(name: str, head: bytes) -> bool:
    """Return whether a file with this name, which begins with these bytes, is a document that is read as text."""
    if Path(name).suffix.lower() in MAIL_SUFFIXES:
        return head[:4].replace(b"-", b"").isalpha()  # the name of a header, or From
    return has_office_suffix(name) and head.startswith(b"%PDF" if Path(name).suffix.lower() == ".pdf" else b"PK\x03\x04")


def is_midi_head(head: bytes | bytearray) -> bool:
    """Return whether a file that begins with these bytes is a MIDI file."""
    return head.startswith(MIDI_MAGIC)


def describe_binary(data: bytes, name: str) -> str | None:
    """Return what a file with these first bytes is and what to do with it, for the end of a sentence; None if it may be text.

    Example:
        >>> describe_binary(b"%PDF-1.7", "a.pdf")
        'a PDF document: save it as text (pdftotext -layout a.pdf)'
        >>> describe_binary(b"%PDF-1.7", "my letters/a b.pdf")
        "a PDF document: save it as text (pdftotext -layout 'my letters/a b.pdf')"
        >>> describe_binary(b'\\x40\\0\\0\\0\\0\\0\\0\\0{"__metadata__":', "model.txt")[:26]
        'a model file (safetensors)'
        >>> describe_binary(b"text,label", "a.csv") is None
        True
    """
    if data.startswith(b"PK\x03\x04"):
        return _describe_zip(data[:4096], name)
    if _SPSS_MARK in data[:512]:
        return "a portable file of SPSS: write it as CSV (pyreadstat.read_por reads it)"
    if data[_TAR_MARK] == b"ustar" or name.lower().endswith((".tgz", ".tbz2", ".txz")):
        return f"a tar archive: unpack it (tar -xf {shell_argument(name)}), and name what is in it"
    if data[_MOBI_MARK] == b"BOOKMOBI":
        return "an e-book: save it as plain text (ebook-convert of Calibre)"
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        return "a WAV file: a cell of a table names it, as in a column of .wav files"
    if data[8:10] == b'{"' and b"\0" in data[:8]:
        return "a model file (safetensors): name it with --from to go on training it, and a text to learn from"
    for magic, compression, suffix in _COMPRESSED:
        if data.startswith(magic):
            return f"compressed with {compression}: name it {PurePath(name).name}{suffix}"
    return next((text.replace("NAME", shell_argument(name)) for magic, text in _SIGNATURES if data.startswith(magic)), None)


def _describe_zip(data: bytes, name: str) -> str:
    suffix = "." + name.lower().rpartition(".")[2]
    if suffix in _IWORK or b"Index/Document.iwa" in data:
        return f"a file of Apple's iWork: export it as {_IWORK.get(suffix, 'CSV or as plain text')}"
    if suffix == ".npz":
        return "an archive of NumPy arrays: give the arrays in Python, or write them as CSV"
    if suffix == ".ods" or b"opendocument.spreadsheet" in data:
        return f"an OpenDocument spreadsheet: {_SHEET if suffix == '.ods' else 'let its name end in .ods, or save it as CSV'}"
    if suffix in _ZIPPED_SHEETS or b"xl/" in data:
        return f"an Excel workbook: {_SHEET if suffix in _ZIPPED_SHEETS else 'let its name end in .xlsx, or save it as CSV'}"
    if suffix in _ZIPPED_DOCUMENTS or b"opendocument.text" in data or b"word/" in data or b"epub+zip" in data:
        suffixes = "" if suffix in _ZIPPED_DOCUMENTS else ", or let its name end in .docx, .odt or .epub"
        return f"an e-book or a document of an office program: save it as plain text (UTF-8), and name that file{suffixes}"
    return f"a zip archive: name it {PurePath(name).name}.zip, or unzip it"
