"""Every row of a database, looked at once: some sessions a transaction, so that each is seen as it is at one moment.

Rows are read in pages in the order of their keys, so that what is held does not grow with what is stored; of a session
only the ids and statuses of its runs are kept until it is done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from recollect.invariants import (
    TABLES,
    Counted,
    Fault,
    Said,
    Waiting,
    is_imported,
    of_header,
    of_lease,
    of_prompt,
    of_run,
    of_type,
    of_value,
    tokens_of,
)
from recollect.port import Params, Row, Tx, reads
from recollect.store.newest import STATUS_ANYWHERE

SESSIONS: Final = 50
"""Sessions that are looked at in one transaction."""

PAGE: Final = 500
"""Rows that are read at once."""


class Sight(msgspec.Struct):
    """What was seen of some sessions."""

    last: str | None = None
    """The last of them; None when there were none left."""
    sessions: int = 0
    runs: int = 0
    messages: int = 0
    faults: list[Fault] = []


def survey(transact: Callable[..., Any]) -> Iterator[Sight]:
    """All sessions, in the order of their ids, through a database's ``transact``.

    Raises:
        DatabaseError: they cannot be read.
    """
    last: str | None = ""
    while last is not None:
        sight: Sight = transact(look, last)
        yield sight
        last = sight.last


@reads
async def look(tx: Tx, after: str) -> Sight:
    """The next sessions after this id."""
    [found] = await tx.execute((_NEXT, {"after": after, "limit": SESSIONS}))
    ids = [session_id for (session_id,) in found]
    return await _look(tx, ids)


async def look_at(tx: Tx, session_id: str) -> Sight:
    """One session, in a transaction that is under way."""
    return await _look(tx, [session_id])


async def _look(tx: Tx, ids: Sequence[str]) -> Sight:
    sight = Sight(last=ids[-1] if ids else None)
    if ids:
        bounds: Params = {"first": ids[0], "last": ids[-1]}
        [[(now,)]] = await tx.execute(("select :now", {}))
        tables = {name: _Rows(tx, name, bounds) for name in _KEYS}
        for session_id in ids:
            await _Session(session_id, tables, sight, now).look()
        [found] = await tx.execute((_FOUND_IN_VAIN, bounds))
        sight.faults += [Fault("search index", session_id, (run_seq, idx)) for session_id, run_seq, idx in found]
    return sight


_KEYS: Final = {
    "sessions": ("session_id",),
    "values": ("session_id", "kind", "key"),
    "prompts": ("session_id", "digest"),
    "leases": ("session_id", "run_seq"),
    "runs": ("session_id", "run_seq"),
    "messages": ("session_id", "run_seq", "idx"),
}
"""The tables, each with what orders its rows."""

_RAW: Final = {"value", "body", "metadata", "metrics"}
"""Columns of JSON texts, which may be damaged in any way."""


class _Rows:
    """The rows of a table in the order of their keys, a page at a time."""

    def __init__(self, tx: Tx, table: str, bounds: Params) -> None:
        self.table = table
        self._tx = tx
        self._key = _KEYS[table]
        self._bounds = bounds
        self._columns = [*TABLES[f"recollect_{table}"].columns, *(["seen"] if table == "runs" else [])]
        self._page: list[dict[str, Any]] = []
        self._place = 0
        self._seen: Row | None = None
        self._times = 0
        """How many rows with the key seen last were given: keys may be there twice."""
        self._is_done = False

    async def peek(self) -> dict[str, Any] | None:
        """The next row, without taking it."""
        if self._place == len(self._page) and not self._is_done:
            await self._read()
        return self._page[self._place] if self._place < len(self._page) else None

    def take(self) -> None:
        self._place += 1

    async def of(self, session_id: str) -> AsyncIterator[dict[str, Any]]:
        """The next rows as long as they are of this session."""
        while (row := await self.peek()) is not None and row["session_id"] == session_id:
            self.take()
            yield row

    async def _read(self) -> None:
        limit = PAGE + self._times
        p = {**self._bounds, "limit": limit}
        if self._seen is not None:
            p |= {f"k{number}": part for number, part in enumerate(self._seen)}
        [found] = await self._tx.execute((_page(self.table, onward=self._seen is not None), p))
        self._is_done = len(found) < limit
        self._page = [dict(zip(self._columns, row, strict=True)) for row in found[self._times :]]
        self._place = 0
        if found:
            keys = [tuple(row[self._columns.index(name)] for name in self._key) for row in found]
            self._seen, self._times = keys[-1], keys.count(keys[-1])


def _page(table: str, *, onward: bool) -> str:
    columns = [f"{{raw r.{name}}}" if name in _RAW else f"r.{name}" for name in TABLES[f"recollect_{table}"].columns]
    columns += [STATUS_ANYWHERE] if table == "runs" else []
    key = ", ".join(f"r.{name}" for name in _KEYS[table])
    marks = ", ".join(f":k{number}" for number in range(len(_KEYS[table])))
    # Not both: SQLite would take the first for where to begin, and read again all that it read before.
    begin = f"({key}) >= ({marks})" if onward else "r.session_id >= :first"
    return f"""
    select {", ".join(columns)} from recollect_{table} r
    where {begin} and r.session_id <= :last order by {key} limit :limit
    """


class _Session:
    """One session, looked at row by row."""

    def __init__(self, session_id: str, tables: dict[str, _Rows], sight: Sight, now: int) -> None:
        self._session_id = session_id
        self._tables = tables
        self._sight = sight
        self._now = now
        self._counted = Counted()
        self._prompts: set[str] = set()
        self._run_ids: set[str] = set()
        self._statuses: dict[Any, Any] = {}
        self._parents: list[tuple[Any, str, str]] = []
        self._waiting: list[Waiting] = []
        """Calls of runs that are over which a later run may begin to answer."""

    async def look(self) -> None:
        header = [row async for row in self._of("sessions")]
        async for value in self._of("values"):
            self._found(*of_value(value))
        async for prompt in self._of("prompts"):
            self._prompts.add(prompt["digest"])
            self._found(*of_prompt(prompt))
        leases = [row async for row in self._of("leases")]
        async for run in self._of("runs"):
            await self._run(run)
        await self._runless(None)
        self._found(*(fault for _, fault in self._waiting if fault is not None))
        self._found(*self._members())
        for lease in leases:
            self._found(*of_lease(lease, self._statuses, self._now))
        held = {lease["run_seq"] for lease in leases}
        open_runs = (seq for seq, status in self._statuses.items() if status == "running" and seq not in held)
        self._found(*(Fault("runs without lease", self._session_id, (seq,)) for seq in open_runs))
        if not header:
            self._found(Fault("rows without session", self._session_id))
        else:
            self._sight.sessions += 1
            self._found(*of_header(header[0], self._counted, self._now))

    async def _of(self, table: str) -> AsyncIterator[dict[str, Any]]:
        """The rows of a table; one whose key was there before is a fault."""
        before = None
        async for row in self._tables[table].of(self._session_id):
            key = tuple(row[name] for name in _KEYS[table])
            if key == before:
                self._found(Fault("duplicates", self._session_id, key[1:]))
            before = key
            yield row

    async def _run(self, run: dict[str, Any]) -> None:
        seq = run["run_seq"]
        await self._runless(seq)
        self._sight.runs += 1
        is_completed = run["status"] == "completed"
        said = Said(self._session_id, seq, is_completed=is_completed, is_imported=is_imported(run["run_id"]))
        while (message := await self._message()) is not None and message["run_seq"] == seq:
            self._tables["messages"].take()
            said.hear(message, self._waiting)
        self._sight.messages += said.count
        self._waiting += said.end()
        self._found(*said.faults, *of_run(run, said, self._prompts))
        if run["run_id"] in self._run_ids:
            self._found(Fault("duplicates", self._session_id, (seq,)))
        self._run_ids.add(run["run_id"])
        self._statuses[seq] = run["status"]
        if run["parent_run_id"] is not None:
            self._parents.append((seq, run["run_id"], run["parent_run_id"]))
        self._count(run, said)

    def _count(self, run: dict[str, Any], said: Said) -> None:
        counted = self._counted
        if run["parent_run_id"] is None:
            counted.runs += 1
            counted.completed += run["status"] == "completed"
            counted.spoken += said.spoken
        if not of_type("runs", run):
            counted.last_seq = max(counted.last_seq, run["run_seq"])
            counted.version = max(counted.version, run["version"])
            tokens_in, tokens_out = tokens_of(run)
            counted.input_tokens += tokens_in
            counted.output_tokens += tokens_out

    async def _message(self) -> dict[str, Any] | None:
        """The next message of this session."""
        row = await self._tables["messages"].peek()
        return row if row is not None and row["session_id"] == self._session_id else None

    async def _runless(self, before: Any) -> None:
        """Messages that stand before the next run, or after the last one, belong to none."""
        told: set[Any] = set()
        while (message := await self._message()) is not None:
            seq = message["run_seq"]
            if before is not None and not _order(seq) < _order(before):
                return
            self._tables["messages"].take()
            self._sight.messages += 1
            if seq not in told:
                told.add(seq)
                self._found(Fault("messages without run", self._session_id, (seq,)))

    def _members(self) -> Iterator[Fault]:
        for seq, run_id, parent in self._parents:
            if parent == run_id or parent not in self._run_ids:
                yield Fault("members", self._session_id, (seq,))

    def _found(self, *faults: Fault) -> None:
        self._sight.faults += faults


def _order(value: Any) -> tuple[int, Any]:
    """As SQLite orders what may be in a column, whatever it is for."""
    if isinstance(value, int | float):
        return 0, value
    return (1, value.encode(errors="surrogatepass")) if isinstance(value, str) else (2, value)


# What was found until now of a session that was rewritten is made anew before it is found again.
_FOUND_IN_VAIN: Final = """
select d.session_id, d.run_seq, d.idx from recollect_documents d
left join recollect_indexed i on i.session_id = d.session_id
left join recollect_sessions s on s.session_id = d.session_id
where d.session_id >= :first and d.session_id <= :last
    and (s.session_id is null or i.session_id is null or i.epoch = s.epoch and d.run_seq > 0 and not exists (
        select 1 from recollect_messages m
        where m.session_id = d.session_id and m.run_seq = d.run_seq and m.idx = d.idx
    ))
order by d.session_id, d.run_seq, d.idx
"""

_IDS: Final = ("documents", "indexed")
"""Tables that hold sessions, too, beside those whose rows are looked at."""

_NEXT: Final = (
    " union ".join(
        f"""
    select * from (
        select distinct session_id from recollect_{table} where session_id > :after order by session_id limit :limit
    ) {table}_ids
    """
        for table in (*_KEYS, *_IDS)
    )
    + " order by 1 limit :limit"
)
