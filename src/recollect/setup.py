"""How agents and teams are set up: what a user says of one, checked, and what follows from that.

Configuration only, frozen: one serves all users and sessions of a process, from any thread or event loop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, NoReturn, Self, TypedDict

import msgspec

from recollect import checks
from recollect.cache import SHARED, SessionCache
from recollect.errors import InvalidArgument
from recollect.history import HistoryLimits
from recollect.models import open_model
from recollect.naming import SessionNamer
from recollect.plan import Others
from recollect.port import Model
from recollect.recall import chat_history_tool, past_session_tools
from recollect.runtime import Runtime
from recollect.scribe import Scribe
from recollect.state import update_session_state
from recollect.store import Store
from recollect.store.lists import MOST
from recollect.summary import SessionSummaryManager
from recollect.tools import Tool, schema_of, toolbox

Instructions = str | Sequence[str] | Callable[..., str]


class RunnerOptions(TypedDict, total=False):
    """How agents and teams alike are set up; `Setup` explains each."""

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


class Setup(Runtime):
    """A model with instructions, tools and a database.

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
                ``num_history_runs``, 50 unless given), of these no more messages than ``num_history_messages``, and
                no more of the newest calls of tools than ``max_tool_calls_from_history``, each with all that were
                made beside it and their results. Tokens are counted by tiktoken where it is installed
                (``recollect[tokens]``) and has its vocabulary, which is loaded off to the side; else four characters
                of JSON are taken for one. ``run.metrics`` tells how many were sent, and which it was.
            read_chat_history: whether the model is given a tool ``get_chat_history``, which reads what was said in
                the session.
            search_past_sessions: whether it is given the tools ``search_past_sessions`` and ``read_past_session``,
                which look at the other sessions of the same user, never at anybody else's: at so many
                (``num_past_sessions_to_search``), and the newest runs of each (``num_past_session_runs_in_search``).
            concurrent_runs: what a run does while another one is under way in its session: ``allow``, both go on and
                both are kept; ``queue``, it waits for those before it, at most ``queue_timeout`` seconds; ``refuse``.
            store_media: whether pictures, documents and sound in messages are stored. Without that a note such as
                ``[image]`` is stored in their place; the model sees them in the run that they are given to.
            store_tool_messages: whether calls of tools and their results are stored. Without that only what was asked
                and answered is; the run that is returned still tells of them, and one that is continued asks anew.
            expire_after: how long after the begin of its last run a session is kept that was not told otherwise by
                ``set_session_expiry``; for good unless given. Those whose time is over are gone for everybody, and
                deleted by and by, a few after a run.
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
        made = _identity(given, self.KIND) | _home(given) | _context(given) | _run(given)
        made |= _aside(given, made["model"])
        for key, value in (given | made | {"_given": given}).items():
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
    _state_texts: dict[str, str]
    _metadata_texts: dict[str, str]
    _given: dict[str, Any]

    @property
    def has_own_db(self) -> bool:
        """Whether it was given a database; else its sessions are in memory."""
        return self._given["db"] is not None

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

    def __setattr__(self, name: str, value: object) -> NoReturn:
        msg = f"{type(self).__name__} does not change; make another with {self.KIND}.replace({name}=...)"
        raise AttributeError(msg)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id}: {self.model.provider}:{self.model.id}, {self.db!r})"


Given = Mapping[str, Any]
"""What a runner was given, by the name of the argument."""


def _identity(given: Given, kind: str) -> dict[str, Any]:
    """What it is, and what it is told of itself."""
    name = given["name"]
    return {
        "model": _model(given["model"]),
        "name": None if name is None else checks.name("name", name),
        "role": checks.optional_text("role", given["role"]),
        "description": checks.optional_text("description", given["description"]),
        "instructions": checks.lines("instructions", given["instructions"]),
        "id": checks.identifier("id", given["id"] or _slug(name) or kind),
    }


