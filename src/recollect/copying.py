"""Sessions from one database to another, row by row as they are: SQLite to Postgres, and back.

Some sessions at a time are read in one snapshot and written in one transaction, so that a copy that was broken off has
whole sessions only, and goes on where it was. What was written is read back and compared. A session that is there
already is left alone: with the same content there is nothing to do; where all it holds is in the source's, it is
brought up to that; any other is told.

Leases, claims and versions belong to a database and are not part of what is compared. A run that is under way is copied
as interrupted: nobody works on the copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from recollect import checks
from recollect.content import COLUMNS, TABLES, Content, add_rows, contents_of
from recollect.errors import DatabaseError, InvalidArgument
from recollect.port import Duplicate, Params, Row, Statement, Tx, drive, reads, writes
from recollect.run import RunStatus
from recollect.store import Store
from recollect.store.indexed import TO_INDEX_STORED
from recollect.store.rows import LOCK, OWNED
from recollect.store.turns import new_token

SESSIONS: Final = 200
"""Sessions that are written in one transaction, at most."""

ROOM: Final = 4_000_000
"""Characters of messages that are held at once, about; a message that is longer is held alone."""

PAGE: Final = 1000
"""Rows that are held at once, at most, of each table."""

FEW: Final = 50
"""Messages that are held at once, where nobody knows how long they are."""

VALUES: Final = 50
"""Values that one statement writes at most; longer ones are no faster."""

_KEYS: Final = {
    "sessions": (),
    "values": ("kind", "key"),
    "prompts": ("digest",),
    "runs": ("run_seq",),
    "messages": ("run_seq", "idx"),
}


class Outcome(msgspec.Struct, frozen=True):
    """What became of one session."""

    session_id: str
    what: str
    """``copied``, ``continued``, ``same``, ``differs`` (it was left alone) or ``failed``."""
    runs: int = 0
    messages: int = 0
    reason: str = ""
    """Where it differs, or why it failed."""


class CopyReport(msgspec.Struct, kw_only=True):
    """What a copy did."""

    sessions: int = 0
    """Sessions of the source that were looked at."""
    copied: int = 0
    continued: int = 0
    """Sessions that were there in part."""
    same: int = 0
    runs: int = 0
    messages: int = 0
    """Runs and messages of what was copied or continued."""
    verified: int = 0
    """Sessions whose content was read back and is that of the source."""
    differing: list[Outcome] = []
    failed: list[Outcome] = []
    seconds: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether the target now holds every session as the source does."""
        return not self.differing and not self.failed

    def add(self, outcome: Outcome, *, verified: bool) -> None:
        self.sessions += 1
        if outcome.what in ("differs", "failed"):
            (self.differing if outcome.what == "differs" else self.failed).append(outcome)
            return
        self.verified += verified
        self.copied += outcome.what == "copied"
        self.continued += outcome.what == "continued"
        self.same += outcome.what == "same"
        if outcome.what != "same":
            self.runs += outcome.runs
            self.messages += outcome.messages


def copy_sessions(
    source: Store,
    target: Store,
    *,
    user_id: str | None = None,
    session_ids: Sequence[str] | None = None,
    verify: bool = True,
    on_progress: Callable[[CopyReport], None] | None = None,
) -> CopyReport:
    """Copy all sessions, or one user's, or those with these ids, from one database into another.

    Without ``verify``, what was written is not read back.

    Raises:
        InvalidArgument: source and target are the same database.
        DatabaseError: one of them cannot be used; what was copied until then is there, and another call goes on.
    """
    if source.home is target.home or _address(source) == _address(target):
        raise InvalidArgument("target", "is the source itself")
    began, report = time.monotonic(), CopyReport()
    batches = _batches(source, user_id) if session_ids is None else _named(source, session_ids, user_id)
    for batch in batches:
        for outcome, is_same in _copy(source, target, batch, verify=verify):
            report.add(outcome, verified=is_same)
        report.seconds = time.monotonic() - began
        if on_progress is not None:
            on_progress(report)
    return report


def count_sessions(source: Store, user_id: str | None = None) -> int:
    """How many sessions there are to copy."""
    found: int = source.transact(_count, user_id)
    return found


