"""Agno's database, read one session at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Self

from recollect.agno.rest import value
from recollect.agno.runs import Session, Turn, turn_of
from recollect.agno.sessions import WORKFLOW, Found, facts_of, found_of, kind_of, turns_of
from recollect.agno.tables import Table, Tables, choose, find
from recollect.db import open_guest
from recollect.errors import InvalidArgument
from recollect.port import Row, Tx, reads

IDS: Final = 500
"""Ids of sessions that are read at once."""

ROWS: Final = 100
ROOM: Final = 2_000_000
"""Runs that are read at once, and characters of them; one that is longer is read alone."""

_JSON: Final = ("session_data", "agent_data", "team_data", "workflow_data", "metadata", "summary", "runs")
_PLAIN: Final = (
    "session_id",
    "session_type",
    "agent_id",
    "team_id",
    "workflow_id",
    "user_id",
    "created_at",
    "updated_at",
)


class AgnoDatabase:
    """A database that Agno has written, release 2 or 3; an SQLite file or a Postgres address.

    Its tables are found by their columns. Where there are several of a kind, ``table``, ``runs_table`` and ``schema``
    say which.

    Raises:
        NotFound: there is no such file, or no table of sessions in it.
        InvalidArgument: there are several, and it was not said which.
        DatabaseError: it cannot be read.
    """

    def __init__(
        self, url: str, *, schema: str | None = None, table: str | None = None, runs_table: str | None = None
    ) -> None:
        self._guest = open_guest(url)
        try:
            found = self._guest.transact(find, self._guest.dialect)
            schema = schema or self._guest.schema
            self.tables = choose(found, address=self._guest.address, schema=schema, table=table, runs_table=runs_table)
        except BaseException:  # whatever ends it, the connection is closed
            self._guest.close()
            raise

    def close(self) -> None:
        """Let go of the database."""
        self._guest.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def count(self) -> int:
        """How many sessions there are, workflows' included."""
        return self._guest.transact(_count, self.tables.sessions)

    def count_orphans(self) -> int:
        """How many runs have rows of their own, and belong to no session that is there."""
        return self._guest.transact(_count_orphans, self.tables)

    def sessions(self, user_id: str | None = None) -> Iterator[Found]:
        """All sessions in the order of their ids, one at a time; ``user_id`` owns those without an owner."""
        after: str | None = None
        passed = 0  # those after it that nothing can be compared with
        while ids := self._guest.transact(_ids, self.tables.sessions, after, passed):
            for session_id in ids:
                if _is_text(session_id):
                    after, passed = session_id, 0
                else:
                    passed += 1
                found = self._found(session_id, user_id)
                if found is not None:
                    yield found

    def _found(self, session_id: Any, user_id: str | None) -> Found | None:
        """The session; None when it was deleted meanwhile."""
        if not _is_text(session_id):
            return Found(str(session_id), "agent", problems=("session_id: is no text, or no UTF-8",))
        try:
            read = self._guest.transact(_read, self.tables, session_id)
        except InvalidArgument as error:
            return Found(session_id, "agent", problems=(str(error),))
        return None if read is None else found_of(*read, user_id)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value == value.encode(errors="replace").decode()


@reads
async def _count(tx: Tx, table: Table) -> int:
    [[(count,)]] = await tx.execute((f"select count(*) from {table.sql}", {}))
    return int(count)


@reads
async def _count_orphans(tx: Tx, tables: Tables) -> int:
    if tables.runs is None:
        return 0
    among = f"select 1 from {tables.sessions.sql} s where s.session_id = r.session_id"
    sql = f"select count(*) from {tables.runs.sql} r where not exists ({among})"
    [[(count,)]] = await tx.execute((sql, {}))
    return int(count)


@reads
async def _ids(tx: Tx, table: Table, after: str | None, passed: int) -> list[Any]:
    beyond = "" if after is None else "where session_id > :after"
    sql = f"select session_id from {table.sql} {beyond} order by session_id limit :limit offset :passed"
    [found] = await tx.execute((sql, {"after": after, "limit": IDS, "passed": passed}))
    return [session_id for (session_id,) in found]


@reads
async def _read(tx: Tx, tables: Tables, session_id: str) -> tuple[dict[str, Any], list[Turn]] | None:
    """A session's row and its runs, as they are at one moment.

    Raises:
        InvalidArgument: the row is broken.
    """
    [found] = await tx.execute((_row_of(tables.sessions), {"session_id": session_id}))
    if not found:
        return None
    row = dict(zip((*_PLAIN, *_JSON), found[0], strict=True))
    if kind_of(row) == WORKFLOW:
        return row, []
    facts = facts_of(row)
    stored = [] if tables.runs is None else await _stored(tx, tables.runs, facts)
    return row, turns_of(row, stored, facts)


def _row_of(table: Table) -> str:
    """The statement that reads a row; a column that came with a later release is null where it is not there."""
    plain = [name if name in table.columns else "null" for name in _PLAIN]
    texts = [f"cast({name} as text)" if name in table.columns else "null" for name in _JSON]
    return f"select {', '.join([*plain, *texts])} from {table.sql} where session_id = :session_id"


async def _stored(tx: Tx, table: Table, facts: Session) -> list[Turn]:
    """The runs that have rows of their own, in Agno's order; each is let go of as it was stored before the next."""
    order = ", ".join(name for name in ("run_index", "created_at", "run_id") if name in table.columns)
    sql = f"select run_id, length(cast(run_data as text)) from {table.sql} where session_id = :session_id"
    [keys] = await tx.execute((f"{sql} order by {order}", {"session_id": facts.session_id}))
    one = f"select run_id, cast(run_data as text) from {table.sql} where run_id = :run_id and session_id = :session_id"
    turns: list[Turn] = []
    for ids in _pages(keys):
        found = await tx.execute(*((one, {"run_id": run_id, "session_id": facts.session_id}) for run_id in ids))
        turns += [_turn(run_id, text, facts) for rows in found for run_id, text in rows]
    return turns


def _pages(keys: Sequence[Row]) -> Iterator[list[str]]:
    page: list[str] = []
    size = 0
    for run_id, length in keys:
        if page and (len(page) == ROWS or size + (length or 0) > ROOM):
            yield page
            page, size = [], 0
        page.append(run_id)
        size += length or 0
    if page:
        yield page


def _turn(run_id: str, text: Any, facts: Session) -> Turn:
    try:
        data = value("run_data", text)
    except InvalidArgument as error:
        return Turn(run_id, problem=str(error))
    return turn_of({**data, "run_id": run_id} if isinstance(data, dict) else data, facts, run_id)
