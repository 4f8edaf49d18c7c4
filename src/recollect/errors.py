"""Every error Recollect raises, in one tree.

::

    RecollectError
    ├── InvalidArgument             an argument was refused before anything was written (also a ValueError)
    │   ├── SessionIdMissing
    │   └── UserRequired
    ├── NotFound
    │   ├── SessionNotFound
    │   └── RunNotFound
    ├── Conflict
    │   ├── SessionConflict
    │   ├── SessionBusy
    │   ├── RunConflict
    │   ├── RunInProgress
    │   └── RunLost
    ├── NamingFailed                no name could be made; the session keeps the one it had
    ├── RunFailed                   the run is stored and at hand as ``error.run``
    │   ├── ModelError
    │   └── StepLimit
    ├── DatabaseError
    │   ├── DatabaseBusy
    │   ├── DatabaseFull
    │   ├── DatabaseReadOnly
    │   ├── DatabaseUnreachable
    │   ├── NotADatabase
    │   ├── SchemaMismatch
    │   ├── SearchUnavailable
    │   └── OutcomeUnknown          a change was stored or was not; read again before it is repeated
    └── ExtraMissing                an optional dependency is not installed (also an ImportError)

Each class has a stable ``code``, a word that programs may rely on; its docstring is the default message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from recollect.run import RunOutput


class RecollectError(Exception):
    """Something went wrong in Recollect."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class InvalidArgument(RecollectError, ValueError):
    """An argument cannot be accepted."""

    code = "invalid_argument"

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(f"{argument}: {problem}")
        self.argument = argument
        """The name of the argument that was refused."""

    def __reduce__(self) -> tuple[Any, ...]:
        problem = str(self).removeprefix(f"{self.argument}: ")
        return (InvalidArgument, (self.argument, problem))


class SessionIdMissing(InvalidArgument):
    """No session was named, and the agent has no session_id of its own."""

    code = "session_id_missing"

    def __init__(self, caller: str) -> None:
        super().__init__(
            "session_id",
            f"{caller} needs a session and none was named. Pass session_id=..., or build the agent with "
            "Agent(session_id=...), or bind one with agent.conversation(session_id=...).",
        )
        self.caller = caller

    def __reduce__(self) -> tuple[Any, ...]:
        return (SessionIdMissing, (self.caller,))


class UserRequired(InvalidArgument):
    """The session belongs to a user; a run in it must say which user speaks."""

    code = "user_required"

    def __init__(self, session_id: str) -> None:
        super().__init__(
            "user_id",
            f"session {session_id!r} belongs to a user, so a run in it must name that user. Pass user_id=....",
        )
        self.session_id = session_id

    def __reduce__(self) -> tuple[Any, ...]:
        return (UserRequired, (self.session_id,))


class NotFound(RecollectError):
    """What was asked for does not exist."""

    code = "not_found"


class SessionNotFound(NotFound):
    """The session does not exist, or is not the caller's to see."""

    code = "session_not_found"


class RunNotFound(NotFound):
    """The run does not exist in this session."""

    code = "run_not_found"


class Conflict(RecollectError):
    """What is stored does not allow this change."""

    code = "conflict"


class SessionConflict(Conflict):
    """The session was changed by somebody else since it was read. Read it again and repeat the change."""

    code = "session_conflict"


class SessionBusy(Conflict):
    """Another run is under way in this session."""

    code = "session_busy"


class RunConflict(Conflict):
    """A finished run is never changed, and the one given under its run_id differs from it."""

    code = "run_conflict"


class RunInProgress(Conflict):
    """A run with this run_id is under way."""

    code = "run_in_progress"


class RunLost(Conflict):
    """The run was taken over or ended by somebody else; nothing more can be written to it."""

    code = "run_lost"


class NamingFailed(RecollectError):
    """No name could be made of what was said; the session keeps the name it had."""

    code = "naming_failed"


class RunFailed(RecollectError):
    """The run ended without an answer. It is stored, and at hand as ``error.run``."""

    code = "run_failed"

    def __init__(self, message: str | None = None, *, run: RunOutput | None = None) -> None:
        super().__init__(message)
        self.run = run
        """The stored run, with status ``error``; None when the model was asked outside of a run."""


class ModelError(RunFailed):
    """The model failed to answer."""

    code = "model_error"

    def __init__(
        self,
        message: str | None = None,
        *,
        run: RunOutput | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        transient: bool = False,
    ) -> None:
        super().__init__(message, run=run)
        self.transient = transient
        """Whether the same request may well be answered later: a rate limit, an overload, a lost connection."""
        self.status = status
        """The HTTP status the provider answered with, where there was one."""
        self.retry_after = retry_after
        """Seconds after which the provider asks to be tried again, where it said so."""


class StepLimit(RunFailed):
    """The model went on calling tools beyond ``max_steps``."""

    code = "step_limit"


class DatabaseError(RecollectError):
    """The database could not do what was asked."""

    code = "database_error"


class DatabaseBusy(DatabaseError):
    """The database stayed locked by somebody else longer than the timeout."""

    code = "database_busy"


class DatabaseFull(DatabaseError):
    """There is no room left where the database is stored."""

    code = "database_full"


class DatabaseReadOnly(DatabaseError):
    """The database can be read but not written."""

    code = "database_read_only"


class DatabaseUnreachable(DatabaseError):
    """The database cannot be opened or reached."""

    code = "database_unreachable"


class NotADatabase(DatabaseError):
    """The file is not a database, or it is damaged."""

    code = "not_a_database"


class SchemaMismatch(DatabaseError):
    """The database was written by a version that this one cannot work with."""

    code = "schema_mismatch"


class SearchUnavailable(DatabaseError):
    """SQLite was built without FTS5, which searching needs; all else works. Use a Python whose SQLite has it."""

    code = "search_unavailable"


class OutcomeUnknown(DatabaseError):
    """The database did not say whether the change was stored. Look, or repeat it where that does no harm."""

    code = "outcome_unknown"


class ExtraMissing(RecollectError, ImportError):
    """An optional dependency is not installed."""

    code = "extra_missing"

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f"{what} needs an extra that is not installed. Run: pip install 'recollect[{extra}]'")
        self.extra = extra

    def __reduce__(self) -> tuple[Any, ...]:
        return (RecollectError, (str(self),))
