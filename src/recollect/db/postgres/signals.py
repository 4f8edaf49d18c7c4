"""How a Postgres database tells that something was changed: NOTIFY names sessions, and its transactions are counted.

A notification within a transaction would have all commits of the server wait for one another, for it takes a lock of
the whole server until the commit is on the disk. https://www.postgresql.org/docs/current/sql-notify.html
So whoever has changed something says so after that, from a thread of its own, many sessions at once; and only while
somebody listens (`ears`). What is lost with a process, a connection or behind a pooler that knows no LISTEN is found by
the next look, for each commit changes what `pg_current_snapshot` gives.
"""

from __future__ import annotations

import atexit
import inspect
import logging
import queue
import random
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

import psycopg

from recollect.db.postgres.address import PROBE, Address, connect
from recollect.db.postgres.ears import LISTENING, Ears
from recollect.errors import DatabaseError
from recollect.faces import THREADS
from recollect.port import Tx, drive, looks
from recollect.watching import Bell

log = logging.getLogger("recollect")

CHANNEL: Final = "recollect"

LOOKS: Final = 1.0
"""Seconds between two looks, whether the server calls or not."""

LEAST: Final = 0.05
MOST: Final = 0.2
"""Seconds between two notifications of a process, longer the longer it goes on: what is changed meanwhile goes with
the next."""

IDLE: Final = 2.0
"""Seconds after which a thread that has nothing to tell ends."""

AT_EXIT: Final = 1.0
"""Seconds that the end of the program, or of the database, waits for the last notification."""

LONGEST: Final = 7000
"""Bytes of a notification; the server takes 8000."""

SEPARATOR: Final = "\x1f"
"""Between ids, in which it cannot be."""

RESTS: Final = 30.0
"""Seconds until the next try to listen, at most."""


class PostgresSignals:
    """A connection that listens; and a question to the server every so often, for what it did not hear."""

    interval = LOOKS

    def __init__(self, pulse: Callable[[], tuple[object, int]], address: Address) -> None:
        self.pulse = pulse
        self._address = address
        self._listens = not address.pooler
        self._connection: Any = None
        self._failures = 0
        self._retry = 0.0
        self._ear, self._mouth = socket.socketpair()
        self._ear.settimeout(0)
        self._mouth.settimeout(0)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._ear, selectors.EVENT_READ)

    def wait(self, seconds: float) -> Sequence[str]:
        """Wait so long, or until the server calls; give the sessions that it named."""
        if self._listens and self._connection is None and time.monotonic() >= self._retry:
            self._listen()
        named = self._heard()
        if named:
            return named
        for key, _ in self._selector.select(max(0.0, seconds)):
            if key.fileobj is self._ear:
                with suppress(BlockingIOError):
                    self._ear.recv(4096)
        return self._heard()

    def wake(self) -> None:
        """End the waiting; called in any thread."""
        with suppress(OSError):  # it is full of calls, or closed
            self._mouth.send(b"!")

    def close(self) -> None:
        """Stop listening."""
        self._drop()
        self._selector.close()
        self._ear.close()
        self._mouth.close()

    def _listen(self) -> None:
        try:
            self._connection = drive(connect(self._address, THREADS, connect_timeout=PROBE))
            self._connection.execute(f"listen {CHANNEL}")
            self._connection.execute(LISTENING.text)
            self._selector.register(self._connection.fileno(), selectors.EVENT_READ)
        except (psycopg.Error, DatabaseError) as error:
            self._miss(error)
        else:
            self._failures = 0

    def _heard(self) -> list[str]:
        """The sessions that were named since the last time."""
        if self._connection is None:
            return []
        named: dict[str, None] = {}
        try:
            server = self._connection.pgconn
            server.consume_input()
            while (said := server.notifies()) is not None:
                named.update(dict.fromkeys(said.extra.decode(errors="replace").split(SEPARATOR)))
        except psycopg.Error as error:
            self._miss(error)
        return [one for one in named if one]

    def _miss(self, error: Exception) -> None:
        """Listen anew, after a while that gets longer."""
        self._drop()
        self._failures += 1
        pause = min(RESTS, 0.1 * 2**self._failures) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        self._retry = time.monotonic() + pause
        log.info("%s is not listened to for %.1f s: %s", self._address.name, pause, error)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        for key in [*self._selector.get_map().values()]:
            if key.fileobj is not self._ear:
                self._selector.unregister(key.fileobj)
        connection.close()


