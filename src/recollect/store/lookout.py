"""Looking for what has changed, for all who watch one database: what a look reads does not grow with their number.

Turns are found along the indexes of activity: each step of a run moves `updated_at` that is older than ten seconds. A
name, a tag or a deletion leaves no such trace. So the sessions that are watched are also looked through, some at each
look, as long as anything changes in the database; and those that somebody names (a notification, a watcher of one
session, the end of a session's time) are looked up at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeVar

from recollect.change import Ledger, Scope, SessionChange, Stamp
from recollect.port import Database
from recollect.store import stamps

ALL: Final = Scope(None, None)

LATELY: Final = 30_000_000
"""Microseconds of activity that each look reads: steps move the time only after ten seconds, a commit may come late."""

BUDGET: Final = 2000
"""Sessions that are looked through at each look."""

PAGE: Final = 1000
"""Sessions read at once by those who look through all of them."""

USERS: Final = 50
"""Users whose sessions are read at once."""

IDS: Final = 500
"""Sessions looked up at once."""

T = TypeVar("T")

Tell = Callable[[Scope, SessionChange], None]


class Lookout:
    """What is watched in a database, and where all of it stood at the last look. Used by one thread."""

    def __init__(self, database: Database, tell: Tell) -> None:
        self._do = database.transact
        self._tell = tell
        self._ledgers: dict[Scope, Ledger] = {}
        self._users: set[str] = set()
        self._of_session: dict[str, set[Scope]] = {}
        self._pulse: object = None
        self._round: Iterator[int] = iter(())
        """The sessions that are still to be looked through in this round, some at a time."""
        self._is_behind = False
        """Whether something has changed since the round began."""
        self._moment: int | None = None
        """Up to when it is known whose time is over."""
        self._soonest: int | None = None

    def open(self, scope: Scope) -> Ledger:
        """Begin to watch; what there is already is no news.

        Raises:
            DatabaseError: the database cannot be read.
        """
        ledger = self._ledgers.get(scope)
        if ledger is None:
            ledger = Ledger(scope)
            for stamp in self._every(scope):
                if scope.holds(stamp):
                    ledger.lay(stamp)
            self._ledgers[scope] = ledger
            self._index(scope)
        elif scope.session_id is not None:  # whether it is still there is asked whenever somebody comes
            self.look_up([scope.session_id])
        return ledger

    def close(self, scopes: Iterable[Scope]) -> None:
        """Watch these no more."""
        for scope in scopes:
            if self._ledgers.pop(scope, None) is None:
                continue
            if scope.session_id is not None:
                self._of_session[scope.session_id].discard(scope)
                if not self._of_session[scope.session_id]:
                    del self._of_session[scope.session_id]
            elif scope.user_id is not None:
                self._users.discard(scope.user_id)

    def look_up(self, session_ids: Iterable[str]) -> None:
        """Tell what has changed in these sessions."""
        for ids in _some(session_ids, IDS):
            found = self._do(stamps.get_stamps, ids)
            self._note(found)
            for session_id in set(ids) - {stamp.session_id for stamp in found}:
                self._strike(session_id)

    def look(self, pulse: object, now: int) -> None:
        """Tell what has changed, where anything has: ``pulse`` is another one with each commit.

        Raises:
            DatabaseError: the database cannot be read; what was not told is told by a later look.
        """
        is_new, self._pulse = pulse != self._pulse, None  # should this one fail, the next one starts anew
        if is_new or (self._soonest is not None and self._soonest <= now):
            self._look_at_times(now)
        if is_new:
            self._is_behind = True
            self._note(self._do(stamps.list_active, LATELY) if ALL in self._ledgers else ())
            for users in _some(sorted(self._users), IDS):
                self._note(self._do(stamps.list_active_of_users, users, LATELY))
            self.look_up(tuple(self._of_session))
        self._look_through()
        self._pulse = pulse

    def _look_at_times(self, now: int) -> None:
        """Tell of sessions that are gone because their time is over, and remember when the next one's is."""
        if self._moment is None:
            self._moment = now
        while True:
            found, now = self._do(stamps.list_expiring, self._moment)
            over = [(session_id, moment) for session_id, moment in found if moment <= now]
            self.look_up(session_id for session_id, _ in over)
            if len(over) < stamps.DUE:
                break
            self._moment = over[-1][1]
        self._soonest = found[len(over)][1] if len(found) > len(over) else None
        self._moment = now

    def _look_through(self) -> None:
        """Go on with the round; begin another one where something has changed since this one began."""
        budget = BUDGET
        while budget > 0:
            read = next(self._round, None)
            if read is None:
                if not self._is_behind:
                    return
                self._is_behind = False
                self._round = self._through()
                budget -= 1
            else:
                budget -= max(1, read)

    def _through(self) -> Iterator[int]:
        """Look through all that is watched; give how many sessions were read, each time some were."""
        for users in _some(sorted(self._users), USERS):
            yield self._look_through_users(users)
        every = self._ledgers.get(ALL)
        if every is not None:
            unseen = set(every.known)
            for page in self._pages():
                self._note(page)
                unseen.difference_update(stamp.session_id for stamp in page)
                yield len(page)
            self.look_up(session_id for session_id in unseen if session_id in every.known)

    def _look_through_users(self, users: Sequence[str]) -> int:
        found = self._do(stamps.list_stamps_of_users, users)
        self._note(found)
        there = {stamp.session_id for stamp in found}
        for user_id in users:
            ledger = self._ledgers.get(Scope(user_id, None))
            for session_id in () if ledger is None else ledger.known.keys() - there:
                self._strike(session_id)
        return len(found)

    def _every(self, scope: Scope) -> Iterable[Stamp]:
        if scope.session_id is not None:
            return self._do(stamps.get_stamps, [scope.session_id])
        if scope.user_id is not None:
            return self._do(stamps.list_stamps_of_users, [scope.user_id])
        return (stamp for page in self._pages() for stamp in page)

    def _pages(self) -> Iterator[list[Stamp]]:
        after = ""
        while page := self._do(stamps.list_stamps, after, PAGE):
            yield page
            after = page[-1].session_id

    def _index(self, scope: Scope) -> None:
        if scope.session_id is not None:
            self._of_session.setdefault(scope.session_id, set()).add(scope)
        elif scope.user_id is not None:
            self._users.add(scope.user_id)

    def _note(self, found: Iterable[Stamp]) -> None:
        ledgers, every = self._ledgers, self._ledgers.get(ALL)
        for stamp in found:
            if every is not None and (change := every.note(stamp)):
                self._tell(ALL, change)
            if stamp.user_id in self._users:
                scope = Scope(stamp.user_id, None)
                if change := ledgers[scope].note(stamp):
                    self._tell(scope, change)
            for scope in self._of_session.get(stamp.session_id, ()):
                if scope.holds(stamp) and (change := ledgers[scope].note(stamp)):
                    self._tell(scope, change)

    def _strike(self, session_id: str) -> None:
        """Tell those who know a session that it is gone."""
        for scope, ledger in self._ledgers.items():
            if session_id in ledger.known and (change := ledger.strike(session_id)):
                self._tell(scope, change)


def _some(items: Iterable[T], count: int) -> Iterator[tuple[T, ...]]:
    """The items, so many at a time."""
    rest = iter(items)
    while some := tuple(islice(rest, count)):
        yield some
