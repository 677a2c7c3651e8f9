"""E-mails (`.eml`) and mailboxes (`.mbox`) as plain text: the subject of each and what it says, without attachments."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import IO, cast

from unrolled.text.html_text import html_lines


def mail_lines(file: Path | IO[bytes]) -> Iterator[str]:
    """Yield the lines of the messages in a file, with a blank line after each subject and each message."""
    opened: IO[bytes] = open(file, "rb") if isinstance(file, Path) else file
    with opened:
        for content in _messages(opened):
            yield from _shown(email.message_from_bytes(content, policy=email.policy.default))


def _messages(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the messages of a mailbox, which begin after a line `From `, or the only one of a file without such lines."""
    lines, is_after_blank = list[bytes](), True
    for line in file:
        if line.startswith(b"From ") and is_after_blank:
            if lines:
                yield b"".join(lines)
            lines = []
        else:
            lines.append(line[1:] if line.startswith(b">From ") else line)
        is_after_blank = not line.strip()
    if lines:
        yield b"".join(lines)


def _shown(message: EmailMessage) -> Iterator[str]:
    try:
        subject = " ".join(str(message["subject"] or "").split())
    except (ValueError, IndexError, AttributeError):  # of a damaged header
        subject = ""
    if subject:
        yield subject
        yield ""
    try:
        body = message.get_body(("plain", "html"))
    except (KeyError, ValueError, AttributeError):
        body = None
    if body is not None:
        text = _decoded(cast(EmailMessage, body))
        is_html = body.get_content_type() == "text/html"
        yield from (line.rstrip() for line in (html_lines(text) if is_html else text.splitlines()))
    yield ""


def _decoded(part: EmailMessage) -> str:
    """Return the text of a part; of an encoding that is not known, as Latin-1."""
    try:
        return str(part.get_content())
    except (LookupError, ValueError):
        payload = part.get_payload(decode=True)
        return payload.decode("latin-1") if isinstance(payload, bytes) else str(payload or "")
