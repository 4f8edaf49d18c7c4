"""A copy of a session, as a cache keeps it: read whole once, then brought up to date with what changed since.

A copy is what was stored at one ``(epoch, version)``. While the epoch stays, no row has vanished and no body was
replaced: then the runs with a higher version are all that is new. Only a run under way reads otherwise without a new
version, when its lease runs out; such runs are read anew each time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from recollect.message import Message
from recollect.port import Params, Row, Statement, Tx, at_once, looks, reads
from recollect.run import RunOutput, RunStatus
from recollect.selection import Outline, is_candidate
from recollect.session import Runs, SessionHeader, Snapshot
from recollect.store import rows, sizes
from recollect.store.newest import among
from recollect.store.rows import ALL_RUNS, ALL_SPOKEN, LIVE, OWNED, RUN
from recollect.store.sessions import HEADER_OF_MINE, IS_MINE, VALUES_OF_MINE, of_session

Bodies = Mapping[str, Message]
"""System messages by their digest."""


class Kept:
    """One run of a copy: its rows until somebody looks at it, from then on the run."""

    __slots__ = ("_outline", "_rows", "_run", "bytes", "is_own", "run_id", "run_seq")

    def __init__(self, row: Row, spoken: Sequence[Row], bodies: Bodies) -> None:
        self.run_seq: int = row[0]
        self.run_id: str = row[1]
        is_replaced = row[_STATUS] == RunStatus.regenerated or is_candidate(row[_REPLACES], row[_STATUS])
        self.is_own: bool = row[_PARENT] is None and not is_replaced
        """Whether it is part of the conversation itself: no member's, not replaced, and no mere candidate."""
        prompt = bodies.get(row[_PROMPT])
        self.bytes = (
            sizes.RUN
            + sizes.of_row(row)
            + sum(sizes.of_message(said[-1]) for said in spoken)
            + (0 if prompt is None else sizes.of_another(prompt.to_json()))
        )
        self._rows: tuple[Row, Sequence[Row], Bodies] | None = (row, spoken, bodies)
        self._outline: Outline | None = None
        self._run: RunOutput | None = None

    def outline(self) -> RunOutput | Outline:
        """The run as far as messages are chosen by it; itself, where somebody has looked at it."""
        found, known = self._rows, self._outline
        if found is None:
            assert self._run is not None
            return self._run
        if known is None:
            known = self._outline = rows.outline(*found)
        return known

    def decode(self, session_id: str) -> RunOutput:
        """The run. Two readers may decode it at the same time; both get the same value."""
        found = self._rows
        if found is None:
            assert self._run is not None
            return self._run
        run = self._run = rows.run(session_id, found[0], self.outline().messages)
        self._rows = self._outline = None
        return run


class Copy:
    """A session as it was stored at one moment."""

    __slots__ = ("at", "bodies", "bytes", "header", "kept", "run_bytes", "settled", "snapshot")

    def __init__(
        self,
        header: SessionHeader,
        values: Mapping[str, Mapping[str, str]],
        kept: Sequence[Kept],
        bodies: Bodies,
        *,
        settled: bool,
        run_bytes: int,
    ) -> None:
        session_id = header.session_id
        self.header = header
        self.kept = kept
        self.bodies = bodies
        self.at = (header.epoch, header.version)
        self.settled = settled
        """Whether no run is under way, so that what is read depends on epoch and version alone."""
        runs = Runs(len(kept), lambda place: kept[place].decode(session_id), lambda place: kept[place].outline())
        self.snapshot = Snapshot(header, values, runs)
        self.run_bytes = run_bytes
        self.bytes = (
            sizes.COPY
            + run_bytes
            + sizes.of_row((session_id, header.user_id, header.name, header.preview))
            + sum(sizes.of_message(body.to_json()) for body in bodies.values())
            + sizes.of_values(values)
        )
        """About what it takes in memory, once all of it was looked at."""

    def last_run(self, wanted: Callable[[Kept], bool]) -> RunOutput | None:
        """The newest of the wanted runs; the others are not decoded."""
        places = (place for place in reversed(range(len(self.kept))) if wanted(self.kept[place]))
        place = next(places, None)
        return None if place is None else self.snapshot.runs[place]


@looks
async def get_version(tx: Tx, session_id: str, user_id: str | None = None) -> tuple[int, int] | None:
    """Epoch and version of a session; None when there is none for this caller."""
    [found] = await tx.execute((_VERSION if user_id is None else _VERSION_OF_MINE, of_session(session_id, user_id)))
    return found[0] if found else None


