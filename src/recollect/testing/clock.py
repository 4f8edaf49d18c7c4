"""A clock that stands still until it is told to go on."""

from __future__ import annotations

from datetime import datetime

from recollect import checks


class FrozenClock:
    """A `recollect.port.Clock` that shows the same time until `tick`.

    ``now`` is an aware datetime, or microseconds since 1970 UTC.

    Raises:
        InvalidArgument: the datetime has no time zone.
    """

    def __init__(self, now: datetime | int = 1_767_225_600_000_000) -> None:
        self._now = checks.count("now", now) if isinstance(now, int) else checks.moment("now", now)

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        return self._now

    def tick(self, seconds: float = 1) -> int:
        """Let time pass; give the new time."""
        self._now += round(seconds * 1_000_000)
        return self._now
