"""Signing in with a token, and out."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Form
from starlette.requests import Request
from starlette.responses import Response

from recollect.server.inbox.desk import desk_of
from recollect.server.inbox.door import (
    SIGN_IN,
    SIGN_OUT,
    admitted,
    dismissed,
    own_address,
    refuse_foreign_page,
    root_of,
)
from recollect.server.inbox.page import FILES, file
from recollect.server.inbox.reception import UNKNOWN, sign_in_page
from recollect.server.route import Route


async def get_sign_in(request: Request, next: str = "/") -> Response:
    """The page for the token."""
    return await sign_in_page(request, HTTPStatus.OK, next=next)


async def sign_in(request: Request, token: Annotated[str, Form()], next: Annotated[str, Form()] = "/") -> Response:
    """Take a token, from our own page only: nobody is to be signed in as somebody else."""
    refuse_foreign_page(request)
    token = token.strip()
    if not await desk_of(request).accepts(request, token):
        return await sign_in_page(request, HTTPStatus.UNAUTHORIZED, next=next, trouble=UNKNOWN)
    return admitted(request, own_address(next) or f"{root_of(request.scope)}/", token)


async def sign_out(request: Request) -> Response:
    """Forget the token."""
    refuse_foreign_page(request)
    return dismissed(request, root_of(request.scope) + SIGN_IN)


def _serving(name: str) -> Any:
    async def static(request: Request) -> Response:
        return file(request, name)

    return static


ROUTES: Final = (
    Route("GET", SIGN_IN, get_sign_in, "open", is_page=True),
    Route("POST", SIGN_IN, sign_in, "open", is_page=True),
    Route("POST", SIGN_OUT, sign_out, "open", is_page=True),
    *(Route("GET", f"/inbox/static/{name}", _serving(name), "open", is_page=True) for name in FILES),
)