@at_once
@reads
async def copy_session(tx: Tx, session_id: str, user_id: str | None = None, known: Copy | None = None) -> Copy | None:
    """A copy of a session; with a ``known`` one, what that has is not read again. None when there is none."""
    p = of_session(session_id, user_id)
    if known is None:
        header, *found = await tx.execute(*_all(p))
        return _whole(header[0], found) if header else None
    header, *found = await tx.execute(*_since(p | {"since": known.header.version}))
    if not header:
        return None
    if not follows(rows.header(header[0]), known):
        header, *found = await tx.execute(*_all(p))  # on some databases another snapshot: it may be gone by now
        return _whole(header[0], found) if header else None
    return _brought_up(known, header[0], found)


def follows(header: SessionHeader, known: Copy) -> bool:
    """Whether a session only grew since a copy of it: not where the database was brought back to an earlier day."""
    return header.epoch == known.header.epoch and header.version >= known.header.version


def _all(p: Params) -> list[Statement]:
    return [
        (HEADER_OF_MINE, p),
        (VALUES_OF_MINE, p),
        (_LEASES, p),
        *((sql, p) for sql in _content("1 = 1", ALL_RUNS, ALL_SPOKEN)),
    ]


def _since(p: Params) -> list[Statement]:
    return [(HEADER_OF_MINE, p), (VALUES_OF_MINE, p), (_LEASES, p), *((sql, p) for sql in _content(_IS_NEW))]


def _whole(header: Row, found: Sequence[Sequence[Row]]) -> Copy:
    values, leases, runs, spoken, prompts = found
    bodies = _bodies(prompts)
    kept = _kept(runs, spoken, bodies)
    size = sum(one.bytes for one in kept)
    return Copy(rows.header(header), rows.values(values), kept, bodies, settled=not leases, run_bytes=size)


def _brought_up(known: Copy, header: Row, found: Sequence[Sequence[Row]]) -> Copy:
    values, leases, runs, spoken, prompts = found
    bodies = {**known.bodies, **_bodies(prompts)} if prompts else known.bodies
    kept, size = list(known.kept), known.run_bytes
    for new in _kept(runs, spoken, bodies):
        place = bisect_left(kept, new.run_seq, key=_run_seq)
        old = [one for one in kept[place : place + 1] if one.run_seq == new.run_seq]
        kept[place : place + len(old)] = [new]
        size += new.bytes - sum(one.bytes for one in old)
    return Copy(rows.header(header), rows.values(values), kept, bodies, settled=not leases, run_bytes=size)


def _kept(runs: Sequence[Row], spoken: Iterable[Row], bodies: Bodies) -> list[Kept]:
    said = rows.by_run(spoken)
    return [Kept(row, said.get(row[0], ()), bodies) for row in runs]


def _bodies(prompts: Iterable[Row]) -> dict[str, Message]:
    return {digest: Message.stored(body, None, role) for digest, role, body in prompts}


def _run_seq(kept: Kept) -> int:
    return kept.run_seq


_PARENT, _STATUS, _PROMPT, _REPLACES = 2, 7, 9, 17
"""Where a row selected as `RUN` has these."""

# The check of a cached read is asked most of all, and mostly by trusted code, for whom there is no owner to compare.
_VERSION = f"select s.epoch, s.version from recollect_sessions s where s.session_id = :session_id and {LIVE}"
_VERSION_OF_MINE = f"{_VERSION} and {OWNED}"

_LEASES = "select 1 from recollect_leases where session_id = :session_id limit 1"

# Members' runs have leases, too. Both branches go along an index, whatever else the session holds.
_NEW: Final = """
select n.run_seq from recollect_runs n where n.session_id = :session_id and n.version > :since
union all select l.run_seq from recollect_leases l where l.session_id = :session_id
"""
_IS_NEW: Final = f"r.run_seq {among(_NEW)}"


def _content(condition: str, of_runs: str = "", of_spoken: str = "") -> tuple[str, str, str]:
    """Runs, messages and system messages of the runs ``r`` that meet the condition, with marks before the first two."""
    runs = f"recollect_runs r where r.session_id = :session_id and {condition} and {IS_MINE}"
    return (
        f"{of_runs}select {RUN} from {runs} order by r.run_seq",
        f"""
        {of_spoken}select r.run_seq, r.idx, r.message_id, r.role, r.body from recollect_messages r
        where r.session_id = :session_id and {condition} and {IS_MINE} order by r.run_seq, r.idx
        """,
        f"""
        select p.digest, p.role, p.body from recollect_prompts p where p.session_id = :session_id
        and p.digest in (select r.prompt from {runs})
        """,
    )
