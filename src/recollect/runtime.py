"""What agents and teams have in common: a database, and every method that reads or changes the sessions in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Unpack

from recollect import batch
from recollect.calls import marks, messages, names, runs, sessions, summaries, values
from recollect.calls.call import Call
from recollect.faces import LOOPS, THREADS, Closing, blocking, waiting
from recollect.port import Access, P, T, drive
from recollect.scribe import Scribe
from recollect.session import SessionHeader
from recollect.store import Store
from recollect.store.lists import SessionFilters
from recollect.store.watches import AsyncSessionWatch, SessionWatch


class Runtime(Closing):
    """A database and the sessions in it, as agents and teams offer them.

    Every method has a twin with ``a`` before its name, to be awaited. A method that needs a session takes the one
    that is named, else the runtime's own ``session_id``. Given a ``user_id``, it sees that user's sessions only.
    """

    db: Store
    store: Store
    """The database, behind the cache where there is one."""
    session_id: str | None
    user_id: str | None
    scribe: Scribe
    """Who makes names and summaries."""

    def _blocking(
        self, operation: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], *args: Any, **kwargs: Any
    ) -> T:
        return drive(operation(Call(self, Access(self.store, THREADS)), *args, **kwargs))

    async def _waiting(
        self, operation: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], *args: Any, **kwargs: Any
    ) -> T:
        return await operation(Call(self, Access(self.store, LOOPS)), *args, **kwargs)

    get_session = blocking(sessions.get_session)
    aget_session = waiting(sessions.get_session)
    get_session_messages = blocking(messages.get_session_messages)
    aget_session_messages = waiting(messages.get_session_messages)
    get_chat_history = blocking(messages.get_chat_history)
    aget_chat_history = waiting(messages.get_chat_history)
    get_sessions = blocking(sessions.get_sessions)
    aget_sessions = waiting(sessions.get_sessions)
    search = blocking(sessions.search)
    asearch = waiting(sessions.search)
    get_run_output = blocking(runs.get_run_output)
    aget_run_output = waiting(runs.get_run_output)
    get_last_run_output = blocking(runs.get_last_run_output)
    aget_last_run_output = waiting(runs.get_last_run_output)
    cancel_run = blocking(runs.cancel_run)
    acancel_run = waiting(runs.cancel_run)
    get_session_state = blocking(values.get_session_state)
    aget_session_state = waiting(values.get_session_state)
    update_session_state = blocking(values.update_session_state)
    aupdate_session_state = waiting(values.update_session_state)
    get_session_metadata = blocking(values.get_session_metadata)
    aget_session_metadata = waiting(values.get_session_metadata)
    update_session_metadata = blocking(values.update_session_metadata)
    aupdate_session_metadata = waiting(values.update_session_metadata)
    tag_session = blocking(marks.tag_session)
    atag_session = waiting(marks.tag_session)
    archive_session = blocking(marks.archive_session)
    aarchive_session = waiting(marks.archive_session)
    pin_session = blocking(marks.pin_session)
    apin_session = waiting(marks.pin_session)
    set_session_expiry = blocking(marks.set_session_expiry)
    aset_session_expiry = waiting(marks.set_session_expiry)
    fork_session = blocking(sessions.fork_session)
    afork_session = waiting(sessions.fork_session)
    get_session_metrics = blocking(sessions.get_session_metrics)
    aget_session_metrics = waiting(sessions.get_session_metrics)
    get_session_name = blocking(names.get_session_name)
    aget_session_name = waiting(names.get_session_name)
    generate_session_name = blocking(names.generate_session_name)
    agenerate_session_name = waiting(names.generate_session_name)
    name_sessions = blocking(batch.name_sessions)
    aname_sessions = waiting(batch.name_sessions)
    estimate_names = blocking(batch.estimate_names)
    aestimate_names = waiting(batch.estimate_names)
    get_session_summary = blocking(summaries.get_session_summary)
    aget_session_summary = waiting(summaries.get_session_summary)
    create_session_summary = blocking(summaries.create_session_summary)
    acreate_session_summary = waiting(summaries.create_session_summary)
    create_session_summaries = blocking(batch.create_session_summaries)
    acreate_session_summaries = waiting(batch.create_session_summaries)
    flush = blocking(summaries.flush)
    aflush = waiting(summaries.flush)
    set_session_name = blocking(names.set_session_name)
    aset_session_name = waiting(names.set_session_name)
    save_session = blocking(sessions.save_session)
    asave_session = waiting(sessions.save_session)
    claim_session = blocking(sessions.claim_session)
    aclaim_session = waiting(sessions.claim_session)
    delete_session = blocking(sessions.delete_session)
    adelete_session = waiting(sessions.delete_session)
    delete_sessions = blocking(sessions.delete_sessions)
    adelete_sessions = waiting(sessions.delete_sessions)
    delete_user = blocking(sessions.delete_user)
    adelete_user = waiting(sessions.delete_user)
    delete_run = blocking(runs.delete_run)
    adelete_run = waiting(runs.delete_run)

    def iter_sessions(self, **filters: Unpack[SessionFilters]) -> Iterator[SessionHeader]:
        """Every session that `get_sessions` would find, page after page."""
        return self.db.iter_sessions(**self._scoped(filters))

    def aiter_sessions(self, **filters: Unpack[SessionFilters]) -> AsyncIterator[SessionHeader]:
        """As `iter_sessions`, for ``async for``."""
        return self.db.aiter_sessions(**self._scoped(filters))

    def watch_sessions(
        self, user_id: str | None = None, session_id: str | None = None, since: str | None = None
    ) -> SessionWatch:
        """Changes of the database's sessions as they happen, by any process: of a user's, of one session, or of all.

        ``since`` is the cursor of the last change that was told: what was missed is told first.

        Raises:
            InvalidArgument: an id cannot be one, or the cursor was not given out by a watcher.
        """
        return self.db.watch_sessions(user_id if user_id is not None else self.user_id, session_id, since)

    def awatch_sessions(
        self, user_id: str | None = None, session_id: str | None = None, since: str | None = None
    ) -> AsyncSessionWatch:
        """As `watch_sessions`, for ``async for``."""
        return self.db.awatch_sessions(user_id if user_id is not None else self.user_id, session_id, since)

    def export_user(self, user_id: str) -> Iterator[dict[str, Any]]:
        """Every session of a user with all that is stored in it, as JSON values."""
        return self.db.export_user(user_id)

    def aexport_user(self, user_id: str) -> AsyncIterator[dict[str, Any]]:
        """As `export_user`, for ``async for``."""
        return self.db.aexport_user(user_id)

    def _scoped(self, filters: SessionFilters) -> SessionFilters:
        return filters if filters.get("user_id") is not None else {**filters, "user_id": self.user_id}

    def close(self) -> None:
        """Let go of the database; the next use opens it again."""
        self.db.close()

    async def aclose(self) -> None:
        """As `close`."""
        await self.db.aclose()
