"""What an error becomes: a status, and a body in the form of RFC 9457 with the library's code beside a text.

``detail`` is always text, for that is what clients of Agno's AgentOS show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from recollect import checks, errors
from recollect.errors import InvalidArgument, ModelError, RecollectError

MEDIA_TYPE: Final = "application/problem+json"

STATUSES: Final[tuple[tuple[type[RecollectError], int], ...]] = (
    (errors.InvalidArgument, 422),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.NamingFailed, 502),
    (errors.RunFailed, 502),
    (errors.DatabaseFull, 507),
    (errors.DatabaseBusy, 503),
    (errors.DatabaseReadOnly, 503),
    (errors.DatabaseUnreachable, 503),
    (errors.SearchUnavailable, 503),
    (errors.OutcomeUnknown, 503),
    (errors.RecollectError, 500),
)
"""The first class that fits says which status an error has."""

_CODES: Final = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    422: "invalid_argument",
}

_SOON: Final = 1
"""Seconds after which a database that was busy may be asked again."""


class Refused(HTTPException):
    """A request that is refused for what it is, not for what is stored."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)
        self.code = code


class Problem:
    """What is told of an error."""

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        self.status = status
        self.headers = dict(headers or {})
        self.body = {
            "type": f"urn:recollect:{code}",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "code": code,
            **more,
        }

    def response(self) -> Response:
        return Response(checks.encode(self.body), self.status, self.headers, MEDIA_TYPE)


def problem_of(error: Exception) -> Problem:
    """What is told of an error; of one that nobody foresaw, nothing but that it happened."""
    if isinstance(error, RecollectError):
        return _of_library(error)
    if isinstance(error, RequestValidationError):
        return _of_validation(error.errors())
    if isinstance(error, HTTPException):
        code = getattr(error, "code", None) or _CODES.get(error.status_code, "error")
        return Problem(error.status_code, code, str(error.detail), error.headers)
    return Problem(500, "internal_error", "the server failed; its log says why")


def _of_library(error: RecollectError) -> Problem:
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    headers: dict[str, str] = {}
    if isinstance(error, ModelError) and error.transient:
        status = 503
        headers = {} if error.retry_after is None else {"Retry-After": str(max(1, round(error.retry_after)))}
    elif isinstance(error, errors.DatabaseBusy | errors.RunInProgress | errors.SessionBusy):
        headers = {"Retry-After": str(_SOON)}
    more: dict[str, Any] = {"argument": error.argument} if isinstance(error, InvalidArgument) else {}
    run = getattr(error, "run", None)
    if run is not None:
        more |= {"run_id": run.run_id, "session_id": run.session_id}
    return Problem(status, error.code, _said(error), headers, **more)


def _said(error: RecollectError) -> str:
    """What callers are told; where a database is and what it says is for the log."""
    is_of_database = isinstance(error, errors.DatabaseError)
    return (type(error).__doc__ or "").strip() if is_of_database else str(error)


def _of_validation(found: Sequence[Any]) -> Problem:
    """Where each argument stands and what is wrong with it; never its value, which may be a secret."""
    told = [{"loc": [str(part) for part in one["loc"]], "msg": str(one["msg"])} for one in found]
    detail = "; ".join(f"{'.'.join(one['loc'][1:]) or one['loc'][0]}: {one['msg']}" for one in told)
    return Problem(422, "invalid_argument", detail, errors=told)
