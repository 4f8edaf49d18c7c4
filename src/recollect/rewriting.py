"""Changing the past without destroying it: a run is answered anew, or asked something else, in its place or in a fork.

Nothing is overwritten. The old run is kept, with status ``regenerated``, and until the new one is completed the
conversation is as it was.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypedDict, Unpack, overload

import msgspec

from recollect import checks
from recollect.faces import LOOPS, THREADS
from recollect.input import Input, input_messages
from recollect.loop import check_tools, drain, run_events
from recollect.message import File, Image
from recollect.plan import Plan
from recollect.planner import Planner
from recollect.port import Access, World, drive
from recollect.replacement import fork_before, input_of, run_of
from recollect.run import RunOutput
from recollect.stream import AsyncRunStream, RunStream
from recollect.turn import Events


class Where(TypedDict, total=False):
    """Where a run is that is to be changed."""

    session_id: str | None
    """Its session; the runner's own unless given."""
    user_id: str | None
    """Who speaks; the runner's own user unless given."""


class EditOptions(Where, total=False):
    """What may be said of a run with another input."""

    fork: bool
    """Whether the run is begun in a new session, which is made of what came before; the old one stays as it is."""
    images: Sequence[Image]
    files: Sequence[File]
    metadata: Mapping[str, Any] | None
    """Attached to the run, over what was attached to the old one."""


