"""The sign of life of runs under way: one statement for all of a process's runs in a database, every few seconds.

A model may think longer than a lease lasts. A process that was stopped gives no sign: its runs are taken over, and the
next sign finds that out, unless a step of the run does so before. A run that nobody holds any more, because its stream
was dropped, gives none either.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol

from recollect.errors import RecollectError
from recollect.forking import OfProcess
from recollect.lease import Lease, Moment, moment
from recollect.port import Stop

log = logging.getLogger("recollect")

BEAT: Final = 10.0
"""Seconds between two signs: a lease outlasts two that fail."""


class Held(Protocol):
    """A run under way, its lease and the token of it, and where its end is asked for."""

    @property
    def token(self) -> int: ...
    @property
    def lease(self) -> Lease: ...
    @property
    def stop(self) -> Stop: ...


Renew = Callable[[Any, list[int]], dict[int, bool]]
"""How leases are renewed in a database: for each token whether somebody wants the run to end; without those lost."""


class Heartbeat(OfProcess):
    """Runs under way in this process, by the database they are in; forgotten when nobody holds them any more."""

    def _begin_process(self) -> None:
        # No `Condition`: an interrupt may come before its `__exit__` has done anything, and it would stay locked.
        self._mutex = threading.RLock()
        self._runs: weakref.WeakKeyDictionary[Any, tuple[Renew, weakref.WeakSet[Held]]] = weakref.WeakKeyDictionary()
        self._beating = False

    def watch(self, database: object, run: Held, renew: Renew) -> None:
        """Give signs of life for a run as long as somebody holds it."""
        with self._mutex:
            known = self._runs.get(database)
            if known is None:
                known = self._runs[database] = (renew, weakref.WeakSet())
            known[1].add(run)
            if not self._beating:
                self._start()

    def stop(self, database: object, token: int) -> None:
        """Ask for the end of a run, if it is one of this process."""
        for run in self._held(database, {token}):
            run.stop.ask()

    def forget(self, database: object) -> None:
        """Give no more signs in a database that is closed."""
        with self._mutex:
            self._runs.pop(database, None)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._beat, name="recollect-heartbeat", daemon=True).start()
        except RuntimeError as error:  # the interpreter ends, or the system has no thread left
            log.warning("leases are renewed by steps alone: %s", error)
        else:
            self._beating = True

    def _beat(self) -> None:
        try:
            while True:
                time.sleep(BEAT)
                if not self._sign_all():
                    return
        except BaseException:  # the next run starts another thread
            with self._mutex:
                self._beating = False
            raise

    def _sign_all(self) -> bool:
        """Give a sign for each run; False where none is under way, and the thread ends."""
        with self._mutex:
            held = [(renew, database, [run.token for run in runs]) for database, (renew, runs) in self._known()]
            held = [each for each in held if each[2]]
            self._beating = goes_on = bool(held)
        while held:
            self._sign(*held.pop())
        return goes_on

    def _sign(self, renew: Renew, database: object, tokens: list[int]) -> None:
        at = moment()
        try:
            renewed = renew(database, tokens)
        except RecollectError as error:
            log.warning("%d leases in %r were not renewed: %s", len(tokens), database, error)
            return
        except Exception:  # a fault of ours must not end the heart of all other runs
            log.exception("leases in %r were not renewed", database)
            return
        for run in self._held(database, set(tokens)):
            try:
                _tell(run, at, renewed)
            except Exception:  # nor one run that of the others
                log.exception("a run in %r could not be ended", database)

    def _held(self, database: object, tokens: set[int]) -> list[Held]:
        with self._mutex:
            _, runs = self._runs.get(database, (None, ()))
            return [run for run in runs if run.token in tokens]

    def _known(self) -> list[tuple[Any, tuple[Renew, weakref.WeakSet[Held]]]]:
        return list(self._runs.items())


def _tell(run: Held, at: Moment, renewed: dict[int, bool]) -> None:
    """Tell whoever works on a run what came of its sign of life."""
    to_end = renewed.get(run.token)
    if to_end is None:
        run.stop.lose()
        return
    run.lease.sign(at)
    if to_end:
        run.stop.ask()


HEARTBEAT: Final = Heartbeat()
