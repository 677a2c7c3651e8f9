"""Errors as HTTP responses, in the shape that OpenAI's clients read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from unrolled.errors import DataError, ModelError, StorageError, UnrolledError, UsageError, is_out_of_memory
from unrolled.flag_names import with_keywords

_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 408: "timeout_error", 409: "conflict_error",
    429: "rate_limit_error",
}  # fmt: skip
_STATUS = {UsageError: 400, DataError: 400, ModelError: 422, StorageError: 507}
NOTHING_THERE = (
    "There is nothing at this address: texts are continued by POST /v1/completions, and /openapi.json has the others."
)


class ApiError(Exception):
    """A request that cannot be answered.

    Args:
        status: The HTTP status.
        message: What is wrong, what was expected, what to do.
        param: The field that is wrong.
        code: A word for programs.
        headers: Additional headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    def body(self) -> dict[str, Any]:
        """Return the JSON of the response."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """Return the response."""
        return JSONResponse(self.body(), self.status, dict(self.headers or {}))


def to_api_error(error: Exception) -> ApiError:
    """Return the HTTP error of any exception; a bug is 500, without its details."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, HTTPException) and error.status_code == 404:
        return ApiError(404, NOTHING_THERE, code="unknown_url")
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, str(error.detail) + ".", headers=error.headers)
    if isinstance(error, ClientDisconnect):  # nobody reads the answer, and it is no fault of the server
        return ApiError(400, "The connection was closed before the whole body had come.")
    if isinstance(error, UnrolledError):
        return ApiError(
            next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 400), with_keywords(str(error))
        )
    if is_out_of_memory(error):
        return ApiError(503, "There is not enough memory for this request: make it smaller.", code="out_of_memory")
    return ApiError(500, "The server failed on this request; its log has the traceback.", code="internal_error")


async def handle_error(request: Request, error: Exception) -> JSONResponse:
    """Answer a request whose handler raised an exception."""
    return to_api_error(error).response()
