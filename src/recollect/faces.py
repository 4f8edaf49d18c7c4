"""The two worlds behind the ports, threads and asyncio, and the two faces of every method.

The only module of the core that knows threads and event loops. asyncio is imported where it is used: it takes as long
to import as all the rest together, and a program that never awaits needs none of it.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
import weakref
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from recollect.port import Database, Operation, Stop, Stopped, World, drive

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
C = TypeVar("C")
P = ParamSpec("P")
M = TypeVar("M", bound=Callable[..., Any])


def blocking(
    operation: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]:
    """The sync method made of an operation: the class says in ``_blocking`` how it is run."""

    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        value: T = self._blocking(operation, *args, **kwargs)
        return value

    return _named_as(operation, method)


def waiting(
    operation: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """The async method made of an operation: the class says in ``_waiting`` how it is run."""

    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        value: T = await self._waiting(operation, *args, **kwargs)
        return value

    return _named_as(operation, method)


def iterating(
    operation: Callable[Concatenate[Any, P], AsyncIterator[T]],
) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """The sync generator method made of an async one over an `Access`."""

    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        items: Any = operation(self._access(waits=False), *args, **kwargs)
        return driven(items)

    return _named_as(operation, method)


def aiterating(
    operation: Callable[Concatenate[Any, P], AsyncIterator[T]],
) -> Callable[Concatenate[Any, P], AsyncIterator[T]]:
    """The async generator method made of an async one over an `Access`."""

    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return operation(self._access(waits=True), *args, **kwargs)

    return _named_as(operation, method)


def _named_as(operation: Callable[..., Any], method: M) -> M:
    """Give a face the name, docstring and parameters of its operation."""
    method.__doc__ = operation.__doc__
    method.__name__ = operation.__name__
    method.__wrapped__ = operation  # type: ignore[attr-defined]
    return method


class Closing:
    """What is closed at the end of a ``with`` block, of either kind."""

    def close(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Threads:
    """The world of plain calls: nothing waits, a call returns when it is done."""

    waits = False
    interrupts: tuple[type[BaseException], ...] = (GeneratorExit, KeyboardInterrupt, SystemExit)

    async def transact(self, db: Database, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return db.transact(operation, *args, **kwargs)

    async def result(self, value: Awaitable[T] | T) -> T:
        return value  # type: ignore[return-value]

    async def each(self, items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T, None]:
        try:
            for item in items:  # type: ignore[union-attr]
                yield item
        finally:
            _close(items)

    async def until(self, stop: Stop, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        async with aclosing(items):
            async for item in items:
                yield item
                if stop.requested:
                    raise Stopped

    async def call(self, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Any:
        return function(*args, **kwargs)

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        return await work

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - in the world of threads nothing waits but the thread

    def lock(self) -> AbstractAsyncContextManager[object]:
        return _ThreadLock()

    async def merge(self, streams: Sequence[AsyncIterator[T]]) -> AsyncGenerator[T, None]:
        if len(streams) == 1:
            async for item in streams[0]:
                yield item
            return
        arrived: queue.SimpleQueue[tuple[str, Any, Callable[[], None]]] = queue.SimpleQueue()
        stop = threading.Event()
        turns = [threading.Semaphore(0) for _ in streams]
        for stream, turn in zip(streams, turns, strict=True):
            context = contextvars.copy_context()
            # A daemon: when the caller leaves, a tool that still runs must not hold up the end of the program.
            threading.Thread(
                target=context.run, args=(_pump, stream, arrived, turn, stop), name="recollect-tool", daemon=True
            ).start()
        try:
            async with aclosing(_arrivals(len(streams), arrived.get, self)) as items:
                async for item in items:
                    yield item
        finally:
            stop.set()
            for turn in turns:
                turn.release()


async def _arrivals(running: int, take: Callable[[], Any], world: World) -> AsyncGenerator[Any, None]:
    """What the streams put into the queue, until the last of them has ended.

    A stream goes on when its item was dealt with, as a single one does: none runs ahead of who reads it.
    """
    while running:
        what, value, go_on = await world.result(take())
        if what == "item":
            yield value
            go_on()
        elif what == "error":
            raise value
        else:
            running -= 1


def _pump(
    stream: AsyncIterator[T],
    arrived: queue.SimpleQueue[tuple[str, Any, Callable[[], None]]],
    turn: threading.Semaphore,
    stop: threading.Event,
) -> None:
    try:
        while not stop.is_set():
            arrived.put(("item", drive(stream.__anext__()), turn.release))  # type: ignore[arg-type]
            turn.acquire()
    except StopAsyncIteration:
        arrived.put(("end", None, turn.release))
    except BaseException as error:  # noqa: BLE001 - carried over to the thread that waits, and raised there
        arrived.put(("error", error, turn.release))
    finally:
        if (closing := _close(stream)) is not None:
            drive(closing)


class _ThreadLock:
    """A lock of threads, in the form that both worlds have."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


