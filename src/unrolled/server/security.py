"""Who may ask: the host, the origin and the key of each request, and the headers of each response."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unrolled.server.http_errors import ApiError

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
        "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}
SAFE_METHODS = frozenset({"GET", "HEAD"})
OPEN_PATHS = ("/", "/health")
"""Paths that need no key, with everything below /static/: the page asks for the key."""


class Security:
    """ASGI middleware in front of every route.

    A web page of another site must not reach the server through the browser of its user: the Host header must be an IP
    address, localhost or an allowed name, since a name of the attacker may point here (DNS rebinding), and the Origin of all
    requests that change something must be the server itself. There are no CORS headers.

    Args:
        app: The application.
        allowed_hosts: Names that the server is reached by, besides IP addresses and localhost.
        api_key: The key that `Authorization: Bearer KEY` must have; None: no key is needed.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str] = (), api_key: str | None = None) -> None:
        self.app, self.api_key = app, None if api_key is None else api_key.encode()
        self.allowed_hosts = {"localhost", *(name.lower().rstrip(".") for name in allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            self.check(scope)
        except ApiError as error:
            await error.response()(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)

    def check(self, scope: Scope) -> None:
        """Raise `ApiError` for a request that must not be answered."""
        if scope["type"] != "http":
            raise ApiError(403, "WebSockets are not supported.")
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        host = _only(headers, b"host")
        if not host or not self._is_allowed_host(host):
            raise ApiError(
                403,
                "The Host header is no name of this server: use its IP address or localhost, or start it with --allow-host.",
                code="host_not_allowed",
            )
        if scope["method"] not in SAFE_METHODS:
            self._check_origin(headers, host)
        path = scope["path"]
        if self.api_key is not None and path not in OPEN_PATHS and not path.startswith("/static/"):
            self._check_key(headers)

    def _is_allowed_host(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            _ = urlsplit(f"//{host}").port
        except ValueError:
            return False
        if any(c in host for c in "@/?#\\ ,%"):
            return False
        try:
            ipaddress.ip_address(name)
            return True
        except ValueError:
            return name.rstrip(".") in self.allowed_hosts

    def _check_origin(self, headers: dict[bytes, list[bytes]], host: str) -> None:
        origins = headers.get(b"origin", [])
        own = {f"http://{host}".encode().lower(), f"https://{host}".encode().lower()}
        site = headers.get(b"sec-fetch-site", [b"none"])[0]
        if any(origin.lower() not in own for origin in origins) or site not in (b"none", b"same-origin"):
            raise ApiError(403, "The request comes from a page of another origin.", code="origin_not_allowed")

    def _check_key(self, headers: dict[bytes, list[bytes]]) -> None:
        scheme, _, key = _only(headers, b"authorization").partition(" ")
        expected = self.api_key or b""
        if not hmac.compare_digest(key.strip().encode("utf-8", "replace"), expected) or scheme.lower() != "bearer":
            raise ApiError(
                401, "The API key is missing or wrong: send the header Authorization: Bearer KEY.", code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )  # fmt: skip


def _only(headers: dict[bytes, list[bytes]], name: bytes) -> str:
    """Return the value of a header that must be there once, else an empty string."""
    values = headers.get(name, [])
    return values[0].decode("latin-1").strip() if len(values) == 1 else ""