class _Batch(msgspec.Struct, frozen=True):
    """Sessions that are read together."""

    ids: tuple[str, ...]
    user_id: str | None
    page: int
    """How many messages are held at once."""

    def only(self, ids: Sequence[str]) -> _Batch:
        return msgspec.structs.replace(self, ids=tuple(ids))


_Pages = Callable[[], Iterator[tuple[str, Sequence[Row]]]]
"""Gives the rows of a batch, a page of one table at a time; may be called again."""


def _address(store: Store) -> object:
    file: Path | None = getattr(store.home, "db_file", None)
    if file is not None:
        return file.resolve()
    return id(store) if store.dialect == "sqlite" else getattr(store.home, "address", id(store))


def _batches(source: Store, user_id: str | None) -> Iterator[_Batch]:
    after = ""
    while found := source.transact(_next, after, user_id):
        size = 0
        ids: list[str] = []
        for session_id, _, chars in found:
            if ids and size + chars > ROOM:
                break
            size += chars
            ids.append(session_id)
        messages = sum(count for _, count, _ in found[: len(ids)])
        page = max(1, min(PAGE, ROOM // (size // max(messages, 1) + 1)))
        yield _Batch(tuple(ids), user_id, page)
        after = ids[-1]


def _named(source: Store, session_ids: Sequence[str], user_id: str | None) -> Iterator[_Batch]:
    """Each session for itself, and a few of its messages at a time: how long they are is not known."""
    for session_id in checks.texts("session_ids", session_ids):
        if source.transact(_is_there, checks.identifier("session_ids", session_id), user_id):
            yield _Batch((session_id,), user_id, FEW)


def _copy(source: Store, target: Store, batch: _Batch, *, verify: bool) -> Iterator[tuple[Outcome, bool]]:
    there = target.transact(_which, batch.ids)
    new = [session_id for session_id in batch.ids if session_id not in there]
    if new:
        yield from _copy_new(source, target, batch.only(new), verify=verify)
    both = batch.only([session_id for session_id in batch.ids if session_id in there])
    same = _same(source, target, both) if len(both.ids) > 1 else {}
    for session_id in both.ids:
        if session_id in same:
            yield same[session_id], True
        else:
            yield _meet(source, target, batch.only([session_id]), verify=verify)


def _same(source: Store, target: Store, batch: _Batch) -> dict[str, Outcome]:
    """Those of the sessions that have the same content on both sides."""
    try:
        mine, theirs = source.transact(_contents, batch), target.transact(_contents, batch)
    except DatabaseError as error:
        if not _is_of_the_data(error):
            raise
        return {}
    return {
        session_id: Outcome(session_id, "same", len(content.runs), content.messages)
        for session_id, content in mine.items()
        if session_id in theirs and content.checksum() == theirs[session_id].checksum()
    }


def _copy_new(source: Store, target: Store, batch: _Batch, *, verify: bool) -> Iterator[tuple[Outcome, bool]]:
    """Write sessions that are not there, together; or each alone, when one of them cannot be written."""
    try:
        sent: dict[str, Content] = source.transact(_send, batch, target, {})
    except (Duplicate, DatabaseError) as error:
        if not _is_of_the_data(error):
            raise
        if len(batch.ids) == 1:
            yield Outcome(batch.ids[0], "failed", reason=_reason(error)), False
        else:
            for session_id in batch.ids:
                yield from _copy(source, target, batch.only([session_id]), verify=verify)
        return
    stored = target.transact(_contents, batch.only([*sent])) if verify and sent else {}
    for session_id, content in sent.items():
        yield _checked("copied", session_id, content, stored.get(session_id), verify=verify)


def _meet(source: Store, target: Store, batch: _Batch, *, verify: bool) -> tuple[Outcome, bool]:
    """Look at a session that both have, and bring the target's up to the source's where that takes nothing away."""
    [session_id] = batch.ids
    try:
        what, content, reason = source.transact(_bring_up, batch, target)
    except (Duplicate, DatabaseError) as error:
        if not _is_of_the_data(error):
            raise
        return Outcome(session_id, "failed", reason=_reason(error)), False
    if what != "continued":
        return Outcome(session_id, what, len(content.runs), content.messages, reason), what == "same"
    stored = target.transact(_contents, batch).get(session_id) if verify else None
    return _checked(what, session_id, content, stored, verify=verify)


def _checked(
    what: str, session_id: str, sent: Content, stored: Content | None, *, verify: bool
) -> tuple[Outcome, bool]:
    if verify and (stored is None or stored.checksum() != sent.checksum()):
        told = "is gone again" if stored is None else f"differs in {sent.beyond(stored) or stored.beyond(sent)}"
        return Outcome(session_id, "differs", reason=f"what was written {told}"), False
    return Outcome(session_id, what, len(sent.runs), sent.messages), verify


def _is_of_the_data(error: Exception) -> bool:
    """Whether it was what is stored that could not be written, and not the database that could not write."""
    return isinstance(error, Duplicate) or type(error) is DatabaseError


def _reason(error: Exception) -> str:
    return f"something is there twice ({error})" if isinstance(error, Duplicate) else str(error)


@reads
async def _count(tx: Tx, user_id: str | None) -> int:
    [[(count,)]] = await tx.execute((f"select count(*) from recollect_sessions s where {OWNED}", {"user_id": user_id}))
    return int(count)


@reads
async def _is_there(tx: Tx, session_id: str, user_id: str | None) -> bool:
    p: Params = {"session_id": session_id, "user_id": user_id}
    [found] = await tx.execute((f"select 1 from recollect_sessions s where s.session_id = :session_id and {OWNED}", p))
    return bool(found)


@reads
async def _next(tx: Tx, after: str, user_id: str | None) -> list[Row]:
    """The next sessions, each with the number of its messages and of the characters in them."""
    [found] = await tx.execute((_NEXT, {"after": after, "user_id": user_id, "limit": SESSIONS}))
    return found


@reads
async def _which(tx: Tx, ids: Sequence[str]) -> set[str]:
    """Which of these sessions there are."""
    found = await tx.execute(*((_THERE, {"session_id": session_id}) for session_id in ids))
    return {session_id for rows in found for (session_id,) in rows}


@reads
async def _send(tx: Tx, batch: _Batch, target: Store, known: Mapping[str, Row]) -> dict[str, Content]:
    """Read sessions in one snapshot, and write them in one transaction of the target."""
    sent: dict[str, Content] = target.transact(_write, lambda: _pages(tx, batch), known)
    return sent


@reads
async def _contents(tx: Tx, batch: _Batch) -> dict[str, Content]:
    """What these sessions hold."""
    return contents_of(_pages(tx, batch))


@reads
async def _bring_up(tx: Tx, batch: _Batch, target: Store) -> tuple[str, Content, str]:
    """Compare a session with the target's, in one snapshot of either, and write it anew where that takes nothing away.

    The last is where the two differ.
    """
    [session_id] = batch.ids
    content = contents_of(_pages(tx, batch))[session_id]
    at, theirs = target.transact(_content_at, batch)
    if theirs is None:
        return "differs", content, "it was deleted meanwhile"
    if theirs.checksum() == content.checksum():
        return "same", content, ""
    if difference := theirs.beyond(content):
        return "differs", content, f"the one that is there has another {difference}"
    sent: dict[str, Content] = target.transact(_write, lambda: _pages(tx, batch), {session_id: at})
    if not sent:
        return "differs", content, "it was changed meanwhile"
    return "continued", sent[session_id], ""


@reads
async def _content_at(tx: Tx, batch: _Batch) -> tuple[Row, Content | None]:
    """What a session holds, and at which epoch and version that is."""
    [session_id] = batch.ids
    [at] = await tx.execute((_AT, {"session_id": session_id}))
    return (at[0] if at else ()), contents_of(_pages(tx, batch)).get(session_id)


@writes
async def _write(tx: Tx, pages: _Pages, known: Mapping[str, Row]) -> dict[str, Content]:
    """Write sessions, in the place of those ``known``; nothing when one of these was changed since it was looked at."""
    versions: dict[str, int] = {}
    for session_id, (epoch, version) in known.items():
        p: Params = {"session_id": session_id}
        _, at = await tx.execute((LOCK, p), (_AT, p))
        if [(epoch, version)] != at:
            return {}
        versions[session_id] = version + 1
        await tx.execute(*((f"delete from recollect_{table} where session_id = :session_id", p) for table in _ALL))
    contents: dict[str, Content] = {}
    for table, rows in pages():
        if rows:
            await tx.execute(*_inserts(table, rows, versions))
        add_rows(contents, table, rows)
    await tx.execute(*((TO_INDEX_STORED, {"session_id": session_id}) for session_id in contents))
    return contents


def _inserts(table: str, rows: Sequence[Row], versions: Mapping[str, int]) -> Iterator[Statement]:
    if table == "sessions":  # whoever holds a copy of a session that was there under this id must read it anew
        rows = [
            _replaced(table, row, epoch=new_token(), version=max(_version(row), versions.get(row[0], 0)))
            for row in rows
        ]
    done, most = 0, max(1, VALUES // len(COLUMNS[table]))
    while done < len(rows):
        count = most if most <= len(rows) - done else 1
        values = (value for row in rows[done : done + count] for value in row)
        yield _insert(table, count), {f"v{number}": value for number, value in enumerate(values)}
        done += count


def _version(row: Row) -> int:
    version: int = row[COLUMNS["sessions"].index("version")]
    return version


def _pages(tx: Tx, batch: _Batch) -> Iterator[tuple[str, Sequence[Row]]]:
    """The rows of sessions, table after table, as they are to be written."""
    # Between the sessions of one user there may be a million of others.
    spans = [(batch.ids[0], batch.ids[-1])] if batch.user_id is None else [(own, own) for own in batch.ids]
    wanted = frozenset(batch.ids)
    for table in TABLES:
        limit = batch.page if table == "messages" else PAGE
        given: list[Params] = [{"first": first, "last": last, "limit": limit} for first, last in spans]
        begun = drive(tx.execute(*((_select(table, onward=False), p) for p in given)))
        for p, found in zip(given, begun, strict=True):
            for page in _onward(tx, table, p, found):
                yield table, [_settled(table, row) for row in page if row[0] in wanted]


def _onward(tx: Tx, table: str, p: Params, found: list[Row]) -> Iterator[list[Row]]:
    """A page, and those after it."""
    yield found
    while len(found) == p["limit"]:
        last = dict(zip(COLUMNS[table], found[-1], strict=True))
        p |= {f"k_{name}": last[name] for name in ("session_id", *_KEYS[table])}
        [found] = drive(tx.execute((_select(table, onward=True), p)))
        yield found


def _settled(table: str, row: Row) -> Row:
    """A row as it is written elsewhere, where nobody holds its session or its run."""
    if table == "sessions":
        return _replaced(table, row, claim_owner=None, claim_token=None, claim_until=None)
    if table == "runs":
        run = dict(zip(COLUMNS[table], row, strict=True))
        if run["status"] == RunStatus.running:
            ended = run["created_at"] if run["finished_at"] is None else run["finished_at"]
            row = _replaced(table, row, status=str(RunStatus.interrupted), finished_at=ended)
        return _replaced(table, row, cancel_requested=0)
    return row


def _replaced(table: str, row: Row, **changes: Any) -> Row:
    return tuple({**dict(zip(COLUMNS[table], row, strict=True)), **changes}.values())


_ALL: Final = (*TABLES, "leases", "documents", "indexed")

_NEXT: Final = f"""
select s.session_id, s.message_count, (
    select coalesce(sum(r.chars), 0) from recollect_runs r where r.session_id = s.session_id
)
from recollect_sessions s where s.session_id > :after and {OWNED} order by s.session_id limit :limit
"""

_THERE: Final = "select session_id from recollect_sessions where session_id = :session_id"

_AT: Final = "select epoch, version from recollect_sessions where session_id = :session_id"


@cache
def _insert(table: str, count: int) -> str:
    width = len(COLUMNS[table])
    rows = (", ".join(f":v{place * width + column}" for column in range(width)) for place in range(count))
    return f"insert into recollect_{table} ({', '.join(COLUMNS[table])}) values {', '.join(f'({row})' for row in rows)}"


@cache
def _select(table: str, *, onward: bool) -> str:
    key = ", ".join(f"r.{name}" for name in ("session_id", *_KEYS[table]))
    marks = ", ".join(f":k_{name}" for name in ("session_id", *_KEYS[table]))
    # Not both: SQLite would take the first for where to begin, and read again all that it read before.
    begin = f"({key}) > ({marks})" if onward else "r.session_id >= :first"
    return f"""
    select {", ".join(f"r.{name}" for name in COLUMNS[table])} from recollect_{table} r
    where {begin} and r.session_id <= :last order by {key} limit :limit
    """
