"""Spreadsheets, written as the standards say."""

import datetime
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'
STYLES = f'<styleSheet {MAIN}><cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>'

Sheet = Sequence[Sequence[object]]


def cell_xml(value: object) -> str:
    if isinstance(value, bool):
        return f'<c t="b"><v>{int(value)}</v></c>'
    if isinstance(value, datetime.date):
        return f'<c s="1"><v>{(value - datetime.date(1899, 12, 30)).days}</v></c>'
    if isinstance(value, int | float):
        return f"<c><v>{value}</v></c>"
    return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(str(value))}</t></is></c>' if value else "<c/>"


def write_xlsx(
    path: str, sheets: Mapping[str, Sheet], first_row: int = 1, hidden: str = "", merged: Sequence[str] = ()
) -> Path:
    """Write a workbook of sheets by name, of which one may be hidden; the cells of each begin in `first_row`, and those of the
    ranges `merged` are one."""
    merges = f"<mergeCells>{''.join(f'<mergeCell ref={range!r}/>' for range in merged)}</mergeCells>" if merged else ""
    with zipfile.ZipFile(path, "w") as archive:
        relations = [f'<Relationship Id="r0" Type="{OFFICE}/styles" Target="styles.xml"/>']
        listed = []
        for number, (name, rows) in enumerate(sheets.items(), 1):
            lines = (f'<row r="{row}">{"".join(map(cell_xml, cells))}</row>' for row, cells in enumerate(rows, first_row))
            archive.writestr(
                f"xl/s{number}.xml", f"<worksheet {MAIN}><sheetData>{''.join(lines)}</sheetData>{merges}</worksheet>"
            )
            state = ' state="hidden"' if name == hidden else ""
            listed.append(f'<sheet name="{name}" sheetId="{number}"{state} r:id="r{number}"/>')
            relations.append(f'<Relationship Id="r{number}" Type="{OFFICE}/worksheet" Target="s{number}.xml"/>')
        book = f'<workbook {MAIN} xmlns:r="{OFFICE}"><sheets>{"".join(listed)}</sheets></workbook>'
        root = f'<Relationship Id="r1" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/>'
        archive.writestr("_rels/.rels", f"<Relationships {PACKAGE}>{root}</Relationships>")
        archive.writestr("xl/_rels/workbook.xml.rels", f"<Relationships {PACKAGE}>{''.join(relations)}</Relationships>")
        archive.writestr("xl/workbook.xml", book)
        archive.writestr("xl/styles.xml", STYLES)
    return Path(path)


def write_ods(path: str, rows: Sheet) -> Path:
    """Write a spreadsheet of OpenDocument with one sheet."""

    def cell(value: object) -> str:
        if isinstance(value, bool):
            return f'<table:table-cell office:value-type="boolean" office:boolean-value="{str(value).lower()}"/>'
        if isinstance(value, datetime.date):
            return f'<table:table-cell office:value-type="date" office:date-value="{value}"/>'
        if isinstance(value, int | float):
            return f'<table:table-cell office:value-type="float" office:value="{value}"/>'
        lines = "".join(f"<text:p>{escape(line)}</text:p>" for line in str(value).split("\n"))
        return f'<table:table-cell office:value-type="string">{lines}</table:table-cell>' if value else "<table:table-cell/>"

    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    lines = "".join(f"<table:table-row>{''.join(map(cell, row))}</table:table-row>" for row in rows)
    table = f'<table:table table:name="S">{lines}</table:table>'
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
        body = f"<office:body><office:spreadsheet>{table}</office:spreadsheet></office:body>"
        archive.writestr("content.xml", f"<office:document-content {spaces}>{body}</office:document-content>")
    return Path(path)
