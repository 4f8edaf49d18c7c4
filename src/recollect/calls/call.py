"""One call of a method of an agent or team: whose session is meant, on whose behalf, and in which face."""

from __future__ import annotations

from typing import Protocol

from recollect import checks
from recollect.errors import SessionIdMissing
from recollect.port import Access
from recollect.scribe import Scribe


class Holder(Protocol):
    """What has a session and a user of its own, for calls that name none, and somebody who makes names."""

    @property
    def scribe(self) -> Scribe: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def user_id(self) -> str | None: ...


class Call:
    """A runtime, and the face in which one of its methods was called."""

    __slots__ = ("_holder", "access", "do")

    def __init__(self, holder: Holder, access: Access) -> None:
        self._holder = holder
        self.access = access
        self.do = access.do

    @property
    def scribe(self) -> Scribe:
        """Who makes the names and summaries of this runtime."""
        return self._holder.scribe

    def session_id(self, given: str | None, caller: str) -> str:
        """The session that is meant.

        Raises:
            SessionIdMissing: none was named, and the runtime has none of its own.
        """
        session_id = given if given is not None else self._holder.session_id
        if session_id is None:
            raise SessionIdMissing(caller)
        return checks.identifier("session_id", session_id)

    def user_id(self, given: str | None) -> str | None:
        """The user on whose behalf the call is made; None for trusted code."""
        return checks.optional_identifier("user_id", given if given is not None else self._holder.user_id)