class Loops:
    """The world of asyncio."""

    waits = True

    @property
    def interrupts(self) -> tuple[type[BaseException], ...]:
        import asyncio

        return (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt, SystemExit)

    async def transact(self, db: Database, operation: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await db.atransact(operation, *args, **kwargs)

    async def result(self, value: Awaitable[T] | T) -> T:
        return await value if isinstance(value, Awaitable) else value

    async def each(self, items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T, None]:
        try:
            if isinstance(items, AsyncIterable):
                async for item in items:
                    yield item
            else:
                for item in items:
                    yield item
        finally:
            closing = _close(items)
            if isinstance(closing, Awaitable):
                await closing

    async def until(self, stop: Stop, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        ear = _Ear()
        stop.hear = ear.hear
        try:
            async with aclosing(items):
                while not stop.requested:
                    try:
                        item = await ear.listening(anext(items))
                    except StopAsyncIteration:
                        return
                    yield item
                raise Stopped
        finally:
            stop.hear = None

    async def call(self, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Any:
        import asyncio
        import inspect

        try:
            if inspect.iscoroutinefunction(function):
                return await function(*args, **kwargs)
            value = await _in_thread(lambda: function(*args, **kwargs))
            return await value if isinstance(value, Awaitable) else value
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody wants this task to end: what the function waited for was cancelled, and so the function has failed.
            msg = "something that was awaited in it was cancelled"
            raise RuntimeError(msg) from error

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        import asyncio

        return await finished(asyncio.ensure_future(work))

    async def sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)

    def lock(self) -> AbstractAsyncContextManager[object]:
        import asyncio

        return asyncio.Lock()

    async def merge(self, streams: Sequence[AsyncIterator[T]]) -> AsyncGenerator[T, None]:
        import asyncio

        arrived: asyncio.Queue[tuple[str, Any, Callable[[], None]]] = asyncio.Queue()
        tasks = [asyncio.ensure_future(_apump(stream, arrived)) for stream in streams]
        try:
            async with aclosing(_arrivals(len(tasks), arrived.get, self)) as items:
                async for item in items:
                    yield item
        finally:
            # An event loop that ends closes every generator at once; nothing is waited for that has ended already.
            going_on = [task for task in tasks if not task.done()]
            for task in going_on:
                task.cancel()
            if going_on:
                await asyncio.gather(*going_on, return_exceptions=True)


class _Ear:
    """Cancels the task that waits for the next item, and nothing else, when somebody asks for the end."""

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._woken = False

    def hear(self) -> None:
        """Called in any thread."""
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._task is not None:
            self._woken = True
            self._task.cancel()

    async def listening(self, item: Awaitable[T]) -> T:
        """Wait for an item.

        Raises:
            Stopped: somebody asked for the end meanwhile.
        """
        import asyncio

        task = self._task = asyncio.current_task()
        try:
            return await item
        except asyncio.CancelledError:
            if self._woken and task is not None and task.uncancel() == 0:
                raise Stopped from None
            raise
        finally:
            self._task = None


def _in_thread(work: Callable[[], Any]) -> asyncio.Future[Any]:
    """Work in a thread of its own: a daemon, so that what still runs does not hold up the end of the loop."""
    import asyncio

    job = Job(work, asyncio.get_running_loop())
    context = contextvars.copy_context()

    def run() -> None:
        try:
            job.value = context.run(work)
        except BaseException as error:  # noqa: BLE001 - carried over to the task that waits, and raised there
            job.error = error
        _settle([job])

    threading.Thread(target=run, name="recollect-tool", daemon=True).start()
    return job.future


async def _apump(stream: AsyncIterator[T], arrived: asyncio.Queue[tuple[str, Any, Callable[[], None]]]) -> None:
    import asyncio

    turn = asyncio.Semaphore(0)
    try:
        async for item in stream:
            arrived.put_nowait(("item", item, turn.release))
            await turn.acquire()
        arrived.put_nowait(("end", None, turn.release))
    except BaseException as error:  # carried over to the task that waits, and raised there
        arrived.put_nowait(("error", error, turn.release))
        if not isinstance(error, Exception):
            raise
    finally:
        if (closing := _close(stream)) is not None:
            await closing


def _close(items: object) -> Any:
    close = getattr(items, "aclose", None) or getattr(items, "close", None)
    return close() if close is not None else None


THREADS = Threads()
LOOPS = Loops()


def driven(events: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """The sync generator of an async one that never waits; closing it closes the other."""
    try:
        while True:
            try:
                event = drive(events.__anext__())
            except StopAsyncIteration:
                return
            yield event
    finally:
        drive(events.aclose())


class Job:
    """A piece of work for a `Worker`, and the future of the one who waits for it."""

    __slots__ = ("error", "future", "loop", "value", "work")

    def __init__(self, work: Callable[..., Any], loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.value: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Tell the one who waits; on the loop's own thread."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)


class Worker:
    """One thread that works for event loops, handed all that waits for it as one batch.

    ``handle`` sets ``value`` or ``error`` of each job. The thread starts with the first job and ends with `stop`.
    """

    def __init__(self, handle: Callable[[Sequence[Job]], None], name: str) -> None:
        self._handle = weakref.WeakMethod(handle)
        self._name = name
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def submit(self, work: Callable[..., Any]) -> asyncio.Future[Any]:
        """Hand over a piece of work; the future belongs to the running loop."""
        import asyncio

        job = Job(work, asyncio.get_running_loop())
        if self._thread is None:
            self._start()
        self._jobs.put(job)
        return job.future

    def stop(self) -> None:
        """Finish what was handed over, then end the thread."""
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            if thread is not threading.current_thread():
                thread.join()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=_work, args=(self._jobs, self._handle), name=self._name, daemon=True
                )
                weakref.finalize(self, self._jobs.put, None)
                self._thread.start()


BATCH = 128
"""How many jobs a worker takes at once: bounds how long the first of them waits for the last."""


def _work(jobs: queue.SimpleQueue[Job | None], handle: weakref.WeakMethod[Callable[[Sequence[Job]], None]]) -> None:
    more = True
    while more:
        batch = [jobs.get()]
        while len(batch) < BATCH and batch[-1] is not None:
            try:
                batch.append(jobs.get_nowait())
            except queue.Empty:
                break
        more = batch[-1] is not None
        ready = [job for job in batch if job is not None]
        work = handle()
        if work is not None and ready:
            work(ready)
        del work
        _settle(ready)


def _settle(batch: Sequence[Job]) -> None:
    for loop in {job.loop for job in batch}:
        done = [job for job in batch if job.loop is loop]
        try:
            loop.call_soon_threadsafe(_settle_here, done)
        except RuntimeError:
            continue  # the loop was closed while its work was being done: nobody waits any more


def _settle_here(done: Sequence[Job]) -> None:
    for job in done:
        job.settle()


async def finished(future: asyncio.Future[T]) -> T:
    """Wait until the future is done even when cancelled meanwhile; only then is the cancellation raised."""
    import asyncio

    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError as error:
        cancelled = error
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    if not future.cancelled():
        future.exception()  # looked at: nobody else will, and asyncio would complain of that
    raise cancelled
