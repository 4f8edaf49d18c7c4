"""The raw floor: hand-written SQL, in SQLite at each durability that a peer uses, and in Postgres.

It is that of `bench.floor` and `bench.postgres_floor`, with what lists sessions added.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.floor import Floor, decode, decoded
from bench.peers.work import PAGE, Said, Store, pragmas
from bench.postgres_floor import PostgresFloor
from bench.talk import Said as Turn

_COLUMNS: Final = "session_id, kind, agent_id, user_id, name, preview, run_count, created_at, updated_at"
_NEWEST: Final = "order by updated_at desc, session_id desc"


class Lists:
    """The SQL that makes and lists sessions, for a table and the marks of a driver."""

    def __init__(self, table: str, mark: str, position: str) -> None:
        chosen, limit = f"select {_COLUMNS} from {table}", f"{_NEWEST} limit {PAGE}"
        columns = "session_id, kind, agent_id, name, created_at, updated_at"
        self.index = f"create index if not exists {table}_active on {table} (updated_at, session_id)"
        self.make = f"insert into {table} ({columns}) values ({mark}, 'agent', 'agent', {mark}, {mark}, {mark})"
        self.first = f"{chosen} {limit}"
        self.place = f"select updated_at, session_id from {table} {_NEWEST} limit 1 offset {mark}"
        self.after = f"{chosen} where (updated_at, session_id) < ({mark}, {mark}) {limit}"
        self.find = f"{chosen} where {position}(name, {mark}) > 0 {limit}"


def _made(named: Sequence[tuple[str, str, int]]) -> list[tuple[Any, ...]]:
    return [(session_id, name, active * 1_000_000, active * 1_000_000) for session_id, name, active in named]


class Sqlite(Store):
    """WAL and ``synchronous = full``."""

    BULK = True
    LISTS = Lists("sessions", "?", "instr")
    JOURNAL = "wal"
    DURABILITY = "full"

    def __init__(self, address: str) -> None:
        super().__init__(address)
        is_new = not Path(address).exists()
        self.floor = Floor(Path(address), self.DURABILITY)
        self.floor.execute(f"pragma journal_mode = {self.JOURNAL}")
        if is_new:
            self.floor.create()
        self._known: set[str] = set()
        self._places: dict[int, tuple[Any, ...]] = {}

    def seed(self, session_id: str, said: Said) -> None:
        self.floor.fill(session_id, [Turn(*one) for one in said])

    def turn(self, session_id: str, question: str, answer: str) -> int:
        if session_id not in self._known:
            if not self.floor.version(session_id):
                self.floor.fill(session_id, [])
            self._known.add(session_id)
        return len(decoded(self.floor.turn(session_id, Turn(question, answer))))

    def texts(self, session_id: str) -> list[str]:
        return [message["content"] for message in self.floor.load(session_id)[1]]

    def last(self, session_id: str, runs: int) -> int:
        return len(decoded(self.floor.last(session_id, runs)))

    def sessions(self, named: Sequence[tuple[str, str, int]]) -> None:
        self.floor.execute(self.LISTS.index)
        self.floor.execute("begin immediate")
        self.floor.connection.executemany(self.LISTS.make, _made(named))
        self.floor.execute("commit")

    def page(self, skipped: int) -> list[str]:
        if not skipped:
            return [row[0] for row in self.floor.execute(self.LISTS.first).fetchall()]
        if skipped not in self._places:
            [self._places[skipped]] = self.floor.execute(self.LISTS.place, (skipped - 1,)).fetchall()
        return [row[0] for row in self.floor.execute(self.LISTS.after, self._places[skipped]).fetchall()]

    def find(self, name: str) -> list[str]:
        return [row[0] for row in self.floor.execute(self.LISTS.find, (name,)).fetchall()]

    def settings(self) -> dict[str, str]:
        return pragmas(lambda sql: self.floor.execute(sql).fetchone()[0])

    def close(self) -> None:
        self.floor.close()


class Normal(Sqlite):
    """WAL and ``synchronous = normal``."""

    DURABILITY = "normal"


class Delete(Sqlite):
    """The rollback journal, which SQLite has where nobody asks for WAL, and ``synchronous = full``."""

    JOURNAL = "delete"


class Postgres(Store):
    """One psycopg connection, each turn in two round trips."""

    BULK = True
    LISTS = Lists("floor_sessions", "%s", "strpos")

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.floor = PostgresFloor(address)
        self._known: set[str] = set()
        if not self.floor.one("select 1 from pg_tables where tablename = 'floor_sessions'"):
            self.floor.create()
        self._places: dict[int, tuple[Any, ...]] = {}

    def seed(self, session_id: str, said: Said) -> None:
        self.floor.fill(session_id, [Turn(*one) for one in said])

    def turn(self, session_id: str, question: str, answer: str) -> int:
        if session_id not in self._known:
            if not self.floor.header(session_id):
                self.floor.fill(session_id, [])
            self._known.add(session_id)
        return len(decoded(self.floor.turn(session_id, Turn(question, answer))))

    def texts(self, session_id: str) -> list[str]:
        *_, said = self.floor.rows(session_id)
        return [decode(row[-1])["content"] for row in said]

    def last(self, session_id: str, runs: int) -> int:
        return len(decoded(self.floor.last(session_id, runs)))

    def sessions(self, named: Sequence[tuple[str, str, int]]) -> None:
        self.floor.connection.execute(self.LISTS.index)
        with self.floor.connection.transaction(), self.floor.connection.cursor() as cursor:
            cursor.executemany(self.LISTS.make, _made(named))

    def page(self, skipped: int) -> list[str]:
        if not skipped:
            return [row[0] for row in self.floor.one(self.LISTS.first)]
        if skipped not in self._places:
            [self._places[skipped]] = self.floor.one(self.LISTS.place, skipped - 1)
        return [row[0] for row in self.floor.one(self.LISTS.after, *self._places[skipped])]

    def find(self, name: str) -> list[str]:
        return [row[0] for row in self.floor.one(self.LISTS.find, name)]

    def close(self) -> None:
        self.floor.close()


STORES: Final = {"sqlite": Sqlite, "normal": Normal, "delete": Delete, "postgres": Postgres}
