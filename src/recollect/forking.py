"""What a process must not carry across a fork is let go of before it."""

from __future__ import annotations

import os
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from recollect.locks import Mutex

if TYPE_CHECKING:
    import threading


class Forkable(Protocol):
    """What must not be carried across a fork."""

    def before_fork(self) -> None:
        """Let go of it, and hold others off until after the fork."""

    def after_fork(self, *, child: bool) -> None:
        """Let others in again."""


class OfProcess:
    """What each process has of its own, behind one lock; a child begins anew, for what there is is its parent's."""

    _mutex: threading.RLock

    def __init__(self) -> None:
        self._begin_process()
        let_go_at_fork(self)

    def _begin_process(self) -> None:
        """Begin with nothing, and with a lock of one's own."""
        raise NotImplementedError

    def before_fork(self) -> None:
        """Hold others off, so that the child finds everything whole."""
        self._mutex.acquire()

    def after_fork(self, *, child: bool) -> None:
        """Go on in the parent; begin anew in the child."""
        if child:
            self._begin_process()
        else:
            self._mutex.release()


def let_go_at_fork(holder: Forkable) -> None:
    """Have the holder let go of what it has whenever the process forks."""
    _forkable.add(holder)


def _before_fork() -> None:
    _one_fork.acquire()  # threads that fork at once would let go of each other's
    _forking.extend(_forkable)
    for holder in _forking:
        holder.before_fork()


def _after_fork(*, child: bool) -> None:
    while _forking:
        _forking.pop().after_fork(child=child)
    _one_fork.release()


_forkable: weakref.WeakSet[Any] = weakref.WeakSet()
_forking: list[Any] = []
_one_fork = Mutex()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=partial(_after_fork, child=False),
        after_in_child=partial(_after_fork, child=True),
    )
