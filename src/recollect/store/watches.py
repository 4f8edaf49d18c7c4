"""What is given to those who watch sessions: iterators of changes, and context managers that end the watching."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from recollect import checks
from recollect.change import Cursor, Scope, SessionChange
from recollect.faces import LOOPS, THREADS
from recollect.port import World, drive
from recollect.store.lookout import Lookout
from recollect.store.rows import no_session
from recollect.watching import WATCHERS, Watching


class _Watch:
    """A watcher of one scope, before its face is known."""

    def __init__(
        self, database: object, user_id: str | None, session_id: str | None, since: str | None, world: World
    ) -> None:
        self._scope = Scope(
            checks.optional_identifier("user_id", user_id), checks.optional_identifier("session_id", session_id)
        )
        self._since = None if since is None else Cursor.of(checks.text("since", since))
        self._watching = Watching(lambda one: WATCHERS.subscribe(database, Lookout, one), world)

    @property
    def cursor(self) -> str | None:
        """Where to go on from, with ``since``: all that was told until now is known. None before it has begun."""
        return self._watching.cursor

    async def _begin(self) -> None:
        if not await self._watching.begin(self._scope, self._since):
            raise no_session(self._scope.session_id or "")

    async def _next(self, timeout: float | None) -> SessionChange | None:
        seconds = None if timeout is None else checks.seconds("timeout", timeout, none=True)
        await self._begin()
        return await self._watching.next(seconds)


class SessionWatch(_Watch):
    """Changes of sessions as they happen, to be iterated over; it ends when it is closed, or the database is.

    It begins with ``with``, or with the first change that is asked for. What was changed before that is not told.

    Raises:
        SessionNotFound: one session is to be watched, and there is none for this caller.
        DatabaseError: the database could not be read when it began. Later failures are waited out.
    """

    def __init__(self, database: object, user_id: str | None, session_id: str | None, since: str | None) -> None:
        super().__init__(database, user_id, session_id, since, THREADS)

    def get(self, timeout: float | None = None) -> SessionChange | None:
        """The next change; None when none came in so many seconds, or nothing comes any more."""
        return drive(self._next(timeout))

    def close(self) -> None:
        """End it."""
        self._watching.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> SessionChange:
        change = self.get()
        if change is None:
            raise StopIteration
        return change

    def __enter__(self) -> Self:
        drive(self._begin())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncSessionWatch(_Watch):
    """Changes of sessions as they happen, for ``async for``; it ends when it is closed, or the database is.

    It begins with ``async with``, or with the first change that is asked for. What was changed before that is not told.
    Nothing is lost when a task is cancelled that waits for the next one: it may be asked for again.

    Raises:
        SessionNotFound: one session is to be watched, and there is none for this caller.
        DatabaseError: the database could not be read when it began. Later failures are waited out.
    """

    def __init__(self, database: object, user_id: str | None, session_id: str | None, since: str | None) -> None:
        super().__init__(database, user_id, session_id, since, LOOPS)

    async def get(self, timeout: float | None = None) -> SessionChange | None:
        """The next change; None when none came in so many seconds, or nothing comes any more."""
        return await self._next(timeout)

    async def aclose(self) -> None:
        """End it."""
        self._watching.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionChange:
        change = await self._next(None)
        if change is None:
            raise StopAsyncIteration
        return change

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
