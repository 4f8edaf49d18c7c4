"""Watching through either face, and a second process that changes sessions."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from recollect.change import SessionChange

SOON = 10.0
"""Seconds that a busy machine may take for what is promised within one."""


@asynccontextmanager
async def opened(db: Any, method: str = "watch_sessions", *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
    """A watcher that has begun, in the face of ``db``, a `store_kit.Face`."""
    if type(db).__name__ == "SyncFace":
        with getattr(db.db, method)(*args, **kwargs) as watch:
            yield watch
    else:
        async with getattr(db.db, f"a{method}")(*args, **kwargs) as watch:
            yield watch


async def heard(watch: Any, timeout: float = SOON) -> SessionChange | None:
    """The next change in either face."""
    got = watch.get(timeout=timeout)
    return got if got is None or isinstance(got, SessionChange) else await got


async def settled(watch: Any, *, wants: Callable[[list[SessionChange]], bool]) -> list[SessionChange]:
    """Changes until there are those that are wanted; fails after `SOON`."""
    told: list[SessionChange] = []
    until = time.monotonic() + SOON
    while not wants(told):
        assert time.monotonic() < until, told
        change = await heard(watch, 0.5)
        told += [change] if change else []
    return told


def elsewhere(program: str, *args: str) -> None:
    """Run a program in another process, to its end."""
    subprocess.run([sys.executable, "-c", textwrap.dedent(program), *args], check=True, timeout=60)


def watchers() -> list[threading.Thread]:
    """The threads that look for watchers."""
    return [thread for thread in threading.enumerate() if thread.name == "recollect-watcher"]


def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that happens in another thread."""
    deadline = time.monotonic() + SOON
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
