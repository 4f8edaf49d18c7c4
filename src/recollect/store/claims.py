"""Who is at work on a session's name or summary, so that any number of processes share the work.

A claim is three columns of the header: process, token, time. It is taken where nobody holds one, is let go of when the
work is done, and returns by itself when its process died or its time is over. It raises no version: nobody who reads
the session sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from recollect import checks
from recollect.port import Params, Tx, at_once, looks, writes
from recollect.store.newest import among
from recollect.store.rows import LIVE

Due = Literal["unnamed", "not named by hand", "not summarised"]

CLAIM: Final = 300_000_000
"""Microseconds after which a claim returns: longer than a model is waited for."""

WINDOW: Final = 1000
"""Sessions that one search for work looks at: bounds how long it holds up other writers."""

DUE: Final[dict[Due, str]] = {
    "unnamed": "(s.name_source is null or s.name_source = 'fallback')",
    "not named by hand": "coalesce(s.name_source, '') <> 'manual'",
    "not summarised": "s.summarised_through < s.next_seq - 1",
}
"""Conditions on the header. A fallback is no name yet: a generated one may replace it."""

FREE: Final = "(s.claim_token is null or not {claimed})"

HOLD: Final = "claim_owner = :owner, claim_token = :token, claim_until = :now + :claim"

LET_GO: Final = "claim_owner = null, claim_token = null, claim_until = null"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions are to be worked on."""

    due: Due
    user_id: str | None = None
    since: datetime | None = None
    """The earliest last activity."""
    min_messages: int = 0

    def params(self) -> Params:
        return {
            "user_id": checks.optional_identifier("user_id", self.user_id),
            "since": None if self.since is None else checks.moment("since", self.since),
            "min_messages": checks.count("min_messages", self.min_messages),
        }


class Claimed(msgspec.Struct, frozen=True):
    """What a search for work found, and how far it looked."""

    session_ids: tuple[str, ...]
    upto: str | None
    """The id to look on after; None at the end of the table."""
    passed: int = 0
    """How many after the same id were free at first sight, and are still or were claimed by others just then."""


@at_once
@writes
async def claim_next(tx: Tx, wanted: Wanted, token: int, *, after: str = "", limit: int = 1, skip: int = 0) -> Claimed:
    """Claim the next sessions in the order of their ids that are due and that nobody is at work on.

    A search that finds fewer may have ended early: look on after ``upto`` until it is None. Where many search at the
    same moment and a database lets them, all find the same ones and one gets them: the others come again, and ``skip``
    some at random so as not to meet.
    """
    p = wanted.params() | {"token": token, "claim": CLAIM, "after": after, "limit": limit, "window": WINDOW}
    window, claimed = await tx.execute((_window(wanted), p), (_claim_next(wanted), p | {"skip": skip}))
    ids = sorted(row[0] for row in claimed)
    last, seen, free = window[0]
    if len(ids) == limit and not skip:
        return Claimed(tuple(ids), ids[-1])
    if free > len(ids):
        return Claimed(tuple(ids), after, passed=free - len(ids))
    return Claimed(tuple(ids), last if seen == WINDOW else None)


@at_once
@writes
async def let_go(tx: Tx, session_ids: Sequence[str], token: int) -> None:
    """Give claims back, those that are still held."""
    await tx.execute(*((_LET_GO, {"session_id": session_id, "token": token}) for session_id in session_ids))


@at_once
@writes
async def let_go_next(tx: Tx, wanted: Wanted, token: int, *, after: str = "") -> None:
    """Give back whatever a `claim_next` with these arguments has claimed, when nobody heard its answer."""
    p = wanted.params() | {"token": token, "after": after, "window": WINDOW}
    await tx.execute((_let_go_next(wanted), p))


@looks
async def count_due(tx: Tx, wanted: Wanted) -> int:
    """How many sessions are due, whoever is at work on them. Reads every header, or every one of the user's."""
    [found] = await tx.execute((_count(wanted), wanted.params()))
    count: int = found[0][0]
    return count


@looks
async def list_due(tx: Tx, wanted: Wanted, limit: int) -> tuple[str, ...]:
    """The ids of some sessions that are due, nothing claimed."""
    [found] = await tx.execute((_list(wanted), wanted.params() | {"limit": limit}))
    return tuple(row[0] for row in found)


def _conditions(wanted: Wanted) -> str:
    conditions: list[Any] = [DUE[wanted.due], "s.message_count >= :min_messages", LIVE]
    if wanted.user_id is not None:
        conditions.append("s.user_id = :user_id")
    if wanted.since is not None:
        conditions.append("s.updated_at >= :since")
    return " and ".join(conditions)


def _source(wanted: Wanted) -> str:
    """The headers of one user along the index by user, else all of them."""
    if wanted.user_id is None:
        return "recollect_sessions s where s.session_id > :after"
    by_user = "recollect_sessions s {along recollect_sessions_user_created} where s.user_id = :user_id"
    return f"{by_user} and s.session_id > :after"


def _in_window(wanted: Wanted) -> str:
    columns = "s.session_id, s.name_source, s.summarised_through, s.next_seq, s.message_count, s.user_id, s.updated_at"
    claim = "s.claim_owner, s.claim_token, s.claim_until, s.expires_at"
    return f"select {columns}, {claim} from {_source(wanted)} order by s.session_id limit :window"


def _window(wanted: Wanted) -> str:
    free = f"case when {_conditions(wanted)} and {FREE} then 1 else 0 end"
    return f"select max(s.session_id), count(*), coalesce(sum({free}), 0) from ({_in_window(wanted)}) s"


def _claim_next(wanted: Wanted) -> str:
    # Looked up one after the other, in their order: so two who want some of the same do not wait for each other.
    found = f"""
        select s.session_id from ({_in_window(wanted)}) s
        where {_conditions(wanted)} and {FREE} order by s.session_id limit :limit offset :skip
    """
    return f"""
    update recollect_sessions as s set {HOLD}
    where s.session_id {among(found)} and {_conditions(wanted)} and {FREE}
    returning session_id
    """


def _let_go_next(wanted: Wanted) -> str:
    return f"""
    update recollect_sessions as s set {LET_GO}
    where s.session_id in (select s.session_id from ({_in_window(wanted)}) s) and s.claim_token = :token
    """


_LET_GO = f"""
update recollect_sessions set {LET_GO} where session_id = :session_id and claim_token = :token
"""


def _count(wanted: Wanted) -> str:
    return f"select count(*) from recollect_sessions s where {_conditions(wanted)}"


def _list(wanted: Wanted) -> str:
    return f"""
    select s.session_id from recollect_sessions s where {_conditions(wanted)} order by s.session_id limit :limit
    """
