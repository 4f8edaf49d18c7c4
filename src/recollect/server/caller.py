"""Who makes a request, and on whose behalf it may read and write. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Literal

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument
from recollect.server.problem import Refused

Scope = Literal["user", "support", "admin"]

SCOPES: Final = ("user", "support", "admin")


class Caller(msgspec.Struct, frozen=True):
    """Who makes a request: ``Caller("ada")``, ``Caller("sam", {"support"})``, ``Caller(scopes={"admin"})``.

    ``user`` reads and writes the caller's own sessions; ``support`` reads everybody's and writes nothing; ``admin``
    reads and writes everybody's. Several add up: with ``user`` and ``support`` one reads everything and writes one's
    own.

    Raises:
        InvalidArgument: a scope is unknown, there is none, or ``user`` has no user id.
    """

    user_id: str | None = None
    scopes: frozenset[str] = frozenset({"user"})

    def __post_init__(self) -> None:
        given: Any = self.scopes
        if isinstance(given, str) or not isinstance(given, Collection):
            given = [given]
        msgspec.structs.force_setattr(self, "scopes", frozenset(given))
        checks.optional_identifier("user_id", self.user_id)
        for scope in self.scopes:
            checks.one_of("scopes", scope, SCOPES)
        if not self.scopes:
            raise InvalidArgument("scopes", f"are empty; name some of {', '.join(SCOPES)}")
        if "user" in self.scopes and self.user_id is None:
            raise InvalidArgument("user_id", "is missing: a caller with the scope 'user' is one; name another scope")

    def reads_as(self, asked: str | None) -> str | None:
        """The user whose sessions are read; None: everybody's.

        Raises:
            Refused: the caller asked for another user's and may not.
        """
        return asked if self.scopes & {"support", "admin"} else self._own(asked)

    def writes_as(self, asked: str | None) -> str | None:
        """The user in whose sessions is written; None: anybody's.

        Raises:
            Refused: the caller may not write, or asked for another user's sessions and may not.
        """
        if "admin" in self.scopes:
            return asked
        if "user" not in self.scopes:
            raise Refused(403, "forbidden", "this caller may read, and write nothing")
        return self._own(asked)

    def speaks_as(self, asked: str | None) -> str | None:
        """The user who says something: whoever is asked for, else the caller.

        Raises:
            Refused: as in `writes_as`.
        """
        user_id = self.writes_as(asked)
        return self.user_id if user_id is None else user_id

    def _own(self, asked: str | None) -> str | None:
        if asked not in (None, self.user_id):
            raise Refused(403, "forbidden", "this caller may not name another user than itself as user_id")
        return self.user_id


TRUSTED: Final = Caller(None, frozenset({"admin"}))
"""Whoever reaches a server that asks nobody who they are."""
