"""The page of `unrolled serve` in a browser with answers that a test writes: names and texts that no real server would have."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import unrolled

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request, Route, ViewportSize

ORIGIN = "http://127.0.0.1:9"
"""Nothing listens there: every request is answered by the test."""

STATIC_FOLDERS = [Path(unrolled.__file__).parent / name / "static" for name in ("server", "views")]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
CONTENT_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}

Answers = Mapping[str, Any]
"""By "METHOD /path", or "*" and the end of a path, or the beginning of one that ends with "/": JSON values, text (a stream of
events), an HTTP status as a whole number, or a function of the request."""


def stream_of(*frames: Any, event: str = "") -> str:
    """Return server-sent events with JSON values as data; a string is sent as it is."""
    head = f"event: {event}\n" if event else ""
    return "".join(f"{head}data: {frame if isinstance(frame, str) else json.dumps(frame)}\n\n" for frame in frames)


def static_file(path: str) -> Path | None:
    """Return the file that the server has at a path."""
    if path == "/":
        return STATIC_FOLDERS[0] / "index.html"
    found = [folder / path.removeprefix("/static/") for folder in STATIC_FOLDERS]
    return next((file for file in found if path.startswith("/static/") and file.is_file()), None)


def answer_to(asked: str, answers: Answers) -> Any:
    """Return the answer to "METHOD /path"; None if there is none."""
    if asked in answers:
        return answers[asked]
    ends = (key for key in answers if key[0] == "*" and asked.endswith(key[1:]))
    beginnings = (key for key in answers if key[-1] == "/" and asked.startswith(key))
    return answers.get(next(itertools.chain(ends, beginnings), ""))


def handler(answers: Answers, refused: list[str]) -> Callable[[Route, Request], None]:
    """Return what answers the requests of a page; what has no answer is added to `refused`."""

    def handle(route: Route, request: Request) -> None:
        path = urlsplit(request.url).path
        if (file := static_file(path)) is not None:
            headers = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
            content_type = CONTENT_TYPES[file.suffix] + "; charset=utf-8"
            route.fulfill(body=file.read_text("utf-8"), headers=headers, content_type=content_type)
            return
        answer = answer_to(f"{request.method} {path}", answers)
        if callable(answer):
            answer = answer(request)
        if answer is None:
            refused.append(f"{request.method} {path}")
            answer = 404
        if isinstance(answer, int):
            route.fulfill(status=answer, json={"error": {"message": f"refused with {answer}"}})
        elif isinstance(answer, str):
            route.fulfill(body=answer, content_type="text/event-stream")
        else:
            route.fulfill(json=answer)

    return handle


@contextmanager
def open_served(
    browser: Browser, answers: Answers, at: str = "", size: tuple[int, int] = (1280, 900), is_ready: bool = True
) -> Iterator[Page]:
    """Open the page with answers; when done, refuse errors of its scripts, and requests that have no answer.

    Args:
        answers: What is answered, by method and path.
        at: The fragment of the address, with its "#".
        size: Width and height of the window.
        is_ready: Whether the page is awaited to have its models.
    """
    problems: list[str] = []
    viewport: ViewportSize = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport)
    page = context.new_page()
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("console", lambda message: problems.append(message.text) if "Security Policy" in message.text else None)
    page.route("**/*", handler(answers, problems))
    page.goto(f"{ORIGIN}/{at}")
    if is_ready:
        page.wait_for_selector("html[data-ready]", timeout=20_000)
    yield page
    context.close()
    assert not problems, problems
