"""Whether anybody listens: whoever does holds a lock that all of them share, and a change asks for it now and then.

The question goes along with the first statements of a change. So where nobody listens, nothing is notified, and no
thread or connection is needed for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from recollect.db.postgres.dialect import command
from recollect.port import Row

OFTEN: Final = 1.0
"""Seconds for which an answer is taken for true."""

_FIRST: Final = 1919247215
_SECOND: Final = 1818585203
# Any numbers will do, as long as every version of this program takes the same ones.

LISTENING: Final = command(f"select pg_advisory_lock_shared({_FIRST}, {_SECOND})")
"""Held by a connection that listens until it is closed."""

_QUESTION: Final = command(f"""
select 1 from pg_locks l where l.locktype = 'advisory' and l.classid = {_FIRST} and l.objid = {_SECOND}
    and l.objsubid = 2 and l.database = (select d.oid from pg_database d where d.datname = current_database()) limit 1
""")


class Ears:
    """What a process knows of those who listen to its database."""

    question = _QUESTION

    def __init__(self, often: float = OFTEN) -> None:
        self.are_there = False
        self._often = often
        self._asked = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask again."""
        return time.monotonic() - self._asked > self._often

    def learn(self, found: Sequence[Row]) -> None:
        """Take the answer."""
        self.are_there = bool(found)
        self._asked = time.monotonic()
