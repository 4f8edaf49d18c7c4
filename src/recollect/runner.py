"""What agents and teams have in common beyond their sessions: how they are set up, and how a run is begun.

Configuration only: one runner serves all users and sessions of a process, from any thread or event loop.
"""

from __future__ import annotations

import inspect
import re
import sys
import uuid
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, Literal, NoReturn, Self, TextIO, TypedDict, Unpack, overload

import msgspec

from recollect import checks
from recollect.background import BACKGROUND
from recollect.cache import SHARED, SessionCache
from recollect.conversation import Conversation
from recollect.errors import InvalidArgument
from recollect.faces import LOOPS, THREADS
from recollect.history import HistoryLimits
from recollect.input import Input, input_messages
from recollect.loop import check_tools, drain, run_events
from recollect.message import File, Image, Message
from recollect.models import open_model
from recollect.naming import SessionNamer
from recollect.plan import FollowUp, Others, Plan
from recollect.port import Access, Model, World, drive
from recollect.purge import is_due, purge
from recollect.recall import chat_history_tool, past_session_tools
from recollect.replacement import fork_before, input_of, run_of
from recollect.rewriting import EditOptions, Rewriting
from recollect.run import RunOutput
from recollect.screen import Screen
from recollect.scribe import Scribe, follow_up
from recollect.state import update_session_state
from recollect.store import Store, sessions
from recollect.store.lists import MOST
from recollect.store.turns import Commit, new_id
from recollect.stream import AsyncRunStream, RunStream
from recollect.summary import SessionSummaryManager
from recollect.tokens import TokenBudget
from recollect.tools import RunContext, Tool, Work, schema_of, toolbox
from recollect.turn import Events

Instructions = str | Sequence[str] | Callable[..., str]

# Retries that name a user and a run but no session meet in this one.
_RUNS = uuid.UUID("6f1f3b0a-2f0e-5d0b-9d2c-8d1f5a4c7e10")


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


class RunnerOptions(TypedDict, total=False):
    """How agents and teams alike are set up; `Runner` explains each."""

    id: str | None
    name: str | None
    role: str | None
    description: str | None
    instructions: Instructions | None
    tools: Sequence[Tool | Callable[..., Any]]
    db: Store | None
    user_id: str | None
    session_id: str | None
    session_state: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    output_schema: type[Any] | None
    max_steps: int
    add_history_to_context: bool
    num_history_runs: int | None
    num_history_messages: int | None
    history_tokens: int | None
    max_tool_calls_from_history: int | None
    read_chat_history: bool
    search_past_sessions: bool
    num_past_sessions_to_search: int
    num_past_session_runs_in_search: int
    concurrent_runs: Others
    queue_timeout: float
    cache_session: bool | SessionCache
    auto_name_sessions: bool
    session_namer: SessionNamer | None
    enable_session_summaries: bool
    session_summary_manager: SessionSummaryManager | None
    add_session_summary_to_context: bool | None
    add_session_state_to_context: bool
    enable_agentic_state: bool
    store_media: bool
    store_tool_messages: bool
    expire_after: timedelta | None
    background: bool


class Who(TypedDict):
    """Whose run it is, as it is stored."""

    kind: str
    agent_id: str | None
    agent_name: str | None
    team_id: str | None


