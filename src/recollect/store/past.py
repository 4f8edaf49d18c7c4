"""The window on the past: the newest whole runs that fit, read along the indexes of their kind.

A run on the top level is shown those on the top level before it; the run of a team's member, that member's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import msgspec

from recollect.history import HISTORY_STATUSES, History, HistoryLimits, select
from recollect.message import MAY_CALL, PROVIDER_DATA, Message
from recollect.port import Params, Row, Statement, Tx
from recollect.store.newest import among, member, newest

_NO_RUN: Final = 1 << 62
_WITHOUT_COUNT: Final = 3
"""Columns of a row that does not say how many runs there were to choose from."""


class Past(msgspec.Struct, frozen=True):
    """The newest runs that fit, as they were read."""

    rows: Sequence[Row] = ()
    """Run, role and body of each message, in order, and where a trip more would cost time, how many runs there were to
    choose from."""
    runs: int = 0
    older: bool = False
    """Whether runs before these were left out."""

    def history(self, limits: HistoryLimits) -> History:
        """What the model is shown of it."""
        seqs, said_by, bodies, *_ = zip(*self.rows, strict=True) if self.rows else ((),) * 3
        messages, text = Message.stored_all(said_by, bodies), "".join(bodies)
        chars = None if PROVIDER_DATA in text else len(text)
        return select(messages, seqs, limits, older=self.older, tools=has_tools(said_by, text), chars=chars)


def has_tools(roles: Sequence[str], text: str) -> bool:
    """Whether tools may have been called in messages of these roles, whose JSON texts are ``text`` together."""
    return "tool" in roles or MAY_CALL in text


@cache
def _past(earlier: str, of: str | None, most: str) -> str:
    # One run more than may be shown is read: so that it is known whether any were left out.
    # Where all of them fit, which is the rule, nothing is summed up run by run.
    runs = newest("r.run_seq, r.chars", HISTORY_STATUSES, most, condition=earlier, of=of)
    return f"""
    with runs as materialized ({runs})
    select m.run_seq, m.role, m.body{{many}}, (select count(*) from runs){{/many}} from recollect_messages m
    where m.session_id = :session_id and m.run_seq {among(_THAT_FIT)} order by m.run_seq, m.idx
    """


_THAT_FIT: Final = f"""
select run_seq from runs where run_seq >= case
    when (select sum(chars) from runs) <= :history_chars then 0
    else (
        select coalesce(min(run_seq), {_NO_RUN}) from (
            select run_seq, sum(chars) over (order by run_seq desc rows unbounded preceding) as upto from runs
        ) summed where upto <= :history_chars
    )
end
"""


@cache
def _newest_candidates(earlier: str, of: str | None) -> str:
    return newest("r.run_seq", HISTORY_STATUSES, ":most", condition=earlier, of=of)


_MOST: Final = ":history_runs + 1"

_MOST_UNLESS_KNOWN: Final = f"""
case when exists (
    select 1 from recollect_sessions s
    where s.session_id = :session_id and s.epoch = :known_epoch and s.version = :known_version + 1
) then 0 else {_MOST} end
"""


def past(p: Params, limits: HistoryLimits, known: tuple[int, int] | None = None) -> Statement:
    """The statement that reads the window of a run, by its ``top``, ``agent_id`` and ``team_id`` among the parameters.

    With ``before`` among them it is that on the runs before that place. ``known`` is the epoch and version of a window
    that the caller has: it finds nothing while that is the newest.
    """
    asked: Params = {
        "session_id": p["session_id"],
        "history_runs": limits.runs,
        "history_chars": limits.chars,
        **{name: p[name] for name in ("before", "first", "last", "agent_id", "team_id") if name in p},
    }
    if known is None:
        return _past(_earlier(p), _of(p), _MOST), asked
    return _past(_earlier(p), _of(p), _MOST_UNLESS_KNOWN), asked | {"known_epoch": known[0], "known_version": known[1]}


def _of(p: Params) -> str | None:
    return None if p["top"] else member(p["agent_id"])


def _earlier(p: Params) -> str:
    before = "and r.run_seq < :before" if "before" in p else ""
    return f"{before} and (r.run_seq < :first or r.run_seq > :last)" if "first" in p else before


def left_out(beside: tuple[int, int] | None) -> Params:
    """The parameters that leave runs out of the past, from the first of two places to the second."""
    return {} if beside is None else {"first": beside[0], "last": beside[1]}


async def read_past(tx: Tx, p: Params, found: list[Row], limits: HistoryLimits, completed: int, begun: int) -> Past:
    """The past of a run, where ``completed`` runs on the top level were completed.

    ``begun`` is how many runs there may be to choose from, at most, with the run itself where it is on the top level.
    """
    runs = {row[0] for row in found}
    older = bool(p["top"]) and completed > len(runs)
    if len(runs) > limits.runs:
        runs.discard(oldest := found[0][0])
        found = [row for row in found if row[0] != oldest]
        older = True
    if not older and begun - p["top"] > len(runs):
        older = await _candidates(tx, p, found, len(runs) + 1) > len(runs)
    return Past(found, len(runs), older)


async def _candidates(tx: Tx, p: Params, found: Sequence[Row], most: int) -> int:
    """How many runs there were to choose from, so many at most."""
    if found and len(found[0]) > _WITHOUT_COUNT:
        count: int = found[0][-1]
        return count
    [runs] = await tx.execute((_newest_candidates(_earlier(p), _of(p)), p | {"most": most}))
    return len(runs)
