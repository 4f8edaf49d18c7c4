"""Watchers of sessions: one thread for each database that is watched, which looks for all who watch it.

It is woken by the database where that can call (`Signals`), else it looks at what tells it cheaply whether anything has
changed. What it finds goes to each watcher's own queue, where the last change of a session takes the place of those
before it; a queue that gets too long is emptied, and its watcher told to read anew. The thread ends with the last
watcher.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from recollect.change import Cursor, Ledger, Scope, SessionChange, reset
from recollect.errors import DatabaseError
from recollect.forking import OfProcess
from recollect.locks import is_main_thread
from recollect.port import Database, World

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("recollect")

MOST: Final = 1000
"""Changes that may wait for one watcher."""

GAP: Final = 0.02
"""Seconds between two looks at least, however often the database calls."""

SHARE: Final = 3
"""How many times as long as a look took nothing is looked at after it."""

LONGEST: Final = 5.0
"""Seconds until the next try at most, where the database cannot be read."""

NAP: Final = 0.25
"""Seconds after which the main thread sees that somebody pressed Ctrl-C, on Windows, where that does not wake it."""

CLOSING: Final = 10.0
"""Seconds that closing a database waits for a look under way."""


class Bell:
    """Wakes one thread. Rung while nobody waits, it wakes the next one who does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake the one who waits; called in any thread."""
        with suppress(RuntimeError):  # rung twice
            self._lock.release()

    async def wait(self, seconds: float | None) -> bool:
        """Wait to be woken; False when time was up before."""
        return self.sleep(seconds)

    def sleep(self, seconds: float | None) -> bool:
        """As `wait`, in plain words."""
        until = time.monotonic() + (threading.TIMEOUT_MAX if seconds is None else max(0.0, seconds))
        most = NAP if is_main_thread() and os.name == "nt" else threading.TIMEOUT_MAX
        while True:
            if self._lock.acquire(timeout=max(0.0, min(most, until - time.monotonic()))):
                return True
            if time.monotonic() >= until:
                return False


class LoopBell:
    """Wakes one task of an event loop."""

    def __init__(self) -> None:
        import asyncio

        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._is_rung = False

    def ring(self) -> None:
        if not self._is_rung:
            self._is_rung = True
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, seconds: float | None) -> bool:
        import asyncio

        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        self._is_rung = False
        return True


class Signals(Protocol):
    """How one database tells that something was changed in it. Used by one thread, but for `wake`."""

    interval: float
    """Seconds between two looks at most."""

    def pulse(self) -> tuple[object, int]:
        """What is another one after each commit by anybody; and what time it is, in microseconds.

        Raises:
            DatabaseError: the database does not answer.
        """
        ...

    def wait(self, seconds: float) -> Sequence[str]:
        """Wait so long, or until the database calls; give the sessions that it named."""
        ...

    def wake(self) -> None:
        """End the waiting; called in any thread."""
        ...

    def close(self) -> None:
        """Let go of what was opened."""
        ...


class Ticks:
    """Signals of a database that never calls: it is asked for its pulse every so often."""

    def __init__(self, pulse: Callable[[], tuple[object, int]], interval: float) -> None:
        self.pulse = pulse
        self.interval = interval
        self._bell = Bell()

    def wait(self, seconds: float) -> Sequence[str]:
        self._bell.sleep(seconds)
        return ()

    def wake(self) -> None:
        self._bell.ring()

    def close(self) -> None:
        """Nothing was opened."""


class Lookout(Protocol):
    """What looks for changes, of all that is watched."""

    def open(self, scope: Scope) -> Ledger: ...
    def close(self, scopes: Iterable[Scope]) -> None: ...
    def look_up(self, session_ids: Iterable[str]) -> None: ...
    def look(self, pulse: object, now: int) -> None: ...


class Subscription:
    """What waits for one watcher, and the bell that calls it."""

    def __init__(self, scope: Scope, since: Cursor | None, bell: Bell | LoopBell) -> None:
        self.scope = scope
        self.since = since
        self.bell = bell
        self.cursor = ""
        """Where this watcher stands; "" before it has begun."""
        self.is_there = True
        """Whether there was anything to watch when it began."""
        self.is_over = False
        """Whether nothing more comes."""
        self.error: BaseException | None = None
        """Why it is over, where something failed."""
        self._mutex = threading.Lock()
        self._waiting: dict[str | None, SessionChange] = {}

    def begin(self, ledger: Ledger) -> None:
        """Begin to watch what the ledger holds; where that is said, from where somebody stopped before."""
        missed = [] if self.since is None else ledger.since(self.since)
        self.is_there = bool(missed or ledger.scope.session_id is None or ledger.known)
        for change in missed:
            self.put(change)
        self.cursor = str(ledger.cursor if self.since is None or not missed else self.since)
        self.bell.ring()

    def put(self, change: SessionChange) -> None:
        """Have a change wait; it takes the place of what was to be told of the same session."""
        with self._mutex:
            self._waiting.pop(change.session_id, None)
            if len(self._waiting) >= MOST:
                self._waiting.clear()
                change = reset(change.cursor)
            self._waiting[change.session_id] = change
        self.bell.ring()

    def take(self) -> SessionChange | None:
        """The first change that waits; None where none does."""
        with self._mutex:
            first = next(iter(self._waiting), "")
            change = self._waiting.pop(first, None)
        if change is not None:
            self.cursor = change.cursor
        return change

    def end(self, error: BaseException | None = None) -> None:
        """Tell that nothing more comes."""
        self.error = self.error or error
        self.is_over = True
        self.bell.ring()


class Hub:
    """The thread that looks for all who watch one database."""

    def __init__(self, watchers: Watchers, database: Any, lookout: Callable[[Database, Any], Lookout]) -> None:
        self._watchers = watchers
        self.database = database
        self._lookout = lookout(database, self._tell)
        self.signals: Signals = database.signals()
        self.new: list[Subscription] = []
        self.is_over = False
        self.has_left = False
        """Whether a watcher may have left since that was looked at."""
        self._told: dict[Scope, weakref.WeakSet[Subscription]] = {}
        self._looked = 0.0
        """When the last look ended."""
        self._next = 0.0
        """When everything is looked at again."""
        self._failures = 0
        self.thread = threading.Thread(target=self._run, name="recollect-watcher", daemon=True)

    def subscriptions(self) -> list[Subscription]:
        """All who watch."""
        return [*self.new, *(one for told in [*self._told.values()] for one in [*told])]

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while self._goes_on():
                named = self.signals.wait(max(0.0, self._next - time.monotonic()))
                if not self.is_over:
                    self._look(named)
        except BaseException as failed:  # whatever it was is told to all who watch, and no watcher waits for ever
            log.exception("nobody watches %r any more", self.database)
            error = failed
        finally:
            self._watchers.leave(self)
            for subscription in self.subscriptions():
                subscription.end(error)
            self.signals.close()

    def _goes_on(self) -> bool:
        """Let those in who are new, and those out who have left; False where nobody is left."""
        if self.is_over:
            return False
        for subscription in self._watchers.taken(self):
            self._let_in(subscription)
        if self.has_left:
            self.has_left = False
            self._let_out()
        return bool(self._told) or not self._watchers.leave_alone(self)

    def _let_in(self, subscription: Subscription) -> None:
        if subscription.is_over:
            return
        try:
            ledger = self._lookout.open(subscription.scope)
        except Exception as error:  # noqa: BLE001 - carried over to the one who wants to watch, and raised there
            subscription.end(error)
            return
        self._told.setdefault(subscription.scope, weakref.WeakSet()).add(subscription)
        subscription.begin(ledger)

    def _let_out(self) -> None:
        """Watch no more what nobody watches: who watched it has left, or was dropped."""
        left = [scope for scope, told in self._told.items() if all(one.is_over for one in [*told])]
        self._lookout.close(left)
        for scope in left:
            del self._told[scope]

    def _look(self, named: Sequence[str]) -> None:
        if named:
            time.sleep(max(0.0, self._looked + GAP - time.monotonic()))
        began = time.monotonic()
        try:
            if named:
                self._lookout.look_up(named)
            if began >= self._next:
                self.has_left = True  # some may have been dropped, and nobody says so
                self._lookout.look(*self.signals.pulse())
                took = time.monotonic() - began
                self._next = time.monotonic() + max(self.signals.interval, SHARE * took)
        except DatabaseError as error:
            self._failures += 1
            pause = min(LONGEST, self.signals.interval * 2**self._failures)
            self._next = time.monotonic() + pause
            log.warning("%r is looked at again in %.1f s: %s", self.database, pause, error)
        else:
            self._failures = 0
        self._looked = time.monotonic()

    def _tell(self, scope: Scope, change: SessionChange) -> None:
        for subscription in [*self._told.get(scope, ())]:
            if not subscription.is_over:
                subscription.put(change)


class Watchers(OfProcess):
    """The databases that are watched in this process."""

    def _begin_process(self) -> None:
        self._mutex = threading.RLock()
        self._hubs: dict[int, Hub] = {}

    def subscribe(
        self,
        database: Any,
        lookout: Callable[[Database, Any], Lookout],
        subscription: Subscription,
    ) -> Callable[[], None]:
        """Begin to watch; give what ends it. The subscription is told as long as somebody holds it."""
        with self._mutex:
            hub = self._hubs.get(id(database))
            starts = hub is None
            if hub is None:
                hub = self._hubs[id(database)] = Hub(self, database, lookout)
            hub.new.append(subscription)
            if starts:
                hub.thread.start()
        hub.signals.wake()
        kept = weakref.ref(subscription)

        def leave() -> None:
            one = kept()
            if one is not None:
                one.end()
            hub.has_left = True
            hub.signals.wake()

        return leave

    def taken(self, hub: Hub) -> list[Subscription]:
        """Those who are new, who are new no more."""
        with self._mutex:
            new, hub.new = hub.new, []
            return new

    def leave_alone(self, hub: Hub) -> bool:
        """Forget a hub that has nobody left; False where somebody came just now."""
        with self._mutex:
            if hub.new:
                return False
            self.leave(hub)
            return True

    def leave(self, hub: Hub) -> None:
        """Forget a hub."""
        with self._mutex:
            if self._hubs.get(id(hub.database)) is hub:
                del self._hubs[id(hub.database)]

    def end(self, database: object) -> None:
        """End all watching of a database that is closed."""
        with self._mutex:
            hub = self._hubs.pop(id(database), None)
            if hub is None:
                return
            hub.is_over = True
            for subscription in hub.subscriptions():
                subscription.end()
        hub.signals.wake()
        if hub.thread is not threading.current_thread():
            hub.thread.join(CLOSING)


WATCHERS: Final = Watchers()


class Watching:
    """One watcher, for both faces: it begins when it is first asked, and ends with `close` or its database."""

    def __init__(self, subscribe: Callable[[Subscription], Callable[[], None]], world: World) -> None:
        self._subscribe = subscribe
        self._world = world
        self._subscription: Subscription | None = None
        self._leave: Callable[[], None] | None = None
        self._process = os.getpid()
        self._is_closed = False

    @property
    def cursor(self) -> str | None:
        """Where this watcher stands; None before it has begun."""
        return (self._subscription and self._subscription.cursor) or None

    async def begin(self, scope: Scope, since: Cursor | None) -> bool:
        """Begin, unless it has begun; whether there is anything to watch.

        Raises:
            DatabaseError: the database cannot be read.
        """
        if self._subscription is not None or self._is_closed:
            return True
        one = self._subscription = Subscription(scope, since, LoopBell() if self._world.waits else Bell())
        try:
            self._leave = self._subscribe(one)
            while not (one.cursor or one.is_over):
                await one.bell.wait(None)
        except BaseException:  # an interrupt, too: nobody is left watching unseen
            self.close()
            raise
        if one.error is not None or not one.is_there:
            self.close()
        if one.error is not None:
            raise one.error
        one.bell.ring()  # what was missed may have rung before, and been taken for the beginning
        return one.is_there

    async def next(self, timeout: float | None = None) -> SessionChange | None:
        """The next change; None when none came in so many seconds, or nothing comes any more."""
        until = None if timeout is None else time.monotonic() + timeout
        while (one := self._subscription) is not None and not self._is_closed and self._process == os.getpid():
            if one.is_over:
                if one.error is not None:
                    raise one.error
                break
            if change := one.take():
                return change
            if not await one.bell.wait(None if until is None else max(0.0, until - time.monotonic())):
                return None
        self._is_closed = True
        return None

    @property
    def is_closed(self) -> bool:
        """Whether nothing comes any more."""
        return self._is_closed

    def close(self) -> None:
        """End it, at once."""
        self._is_closed = True
        leave, self._leave = self._leave, None
        if leave is not None and self._process == os.getpid():
            leave()
