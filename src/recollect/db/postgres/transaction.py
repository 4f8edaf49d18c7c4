"""One transaction on one connection, in as few round trips as there are calls of `PostgresTx.execute`."""

from __future__ import annotations

from psycopg import errors

from recollect.db.postgres.dialect import BEGIN, BEGIN_READING, COMMIT, ROLLBACK, Command, Dialect
from recollect.db.postgres.ears import Ears
from recollect.db.postgres.wire import Wire
from recollect.port import Duplicate, Missing, Mode, Params, Row, Statement


class PostgresTx:
    """One transaction on one connection."""

    __slots__ = (
        "_at_once",
        "_dialect",
        "_ears",
        "_given",
        "_is_open",
        "_look",
        "_mode",
        "_settings",
        "_wire",
        "has_stored",
        "is_committing",
    )

    def __init__(
        self,
        wire: Wire,
        dialect: Dialect,
        mode: Mode,
        *,
        at_once: bool,
        given: Params,
        look: Command | None = None,
        settings: Command | None = None,
        ears: Ears | None = None,
    ) -> None:
        self._wire = wire
        self._dialect = dialect
        self._mode = mode
        self._at_once = at_once or mode is Mode.look
        self._given = given
        self._look = look
        """A look at the schema, sent before the first statement in the same trip."""
        self._settings = settings
        """Settings for this transaction alone, sent likewise."""
        self._ears = ears
        """Where it is asked, likewise, whether anybody listens."""
        self._is_open = False
        self.is_committing = False
        """Whether a commit was sent, so that without an answer nobody knows whether it happened."""
        self.has_stored = False
        """Whether a change was committed, so that the operation must not be repeated, whatever else it wants."""

    async def execute(self, *statements: Statement, more: bool = False) -> list[list[Row]]:
        made = [self._dialect.command(sql, params, self._given) for sql, params in statements]
        batch = [command for command in made if command is not None]
        await self._look_whether_it_lasts()
        ends = self._at_once and not more
        explicit = self._is_open or not (ends and self._needs_no_begin(len(batch)))
        looks = self._look is not None
        before = self._before(explicit=explicit)
        ears, self._ears = self._ears, None
        after = [COMMIT] if explicit and ends else []
        self._is_open, self.is_committing = explicit, ends and self._mode is Mode.write
        try:
            answers = await self._wire.send([*before, *batch, *after])
        except errors.UniqueViolation as error:
            raise Duplicate(str(error)) from error
        except errors.DivisionByZero as error:
            if looks:  # perhaps it was the look at the schema
                raise
            await self.roll_back()
            raise Missing from error
        self.has_stored = self.has_stored or self.is_committing
        self._is_open, self.is_committing = explicit and not ends, False
        if ears is not None:
            ears.learn(answers[len(before) - 1])
        found = iter(answers[len(before) :])
        return [[] if command is None else next(found) for command in made]

    async def commit(self) -> None:
        """Commit what is not committed yet."""
        if self._is_open:
            await self._look_whether_it_lasts()
            self.is_committing = self._mode is Mode.write
            await self._wire.send([COMMIT])
            self._is_open = self.is_committing = False

    async def _look_whether_it_lasts(self) -> None:
        """See to it that a transaction which the server has ended meanwhile is known to be before anything is sent.

        Raises:
            psycopg.OperationalError: it was open for too long, or the server goes away; nothing of it is stored.
        """
        if self._is_open and not self._wire.is_quiet:
            await self._wire.close()
            msg = "the server has ended the transaction, which was left open, and the connection"
            raise errors.OperationalError(msg)

    async def roll_back(self) -> None:
        """Undo what is not committed yet."""
        if self._is_open:
            self._is_open = False
            await self._wire.send([ROLLBACK])

    def _needs_no_begin(self, count: int) -> bool:
        """Changes sent together are one transaction as they are; what is read together needs one to be one snapshot."""
        return self._mode is not Mode.read or count == 1

    def _before(self, *, explicit: bool) -> list[Command]:
        if self._is_open:
            return []
        begin = (BEGIN_READING if self._mode is Mode.read else BEGIN) if explicit else None
        question = None if self._ears is None else self._ears.question
        before, self._look = (begin, self._look, self._settings, question), None
        return [command for command in before if command is not None]
