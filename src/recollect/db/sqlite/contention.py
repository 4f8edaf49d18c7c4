"""Waiting for other processes that use the file."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from typing import Final

from recollect.db.sqlite.failures import primary

SHORTEST: Final = 0.001
LONGEST: Final = 0.004
"""Seconds of a nap, on average. Short ones are fair, for nobody sleeps long while others come and go. But who asks
takes time from who is at work, and where many wait that is more than what longer naps leave unused."""


def insist(act: Callable[[], object], deadline: float) -> bool:
    """Do what others may be in the way of, as soon as they let it. Gives whether it had to wait.

    Naps are random, so that none of many starves.

    Raises:
        sqlite3.Error: it cannot be done, or not until the deadline, in seconds of ``time.monotonic``.
    """
    nap, has_waited = SHORTEST, False
    while True:
        try:
            act()
        except sqlite3.OperationalError as error:
            if primary(error) != sqlite3.SQLITE_BUSY or (has_waited and time.monotonic() > deadline):
                raise
        else:
            return has_waited
        time.sleep(random.uniform(0.2, 1.8) * nap)  # noqa: S311 - no secret
        nap, has_waited = min(2 * nap, LONGEST), True
