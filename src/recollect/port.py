"""What the core needs of the world, as small protocols, and `drive`, which runs what never waits.

Everything that waits is one ``async def`` over these ports. With the ports of threads it never suspends, and `drive`
runs it to its end in the caller's thread without an event loop; with the ports of asyncio it is awaited.
`recollect.faces` holds both.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

import msgspec

from recollect import vanishing
from recollect.message import Message, Usage

T = TypeVar("T")
C = TypeVar("C")
P = ParamSpec("P")

Row = tuple[Any, ...]
Params = dict[str, Any]
Statement = tuple[str, Params]


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits to its end, here and now.

    Raises:
        RuntimeError: it waited; the ports it was given are not those of threads.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    coroutine.close()
    msg = f"{coroutine!r} waited; a sync port must answer at once"
    raise RuntimeError(msg)


class Tx(Protocol):
    """One database transaction."""

    async def execute(self, *statements: Statement, more: bool = False) -> list[list[Row]]:
        """Run statements in order, in one round trip where there is a wire; give the rows of each.

        In an operation that is done `at_once`, ``more`` says that this is not all of it yet.

        Parameters are named ``:name``. Two are given by the transaction: ``:now``, microseconds since 1970 by the
        database's clock, and ``:owner``, this process. What databases say differently has one name here:
        ``{along x}`` is the index to take where a database has to be told, ``{raw x}`` the text of column ``x`` even
        where it is damaged, ``{alive}`` the condition that the holder of a lease ``l`` may still be at work, and
        ``{claimed}`` that somebody may be at work on the name or summary of session ``s``.
        ``{cut}..{at}..{/cut}`` is a branch of a union whose order and limit are said at its end, for a
        database that would not stop early by itself. ``{one}..{/one}`` is for databases in which one transaction at a
        time writes, ``{many}..{/many}`` for those in which many do; of a statement that is none in this database,
        nothing is found. ``{gather iT}`` says of a select that it may find many rows, and what each column holds:
        integers (``i``) or text (``t``), in capitals where there may be none. The first columns are the key that orders
        them, and no text holds the control characters 30 and 31.

        Raises:
            Duplicate: a row with this key is there already; the transaction is undone.
            Missing: a row that had to be there is not; the transaction is undone.
            DatabaseError: the database could not do it; the transaction is undone.
        """
        ...


class Duplicate(Exception):
    """A row with this key is there already; whoever runs the statement knows what that means."""


class Missing(Exception):
    """A row that a change had to find is not there; whoever runs the statement knows what that means."""


class Mode(Enum):
    """What an operation does to the database."""

    look = "one statement that reads"
    read = "reads, all in one snapshot"
    write = "changes, all or nothing; may be repeated when its transaction was undone"


Operation = Callable[Concatenate[Tx, P], Coroutine[Any, Any, T]]


def looks(operation: Operation[P, T]) -> Operation[P, T]:
    """Mark a store operation as one statement that reads."""
    operation.mode = Mode.look  # type: ignore[attr-defined]
    return operation


def reads(operation: Operation[P, T]) -> Operation[P, T]:
    """Mark a store operation as one that only reads."""
    operation.mode = Mode.read  # type: ignore[attr-defined]
    return operation


def writes(operation: Operation[P, T]) -> Operation[P, T]:
    """Mark a store operation as one that changes."""
    operation.mode = Mode.write  # type: ignore[attr-defined]
    return operation


def at_once(operation: Operation[P, T]) -> Operation[P, T]:
    """Mark a store operation whose first `Tx.execute` is all of it, so that the commit needs no trip of its own.

    What it runs after that, in rare cases, is a transaction of its own.
    """
    operation.at_once = True  # type: ignore[attr-defined]
    return operation


def is_at_once(operation: Callable[..., Any]) -> bool:
    """Whether a store operation is marked so."""
    return getattr(operation, "at_once", False)


def may_lag(operation: Operation[P, T]) -> Operation[P, T]:
    """Mark a store operation whose answer may be some moments old, so that a replica may give it."""
    operation.may_lag = True  # type: ignore[attr-defined]
    return operation


def is_laggard(operation: Callable[..., Any]) -> bool:
    """Whether a store operation is marked so."""
    return getattr(operation, "may_lag", False)


def mode_of(operation: Callable[..., Any]) -> Mode:
    """The mark of a store operation."""
    mode: Mode = operation.mode  # type: ignore[attr-defined]
    return mode


class Stop:
    """Somebody's wish that a run ends: said from any thread, heard by whoever works on the run."""

    __slots__ = ("_followers", "hear", "is_lost", "requested")

    def __init__(self) -> None:
        self.requested = False
        self._followers: list[Stop] = []
        self.is_lost = False
        """Whether it ends because it is somebody else's now: then nothing is left to be stored."""
        self.hear: Callable[[], None] | None = None
        """What wakes the one who works on the run; called in the thread of the one who asks."""

    def ask(self) -> None:
        """Ask for the end; asking again changes nothing."""
        if not self.requested:
            self.requested = True
            if self.hear is not None:
                self.hear()
            self.ask_followers()

    def lead(self, follower: Stop) -> None:
        """Have another one ask, too, whenever this one does; at once where it has."""
        self._followers.append(follower)
        if self.requested:
            follower.ask()

    def ask_followers(self) -> None:
        """Ask for the end of the runs that are part of this one."""
        for follower in self._followers:
            follower.ask()

    def lose(self) -> None:
        """Have the work end on a run that is somebody else's now."""
        if not self.requested:
            self.is_lost = True
            self.ask()


