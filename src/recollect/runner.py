"""What agents and teams offer: runs in sessions, in both faces, as a whole or as they happen."""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TextIO, TypedDict, Unpack, overload

from recollect.conversation import Conversation
from recollect.faces import LOOPS, THREADS
from recollect.input import Input
from recollect.loop import drain, run_events
from recollect.message import File, Image
from recollect.port import Access, World, drive
from recollect.rewriting import Rewriting
from recollect.run import RunOutput
from recollect.screen import Screen
from recollect.store.turns import new_id
from recollect.stream import AsyncRunStream, RunStream
from recollect.turn import Events


class RunOptions(TypedDict, total=False):
    """What may be said of one run, beside its input."""

    user_id: str | None
    """Who speaks; the agent's own user unless given."""
    session_id: str | None
    """Where it is said; the agent's own session unless given, else a new one."""
    session_state: Mapping[str, Any] | None
    """Keys of the session's state to set."""
    run_id: str | None
    """The caller's own id for the run: trying again with it does not run twice."""
    images: Sequence[Image]
    files: Sequence[File]
    metadata: Mapping[str, Any] | None
    """Attached to the run, beside the agent's own."""


class Runner(Rewriting):
    """A model with instructions, tools and a database, and runs in sessions."""

    def conversation(self, session_id: str | None = None, user_id: str | None = None) -> Conversation:
        """One session, to be talked in without naming it again; a new one unless named."""
        own = session_id if session_id is not None else self.session_id
        return Conversation(
            self, own if own is not None else new_id(), user_id if user_id is not None else self.user_id
        )

    @overload
    def run(
        self,
        input: Input,
        *,
        stream: Literal[False] = False,
        stream_events: Literal[False] = False,
        **options: Unpack[RunOptions],
    ) -> RunOutput: ...
    @overload
    def run(
        self,
        input: Input,
        *,
        stream: Literal[True],
        stream_events: bool = False,
        **options: Unpack[RunOptions],
    ) -> RunStream: ...
    @overload
    def run(
        self,
        input: Input,
        *,
        stream: bool = False,
        stream_events: Literal[True],
        **options: Unpack[RunOptions],
    ) -> RunStream: ...
    def run(
        self, input: Input, *, stream: bool = False, stream_events: bool = False, **options: Unpack[RunOptions]
    ) -> RunOutput | RunStream:
        """Answer once.

        The user's message is stored before the model is asked, each step as it happens, and the answer before it is
        returned. Without a session the run begins a new one; its id is ``run.session_id``. With ``run_id`` a caller may
        try again: a run that was completed is returned as it is stored, without asking the model; one that failed, was
        cancelled or was interrupted is begun again, as the next ``attempt`` of the same run. One that is ended from
        elsewhere, by `cancel_run`, is returned with status ``cancelled``.

        ``stream=True`` gives an iterator of the events that carry the answer's text, ``stream_events=True`` of all.

        Raises:
            InvalidArgument: something cannot be accepted; nothing was written.
            UserRequired: the session belongs to a user and none was named.
            SessionNotFound: the session is another user's.
            SessionBusy: another run is under way, and ``concurrent_runs`` forbids it or it did not end in time.
            RunInProgress: a run with this ``run_id`` is under way.
            ModelError: the model failed; the stored run is at hand as ``error.run``.
            StepLimit: the model called tools ``max_steps`` times; likewise.
            DatabaseError: the run could not be stored.
        """
        events = self._events(input, THREADS, stream=stream or stream_events, **options)
        return RunStream(events, every=stream_events) if stream or stream_events else drive(drain(events))

    @overload
    def arun(
        self,
        input: Input,
        *,
        stream: Literal[False] = False,
        stream_events: Literal[False] = False,
        **options: Unpack[RunOptions],
    ) -> Coroutine[Any, Any, RunOutput]: ...
    @overload
    def arun(
        self,
        input: Input,
        *,
        stream: Literal[True],
        stream_events: bool = False,
        **options: Unpack[RunOptions],
    ) -> AsyncRunStream: ...
    @overload
    def arun(
        self,
        input: Input,
        *,
        stream: bool = False,
        stream_events: Literal[True],
        **options: Unpack[RunOptions],
    ) -> AsyncRunStream: ...
    def arun(
        self, input: Input, *, stream: bool = False, stream_events: bool = False, **options: Unpack[RunOptions]
    ) -> Coroutine[Any, Any, RunOutput] | AsyncRunStream:
        """As `run`: to be awaited, or with ``stream=True`` to be iterated over with ``async for``."""
        events = self._events(input, LOOPS, stream=stream or stream_events, **options)
        return AsyncRunStream(events, every=stream_events) if stream or stream_events else drain(events)

    @overload
    def continue_run(
        self,
        run_id: str,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        stream: Literal[False] = False,
        stream_events: Literal[False] = False,
    ) -> RunOutput: ...
    @overload
    def continue_run(
        self,
        run_id: str,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        stream: bool = False,
        stream_events: bool = False,
    ) -> RunOutput | RunStream: ...
    def continue_run(
        self,
        run_id: str,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        stream: bool = False,
        stream_events: bool = False,
    ) -> RunOutput | RunStream:
        """Take up a run that failed, was cancelled or was interrupted, after the last thing that was stored of it.

        What was said and the results of tools stay; calls without a result are made again, except those of tools that
        are not ``repeatable``. An answer that was broken off is given anew. A run that was completed is returned as it
        is stored. Any agent may continue a run; it does so with its own model and tools.

        Raises:
            UserRequired: the session belongs to a user and none was named.
            SessionNotFound: there is no such session for this caller.
            RunNotFound: it has no such run.
            RunInProgress: the run is under way.
            SessionBusy: another run is, and ``concurrent_runs`` forbids it or it did not end in time.
            RunFailed: it failed again, as in `run`.
        """
        events = self._continued(
            run_id, THREADS, stream=stream or stream_events, session_id=session_id, user_id=user_id
        )
        return RunStream(events, every=stream_events) if stream or stream_events else drive(drain(events))

    @overload
    def acontinue_run(
        self,
        run_id: str,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        stream: Literal[False] = False,
        stream_events: Literal[False] = False,
    ) -> Coroutine[Any, Any, RunOutput]: ...
    @overload
    def acontinue_run(
        self,
        run_id: str,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        stream: bool = False,
        stream_events: bool = False,
    ) -> Coroutine[Any, Any, RunOutput] | AsyncRunStream: ...
    def acontinue_run(
        self,
        run_id: str,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        stream: bool = False,
        stream_events: bool = False,
    ) -> Coroutine[Any, Any, RunOutput] | AsyncRunStream:
        """As `continue_run`: to be awaited, or with ``stream=True`` to be iterated over with ``async for``."""
        events = self._continued(run_id, LOOPS, stream=stream or stream_events, session_id=session_id, user_id=user_id)
        return AsyncRunStream(events, every=stream_events) if stream or stream_events else drain(events)

    def print_response(
        self, input: Input, *, stream: bool = True, file: TextIO | None = None, **options: Unpack[RunOptions]
    ) -> None:
        """Answer once, showing question, tool calls and answer in the terminal or notebook.

        ``stream=False`` shows the answer when it is whole.
        """
        screen = Screen(file or sys.stdout, input, stream=stream)
        with self.run(input, stream_events=True, **options) as events:
            for event in events:
                screen.show(event)
        screen.end()

    async def aprint_response(
        self, input: Input, *, stream: bool = True, file: TextIO | None = None, **options: Unpack[RunOptions]
    ) -> None:
        """As `print_response`."""
        screen = Screen(file or sys.stdout, input, stream=stream)
        async with self.arun(input, stream_events=True, **options) as events:
            async for event in events:
                screen.show(event)
        screen.end()

    def _events(self, input: Input, world: World, **options: Any) -> Events:
        access = Access(self.store, world)
        return run_events(partial(self._asked, input, access, **options), access)

    def _continued(self, run_id: str, world: World, **options: Any) -> Events:
        access = Access(self.store, world)
        return run_events(partial(self._taken_up, run_id, access, **options), access)
