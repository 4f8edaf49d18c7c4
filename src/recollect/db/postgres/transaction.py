"""One transaction on one connection, in as few round trips as there are calls of `PostgresTx.execute`.

What is sent together goes through psycopg's pipeline mode: statements up to the sync are one transaction, committed
with it. https://www.postgresql.org/docs/current/libpq-pipeline-mode.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from psycopg import errors
from psycopg.rows import tuple_row

from recollect.db.postgres.dialect import BEGIN, BEGIN_READING, COMMIT, ROLLBACK, Dialect
from recollect.port import Duplicate, Missing, Mode, Params, Row, Statement, World

_NONE: Final[Params] = {}
_ROWS: Final = 2
"""The status of a result that has rows, PGRES_TUPLES_OK."""


class Wire:
    """One connection, in the face of whoever took it."""

    __slots__ = ("connection", "world")

    def __init__(self, connection: Any, world: World) -> None:
        self.connection = connection
        self.world = world

    async def send(self, batch: Sequence[Statement]) -> list[list[Row]]:
        """Run statements in one round trip; give the rows of each.

        Raises:
            psycopg.Error: of the first that failed; of the others nothing was done, or all is undone.
        """
        if len(batch) == 1:
            return [await self._rows(await self._run(*batch[0]))]
        async with _Entered(self.connection.pipeline(), self.world):
            cursors = [await self._run(sql, params) for sql, params in batch]
        return [await self._rows(cursor) for cursor in cursors]

    async def close(self) -> None:
        await self.world.result(self.connection.close())

    async def _run(self, sql: str, params: Params) -> Any:
        return await self.world.result(self.connection.cursor(row_factory=tuple_row).execute(sql, params))

    async def _rows(self, cursor: Any) -> list[Row]:
        if cursor.pgresult is None or cursor.pgresult.status != _ROWS:
            return []
        rows: list[Row] = await self.world.result(cursor.fetchall())
        return rows


class _Entered:
    """A context manager of either kind, entered in the face of a world."""

    __slots__ = ("_manager", "_world")

    def __init__(self, manager: Any, world: World) -> None:
        self._manager = manager
        self._world = world

    async def __aenter__(self) -> Any:
        enter = self._manager.__aenter__ if self._world.waits else self._manager.__enter__
        return await self._world.result(enter())

    async def __aexit__(self, *raised: object) -> None:
        leave = self._manager.__aexit__ if self._world.waits else self._manager.__exit__
        await self._world.result(leave(*raised))


class PostgresTx:
    """One transaction on one connection."""

    __slots__ = ("_at_once", "_dialect", "_first", "_given", "_is_open", "_mode", "_wire", "is_committing")

    def __init__(
        self,
        wire: Wire,
        dialect: Dialect,
        mode: Mode,
        *,
        at_once: bool,
        given: Callable[[], Params],
        first: Sequence[Statement] = (),
    ) -> None:
        self._wire = wire
        self._dialect = dialect
        self._mode = mode
        self._at_once = at_once or mode is Mode.look
        self._given = given()
        self._first = first
        """What is sent before the first statement, in the same trip."""
        self._is_open = False
        self.is_committing = False
        """Whether a commit was sent, so that without an answer nobody knows whether it happened."""

    async def execute(self, *statements: Statement, more: bool = False) -> list[list[Row]]:
        made = [self._dialect(sql) for sql, _ in statements]
        batch = [(sql, params | self._given) for sql, (_, params) in zip(made, statements, strict=True) if sql]
        ends = self._at_once and not more
        explicit = self._is_open or not (ends and self._needs_no_begin(len(batch)))
        before = self._before(explicit=explicit)
        after: list[Statement] = [(COMMIT, _NONE)] if explicit and ends else []
        self._is_open, self.is_committing = explicit, ends and self._mode is Mode.write
        try:
            answers = await self._wire.send([*before, *batch, *after])
        except errors.UniqueViolation as error:
            raise Duplicate(str(error)) from error
        except errors.DivisionByZero as error:
            if before:  # perhaps it was the look at the schema
                raise
            raise Missing from error
        self._is_open, self.is_committing = explicit and not ends, False
        found = iter(answers[len(before) :])
        return [next(found) if sql else [] for sql in made]

    async def commit(self) -> None:
        """Commit what is not committed yet."""
        if self._is_open:
            self.is_committing = self._mode is Mode.write
            await self._wire.send([(COMMIT, _NONE)])
            self._is_open = self.is_committing = False

    async def roll_back(self) -> None:
        """Undo what is not committed yet."""
        if self._is_open:
            self._is_open = False
            await self._wire.send([(ROLLBACK, _NONE)])

    def _needs_no_begin(self, count: int) -> bool:
        """Changes sent together are one transaction as they are; what is read together needs one to be one snapshot."""
        return self._mode is not Mode.read or count == 1

    def _before(self, *, explicit: bool) -> list[Statement]:
        if self._is_open:
            return []
        first, self._first = self._first, ()
        begin = BEGIN_READING if self._mode is Mode.read else BEGIN
        return [(begin, _NONE), *first] if explicit else [*first]
