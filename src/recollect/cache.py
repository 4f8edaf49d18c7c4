"""The session cache: copies of sessions in memory, each compared with the database before it is given out.

A copy is fresh while the session's epoch and version are those it was read at: one look at one row by its primary key
tells. So it may be shared by processes and machines that know nothing of one another: what another one wrote, deleted
or made anew is seen with the next read.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import count
from types import MappingProxyType
from typing import Any, Final

import msgspec

from recollect import checks, vanishing
from recollect.faces import LOOPS, THREADS
from recollect.forking import let_go_at_fork
from recollect.history import HistoryLimits
from recollect.locks import Mutex
from recollect.message import Message
from recollect.port import Access, Operation, P, T, drive
from recollect.run import RunOutput, RunStatus
from recollect.selection import Filter, select_messages
from recollect.session import AgentSession, Snapshot, TeamSession
from recollect.store import OpenRun, Store, begin, rows, sessions, sizes, turns
from recollect.store.copies import Copy, copy_session, follows, get_version
from recollect.store.turns import Commit
from recollect.store.window import Growing, Window

MAX_BYTES: Final = 64 * 1024 * 1024

Key = tuple[int, str]


class CacheStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a cache did since it was made, and what it holds."""

    hits: int = 0
    """Reads that were answered by a copy as it was."""
    misses: int = 0
    """Reads of sessions that were not in the cache."""
    catch_ups: int = 0
    """Reads that took from the database only what was new."""
    reloads: int = 0
    """Reads that found a session made anew, or its past rewritten."""
    evictions: int = 0
    """Copies that had to make room."""
    sessions: int = 0
    """Sessions of which something is held."""
    bytes: int = 0
    """About how much memory they take."""


class _Entry:
    """What is kept of one session."""

    __slots__ = ("bytes", "copy", "windows")

    def __init__(
        self, copy: Copy | None = None, windows: Mapping[HistoryLimits, Window] = MappingProxyType({})
    ) -> None:
        self.copy = copy
        self.windows = windows
        """What the next turn is shown of the past, by the limits of who asks."""
        held = (0 if copy is None else copy.bytes) + sum(window.bytes for window in windows.values())
        self.bytes = sizes.ENTRY + held


def _is_newer(at: tuple[int, int], known: tuple[int, int]) -> bool:
    """Whether one of two versions may be the newer one: of different epochs nobody can tell."""
    return at[0] != known[0] or at[1] >= known[1]