class Runner(Rewriting):
    """A model with instructions, tools and a database, and runs in sessions.

    It does not change; `replace` makes another.
    """

    KIND: ClassVar[str]
    """``agent`` or ``team``: also the id of one without a name."""

    def __init__(
        self,
        model: Model | str,
        *,
        id: str | None = None,
        name: str | None = None,
        role: str | None = None,
        description: str | None = None,
        instructions: Instructions | None = None,
        tools: Sequence[Tool | Callable[..., Any]] = (),
        db: Store | None = None,
        user_id: str | None = None,
        session_id: str | None = None,
        session_state: Mapping[str, Any] | None = None,
        add_session_state_to_context: bool = False,
        enable_agentic_state: bool = False,
        metadata: Mapping[str, Any] | None = None,
        output_schema: type[Any] | None = None,
        max_steps: int = 20,
        add_history_to_context: bool = True,
        num_history_runs: int | None = None,
        num_history_messages: int | None = None,
        history_tokens: int | None = 8000,
        max_tool_calls_from_history: int | None = None,
        read_chat_history: bool = False,
        search_past_sessions: bool = False,
        num_past_sessions_to_search: int = 20,
        num_past_session_runs_in_search: int = 3,
        concurrent_runs: Others = "allow",
        queue_timeout: float = 60.0,
        store_media: bool = True,
        store_tool_messages: bool = True,
        expire_after: timedelta | None = None,
        cache_session: bool | SessionCache = False,
        auto_name_sessions: bool = False,
        session_namer: SessionNamer | None = None,
        enable_session_summaries: bool = False,
        session_summary_manager: SessionSummaryManager | None = None,
        add_session_summary_to_context: bool | None = None,
        background: bool = True,
    ) -> None:
        """Set up.

        Args:
            model: an adapter such as ``OpenAIResponses(id="gpt-5.2")``, or its name, such as ``"openai:gpt-5.2"``.
            id: what the agent is known by in the database; the slug of ``name`` unless given, else ``"agent"``.
            name: what it is called by people.
            role: what it does in a team; the team's leader is told.
            description: what it is; the beginning of the system message.
            instructions: the system message: text, lines, or a function that gives it (it may take ``run_context`` or
                ``session_state``, to read them).
            tools: Python functions; their signatures and docstrings are what the model is told.
            db: where sessions are kept; without one they are kept in memory and gone with the agent.
            user_id: used where a call names none.
            session_id: likewise; without one each run begins a session of its own.
            session_state: keys that a session's state has unless it says otherwise.
            add_session_state_to_context: whether the model is told the state, behind the system message, as it is at
                each step.
            enable_agentic_state: whether the model is given a tool ``update_session_state``, which sets keys of the
                state.
            metadata: attached to each run.
            output_schema: a pydantic or msgspec type that answers are read as.
            max_steps: model calls in one run before it is given up.
            add_history_to_context: whether the model is shown the past of the session: the newest runs that were
                answered or broken off, as many whole ones as the limits allow (``history_tokens``;
                ``num_history_runs``, 50 unless given), of these no more messages than ``num_history_messages``, and no
                more of the newest calls of tools than ``max_tool_calls_from_history``, each with all that were made
                beside it and their results. Tokens are counted by tiktoken where it is installed
                (``recollect[tokens]``) and has its vocabulary, which is loaded off to the side; else four characters
                of JSON are taken for one. ``run.metrics`` tells how many were sent, and which it was.
            read_chat_history: whether the model is given a tool ``get_chat_history``, which reads what was said in the
                session.
            search_past_sessions: whether it is given the tools ``search_past_sessions`` and ``read_past_session``,
                which look at the other sessions of the same user, never at anybody else's: at so many
                (``num_past_sessions_to_search``), and the newest runs of each (``num_past_session_runs_in_search``).
            concurrent_runs: what a run does while another one is under way in its session: ``allow``, both go on and
                both are kept; ``queue``, it waits for those before it, at most ``queue_timeout`` seconds; ``refuse``.
            store_media: whether pictures, documents and sound in messages are stored. Without that a note such as
                ``[image]`` is stored in their place; the model sees them in the run that they are given to.
            store_tool_messages: whether calls of tools and their results are stored. Without that only what was asked
                and answered is; the run that is returned still tells of them, and one that is continued asks anew.
            expire_after: how long after the begin of its last run a session is kept; for good unless given. Those whose
                time is over are gone for everybody, and deleted by and by, a few after a run.
            cache_session: whether sessions that were read are kept in memory; each read compares the copy with the
                database first, so that it is never stale. True shares one cache with all agents of the process, a
                `SessionCache` with those that are given the same one.
            auto_name_sessions: whether a session is named by a model after its second answer; a name set by hand
                stays.
            session_namer: how names are made, and by which model; see `SessionNamer`.
            enable_session_summaries: whether each answer is followed by a summary of the session, made of the last
                one and what was said since.
            session_summary_manager: how summaries are made, and by which model; see `SessionSummaryManager`.
            add_session_summary_to_context: whether the model is told the summary, behind the system message; as
                ``enable_session_summaries`` unless given.
            background: whether names and summaries are made after the reply, by a thread of the process; False makes
                them before it is returned, for processes that may be stopped at any moment after.

        Raises:
            InvalidArgument: one of them cannot be accepted.
        """
        given = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        limits = HistoryLimits.checked(
            num_history_runs, history_tokens, num_history_messages, max_tool_calls_from_history
        )
        recalled = past_session_tools(
            checks.count("num_past_sessions_to_search", num_past_sessions_to_search, least=1, most=MOST - 1),
            checks.count("num_past_session_runs_in_search", num_past_session_runs_in_search, least=1),
        )
        box = toolbox(
            [
                *tools,
                *([update_session_state] if checks.flag("enable_agentic_state", enable_agentic_state) else ()),
                *([chat_history_tool()] if checks.flag("read_chat_history", read_chat_history) else ()),
                *(recalled if checks.flag("search_past_sessions", search_past_sessions) else ()),
            ]
        )
        made: dict[str, Any] = {
            "model": (own := _model(model)),
            "name": None if name is None else checks.name("name", name),
            "id": checks.identifier("id", id or _slug(name) or self.KIND),
            "db": (home := _memory() if db is None else db),
            "store": (store := _cached(home, cache_session)),
            "cache": getattr(store, "cache", None),
            "user_id": checks.optional_identifier("user_id", user_id),
            "session_id": checks.optional_identifier("session_id", session_id),
            "max_steps": checks.count("max_steps", max_steps, least=1),
            "concurrent_runs": checks.one_of("concurrent_runs", concurrent_runs, ("allow", "queue", "refuse")),
            "queue_timeout": checks.seconds("queue_timeout", queue_timeout),
            "_state_texts": checks.json_object("session_state", {} if session_state is None else session_state),
            "_metadata_texts": checks.json_object("metadata", {} if metadata is None else metadata),
            "_toolbox": box,
            "_limits": limits if add_history_to_context else None,
            "_tells_state": (tells := checks.flag("add_session_state_to_context", add_session_state_to_context)),
            "_with_state": tells
            or bool(session_state)
            or any(tool.given for tool in box.values())
            or callable(instructions),
            "expire_after": expire_after,
            "_expire_after": checks.optional_span("expire_after", expire_after),
            "store_media": checks.flag("store_media", store_media),
            "store_tool_messages": checks.flag("store_tool_messages", store_tool_messages),
            "_given": given,
        }
        namer, manager = session_namer or SessionNamer(), session_summary_manager or SessionSummaryManager()
        summary_model = own if manager.model is None else _model(manager.model)
        made["scribe"] = Scribe(
            namer=namer,
            naming_model=summary_model if namer.model is None else _model(namer.model),
            manager=manager,
            summary_model=summary_model,
            names=checks.flag("auto_name_sessions", auto_name_sessions),
            summaries=checks.flag("enable_session_summaries", enable_session_summaries),
            background=checks.flag("background", background),
        )
        made["add_session_summary_to_context"] = checks.flag(
            "add_session_summary_to_context",
            enable_session_summaries if add_session_summary_to_context is None else add_session_summary_to_context,
        )
        if output_schema is not None:
            _check_schema(output_schema)
        for key, value in (given | made).items():
            object.__setattr__(self, key, value)

    model: Model
    id: str
    name: str | None
    role: str | None
    description: str | None
    instructions: Instructions | None
    output_schema: type[Any] | None
    max_steps: int
    concurrent_runs: Others
    queue_timeout: float
    cache_session: bool | SessionCache
    cache: SessionCache | None
    """What keeps the sessions that were read, where ``cache_session`` says so; its ``stats()`` tell how well."""
    add_session_summary_to_context: bool
    store_media: bool
    store_tool_messages: bool
    expire_after: timedelta | None
    _toolbox: dict[str, Tool]
    _limits: HistoryLimits | None
    _with_state: bool
    _tells_state: bool
    _expire_after: int | None
    _state_texts: dict[str, str]
    _metadata_texts: dict[str, str]
    _given: dict[str, Any]

    def close(self) -> None:
        """Wait for names and summaries under way, then let go of the database, and of models that were given by name.

        The next use opens them again.
        """
        super().close()
        for model in self._opened():
            if hasattr(model, "close"):
                model.close()

    async def aclose(self) -> None:
        """As `close`."""
        await super().aclose()
        for model in self._opened():
            if hasattr(model, "aclose"):
                await model.aclose()

    def _opened(self) -> list[Any]:
        """The models that were given by name."""
        scribe = self.scribe
        made = (
            (self._given["model"], self.model),
            (scribe.namer.model, scribe.naming_model),
            (scribe.manager.model, scribe.summary_model),
        )
        return [model for given, model in made if isinstance(given, str)]

    def replace(self, **changes: Any) -> Self:
        """One that differs in these arguments; it shares the database."""
        return type(self)(**(self._given | {"db": self.db} | changes))

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

    def _who(self) -> Who:
        """Whose runs they are."""
        raise NotImplementedError

    def _guidance(self) -> str:
        """The end of the system message, which is not the user's."""
        return ""

    def _events(self, input: Input, world: World, **options: Any) -> Events:
        access = Access(self.store, world)
        return run_events(partial(self._asked, input, access, **options), access)

    async def _asked(
        self,
        input: Input,
        access: Access,
        *,
        stream: bool,
        user_id: str | None = None,
        session_id: str | None = None,
        session_state: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        images: Sequence[Image] = (),
        files: Sequence[File] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Plan:
        user = checks.optional_identifier("user_id", user_id if user_id is not None else self.user_id)
        run = new_id() if run_id is None else checks.identifier("run_id", run_id)
        session = self._session_of(session_id, user, run_id)
        attached = self._attached(metadata)
        return self._plan(
            session_id=session,
            run_id=run,
            input=input_messages(input, images, files),
            user_id=user,
            **self._who(),
            prompt=await self._prompt(access, session, user, run, attached, session_state or {}),
            state=dict(session_state or {}),
            with_state=self._with_state or session_state is not None,
            others=self.concurrent_runs,
            patience=self.queue_timeout,
            metadata=attached,
            expire_after=self._expire_after,
            follow_up=self._follow_up(access, session),
            stream=stream,
        )

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

    def _attached(self, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
        """What a run has attached: the runner's own metadata, and over it those of the run."""
        checks.json_object("metadata", metadata)
        return {key: checks.decode(text) for key, text in self._metadata_texts.items()} | dict(metadata or {})

    async def _part(self, work: Work, run_id: str, input: Sequence[Message], context: str, *, continues: bool) -> Plan:
        """What a run is to be that is part of another: that of a team's member, in the session of the team's run."""
        run, attached = work.context, self._attached(work.context.metadata)
        return self._plan(
            session_id=run.session_id,
            run_id=run_id,
            input=tuple(input),
            user_id=run.user_id,
            **self._who(),
            parent_run_id=run.run_id,
            leader=work.stop,
            prompt=await self._prompt(work.access, run.session_id, run.user_id, run_id, attached, {}),
            context=context,
            with_state=self._with_state,
            metadata=attached,
            stream=work.stream,
            continues=continues,
        )

    def _continued(self, run_id: str, world: World, **options: Any) -> Events:
        access = Access(self.store, world)
        return run_events(partial(self._taken_up, run_id, access, **options), access)

    async def _taken_up(
        self, run_id: str, access: Access, *, stream: bool, session_id: str | None, user_id: str | None
    ) -> Plan:
        user = checks.optional_identifier("user_id", user_id if user_id is not None else self.user_id)
        run = checks.identifier("run_id", run_id)
        session = self._session_of(session_id, user, run)
        return self._plan(
            session_id=session,
            run_id=run,
            input=(),
            user_id=user,
            with_state=self._with_state,
            others=self.concurrent_runs,
            patience=self.queue_timeout,
            continues=True,
            follow_up=self._follow_up(access, session),
            stream=stream,
        )

    def _plan(self, **particular: Any) -> Plan:
        """A plan with what is the same for all runs of this runner."""
        budget = None if self._limits is None else TokenBudget.of(self._limits, self.model.id)
        return Plan(
            model=self.model,
            tools=self._toolbox,
            answer=self.output_schema,
            history=self._limits if self._limits is None or budget is None else self._limits.wide(),
            budget=budget,
            max_steps=self.max_steps,
            state_defaults={key: checks.decode(text) for key, text in self._state_texts.items()},
            with_summary=self.add_session_summary_to_context,
            tells_state=self._tells_state,
            store_media=self.store_media,
            store_tool_messages=self.store_tool_messages,
            **particular,
        )

    def _follow_up(self, access: Access, session_id: str) -> FollowUp | None:
        """What comes after a completed run, now or in the background: names, summaries, and sessions to be deleted."""
        scribe, expires = self.scribe, self._expire_after is not None
        if not (scribe.names or scribe.summaries or expires):
            return None

        async def after(commit: Commit) -> None:
            if scribe.summaries or scribe.names_now(commit):
                key = (session_id, scribe.key)
                await self._afterwards(access, key, lambda later: follow_up(later, scribe, session_id, commit))
            if expires and is_due(self.db.home):
                await self._afterwards(access, ("purge",), purge)

        return after

    async def _afterwards(
        self, access: Access, key: Hashable, work: Callable[[Access], Coroutine[Any, Any, None]]
    ) -> None:
        if not self.scribe.background:
            await work(access)
            return
        later = Access(self.store, THREADS)
        BACKGROUND.submit(self.db.home, key, lambda: drive(work(later)))

    def _session_of(self, given: str | None, user_id: str | None, run_id: str | None) -> str:
        session_id = given if given is not None else self.session_id
        if session_id is not None:
            return checks.identifier("session_id", session_id)
        return new_id() if run_id is None else str(uuid.uuid5(_RUNS, f"{user_id or ''}\n{run_id}"))

    async def _prompt(
        self,
        access: Access,
        session_id: str,
        user_id: str | None,
        run_id: str,
        metadata: dict[str, Any],
        state: Mapping[str, Any],
    ) -> Message | None:
        instructions = self.instructions
        if callable(instructions):
            context = RunContext(
                run_id=run_id,
                session_id=session_id,
                user_id=user_id,
                agent_id=self._who()["agent_id"],
                team_id=self._who()["team_id"],
                metadata=metadata,
            )
            instructions = await self._called(instructions, access, context, state)
        lines = [instructions] if isinstance(instructions, str) else list(instructions or ())
        text = "\n".join(part for part in (self.description, *lines, self._guidance()) if part)
        return Message("system", text) if text else None

    async def _called(
        self, instructions: Callable[..., str], access: Access, context: RunContext, state: Mapping[str, Any]
    ) -> str:
        wanted = {"run_context", "session_state"} & inspect.signature(instructions).parameters.keys()
        if wanted:
            header = await access.do(sessions.get_header, context.session_id, context.user_id)
            stored = {} if header is None else await access.do(sessions.get_values, context.session_id, "state")
            defaults = {key: checks.decode(text) for key, text in self._state_texts.items()}
            context.session_state = defaults | stored | dict(state)
        given = {"run_context": context, "session_state": context.session_state}
        said: str = await access.world.call(instructions, **{name: given[name] for name in wanted})
        return said

    def __setattr__(self, name: str, value: object) -> NoReturn:
        msg = f"{type(self).__name__} does not change; make another with {self.KIND}.replace({name}=...)"
        raise AttributeError(msg)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id}: {self.model.provider}:{self.model.id}, {self.db!r})"


def _model(given: Any) -> Model:
    """A model, or the one that is meant by a name.

    Raises:
        InvalidArgument: it is neither.
    """
    model: Model = open_model(given) if isinstance(given, str) else given
    if not hasattr(model, "ask"):
        raise InvalidArgument(
            "model", f"{given!r} is no model; use OpenAIResponses(id=...) or a name like 'openai:gpt-5.2'"
        )
    return model


def _slug(name: str | None) -> str:
    return re.sub(r"[^\w]+", "-", (name or "").lower()).strip("-_")[: checks.MAX_ID]


def _memory() -> Store:
    from recollect.db.sqlite import SqliteDb

    return SqliteDb()


def _cached(db: Store, cache: Any) -> Store:
    """The database, behind a cache where one is wanted."""
    if isinstance(cache, SessionCache):
        return cache.over(db)
    return SHARED.over(db) if checks.flag("cache_session", cache) else db


def _check_schema(kind: type[Any]) -> None:
    try:
        schema_of(kind)
    except (TypeError, msgspec.MsgspecError) as error:
        raise InvalidArgument("output_schema", f"{kind!r} is no type that an answer can be read as: {error}") from error
