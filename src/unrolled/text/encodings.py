"""Encodings of text: what a file that is not UTF-8 is, how to read it, and a copy of it in UTF-8."""

from __future__ import annotations

import codecs
import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from unrolled.atomic_io import make_dir, storage_error
from unrolled.display import shell_argument
from unrolled.errors import DataError, UsageError
from unrolled.text.compressed_files import is_compressed, open_bytes, read_bytes
from unrolled.text.encoding_guess import is_mostly_utf8, likely_encoding, seven_bit_encoding
from unrolled.text.file_signatures import describe_binary, has_office_suffix, is_office_head, marked_encoding

BUFFER_PREFIX = "unrolled-stdin-"
"""Prefix of the names of copies of standard input."""

COPY_PREFIX = "unrolled-copy-"
"""Prefix of the names of copies of files: then 8 random characters, a dash, the name of the file, and `.txt`."""

MAX_STEM_BYTES = 100
MAX_LISTED_FILES = 20
SIGNATURE_BYTES = 4096
"""First bytes of a file, from which it is seen whether it is text."""


class EncodingError(DataError):
    """A file has bytes that are not of the encoding that it is read with."""


def display_name(path: Path) -> str:
    """Return the name of a file in messages."""
    if path.name.startswith(COPY_PREFIX):
        return path.name.removeprefix(COPY_PREFIX)[9:].removesuffix(".txt")
    return "Standard input" if path.name.startswith(BUFFER_PREFIX) else str(path)


def is_office_file(path: Path) -> bool:
    """Return whether a file, by its suffix and its first bytes, is a document that is read as text."""
    name = str(display_name(path))
    if not has_office_suffix(name):
        return False
    try:
        with open(path, "rb") as file:
            return is_office_head(name, file.read(4))
    except OSError:
        return False


def make_copy(path: Path, chunks: Iterable[bytes], folder: Path) -> Path:
    """Write bytes that were made of the file `path` to a file in `folder`, and return it."""
    make_dir(folder)
    source_name = _short_name(path) if not path.name.startswith((BUFFER_PREFIX, COPY_PREFIX)) else display_name(path)
    name = ""
    try:
        descriptor, name = tempfile.mkstemp(prefix=COPY_PREFIX, suffix=f"-{source_name}.txt", dir=folder)
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
    except BaseException as error:
        if name:
            os.unlink(name)
        if isinstance(error, OSError):
            raise storage_error(error, folder, "keep a copy of the text in") from error
        raise
    return Path(name)


def _short_name(path: Path) -> str:
    """Return the name of a file, its stem cut where a longer name of a copy would not be possible; the suffix is kept."""
    return path.stem.encode("utf-8", "surrogateescape")[:MAX_STEM_BYTES].decode("utf-8", "ignore") + path.suffix[:20]


def check_encoding(name: str) -> str:
    """Return the name of an encoding as Python writes it. Raises `UsageError` if there is none of this name."""
    try:
        "".encode(name)  # a codec such as base64 is found, and is not one of text
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        raise UsageError(
            f"--encoding {name}: there is no such encoding; some are windows-1252, latin-1, utf-16, shift_jis, gb18030, big5, "
            "euc-kr, koi8-r, windows-1251."
        ) from None


def file_encoding(path: Path, name: str | None) -> str:
    """Return the encoding to read a file with: `name`, unless the file is UTF-8 already, with characters that show it.

    So a folder in which only some files are of another encoding is read with one `name`. Without it, UTF-8.
    """
    if name is None:
        return "utf-8-sig"
    name = check_encoding(name)
    with open_bytes(path) as file:
        if found := describe_binary(file.read(SIGNATURE_BYTES), name_to_type(path)):
            raise EncodingError(f"{display_name(path)} is not text in {name}: it is {found}.")
    if name in ("utf-8", "utf-8-sig"):
        return "utf-8-sig"
    decoder, has_wide = codecs.getincrementaldecoder("utf-8")(), False
    try:
        for chunk in itertools.chain(read_bytes(path), [b""]):
            has_wide |= not chunk.isascii()
            if b"\0" in decoder.decode(chunk, final=not chunk).encode():
                return name
    except UnicodeDecodeError:
        return name
    return "utf-8-sig" if has_wide else name


def decoded_chunks(path: Path, name: str) -> Iterator[bytes]:
    """Yield a file of the encoding `name` as UTF-8. Raises `EncodingError`."""
    decoder = codecs.getincrementaldecoder(name)()
    try:
        for chunk in itertools.chain(read_bytes(path), [b""]):
            yield decoder.decode(chunk, final=not chunk).encode("utf-8")
    except UnicodeError as error:
        raise EncodingError(f"{encoding_error(path, name)}.") from error