class SessionCache:
    """Copies of sessions, for any number of agents, databases, threads and event loops.

    ``max_bytes`` bounds the memory (64 MiB unless given), ``max_sessions`` the number of sessions of which anything is
    kept, be it a copy or what the next turn is shown; what was not used for longest goes first. Pass it to agents as
    ``cache_session=``, or wrap a store with `over`.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, max_sessions: int | None = None) -> None:
        self.max_bytes = checks.count("max_bytes", max_bytes)
        self.max_sessions = None if max_sessions is None else checks.count("max_sessions", max_sessions)
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._numbers: weakref.WeakKeyDictionary[Store, int] = weakref.WeakKeyDictionary()
        self._next = count()
        self._counts = dict.fromkeys(("hits", "misses", "catch_ups", "reloads", "evictions"), 0)
        self._bytes = 0
        self._gone: list[int] = []
        """Numbers of databases that are gone, whose copies are not let go of yet."""
        self._mutex = Mutex()
        let_go_at_fork(self)

    def over(self, db: Store) -> CachedStore:
        """The store with this cache before it: the same verbs, the same answers."""
        return CachedStore(db.home, self)

    def stats(self) -> CacheStats:
        """What the cache did until now, and what it holds."""
        with self._mutex:
            self._let_go()
            return CacheStats(**self._counts, sessions=len(self._entries), bytes=self._bytes)

    def clear(self) -> None:
        """Let go of everything."""
        with self._mutex:
            self._entries.clear()
            self._bytes = 0

    def number(self, db: Store) -> int:
        """What the copies of this database are known by; they are let go of when the database is."""
        with self._mutex:
            self._let_go()
            number = self._numbers.get(db)
            if number is None:
                number = self._numbers[db] = next(self._next)
                vanishing.have_told(db, self, number)
                weakref.finalize(db, _forget_all, weakref.ref(self), number)
        return number

    def find(self, key: Key) -> Copy | None:
        """The copy of a session, which is now the one that was read last."""
        with self._mutex:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry.copy

    def find_window(self, key: Key, limits: HistoryLimits) -> Window | None:
        """The window on the past of a session within these limits."""
        with self._mutex:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry.windows.get(limits)

    def keep(self, key: Key, copy: Copy) -> None:
        """Keep a copy, unless a newer one is there; let others go until there is room."""
        with self._mutex:
            entry = self._entries.get(key) or _Entry()
            if entry.copy is None or _is_newer(copy.at, entry.copy.at):
                self._put(key, _Entry(copy, entry.windows))

    def keep_window(self, key: Key, window: Window) -> None:
        """Keep a window, likewise."""
        with self._mutex:
            entry = self._entries.get(key) or _Entry()
            known = entry.windows.get(window.limits)
            if known is None or _is_newer(window.at, known.at):
                self._put(key, _Entry(entry.copy, {**entry.windows, window.limits: window}))

    def forget(self, key: Key) -> None:
        """Let go of the copy of a session that is gone."""
        with self._mutex:
            self._drop(key)

    def forget_all(self, number: int) -> None:
        """Let go of the copies of a database that is gone, with the next thing that is kept or counted.

        The garbage collector tells of it, in the midst of anything, perhaps of what this very thread does with the
        mutex held: so nothing is waited for here.
        """
        self._gone.append(number)

    def count(self, what: str) -> None:
        """Count a read."""
        with self._mutex:
            self._counts[what] += 1

    def before_fork(self) -> None:
        """Hold others off, so that the child finds everything whole."""
        self._mutex.acquire()

    def after_fork(self, *, child: bool) -> None:
        """Go on, each process with a cache of its own."""
        del child
        self._mutex.release()

    def _let_go(self) -> None:
        """Let go of what was of databases that are gone."""
        while self._gone:
            number = self._gone.pop()
            for key in [key for key in self._entries if key[0] == number]:
                self._drop(key)

    def _put(self, key: Key, entry: _Entry) -> None:
        self._let_go()
        self._drop(key)
        if entry.bytes > self.max_bytes and entry.windows:
            entry = _Entry(None, entry.windows)
        if entry.bytes > self.max_bytes or self.max_sessions == 0:
            return
        self._entries[key] = entry
        self._bytes += entry.bytes
        while self._bytes > self.max_bytes or len(self._entries) > (self.max_sessions or len(self._entries)):
            self._drop(next(iter(self._entries)))
            self._counts["evictions"] += 1

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.bytes

    def __repr__(self) -> str:
        stats = self.stats()
        return f"SessionCache({stats.sessions} sessions, {stats.bytes:,} of {self.max_bytes:,} bytes)"


def _forget_all(cache: weakref.ref[SessionCache], number: int) -> None:
    known = cache()
    if known is not None:
        known.forget_all(number)


class Copies:
    """The reading operations of one database, on copies that a cache keeps.

    What is read whole is kept; a part is taken from a copy, or where there is none read as a part.
    """

    def __init__(self, cache: SessionCache, number: int) -> None:
        self._cache = cache
        self._number = number

    async def get_snapshot(self, access: Access, session_id: str, user_id: str | None = None) -> Snapshot | None:
        """All of a session at one moment; kept."""
        copy = await self._copy(access, session_id, user_id)
        return None if copy is None else copy.snapshot

    async def get_session(
        self, access: Access, session_id: str, user_id: str | None = None
    ) -> AgentSession | TeamSession | None:
        """The session with its whole history; kept."""
        copy = await self._copy(access, session_id, user_id)
        return None if copy is None else sessions.shell(copy.snapshot)

    async def get_messages(
        self, access: Access, session_id: str, wanted: Filter | None = None, user_id: str | None = None
    ) -> list[Message]:
        """The wanted messages; the session is kept where all of it has to be read."""
        wanted = wanted or Filter()
        if self._lacks(session_id) and (wanted.last_n_runs is not None or wanted.limit is not None):
            return await access.do(sessions.get_messages, session_id, wanted, user_id)
        copy = await self._copy(access, session_id, user_id)
        if copy is None:
            raise rows.no_session(session_id)
        return select_messages(copy.snapshot.runs.newest(), wanted)

    async def get_run(
        self, access: Access, run_id: str, session_id: str, user_id: str | None = None
    ) -> RunOutput | None:
        """One run with its messages."""
        if self._lacks(session_id):
            return await access.do(sessions.get_run, run_id, session_id, user_id)
        checks.identifier("run_id", run_id)
        copy = await self._copy(access, session_id, user_id)
        return None if copy is None else copy.last_run(lambda one: one.run_id == run_id)

    async def get_last_run(self, access: Access, session_id: str, user_id: str | None = None) -> RunOutput | None:
        """The newest run of the conversation itself."""
        if self._lacks(session_id):
            return await access.do(sessions.get_last_run, session_id, user_id)
        copy = await self._copy(access, session_id, user_id)
        if copy is None:
            raise rows.no_session(session_id)
        return copy.last_run(lambda one: one.is_own)

    async def begin_run(
        self,
        access: Access,
        session_id: str,
        input: Sequence[Message],
        *,
        history: HistoryLimits | None = None,
        parent_run_id: str | None = None,
        **rest: Any,
    ) -> OpenRun:
        """Begin a run; the past is not read where it is known.

        A member of a team, and a run that replaces another, have a past of their own, which is not kept.
        """
        rest["parent_run_id"] = parent_run_id
        if parent_run_id is not None or rest.get("replaces") is not None:
            return await access.do(begin.begin_run, session_id, input, history=history, **rest)
        window = None if history is None else self._cache.find_window(self._key(session_id), history)
        known = None if window is None else window.at
        run = await access.do(begin.begin_run, session_id, input, history=history, known=known, **rest)
        if history is None:
            return run
        if known is not None and run.epoch == known[0] and run.version <= known[1]:
            self._cache.forget(self._key(session_id))  # the database was brought back to an earlier day
        if run.past is not None:
            window = Window.of(run.past, (run.epoch, run.version), history) if run.is_apart else None
        if window is None:
            return run
        seen = run.history if run.past is not None else window.history()
        return msgspec.structs.replace(run, history=seen, past=None, growing=Growing(run, window, input))

    async def append_messages(
        self,
        access: Access,
        run: OpenRun,
        messages: Sequence[Message] = (),
        *,
        at: int | None = None,
        state: Mapping[str, str | None] | None = None,
    ) -> Commit:
        """Store a step of a run."""
        commit = await access.do(turns.append_messages, run, messages, at=at, state=state)
        if isinstance(run.growing, Growing):
            run.growing.append(messages, at, commit, raised=bool(messages or state))
        return commit

    async def finish_run(
        self,
        access: Access,
        run: OpenRun,
        messages: Sequence[Message] = (),
        *,
        at: int | None = None,
        status: RunStatus = RunStatus.completed,
        **rest: Any,
    ) -> Commit:
        """Store the end of a run; it becomes part of what the next one is shown."""
        commit = await access.do(turns.finish_run, run, messages, at=at, status=status, **rest)
        if isinstance(run.growing, Growing):
            run.growing.append(messages, at, commit, raised=True)
            window = run.growing.finish(run, status)
            if window is not None:
                self._cache.keep_window(self._key(run.session_id), window)
        return commit

    def _lacks(self, session_id: str) -> bool:
        """Whether there is no copy: then a part is read as a part."""
        if self._cache.find(self._key(session_id)) is not None:
            return False
        self._cache.count("misses")
        return True

    def _key(self, session_id: str) -> Key:
        # A text that is no id is not found here, and refused by the database; what is no text has no hash, maybe.
        return self._number, session_id if type(session_id) is str else checks.identifier("session_id", session_id)

    def _keep(self, copy: Copy | None) -> None:
        if copy is not None:
            self._cache.keep(self._key(copy.header.session_id), copy)

    async def _copy(self, access: Access, session_id: str, user_id: str | None) -> Copy | None:
        """All of the session as the database has it now; None when there is none for this caller."""
        known = self._cache.find(self._key(session_id))
        if known is not None:
            at = await access.world.transact(access.db, get_version, session_id, user_id)
            if at == known.at and known.settled:
                self._cache.count("hits")
                return known
            return await self._brought_up(access, known, at, user_id)
        self._cache.count("misses")
        copy = await access.do(copy_session, session_id, user_id)
        self._keep(copy)
        return copy

    async def _brought_up(
        self, access: Access, known: Copy, at: tuple[int, int] | None, user_id: str | None
    ) -> Copy | None:
        """A newer copy for one that is old; None when there is no such session for this caller."""
        cache, session_id = self._cache, known.header.session_id
        copy = None if at is None else await access.do(copy_session, session_id, user_id, known)
        if copy is not None:
            grew = follows(copy.header, known)
            cache.count("catch_ups" if grew else "reloads")
            if not grew:  # what else is held of it is as old
                cache.forget(self._key(session_id))
            self._keep(copy)
        elif user_id in (None, known.header.user_id):  # gone, and not merely another user's
            cache.forget(self._key(session_id))
        return copy


_CACHED: Final[dict[Any, Callable[..., Coroutine[Any, Any, Any]]]] = {
    sessions.get_snapshot: Copies.get_snapshot,
    sessions.get_session: Copies.get_session,
    sessions.get_messages: Copies.get_messages,
    sessions.get_run: Copies.get_run,
    sessions.get_last_run: Copies.get_last_run,
    begin.begin_run: Copies.begin_run,
    turns.append_messages: Copies.append_messages,
    turns.finish_run: Copies.finish_run,
}


class CachedStore(Store):
    """A store with a cache before it: the same verbs, the same answers."""

    def __init__(self, home: Store, cache: SessionCache) -> None:
        self._home = home
        self._copies = Copies(cache, cache.number(home))
        self._threads, self._loops = Access(home, THREADS), Access(home, LOOPS)
        self.cache = cache

    @property
    def home(self) -> Store:
        return self._home

    def transact(self, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one store operation, on a copy where there is a fresh one."""
        cached = _CACHED.get(operation)
        if cached is None:
            return self._home.transact(operation, *args, **kwargs)
        value: T = drive(cached(self._copies, self._threads, *args, **kwargs))
        return value

    async def atransact(self, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one store operation, on a copy where there is a fresh one."""
        cached = _CACHED.get(operation)
        if cached is None:
            return await self._home.atransact(operation, *args, **kwargs)
        value: T = await cached(self._copies, self._loops, *args, **kwargs)
        return value

    def close(self) -> None:
        """Finish what is under way and let go of the database."""
        self._home.close()

    async def aclose(self) -> None:
        """As `close`."""
        await self._home.aclose()

    def __repr__(self) -> str:
        return f"{self._home!r} behind {self.cache!r}"


SHARED: Final = SessionCache()
"""The cache of agents that were given none of their own."""
