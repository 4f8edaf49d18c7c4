"""The store: every operation is written once over a transaction, and offered in two faces.

An operation that takes a `Tx` runs in one transaction; one that takes an `Access` runs several.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Concatenate, Final

from recollect import vanishing
from recollect.faces import LOOPS, THREADS, Closing, aiterating, blocking, iterating, waiting
from recollect.heartbeat import HEARTBEAT
from recollect.port import Access, Database, Operation, P, T, drive
from recollect.store import (
    begin,
    changes,
    deletion,
    documents,
    export,
    fork,
    hits,
    lists,
    marks,
    removed,
    sessions,
    turns,
)
from recollect.store.turns import OpenRun
from recollect.store.watches import AsyncSessionWatch, SessionWatch
from recollect.watching import Signals, Ticks

__all__ = ["OpenRun", "Store", "keep_alive"]


def keep_alive(database: Database, run: OpenRun) -> None:
    """Have a run's lease renewed as long as the run is held, or until the database is closed."""
    HEARTBEAT.watch(database.home, run, _renew)


def _renew(database: Database, tokens: list[int]) -> dict[int, bool]:
    return database.transact(turns.renew_leases, tokens)


LOOKS: Final = 0.1
"""Seconds between two looks at a database that does not tell when something was changed."""


class Store(Closing, ABC):
    """Sessions in a database. It serves any agent runtime; `recollect.agent` is one.

    Every method has a twin with ``a`` before its name, to be awaited, on the same object.
    """

    dialect: ClassVar[str] = ""
    """The kind of database below, by which its schema is known: ``sqlite`` or ``postgres``."""

    @property
    def home(self) -> Store:
        """The database itself, where this is a cache before it."""
        return self

    @property
    def signals(self) -> Callable[[], Signals]:
        """Makes what tells that something was changed. Here: nothing does, so a watcher has to look each time."""
        return lambda: Ticks(lambda: (object(), time.time_ns() // 1000), LOOKS)

    def watch_sessions(
        self, user_id: str | None = None, session_id: str | None = None, since: str | None = None
    ) -> SessionWatch:
        """Changes of sessions as they happen, by any process: of a user's, of one session, or of all.

        ``since`` is the cursor of the last change that was told: what was missed is told first.

        Raises:
            InvalidArgument: an id cannot be one, or the cursor was not given out by a watcher.
        """
        return SessionWatch(self.home, user_id, session_id, since)

    def awatch_sessions(
        self, user_id: str | None = None, session_id: str | None = None, since: str | None = None
    ) -> AsyncSessionWatch:
        """As `watch_sessions`, for ``async for``."""
        return AsyncSessionWatch(self.home, user_id, session_id, since)

    @abstractmethod
    def transact(self, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one store operation in a transaction of its own."""

    @abstractmethod
    async def atransact(self, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `transact`; a write that began is finished before a cancellation goes on."""

    @abstractmethod
    def close(self) -> None:
        """Finish what is under way and let go of the database."""

    @abstractmethod
    async def aclose(self) -> None:
        """As `close`."""

    def _blocking(
        self, operation: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], *args: Any, **kwargs: Any
    ) -> T:
        if hasattr(operation, "mode"):
            value: T = self.transact(operation, *args, **kwargs)
            return self._told(operation, args, kwargs, value)
        return drive(operation(Access(self, THREADS), *args, **kwargs))

    async def _waiting(
        self, operation: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], *args: Any, **kwargs: Any
    ) -> T:
        if hasattr(operation, "mode"):
            value: T = await self.atransact(operation, *args, **kwargs)
            return self._told(operation, args, kwargs, value)
        return await operation(Access(self, LOOPS), *args, **kwargs)

    def _told(self, operation: Any, args: Any, kwargs: Any, value: T) -> T:
        """A run that was begun keeps its lease as long as somebody holds it; what is gone is gone from caches, too."""
        if isinstance(value, OpenRun):
            keep_alive(self, value)
        vanishing.tell(self, operation, args, kwargs, value)
        return value

    def _access(self, *, waits: bool) -> Access:
        return Access(self, LOOPS if waits else THREADS)

    create_session = blocking(changes.create_session)
    acreate_session = waiting(changes.create_session)
    get_session = blocking(sessions.get_session)
    aget_session = waiting(sessions.get_session)
    get_header = blocking(sessions.get_header)
    aget_header = waiting(sessions.get_header)
    get_messages = blocking(sessions.get_messages)
    aget_messages = waiting(sessions.get_messages)
    get_run = blocking(sessions.get_run)
    aget_run = waiting(sessions.get_run)
    get_last_run = blocking(sessions.get_last_run)
    aget_last_run = waiting(sessions.get_last_run)
    get_values = blocking(sessions.get_values)
    aget_values = waiting(sessions.get_values)
    update_values = blocking(changes.update_values)
    aupdate_values = waiting(changes.update_values)
    get_metrics = blocking(sessions.get_metrics)
    aget_metrics = waiting(sessions.get_metrics)
    get_sessions = blocking(lists.get_sessions)
    aget_sessions = waiting(lists.get_sessions)
    search = blocking(hits.search)
    asearch = waiting(hits.search)
    index_sessions = blocking(documents.index_sessions)
    aindex_sessions = waiting(documents.index_sessions)
    count_sessions = blocking(lists.count_sessions)
    acount_sessions = waiting(lists.count_sessions)
    find_sessions_by_prefix = blocking(lists.find_sessions_by_prefix)
    afind_sessions_by_prefix = waiting(lists.find_sessions_by_prefix)
    iter_sessions = iterating(lists.iter_sessions)
    aiter_sessions = aiterating(lists.iter_sessions)
    tag_session = blocking(changes.tag_session)
    atag_session = waiting(changes.tag_session)
    archive_session = blocking(marks.archive_session)
    aarchive_session = waiting(marks.archive_session)
    pin_session = blocking(marks.pin_session)
    apin_session = waiting(marks.pin_session)
    set_session_expiry = blocking(marks.set_session_expiry)
    aset_session_expiry = waiting(marks.set_session_expiry)
    set_session_name = blocking(changes.set_session_name)
    aset_session_name = waiting(changes.set_session_name)
    save_session = blocking(changes.save_session)
    asave_session = waiting(changes.save_session)
    upsert_session = blocking(changes.upsert_session)
    aupsert_session = waiting(changes.upsert_session)
    claim_session = blocking(changes.claim_session)
    aclaim_session = waiting(changes.claim_session)
    delete_session = blocking(deletion.delete_session)
    adelete_session = waiting(deletion.delete_session)
    delete_sessions = blocking(deletion.delete_sessions)
    adelete_sessions = waiting(deletion.delete_sessions)
    fork_session = blocking(fork.fork_session)
    afork_session = waiting(fork.fork_session)
    purge_sessions = blocking(deletion.purge_sessions)
    apurge_sessions = waiting(deletion.purge_sessions)
    iter_purgeable = iterating(deletion.iter_purgeable)
    aiter_purgeable = aiterating(deletion.iter_purgeable)
    export_user = iterating(export.export_user)
    aexport_user = aiterating(export.export_user)
    delete_user = blocking(deletion.delete_user)
    adelete_user = waiting(deletion.delete_user)
    begin_run = blocking(begin.begin_run)
    abegin_run = waiting(begin.begin_run)
    append_messages = blocking(turns.append_messages)
    aappend_messages = waiting(turns.append_messages)
    delete_run = blocking(removed.delete_run)
    adelete_run = waiting(removed.delete_run)
    finish_run = blocking(turns.finish_run)
    afinish_run = waiting(turns.finish_run)
