"""E-mails and mailboxes are read as what they say: decoded, without headers but the subject, and without attachments."""

import base64
import logging
from pathlib import Path

import pytest

from support.cli import Cli
from unrolled.tables.table_files import open_table
from unrolled.text.office_files import office_text

TINY = ("--threads", 1, "--steps", 2, "--hidden", 8, "--layers", 1, "--batch", 2, "--sample-length", 0)
PLAIN = (
    "From: A <a@x.org>\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n aus Bern\nContent-Type: text/plain; charset=utf-8\n"
    "Content-Transfer-Encoding: quoted-printable\n\nHallo =C3=A4hm, this line =\nis long.\n>From me\n\n"
)
PAGE = base64.b64encode("<p>Hello <b>W\u00f6rld</b></p>".encode()).decode()
HTML = (
    "Subject: News\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
    f"--b\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: base64\n\n{PAGE}\n"
    "--b\nContent-Type: application/pdf\nContent-Disposition: attachment; filename=a.pdf\n"
    "Content-Transfer-Encoding: base64\n\nJVBERi0=\n--b--\n"
)


def test_a_mail_is_its_subject_and_text() -> None:
    Path("a.eml").write_text(HTML, "utf-8")
    assert [line for line in office_text(Path("a.eml"), "a.eml") if line] == ["News", "Hello W\u00f6rld"]
    Path("b.eml").write_bytes(b"Subject: x\nContent-Type: text/plain; charset=no-such\n\ncaf\xe9\n")
    assert [line for line in office_text(Path("b.eml"), "b.eml") if line] == ["x", "caf\u00e9"]


def test_a_mailbox_is_all_of_its_mails(cli: Cli, caplog: pytest.LogCaptureFixture) -> None:
    Path("t.mbox").write_text("".join(f"From a@x Thu Jan  1 00:00:00 2024\n{text}\n" for text in (PLAIN, HTML)), "utf-8")
    lines = [line for line in office_text(Path("t.mbox"), "t.mbox") if line]
    assert lines == ["Gr\u00fc\u00dfe aus Bern", "Hallo \u00e4hm, this line is long.", "From me", "News", "Hello W\u00f6rld"]
    with caplog.at_level(logging.INFO, "unrolled"):
        cli("train", "t.mbox", *TINY)
    assert "1 mailbox read as text (12 lines), without attachments and all headers but the subject" in caplog.text


def test_folders_of_labels_may_have_mails() -> None:
    for label in ("ham", "spam"):
        Path("mail", label).mkdir(parents=True)
        Path("mail", label, "1.eml").write_text(HTML, "utf-8")
    assert [row["text"].split() for _, row in open_table("mail").rows()] == [["News", "Hello", "W\u00f6rld"]] * 2
    assert [row["label"] for _, row in open_table("mail").rows()] == ["ham", "spam"]