def is_text_head(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is a text: not empty, of no known other kind, without NUL bytes but
    after a mark of UTF-16."""
    if not head or describe_binary(head, "") is not None:
        return False
    return b"\0" not in head or marked_encoding(head) is not None


def _find_wrong_byte(path: Path, encoding: str) -> tuple[str, bytes] | None:
    """Return where the first byte is that is not of an encoding, and the bytes around it; None if there is none."""
    decoder = codecs.getincrementaldecoder(encoding)()
    offset, line = 0, 1
    for chunk in itertools.chain(read_bytes(path), [b""]):
        state = decoder.getstate()[0]
        pending = len(state) if isinstance(state, bytes) else 0
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line += error.object.count(b"\n", 0, error.start)
            bad_offset, byte = offset - pending + error.start, error.object[error.start]
            return f"byte 0x{byte:02x} at offset {bad_offset:,}, in line {line:,}", error.object
        except UnicodeError as error:  # a byte order mark is missing
            return str(error), chunk
        offset, line = offset + len(chunk), line + chunk.count(b"\n")
    return None


def encoding_error(path: Path, encoding: str = "utf-8") -> str:
    """Return what is wrong with a file that is not of an encoding: its first wrong byte with its line, and what to do."""
    wrong = _find_wrong_byte(path, encoding)
    if wrong is None:
        return f"{display_name(path)} changed while it was read"
    place, data = wrong
    is_utf8 = encoding.startswith("utf-8")
    hint = conversion_hint(path, data) if is_utf8 else "Give another --encoding"
    return f"{display_name(path)} is not {'UTF-8' if is_utf8 else encoding}: {place}. {hint}"


def marked_encoding_error(path: Path, data: bytes) -> EncodingError | None:
    """Return the error for a file that is not UTF-8 by marks in its first bytes, `data`, or None."""
    if (name := marked_encoding(data) or seven_bit_encoding(data)) is None:
        return None
    hint = conversion_hint(path, data).removeprefix(f"It looks like {name}. ")
    return EncodingError(f"{display_name(path)} is {name}, and UTF-8 is expected. {hint}.")


def conversion_hint(path: Path, data: bytes, has_nul: bool = False) -> str:
    """Return a sentence that says how a file with the bytes `data` can be read, and the command that makes it UTF-8.

    With `has_nul`, it is UTF-8 but for NUL bytes.
    """
    if found := describe_binary(data, name_to_type(path)):
        return f"It is {found}"
    encoding = likely_encoding(data)
    if encoding is None and has_nul:
        return "If it is text in UTF-8 but for these, remove them (tr -d '\\000' < FILE > NEW); else name its --encoding"
    is_file = not (is_compressed(path) or path.name.startswith(BUFFER_PREFIX))
    source, target = (shell_argument(path), shell_argument(f"utf8-{path.name}")) if is_file else ("FILE", "NEW")
    command = f"(iconv -f {encoding or 'ENCODING'} -t UTF-8 {source} > {target})"
    if encoding is None and is_mostly_utf8(data):
        left_out = command.replace("ENCODING -t UTF-8", "UTF-8 -t UTF-8 -c")
        return f"The rest of it is UTF-8: mend that line, or leave out all such bytes {left_out}"
    if encoding is None:
        return f"Convert it {command}, or name its --encoding"
    return f"It looks like {encoding}. Read it with --encoding {encoding.lower()}, or convert it {command}"


def name_to_type(path: Path) -> str:
    """Return the name of a file for a command that a message proposes; FILE for a copy of standard input."""
    return "FILE" if path.name.startswith((BUFFER_PREFIX, COPY_PREFIX)) else str(path)


@contextlib.contextmanager
def all_encoding_errors(paths: Sequence[Path]) -> Iterator[None]:
    """Turn an `EncodingError` of one of several files into one that names all files that are not UTF-8."""
    try:
        yield
    except EncodingError as error:
        if (message := _list_wrong_files(paths)) is not None:
            raise EncodingError(f"{message}, or learn their bytes as they are: unrolled train --tokens bytes") from error
        raise


def _list_wrong_files(paths: Sequence[Path]) -> str | None:
    """Return one message about all of several files that are not UTF-8, or None if there is one at most."""
    wrong = [(path, *found) for path in paths if (found := _find_wrong_byte(path, "utf-8")) is not None]
    if len(wrong) < 2:
        return None
    encodings = [likely_encoding(data) for _, _, data in wrong]
    listed = [
        f"{display_name(path)} ({place}{'' if encoding is None else f', looks like {encoding}'})"
        for (path, place, _), encoding in zip(wrong, encodings, strict=True)
    ][:MAX_LISTED_FILES]
    more = f" and {len(wrong) - len(listed):,} more" if len(wrong) > len(listed) else ""
    known = {encoding for encoding in encodings if encoding}
    name = known.pop() if len(known) == 1 else "ENCODING"
    return (
        f"{len(wrong):,} of {len(paths):,} files are not UTF-8: {', '.join(listed)}{more}. Read all with --encoding "
        f"{name.lower() if name != 'ENCODING' else name}, or convert each (iconv -f {name} -t UTF-8 FILE > NEW)"
    )