class Rewriting(Planner):
    """Runs in the place of others, as agents and teams offer them."""

    @overload
    def regenerate(
        self,
        run_id: str,
        *,
        stream: Literal[False] = False,
        stream_events: Literal[False] = False,
        **where: Unpack[Where],
    ) -> RunOutput: ...
    @overload
    def regenerate(
        self,
        run_id: str,
        *,
        stream: Literal[True],
        stream_events: bool = False,
        **where: Unpack[Where],
    ) -> RunStream: ...
    @overload
    def regenerate(
        self,
        run_id: str,
        *,
        stream: bool = False,
        stream_events: Literal[True],
        **where: Unpack[Where],
    ) -> RunStream: ...
    def regenerate(
        self, run_id: str, *, stream: bool = False, stream_events: bool = False, **where: Unpack[Where]
    ) -> RunOutput | RunStream:
        """Answer the same input anew, in its place: by this runner's model, tools and instructions.

        The new run has an id of its own, and is shown what came before the old one. When it is completed it takes the
        old one's place, before the runs that came later; those stay. The old run is kept with status ``regenerated``.
        Where the new run fails, the conversation is as it was, and `continue_run` takes the new one up.

        Raises:
            InvalidArgument: the run is part of a team's run.
            UserRequired: the session belongs to a user and none was named.
            SessionNotFound: there is no such session for this caller.
            RunNotFound: it has no such run.
            RunInProgress: the run is under way.
            RunConflict: it was replaced already.
            SessionBusy, RunFailed, DatabaseError: as in `run`.
        """
        events = self._instead(run_id, None, THREADS, stream=stream or stream_events, **where)
        return RunStream(events, every=stream_events) if stream or stream_events else drive(drain(events))

    @overload
    def aregenerate(
        self,
        run_id: str,
        *,
        stream: Literal[False] = False,
        stream_events: Literal[False] = False,
        **where: Unpack[Where],
    ) -> Coroutine[Any, Any, RunOutput]: ...
    @overload
    def aregenerate(
        self,
        run_id: str,
        *,
        stream: Literal[True],
        stream_events: bool = False,
        **where: Unpack[Where],
    ) -> AsyncRunStream: ...
    @overload
    def aregenerate(
        self,
        run_id: str,
        *,
        stream: bool = False,
        stream_events: Literal[True],
        **where: Unpack[Where],
    ) -> AsyncRunStream: ...
    def aregenerate(
        self, run_id: str, *, stream: bool = False, stream_events: bool = False, **where: Unpack[Where]
    ) -> Coroutine[Any, Any, RunOutput] | AsyncRunStream:
        """As `regenerate`: to be awaited, or with ``stream=True`` to be iterated over with ``async for``."""
        events = self._instead(run_id, None, LOOPS, stream=stream or stream_events, **where)
        return AsyncRunStream(events, every=stream_events) if stream or stream_events else drain(events)

    @overload
    def edit_message(
        self,
        run_id: str,
        new_input: Input,
        *,
        stream: Literal[False] = False,
        stream_events: Literal[False] = False,
        **options: Unpack[EditOptions],
    ) -> RunOutput: ...
    @overload
    def edit_message(
        self,
        run_id: str,
        new_input: Input,
        *,
        stream: Literal[True],
        stream_events: bool = False,
        **options: Unpack[EditOptions],
    ) -> RunStream: ...
    @overload
    def edit_message(
        self,
        run_id: str,
        new_input: Input,
        *,
        stream: bool = False,
        stream_events: Literal[True],
        **options: Unpack[EditOptions],
    ) -> RunStream: ...
    def edit_message(
        self,
        run_id: str,
        new_input: Input,
        *,
        stream: bool = False,
        stream_events: bool = False,
        **options: Unpack[EditOptions],
    ) -> RunOutput | RunStream:
        """Ask something else in the place of a run, and answer that.

        As `regenerate`, with another input. With ``fork=True`` the session stays as it is: a new one is made of what
        came before the run, and the new run is its last; its id is ``run.session_id``. A run in a fork that fails is
        there, in the fork.

        Raises:
            InvalidArgument: something cannot be accepted; nothing was written.
            RecollectError: as in `regenerate`.
        """
        events = self._instead(run_id, _given(new_input), THREADS, stream=stream or stream_events, **options)
        return RunStream(events, every=stream_events) if stream or stream_events else drive(drain(events))

    @overload
    def aedit_message(
        self,
        run_id: str,
        new_input: Input,
        *,
        stream: Literal[False] = False,
        stream_events: Literal[False] = False,
        **options: Unpack[EditOptions],
    ) -> Coroutine[Any, Any, RunOutput]: ...
    @overload
    def aedit_message(
        self,
        run_id: str,
        new_input: Input,
        *,
        stream: Literal[True],
        stream_events: bool = False,
        **options: Unpack[EditOptions],
    ) -> AsyncRunStream: ...
    @overload
    def aedit_message(
        self,
        run_id: str,
        new_input: Input,
        *,
        stream: bool = False,
        stream_events: Literal[True],
        **options: Unpack[EditOptions],
    ) -> AsyncRunStream: ...
    def aedit_message(
        self,
        run_id: str,
        new_input: Input,
        *,
        stream: bool = False,
        stream_events: bool = False,
        **options: Unpack[EditOptions],
    ) -> Coroutine[Any, Any, RunOutput] | AsyncRunStream:
        """As `edit_message`: to be awaited, or with ``stream=True`` to be iterated over with ``async for``."""
        events = self._instead(run_id, _given(new_input), LOOPS, stream=stream or stream_events, **options)
        return AsyncRunStream(events, every=stream_events) if stream or stream_events else drain(events)

    def _instead(
        self, run_id: str, new_input: Input | None, world: World, *, stream: bool, **options: Unpack[EditOptions]
    ) -> Events:
        access = Access(self.store, world)
        return run_events(partial(self._rewritten, run_id, new_input, access, stream=stream, **options), access)

    async def _rewritten(
        self,
        run_id: str,
        new_input: Input | None,
        access: Access,
        *,
        stream: bool,
        session_id: str | None = None,
        user_id: str | None = None,
        fork: bool = False,
        images: Sequence[Image] = (),
        files: Sequence[File] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Plan:
        """What a run is to be in the place of another one."""
        user = checks.optional_identifier("user_id", user_id if user_id is not None else self.user_id)
        at = self._session_of(session_id, user, checks.identifier("run_id", run_id))
        asked = None if new_input is None else input_messages(new_input, images, files)
        checks.json_object("metadata", metadata)
        old = await run_of(access, run_id, at, user)
        if checks.flag("fork", fork):
            check_tools(self._toolbox, access)
            at = await fork_before(access, old, asked or (), user)
        plan = await self._asked(
            input_of(old) if asked is None else asked,
            access,
            stream=stream,
            user_id=user,
            session_id=at,
            metadata=old.metadata | dict(metadata or {}),
        )
        return plan if fork else msgspec.structs.replace(plan, replaces=run_id)


def _given(new_input: Input | None) -> Input:
    """What was given as another input; nothing is an empty one, which is refused, and never the old one."""
    return () if new_input is None else new_input