class Notifier:
    """Tells the server's listeners which sessions were changed by this process, soon after."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self.ears = Ears()
        self._notify = weakref.WeakMethod(notify)
        self.begin_process()
        _NOTIFIERS.add(self)

    def begin_process(self) -> None:
        """What each process has of its own."""
        self._mutex = threading.Lock()
        self._changed: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._bell = Bell()

    def tell(self, operation: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], value: object) -> None:
        """Tell what an operation has changed, where that is one session and somebody listens."""
        if self.ears.are_there and (session_id := _session_of(operation, args, kwargs, value)) is not None:
            self._changed.put(session_id)
            if self._thread is None:
                self._start()

    def flush(self, timeout: float) -> None:
        """Tell what is left, and end the thread; in so many seconds at most."""
        with self._mutex:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._changed.put(None)
            self._bell.ring()
            thread.join(timeout)

    def _start(self) -> None:
        with self._mutex:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="recollect-notifier", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the interpreter ends, or the system has no thread left
                    log.debug("nobody is notified: %s", error)
                else:
                    self._thread = thread

    def _work(self) -> None:
        while self._has_more():
            self._tell_some()

    def _has_more(self) -> bool:
        """Whether there is something to tell; else the thread ends."""
        with self._mutex:
            if self._changed.empty():
                self._thread = None
                return False
            return True

    def _tell_some(self) -> None:
        """Tell what there is, until for a while nothing comes, or somebody wants this to end."""
        pause = LEAST
        with suppress(queue.Empty):
            while (first := self._changed.get(timeout=IDLE)) is not None:
                changed, ends = self._drained(first)
                self._send(changed)
                if ends:
                    return
                pause = min(MOST, pause * 1.5) if not self._changed.empty() else LEAST
                self._bell.sleep(pause)

    def _drained(self, first: str) -> tuple[dict[str, None], bool]:
        """All that there is to tell; and whether somebody wants this to end."""
        changed: dict[str, None] = {first: None}
        with suppress(queue.Empty):
            while (one := self._changed.get_nowait()) is not None:
                changed[one] = None
            return changed, True
        return changed, False

    def _send(self, changed: dict[str, None]) -> None:
        notify = self._notify()
        try:
            for payload in _payloads(changed):
                if notify is not None:
                    notify(payload)
        except DatabaseError as error:
            log.info("%d sessions are found changed by those who look: %s", len(changed), error)
        except Exception:  # the thread goes on: what it cannot tell is found by looking
            log.exception("%d sessions are found changed by those who look", len(changed))


@looks
async def notify(tx: Tx, payload: str) -> None:
    """Tell all who listen."""
    await tx.execute((f"select pg_notify('{CHANNEL}', :payload)", {"payload": payload}))


@looks
async def get_pulse(tx: Tx) -> tuple[str, int]:
    """What is another one after each commit; and what time it is."""
    [[(pulse, now)]] = await tx.execute(("select cast(pg_current_snapshot() as text), :now", {}))
    return pulse, int(now)


def _payloads(changed: dict[str, None]) -> Iterator[str]:
    payload = ""
    for session_id in changed:
        longer = f"{payload}{SEPARATOR}{session_id}" if payload else session_id
        if len(longer.encode()) > LONGEST:
            yield payload
            longer = session_id
        payload = longer
    yield payload


def _session_of(
    operation: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], value: object
) -> str | None:
    """The session that an operation has changed: the one that came of it, else the one that it was given."""
    session_id = getattr(value, "session_id", None)
    if session_id is None:
        name, place = _place(operation)
        given = args[place] if place < len(args) else kwargs.get(name)
        session_id = getattr(given, "session_id", given)
    return session_id if isinstance(session_id, str) else None


@cache
def _place(operation: Callable[..., Any]) -> tuple[str, int]:
    """Under which name, and at which place after the transaction, an operation is given its session."""
    names = [*inspect.signature(operation).parameters][1:]
    for name in ("session_id", "session", "run"):
        if name in names:
            return name, names.index(name)
    return "", len(names) + (1 << 30)


_NOTIFIERS: Final[weakref.WeakSet[Notifier]] = weakref.WeakSet()


def _at_exit() -> None:
    for notifier in [*_NOTIFIERS]:
        notifier.flush(AT_EXIT)


atexit.register(_at_exit)
