"""The files of the page, by name: its own, and the modules and styles that it shares with the other pages."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from starlette.responses import Response

from unrolled.server.http_errors import ApiError
from unrolled.views.html_page import STATIC as SHARED

FOLDERS = (Path(__file__).parent / "static", SHARED)
CONTENT_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
INDEX = "index.html"


@cache
def static_files() -> dict[str, Path]:
    """Return what may be asked for, by its path in the folder with slashes: the page, and all scripts and styles."""
    found = {INDEX: FOLDERS[0] / INDEX}
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".js", ".css") and path.is_file():
                found.setdefault(path.relative_to(folder).as_posix(), path)
    return found


def static_file(name: str) -> Response:
    """Return a file of the page by its name. Raises `ApiError` 404 for any name that is not in `static_files`."""
    path = static_files().get(name)
    if path is None:
        raise ApiError(404, "There is no such file.")
    return Response(path.read_bytes(), media_type=CONTENT_TYPES[path.suffix], headers={"cache-control": "no-cache"})
