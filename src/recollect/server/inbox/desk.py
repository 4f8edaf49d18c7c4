"""What the inbox keeps in the memory of its process: what can be undone, and the naming that is under way."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import Final

from starlette.requests import Request

from recollect.server.auth import Authority
from recollect.server.inbox.door import with_token
from recollect.server.inbox.undo import Undos
from recollect.server.inbox.unnamed import Unnamed
from recollect.server.limits import Buckets, Limits
from recollect.server.problem import Refused

ATTEMPTS: Final = 30
"""Tokens that one address may try at once."""


class Desk:
    """One application's."""

    def __init__(self, authority: Authority, limits: Limits) -> None:
        self.undos = Undos()
        self.unnamed = Unnamed()
        self._authority = authority
        self._attempts = Buckets(limits.guesses, ATTEMPTS)
        self._passes: dict[str, str] = {}

    def admit_once(self, token: str) -> str:
        """What lets in one browser, once, in the place of a token: for where others may read the address it opens."""
        made = secrets.token_urlsafe(24)
        self._passes[made] = token
        return made

    def exchanged(self, given: str) -> str:
        """The token that something stands for; whatever else was given, as it was."""
        return self._passes.pop(given, given)

    async def accepts(self, request: Request, token: str) -> bool:
        """Whether a token lets somebody in.

        Raises:
            Refused: this address has tried too many, or whether it is known cannot be told.
        """
        try:
            await self._authority(Request(with_token(request.scope, token)))
        except Refused as refused:
            if refused.status_code != HTTPStatus.UNAUTHORIZED:
                raise
            self._attempts.take(request.client.host if request.client is not None else "")
            return False
        return True

    async def close(self) -> None:
        """Begin no more, and let go of everything."""
        self.undos.close()
        await self.unnamed.close()


def desk_of(request: Request) -> Desk:
    """The desk of the application that a request is for."""
    desk: Desk = request.app.state.inbox
    return desk
