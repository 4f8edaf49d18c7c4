"""Sessions whose time is over go by and by: whoever gives sessions a time has a few deleted now and then."""

from __future__ import annotations

import logging
import time
import weakref
from typing import Any, Final

from recollect.errors import RecollectError
from recollect.port import Access
from recollect.store.deletion import purge_sessions

log = logging.getLogger("recollect")

PERIOD: Final = 60.0
"""Seconds between two looks at a database that found nothing left to do, by this process."""

FEW: Final = 20
"""Sessions that are deleted at once: nobody is to wait long for that."""

_LOOKED: Final[weakref.WeakKeyDictionary[Any, float]] = weakref.WeakKeyDictionary()


def is_due(database: object) -> bool:
    """Whether it is time to look; then the next time is a period later."""
    now = time.monotonic()
    if now - _LOOKED.get(database, -PERIOD) < PERIOD:
        return False
    _LOOKED[database] = now
    return True


async def purge(access: Access) -> None:
    """Delete a few sessions that have expired; what goes wrong is told, and tried again the next time.

    Where there may be more, the next look is due at once: else they would grow in number where many are made.
    """
    try:
        if await purge_sessions(access, limit=FEW) == FEW:
            _LOOKED.pop(access.db.home, None)
    except RecollectError as error:
        log.warning("sessions that have expired could not be deleted: %s", error)