def _home(given: Given) -> dict[str, Any]:
    """Where its sessions are, and which one it means."""
    home = _memory() if given["db"] is None else checks.instance("db", given["db"], Store)
    store = _cached(home, given["cache_session"])
    return {
        "db": home,
        "store": store,
        "cache": getattr(store, "cache", None),
        "user_id": checks.optional_identifier("user_id", given["user_id"]),
        "session_id": checks.optional_identifier("session_id", given["session_id"]),
    }


def _context(given: Given) -> dict[str, Any]:
    """What the model is shown beside what it is asked, and the tools it has."""
    limits = HistoryLimits.checked(
        given["num_history_runs"],
        given["history_tokens"],
        given["num_history_messages"],
        given["max_tool_calls_from_history"],
    )
    box = toolbox([*checks.sequence("tools", given["tools"]), *_own_tools(given)])
    tells = checks.flag("add_session_state_to_context", given["add_session_state_to_context"])
    asks = any(tool.given for tool in box.values()) or callable(given["instructions"])
    return {
        "_toolbox": box,
        "_limits": limits if checks.flag("add_history_to_context", given["add_history_to_context"]) else None,
        "_tells_state": tells,
        "_with_state": tells or bool(given["session_state"]) or asks,
        "_state_texts": _texts(given, "session_state"),
    }


def _own_tools(given: Given) -> list[Any]:
    """The tools of this library that are asked for."""
    sessions = checks.count("num_past_sessions_to_search", given["num_past_sessions_to_search"], least=1, most=MOST - 1)
    runs = checks.count("num_past_session_runs_in_search", given["num_past_session_runs_in_search"], least=1)
    offered: dict[str, Callable[[], list[Any]]] = {  # making one takes a millisecond
        "enable_agentic_state": lambda: [update_session_state],
        "read_chat_history": lambda: [chat_history_tool()],
        "search_past_sessions": lambda: past_session_tools(sessions, runs),
    }
    return [tool for name, made in offered.items() if checks.flag(name, given[name]) for tool in made()]


def _run(given: Given) -> dict[str, Any]:
    """How its runs go, and what is kept of them."""
    if given["output_schema"] is not None:
        _check_schema(given["output_schema"])
    expire_after = given["expire_after"]
    return {
        "max_steps": checks.count("max_steps", given["max_steps"], least=1),
        "concurrent_runs": checks.one_of("concurrent_runs", given["concurrent_runs"], ("allow", "queue", "refuse")),
        "queue_timeout": checks.seconds("queue_timeout", given["queue_timeout"]),
        "_metadata_texts": _texts(given, "metadata"),
        "expire_after": checks.optional_span("expire_after", expire_after) and expire_after,
        "store_media": checks.flag("store_media", given["store_media"]),
        "store_tool_messages": checks.flag("store_tool_messages", given["store_tool_messages"]),
    }


def _aside(given: Given, model: Model) -> dict[str, Any]:
    """Who makes names and summaries, and whether the model is told the summary."""
    namer, manager = given["session_namer"], given["session_summary_manager"]
    is_told = given["add_session_summary_to_context"]
    scribe = _scribe(
        model,
        checks.instance("session_namer", namer or SessionNamer(), SessionNamer),
        checks.instance("session_summary_manager", manager or SessionSummaryManager(), SessionSummaryManager),
        names=checks.flag("auto_name_sessions", given["auto_name_sessions"]),
        summaries=(summaries := checks.flag("enable_session_summaries", given["enable_session_summaries"])),
        background=checks.flag("background", given["background"]),
    )
    told = checks.flag("add_session_summary_to_context", summaries if is_told is None else is_told)
    return {"scribe": scribe, "add_session_summary_to_context": told}


def _texts(given: Given, name: str) -> dict[str, str]:
    return checks.json_object(name, {} if given[name] is None else given[name])


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


def _scribe(model: Model, namer: SessionNamer, manager: SessionSummaryManager, **when: bool) -> Scribe:
    """Who makes names and summaries: with a model of its own, else the summaries' for names, else the runner's."""
    summary_model = model if manager.model is None else _model(manager.model)
    naming_model = summary_model if namer.model is None else _model(namer.model)
    return Scribe(namer=namer, naming_model=naming_model, manager=manager, summary_model=summary_model, **when)


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
