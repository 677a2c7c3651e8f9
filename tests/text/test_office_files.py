"""Word and OpenDocument texts and e-books, written here as the standards say."""

import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import unrolled
from support.cli import Cli
from unrolled.errors import DataError
from unrolled.options import DataOptions
from unrolled.tables.table_files import open_table
from unrolled.text.corpus import open_corpus
from unrolled.text.html_text import html_lines
from unrolled.text.office_files import office_text

WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
RELS = '<Relationships><Relationship Type="http://x/officeDocument" Target="/word/main.xml"/></Relationships>'
CONTAINER = '<container><rootfiles><rootfile full-path="OPS/a%20book.opf"/></rootfiles></container>'.replace("%20", " ")


def write_zip(path: str, members: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return Path(path)


def write_docx(path: str, body: str, root: str = "document") -> Path:
    document = f"<w:{root} {WORD}><w:body>{body}</w:body></w:{root}>"
    return write_zip(path, {"[Content_Types].xml": "<Types/>", "_rels/.rels": RELS, "word/main.xml": document})


def paragraph(text: str) -> str:
    return f"<w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def write_odt(path: str, body: str) -> Path:
    space = 'xmlns:office="o" xmlns:text="t" xmlns:draw="d"'
    content = f"<office:document-content {space}><office:body>{body}</office:body></office:document-content>"
    return write_zip(path, {"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})


def write_epub(path: str, chapters: dict[str, str | bytes], extra: dict[str, str | bytes] | None = None) -> Path:
    items = "".join(
        f'<item id="c{number}" href="{name.replace(" ", "%20")}" media-type="application/xhtml+xml"/>'
        for number, name in enumerate(chapters)
    )
    other = '<item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/><item id="i" href="i.png"/>'
    spine = "".join(f'<itemref idref="c{number}"/>' for number in reversed(range(len(chapters))))
    package = f'<package><manifest>{other}{items}</manifest><spine><itemref idref="n"/>{spine}</spine></package>'
    members = {f"OPS/{name}": page for name, page in chapters.items()}
    return write_zip(path, {"META-INF/container.xml": CONTAINER, "OPS/a book.opf": package, **members, **(extra or {})})


def write_pdf(path: str, pages: Sequence[Sequence[str]]) -> Path:
    """Write lines of ASCII to pages, in the order of the file: catalog, pages, font, then a page and its content each."""
    numbers = [4 + 2 * index for index in range(len(pages))]
    kids = " ".join(f"{number} 0 R" for number in numbers)
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, lines in zip(numbers, pages, strict=True):
        shown = " 0 -20 Td ".join(f"({line}) Tj" for line in lines)
        content = f"BT /F1 12 Tf 72 720 Td {shown} ET"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >>"
            f" /Contents {number + 1} 0 R >>",
            f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        ]
    data, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(data))
        data += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    trailer = f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(data)}\n%%EOF\n"
    Path(path).write_text(f"{data}xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}", "ascii")
    return Path(path)


def lines_of(path: Path) -> list[str]:
    return list(office_text(path, path.name))


def test_a_word_document_is_its_paragraphs() -> None:
    contents = '<w:sdt><w:sdtPr><w:docPartGallery w:val="Table of Contents"/></w:sdtPr><w:sdtContent>'
    body = (
        f"{contents}{paragraph('One ... 3')}</w:sdtContent></w:sdt>"
        + paragraph("Caf\u00e9 &amp; bar")
        + '<w:p><w:r><w:t xml:space="preserve">a </w:t><w:tab/></w:r><w:r><w:t>b</w:t><w:br/><w:br w:type="page"/>'
        "<w:t>c</w:t></w:r></w:p>"
        + "<w:p/>"
        + "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom>"
        "<w:ins><w:r><w:t>new</w:t></w:r></w:ins><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
        + f"<w:p><w:r><x><Choice>{paragraph('in a box')}</Choice><Fallback>{paragraph('in a box')}</Fallback></x>"
        "<w:t>around</w:t></w:r></w:p>" + "<w:p><w:ruby><w:rt><w:r><w:t>kan</w:t></w:r></w:rt>"
        "<w:rubyBase><w:r><w:t>\u6f22</w:t></w:r></w:rubyBase></w:ruby></w:p>"
    )
    expected = ["Caf\u00e9 & bar", "a \tb", "c", "", "new", "in a box", "around", "\u6f22"]
    assert lines_of(write_docx("a.docx", body)) == expected


