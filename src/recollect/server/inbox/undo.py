"""What was done a moment ago, and how it is undone: for a few seconds, by whoever did it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from recollect.server.caller import Caller

SECONDS: Final = 10.0
"""How long the reader is offered to undo something."""

LATE: Final = 5.0
"""Seconds on top of that, for whoever decides in the last moment."""

MOST: Final = 50
"""Deeds that are remembered; each may hold a copy of a session."""


class Deed(msgspec.Struct, frozen=True, eq=False):
    """Something that can be undone."""

    caller: Caller
    until: float
    undo: Callable[[], Awaitable[str]]
    """Undoes it; says what then holds."""
    forget: Callable[[], object]
    """Lets go of what is kept for that."""


class Undos:
    """The deeds of the last seconds, in the memory of this process."""

    def __init__(self) -> None:
        self._deeds: OrderedDict[str, Deed] = OrderedDict()

    def offer(
        self, caller: Caller, undo: Callable[[], Awaitable[str]], forget: Callable[[], object] = lambda: None
    ) -> str:
        """Remember a deed for a few seconds; what it is called for."""
        name = secrets.token_urlsafe(12)
        self._deeds[name] = Deed(caller, time.monotonic() + SECONDS + LATE, undo, forget)
        while len(self._deeds) > MOST:
            self._drop(next(iter(self._deeds)))
        asyncio.get_running_loop().call_later(SECONDS + LATE, self._drop, name)
        return name

    async def undo(self, caller: Caller, name: str) -> str | None:
        """Undo a deed of this caller, once; None where it is too late. One that fails may be tried again."""
        deed = self._deeds.get(name)
        if deed is None or deed.caller != caller or time.monotonic() > deed.until:
            return None
        del self._deeds[name]
        try:
            said = await deed.undo()
        except BaseException:  # also a cancelled request leaves the deed to be undone
            self._keep(name, deed)
            raise
        deed.forget()
        return said

    def close(self) -> None:
        """Let go of everything."""
        for name in [*self._deeds]:
            self._drop(name)

    def _keep(self, name: str, deed: Deed) -> None:
        """Remember a deed until its time is over; the timer that ends it then is running."""
        if time.monotonic() < deed.until:
            self._deeds[name] = deed
        else:
            deed.forget()

    def _drop(self, name: str) -> None:
        deed = self._deeds.pop(name, None)
        if deed is not None:
            deed.forget()
