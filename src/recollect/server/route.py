"""A route, and what every route works with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import Depends
from pydantic import BaseModel
from starlette.requests import Request

from recollect.server.caller import Caller
from recollect.server.fields import DbId, UserId
from recollect.server.reach import Reach
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
    tells: type[BaseModel] | None = None
    """What the data of each event are, where it answers with events."""
    media_type: str = "application/json"
    """What else it answers with."""
    tag: str = "Sessions"
    is_page: bool = False
    """Whether it is for browsers, and no part of the API that the document describes."""
    responses: dict[int, Any] = {}
    """What else the document says of answers, by status."""


# These are coroutines, for FastAPI calls what is none in a thread.


async def service_of(request: Request) -> Service:
    """The service behind the application."""
    service: Service = request.app.state.recollect
    return service


async def caller_of(request: Request) -> Caller:
    """Who makes the request; the gate has found it out."""
    caller: Caller = request.scope[CALLER]
    return caller


ServiceOf = Annotated[Service, Depends(service_of)]
CallerOf = Annotated[Caller, Depends(caller_of)]


async def may_write(caller: CallerOf) -> None:
    """Let in who may write.

    Raises:
        Refused: the caller may not.
    """
    caller.writes_as(None)


async def reading(service: ServiceOf, caller: CallerOf, db_id: DbId = None, user_id: UserId = None) -> Reach:
    """What the caller reads.

    Raises:
        NotFound: there is no such database.
        Refused: the caller may not name this user.
    """
    return Reach(service.database(db_id), caller.reads_as(user_id or None))


async def writing(service: ServiceOf, caller: CallerOf, db_id: DbId = None, user_id: UserId = None) -> Reach:
    """Where the caller writes.

    Raises:
        NotFound: there is no such database.
        Refused: the caller may not write, or may not name this user.
    """
    return Reach(service.database(db_id), caller.writes_as(user_id or None))


ReadsOf = Annotated[Reach, Depends(reading)]
WritesOf = Annotated[Reach, Depends(writing)]