class Stopped(Exception):
    """Somebody asked for the end of what is under way."""


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        ...


class Database(Protocol):
    """Something that runs store operations, each in a transaction of its own, in either face."""

    @property
    def home(self) -> Database:
        """The database itself, where this is a cache before it."""
        ...

    def transact(self, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    async def atransact(self, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `transact`. A write that began is finished, and its outcome known, before a cancellation goes on."""
        ...


class World(Protocol):
    """What one face offers to everything that waits."""

    waits: bool
    """Whether awaiting may suspend: False in the face of threads."""

    @property
    def interrupts(self) -> tuple[type[BaseException], ...]:
        """What is raised in running code when the caller wants it to stop."""
        ...

    async def transact(self, db: Database, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a store operation."""
        ...

    async def result(self, value: Awaitable[T] | T) -> T:
        """The value itself, or what it gives when awaited."""
        ...

    def each(self, items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T, None]:
        """The items of either kind of stream."""
        ...

    def until(self, stop: Stop, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """The items of a stream until somebody asks for the end; closes the stream.

        In the face of threads that is noticed between two items, for nothing can wake a thread that waits.

        Raises:
            Stopped: somebody asked.
        """
        ...

    async def call(self, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call a user's function: here, or in a thread where it would hold up an event loop."""
        ...

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something to its end before a cancellation goes on, however often somebody asks for that."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...

    def lock(self) -> AbstractAsyncContextManager[object]:
        """A lock for the length of an ``async with``; it is not held across a ``yield``."""
        ...

    def merge(self, streams: Sequence[AsyncIterator[T]]) -> AsyncGenerator[T, None]:
        """The items of all streams in the order of their arrival; one that fails ends them all."""
        ...


class Access:
    """A database in one face, for operations that take more than one transaction."""

    __slots__ = ("db", "world")

    def __init__(self, db: Database, world: World) -> None:
        self.db = db
        self.world = world

    async def do(self, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one store operation."""
        value = await self.world.transact(self.db, operation, *args, **kwargs)
        vanishing.tell(self.db, operation, args, kwargs, value)
        return value


Purpose = Literal["answer", "name", "summary"]


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool as the model is told of it."""

    name: str
    description: str
    parameters: dict[str, Any]
    """JSON schema of the arguments, an object."""
    strict: bool = False


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is asked."""

    messages: Sequence[Message]
    """System message first, then the past, then the input and what followed in this run."""
    tools: Sequence[ToolSpec] = ()
    output_schema: dict[str, Any] | None = None
    """JSON schema that the answer must follow, with a key ``title``."""
    stream: bool = False
    """Whether pieces of the answer are wanted as they come."""
    purpose: Purpose = "answer"
    """What the answer is for. A name or a summary is a small side task: an adapter asks for little thinking where it
    knows that this is taken, and offers none of the tools it may itself have been given."""
    max_output_tokens: int | None = None
    """On a side task, a model that may think before it speaks is given room for that besides. For an answer it is sent
    as it is."""
    timeout: float | None = None
    """Seconds to wait for the provider; None: as the adapter was configured."""
    max_retries: int | None = None
    """How often the adapter tries again by itself; None: as it was configured."""
    options: Mapping[str, Any] = {}
    """Parameters of the provider's API, over those of the adapter."""


class Delta(msgspec.Struct, frozen=True):
    """A new piece of an answer, or of the thinking before it."""

    content: str | None = None
    reasoning: str | None = None


class Reply(msgspec.Struct, frozen=True):
    """A whole answer: an assistant message, with tool calls where the model wants some."""

    message: Message
    usage: Usage = Usage()


class Model(Protocol):
    """An adapter of one provider."""

    id: str
    """The provider's name of the model."""
    provider: str
    """The provider's name."""

    def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        """Ask once; give pieces as they come, then one `Reply`, last.

        Written once for both faces: whatever the SDK returns goes through ``world.result`` and ``world.each``.

        Raises:
            ModelError: the model failed to answer.
        """
        ...