def test_an_open_document_is_its_paragraphs() -> None:
    body = (
        "<text:tracked-changes><text:p>gone</text:p></text:tracked-changes><text:table-of-content><text:p>One 3</text:p>"
        "</text:table-of-content><text:h>Head\n  line</text:h><text:p> two<text:s text:c='3'/>blanks <text:span> x</text:span>"
        "<text:tab/>y<text:note><text:p>a note</text:p></text:note><text:line-break/>z</text:p><text:p/>"
        "<text:list><text:list-item><text:p><text:s/>item</text:p></text:list-item></text:list>"
    )
    assert lines_of(write_odt("a.odt", body)) == ["Head line", "two   blanks x\ty", "z", "", " item"]


def test_a_book_is_its_chapters_in_the_order_of_the_spine() -> None:
    last = '<?xml version="1.0" encoding="ISO-8859-1"?><html><body><p>\u00fcber</p></body></html>'.encode("latin-1")
    page = (
        "<html><head><title>T</title><style>p {}</style></head><body><h1>One</h1><p>so\u00adft <ruby>\u6f22<rt>kan</rt></ruby>"
        "<a epub:type='noteref'>1</a><br/>verse</p><div><p>next &#8212; one</p></div><pre>a\n  b</pre>"
        "<aside epub:type='footnote'><aside>x</aside><p>a note</p></aside><p>end</p></body></html>"
    )
    book = write_epub("a.epub", {"z last.xhtml": last, "b.xhtml": page}, {"OPS/nav.xhtml": "<p>One</p>"})
    text = "One\n\nsoft \u6f22\nverse\n\nnext \u2014 one\n\na\n  b\n\nend\n\n\u00fcber\n"
    assert "\n".join(lines_of(book)) == text


def test_a_pdf_is_its_lines_without_running_heads_and_divided_words() -> None:
    pages = [
        ["A BOOK", "It was incom-", "prehensible; a well-known one.", "- 1 -"],
        ["A BOOK", "A well-", "known page, and 12 words", "more here, as above.", "- 2 -"],
        ["A BOOK", "the last one of three.", "- 3 -"],
    ]
    assert lines_of(write_pdf("a.pdf", pages)) == [
        "It was incomprehensible; a well-known one.",
        "A well-known page, and 12 words",
        "more here, as above.",
        "the last one of three.",
    ]
    repeated = [[f"Verse {page}", "la la la", "la la"] * 3 for page in range(4)]
    assert lines_of(write_pdf("b.pdf", repeated)) == [line for page in repeated for line in page]


def test_html_is_read_as_it_is_shown() -> None:
    page = "a<script>var x = '<p>';</script><p>b <b>c</b>\n\n d<p>e<ul><li>f<li>g</ul></p></p>"
    assert list(html_lines(page)) == ["a", "", "b c d", "", "e", "", "f", "", "g", ""]


def test_documents_in_folders_and_archives_are_read_among_texts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "unrolled")
    Path("texts").mkdir()
    write_docx("texts/a.DOCX", paragraph("word"))
    write_odt("texts/b.odt", "<text:p>open</text:p>")
    Path("texts/c.txt").write_text("caf\u00e9\n", "cp1252")
    Path("texts/d.docx").write_text("a text that is called so\n")
    expected = "word\nopen\ncaf\u00e9\na text that is called so\n"
    for name in ("texts", write_zip("t.zip", {path.name: path.read_bytes() for path in sorted(Path("texts").iterdir())})):
        corpus = open_corpus([str(name)], DataOptions(encoding="cp1252"))
        assert corpus.tokenizer.decode(corpus.ids) == expected
        assert (
            "1 Word document, 1 OpenDocument text read as text (2 lines), without formatting, notes and comments" in caplog.text
        )
        assert "read as cp1252" in caplog.text
        caplog.clear()
    archive = write_zip("one.zip", {"a.docx": Path("texts/a.DOCX").read_bytes()})
    assert open_corpus([str(archive)], DataOptions()).tokenizer.vocab_size == len(set("word\n"))
    assert len(open_corpus(["texts/a.DOCX"], DataOptions(tokens="bytes")).ids) == Path("texts/a.DOCX").stat().st_size


def test_a_model_is_trained_on_a_document_and_scores_one(cli: Cli) -> None:
    write_docx("novel.docx", "".join(paragraph(f"The {word} sea was dark.") for word in ("old", "grey", "wide") * 40))
    model = unrolled.train("novel.docx", steps=2, hidden=8, layers=1, init_from="none", out="run")
    book = write_epub("other.epub", {"a.xhtml": "<p>The sea was old.</p>"})
    assert model.score(book).text == "The sea was old.\n\n"
    resumed = cli("train", "--resume", "run", "--steps", 3)
    assert resumed.code == 0, resumed.err


