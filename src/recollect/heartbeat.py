"""The sign of life of runs under way: one statement for all of a process's runs in a database, every few seconds.

A model may think longer than a lease lasts. A process that was stopped gives no sign: its runs are taken over, and it
finds that out with its next step. A run that nobody holds any more, because its stream was dropped, gives none either.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol

from recollect.errors import RecollectError
from recollect.faces import let_go_at_fork
from recollect.port import Stop

log = logging.getLogger("recollect")

BEAT: Final = 10.0
"""Seconds between two signs: a lease outlasts two that fail."""


class Held(Protocol):
    """A run under way, the token of its lease, and where its end is asked for."""

    @property
    def token(self) -> int: ...
    @property
    def stop(self) -> Stop: ...


Renew = Callable[[Any, list[int]], list[int]]
"""How the leases with these tokens are renewed in a database; gives the tokens of runs that somebody wants to end."""


class Heartbeat:
    """Runs under way in this process, by the database they are in; forgotten when nobody holds them any more."""

    def __init__(self) -> None:
        self._begin_process()
        let_go_at_fork(self)

    def _begin_process(self) -> None:
        self._changed = threading.Condition()
        self._runs: weakref.WeakKeyDictionary[Any, tuple[Renew, weakref.WeakSet[Held]]] = weakref.WeakKeyDictionary()
        self._beating = False

    def watch(self, database: object, run: Held, renew: Renew) -> None:
        """Give signs of life for a run as long as somebody holds it."""
        with self._changed:
            known = self._runs.get(database)
            if known is None:
                known = self._runs[database] = (renew, weakref.WeakSet())
            known[1].add(run)
            if not self._beating:
                self._start()

    def stop(self, database: object, token: int) -> None:
        """Ask for the end of a run, if it is one of this process."""
        with self._changed:
            _, runs = self._runs.get(database, (None, ()))
            asked = [run.stop for run in runs if run.token == token]
        for stop in asked:
            stop.ask()

    def forget(self, database: object) -> None:
        """Give no more signs in a database that is closed."""
        with self._changed:
            self._runs.pop(database, None)

    def before_fork(self) -> None:
        """Hold others off, so that the child finds everything whole."""
        self._changed.acquire()

    def after_fork(self, *, child: bool) -> None:
        """Go on in the parent; the runs are the parent's."""
        if child:
            self._begin_process()
        else:
            self._changed.release()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._beat, name="recollect-heartbeat", daemon=True).start()
        except RuntimeError as error:  # the interpreter ends, or the system has no thread left
            log.warning("leases are renewed by steps alone: %s", error)
        else:
            self._beating = True

    def _beat(self) -> None:
        while True:
            with self._changed:
                self._changed.wait(BEAT)
                held = [(renew, database, [run.token for run in runs]) for database, (renew, runs) in self._known()]
                held = [each for each in held if each[2]]
                if not held:
                    self._beating = False
                    return
            while held:
                renew, database, tokens = held.pop()
                for token in _sign(renew, database, tokens):
                    self.stop(database, token)
                del database

    def _known(self) -> list[tuple[Any, tuple[Renew, weakref.WeakSet[Held]]]]:
        return list(self._runs.items())


def _sign(renew: Renew, database: object, tokens: list[int]) -> list[int]:
    try:
        return renew(database, tokens)
    except RecollectError as error:
        log.warning("%d leases in %r were not renewed: %s", len(tokens), database, error)
    except Exception:
        log.exception("leases in %r were not renewed", database)
    return []


HEARTBEAT: Final = Heartbeat()
