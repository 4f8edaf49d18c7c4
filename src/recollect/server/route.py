"""A route, and what every route works with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import Depends, Query
from starlette.requests import Request

from recollect.server.caller import Caller
from recollect.server.limits import MOST
from recollect.server.service import Service

CALLER: Final = "recollect.caller"
"""Where the gate leaves who makes a request."""

Access = Literal["open", "read", "write"]


class Route(msgspec.Struct, frozen=True):
    """One address with what answers it."""

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    endpoint: Callable[..., Any]
    access: Access = "read"
    """``open``: nobody is asked who they are; ``write``: only those who may write come in."""
    status: int = 200
    shape: Any = None
    """The type of what it answers with, where that is JSON."""
    media_type: str = "application/json"
    tag: str = "Sessions"
    responses: dict[int, Any] = {}
    """What else the document says of answers, by status."""


def service_of(request: Request) -> Service:
    """The service behind the application."""
    service: Service = request.app.state.recollect
    return service


def caller_of(request: Request) -> Caller:
    """Who makes the request; the gate has found it out."""
    caller: Caller = request.scope[CALLER]
    return caller


def writer_of(request: Request) -> Caller:
    """Who makes the request, and may write.

    Raises:
        Refused: the caller may not.
    """
    caller = caller_of(request)
    caller.writes_as(None)
    return caller


ServiceOf = Annotated[Service, Depends(service_of)]
CallerOf = Annotated[Caller, Depends(caller_of)]
UserId = Annotated[str | None, Query(description="Whose sessions are meant; for those who may name others.")]
Limit = Annotated[int | None, Query(ge=1, le=MOST, description="How many at most; 20 sessions or 100 messages.")]
DbId = Annotated[str | None, Query(description="The database that is meant; the first unless given.")]