def test_documents_in_folders_of_labels_are_rows() -> None:
    for label in ("letters", "poems"):
        Path("essays", label).mkdir(parents=True)
        write_docx(f"essays/{label}/a.docx", paragraph(f"about {label}") + paragraph("end"))
        Path("essays", label, "b.txt").write_text(f"plain {label}\n")
    members = {path.relative_to("essays").as_posix(): path.read_bytes() for path in sorted(Path("essays").rglob("*.*"))}
    for table in ("essays", str(write_zip("essays.zip", members))):
        rows = [cells for _, cells in open_table(table).iter_cells(("text", "label"))]
        assert [(text.value, label.value) for text, label in rows] == [
            ("about letters\nend", "letters"),
            ("plain letters", "letters"),
            ("about poems\nend", "poems"),
            ("plain poems", "poems"),
        ]


@pytest.mark.parametrize(
    ("name", "members", "message"),
    [
        ("a.docx", {"x": "y"}, "is no Word document, or damaged: it has no _rels/.rels"),
        ("a.odt", {"x": "y"}, "is no OpenDocument text, or damaged: it has no content.xml"),
        ("a.epub", {"x": "y"}, "is no e-book, or damaged: it has no META-INF/container.xml"),
        ("a.odt", {"content.xml": "<a><p>x</p>"}, "is damaged: content.xml: no element found"),
        ("a.odt", {"content.xml": "<!DOCTYPE a [<!ENTITY b 'c'>]><a><p>&b;</p></a>"}, "declares entities of XML"),
        ("a.odt", {"content.xml": "<a><p/><p> </p></a>"}, "is an OpenDocument text without text"),
        ("a.docx", {"_rels/.rels": RELS, "word/main.xml": "<workbook/>"}, "is no Word document: it holds a workbook"),
    ],
)
def test_what_is_no_document_is_refused(name: str, members: dict[str, str | bytes], message: str) -> None:
    path = write_zip(name, members)
    with pytest.raises(DataError) as error:
        open_corpus([str(path)], DataOptions())
    assert str(error.value).startswith(f"{name} {message}")


def test_encrypted_and_damaged_documents_are_refused() -> None:
    encryption = "<encryption><CipherReference URI='OPS/my%20book.xhtml'/></encryption>"
    locked = write_epub("locked.epub", {"my book.xhtml": b"\x80\x81"}, {"META-INF/encryption.xml": encryption})
    fonts = write_epub("fonts.epub", {"a.xhtml": "<p>x</p>"}, {"META-INF/encryption.xml": encryption})
    assert lines_of(fonts) == ["x", ""]
    with pytest.raises(DataError, match=r"locked.epub is encrypted \(DRM\)"):
        lines_of(locked)
    with pytest.raises(DataError, match=r"odd.epub: OPS/a.xhtml is not utf-8"):
        lines_of(write_epub("odd.epub", {"a.xhtml": b"<p>\xff</p>"}))
    whole = write_docx("whole.docx", paragraph("x" * 1000)).read_bytes()
    Path("cut.pdf").write_text("%PDF-1.4\n1 0 obj\n")
    with pytest.raises(DataError, match=r"cut.pdf is damaged, or no PDF document"):
        lines_of(Path("cut.pdf"))
    with pytest.raises(DataError, match=r"scan.pdf is a PDF document without text"):
        lines_of(write_pdf("scan.pdf", [[], []]))
    Path("half.docx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"half.docx is damaged .*, or no Word document"):
        lines_of(Path("half.docx"))


def test_a_chapter_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unrolled.text.office_files.MAX_CHAPTER_BYTES", 1 << 20)
    book = write_epub("long.epub", {"a.xhtml": "<p>" + "x" * (1 << 21) + "</p>"})
    with pytest.raises(DataError, match=r"OPS/a.xhtml holds more than 1 MB"):
        lines_of(book)


def test_a_document_without_its_suffix_is_told_how_to_be_read(cli: Cli) -> None:
    write_epub("a.epub", {"a.xhtml": "<p>x</p>"}, {"word/": ""}).rename("book")
    refused = cli("train", "book")
    assert (refused.code, "or let its name end in .docx, .odt or .epub" in refused.err) == (3, True), refused.err
