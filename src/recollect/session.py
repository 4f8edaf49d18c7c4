"""What is kept: a conversation with its id, owner, name and history, and pure questions to it.

What the store holds is frozen (`SessionHeader`, the runs). An `AgentSession` is the reader's own shell around it:
changing it changes nothing for anyone else until `save_session`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self, overload

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument
from recollect.message import Message
from recollect.run import (
    RunOutput,
    RunStatus,
    TeamRunOutput,
    input_messages,
    transcript_html,
)
from recollect.selection import Filter, Outline, select_messages

CHAT_SKIP_ROLES = ("system", "developer", "tool", "function")
CHAT_SKIP_STATUSES = (RunStatus.regenerated,)


class SessionHeader(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation without its content: what a list of conversations shows."""

    session_id: str
    kind: str = "agent"
    """``agent`` or ``team``: who began it."""
    agent_id: str | None = None
    team_id: str | None = None
    user_id: str | None = None
    name: str = ""
    """The human-readable name; "" while it has none."""
    name_source: str | None = None
    """Who named it: ``manual``, ``auto`` (a model) or ``fallback``; None while it has no name."""
    preview: str = ""
    """The start of the first user message."""
    archived: bool = False
    pinned: bool = False
    expires_at: datetime | None = None
    """From when on it is gone; None: never."""
    expire_after: timedelta | None = None
    """How long after the begin of its last run that is."""
    run_count: int = 0
    """Top-level runs."""
    completed_count: int = 0
    """Top-level runs that were answered."""
    message_count: int = 0
    """User and assistant messages of top-level runs."""
    input_tokens: int = 0
    output_tokens: int = 0
    aux_tokens: int = 0
    """Tokens spent on names and summaries."""
    version: int = 0
    """Rises with each change of the session."""
    epoch: int = 0
    """Differs for a session that was deleted and made anew, or whose past was rewritten."""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    """The last activity: when a run began, or took a step ten seconds or more after that."""

    @property
    def title(self) -> str:
        """The name, else the preview, else the id: never empty."""
        return self.name or self.preview or self.session_id

    def __repr__(self) -> str:
        return f"SessionHeader({self.session_id}: {self.title!r}, {self.run_count} runs)"


class SessionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some sessions of a longer list, and where the next ones begin."""

    sessions: tuple[SessionHeader, ...] = ()
    next_cursor: str | None = None
    """Pass it as ``cursor=`` for the next page; None on the last one."""

    def __iter__(self) -> Iterator[SessionHeader]:
        return iter(self.sessions)

    def __len__(self) -> int:
        return len(self.sessions)

    def __getitem__(self, place: int) -> SessionHeader:
        return self.sessions[place]


class SessionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a conversation has been about."""

    summary: str
    topics: tuple[str, ...] = ()
    updated_at: datetime | None = None


class SessionMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """What a session took in all."""

    input_tokens: int = 0
    output_tokens: int = 0
    aux_tokens: int = 0
    """Tokens spent on names and summaries; not part of the other two."""
    run_count: int = 0
    completed_count: int = 0
    message_count: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Runs(Sequence[RunOutput]):
    """The runs of a session in their agreed order, each decoded when first looked at, then shared: runs are frozen."""

    __slots__ = ("_decode", "_made", "_outline")

    def __init__(
        self, count: int, decode: Callable[[int], RunOutput], outline: Callable[[int], RunOutput | Outline]
    ) -> None:
        self._made: list[RunOutput | None] = [None] * count
        self._decode = decode
        self._outline = outline

    def newest(self) -> Iterator[RunOutput | Outline]:
        """From the last run to the first, for whoever chooses messages: what was not looked at yet is not decoded."""
        for place in range(len(self._made) - 1, -1, -1):
            run = self._made[place]
            yield self._outline(place) if run is None else run

    @overload
    def __getitem__(self, place: int) -> RunOutput: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[RunOutput, ...]: ...
    def __getitem__(self, place: int | slice) -> RunOutput | tuple[RunOutput, ...]:
        if isinstance(place, slice):
            return tuple(self[number] for number in range(*place.indices(len(self))))
        run = self._made[place]
        if run is None:
            number = place % len(self._made)
            run = self._made[number] = self._decode(number)
        return run

    def __iter__(self) -> Iterator[RunOutput]:
        for place, run in enumerate(self._made):
            yield self[place] if run is None else run

    def __len__(self) -> int:
        return len(self._made)

    def __repr__(self) -> str:
        return f"Runs({len(self)})"


class Snapshot(msgspec.Struct, frozen=True):
    """A session as it was at one version: what a shell is made of, shared by all who read that version."""

    header: SessionHeader
    values: Mapping[str, Mapping[str, str]]
    """JSON texts by kind (state, metadata, summary, tag) and key."""
    runs: Runs


class AgentSession:
    """A conversation: its id, owner, name and history; the reader's own copy.

    Arguments are those of Agno's class. ``session_data`` may hold ``session_name`` and ``session_state``.
    """

    kind: ClassVar[str] = "agent"

    def __init__(
        self,
        session_id: str,
        agent_id: str | None = None,
        team_id: str | None = None,
        user_id: str | None = None,
        session_data: Mapping[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        agent_data: dict[str, Any] | None = None,
        runs: Iterable[RunOutput] | None = None,
        summary: SessionSummary | None = None,
        created_at: datetime | None = None,
        updated_at: datetime | None = None,
        *,
        tags: Sequence[str] = (),
        archived: bool = False,
        pinned: bool = False,
        expire_after: timedelta | None = None,
    ) -> None:
        data = dict(session_data or {})
        checks.optional_span("expire_after", expire_after)
        self.header = SessionHeader(
            session_id=checks.identifier("session_id", session_id),
            kind=self.kind,
            agent_id=checks.optional_identifier("agent_id", agent_id),
            team_id=checks.optional_identifier("team_id", team_id),
            user_id=checks.optional_identifier("user_id", user_id),
            archived=checks.flag("archived", archived),
            pinned=checks.flag("pinned", pinned),
            expire_after=expire_after,
            created_at=created_at,
            updated_at=updated_at,
        )
        self.name: str = data.pop("session_name", None) or ""
        self.agent_data = agent_data
        self.summary = summary
        self._values: Mapping[str, Mapping[str, str]] = {"tag": dict.fromkeys(checks.tags("tags", tags), "null")}
        self._opened: dict[str, dict[str, Any]] = {
            "metadata": metadata if metadata is not None else {},
            "state": data.pop("session_state", None) or {},
        }
        if data:
            raise InvalidArgument("session_data", f"unknown keys {sorted(data)}; known: session_name, session_state")
        self._runs: Runs | list[RunOutput] = list(runs or ())
        self._upserted: dict[str, RunOutput] = {checks.identifier("run_id", run.run_id): run for run in self._runs}

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """A reader's own shell around a snapshot."""
        session = cls.__new__(cls)
        session._adopt(snapshot)  # noqa: SLF001 - of its own class
        return session

    def _adopt(self, snapshot: Snapshot) -> None:
        stored = snapshot.values.get("summary")
        self.header = snapshot.header
        self.name = snapshot.header.name
        self.agent_data = None
        self.summary = read_summary(stored) if stored else None
        self._values = snapshot.values
        self._opened = {}
        self._runs = snapshot.runs
        self._upserted = {}

    @property
    def session_id(self) -> str:
        return self.header.session_id

    @property
    def agent_id(self) -> str | None:
        return self.header.agent_id

    @property
    def team_id(self) -> str | None:
        return self.header.team_id

    @property
    def user_id(self) -> str | None:
        return self.header.user_id

    @property
    def name_source(self) -> str | None:
        return self.header.name_source

    @property
    def preview(self) -> str:
        return self.header.preview

    @property
    def version(self) -> int:
        return self.header.version

    @property
    def created_at(self) -> datetime | None:
        return self.header.created_at

    @property
    def updated_at(self) -> datetime | None:
        return self.header.updated_at

    @property
    def runs(self) -> Sequence[RunOutput]:
        """Every run, member runs included, in the order they began."""
        return self._runs

    @property
    def metadata(self) -> dict[str, Any]:
        return self._open("metadata")

    @metadata.setter
    def metadata(self, value: dict[str, Any]) -> None:
        self._opened["metadata"] = value

    @property
    def session_state(self) -> dict[str, Any]:
        return self._open("state")

    @session_state.setter
    def session_state(self, value: dict[str, Any]) -> None:
        self._opened["state"] = value

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(sorted(self._values.get("tag", ())))

    @property
    def session_data(self) -> dict[str, Any]:
        """Name and state under Agno's keys, made afresh for each reader."""
        return {"session_name": self.name, "session_state": dict(self.session_state)}

    def get_run(self, run_id: str) -> RunOutput | None:
        """The run with this id."""
        return next((run for run in self._runs if run.run_id == run_id), None)

    def get_messages(
        self,
        agent_id: str | None = None,
        team_id: str | None = None,
        last_n_runs: int | None = None,
        limit: int | None = None,
        skip_roles: Sequence[str] | None = None,
        skip_statuses: Sequence[RunStatus] | None = None,
        skip_history_messages: bool = True,  # noqa: FBT001, FBT002 - Agno's signature
        *,
        member_ids: Sequence[str] | None = None,
        skip_member_messages: bool = True,
    ) -> list[Message]:
        """The messages of the conversation, oldest first; the system message once, the first there is.

        Runs of status paused, cancelled, error, regenerated and interrupted are skipped unless ``skip_statuses`` says
        otherwise (``()`` shows all); runs of a team's members too, unless ``skip_member_messages`` is False, or it is
        asked for the runs of one team (``team_id``), or for those of some agents and teams alone (``member_ids``).
        With ``limit`` the newest messages are given: the system message is kept and counts, and no tool result without
        its call leads. ``skip_history_messages`` changes nothing here: a run does not repeat the messages of earlier
        ones.
        """
        del skip_history_messages
        wanted = Filter.checked(
            agent_id=agent_id,
            team_id=team_id,
            member_ids=member_ids,
            last_n_runs=last_n_runs,
            limit=limit,
            skip_roles=skip_roles,
            skip_statuses=skip_statuses,
            skip_member_messages=skip_member_messages,
        )
        runs = self._runs
        return select_messages(runs.newest() if isinstance(runs, Runs) else reversed(runs), wanted)

    def get_chat_history(self, last_n_runs: int | None = None) -> list[Message]:
        """What user and assistant said, oldest first, in every run that was not regenerated."""
        return self.get_messages(skip_roles=CHAT_SKIP_ROLES, skip_statuses=CHAT_SKIP_STATUSES, last_n_runs=last_n_runs)

    def get_tool_calls(self, num_calls: int | None = None) -> list[dict[str, Any]]:
        """Tool calls in the Chat Completions form, newest run first; fresh dictionaries."""
        calls = [
            call.to_dict() for run in reversed(self._runs) for message in run.messages for call in message.tool_calls
        ]
        return calls if num_calls is None else calls[:num_calls]

    def get_session_summary(self) -> SessionSummary | None:
        """What the conversation has been about, as it was last summarised; None while it was not."""
        return self.summary

    def upsert_run(self, run: RunOutput) -> None:
        """Add a run to this object, or replace the one with the same id; nothing is stored."""
        runs = list(self._runs)
        place = next((number for number, known in enumerate(runs) if known.run_id == run.run_id), len(runs))
        runs[place : place + 1] = [run]
        self._runs = runs
        self._upserted[run.run_id] = run

    def to_dict(self, include_runs: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002 - Agno's signature
        """The session as JSON values; `from_dict` reads it back."""
        made = {
            "session_id": self.session_id,
            "agent_id": self.agent_id,
            "team_id": self.team_id,
            "user_id": self.user_id,
            "session_data": self.session_data,
            "metadata": self.metadata,
            "agent_data": self.agent_data,
            "summary": msgspec.to_builtins(self.summary),
            "tags": list(self.tags),
            "archived": self.header.archived,
            "pinned": self.header.pinned,
            "expire_after": msgspec.to_builtins(self.header.expire_after),
            "created_at": self.created_at.isoformat() if self.created_at else None,
            "updated_at": self.updated_at.isoformat() if self.updated_at else None,
        }
        return made | {"runs": [run.to_dict() for run in self._runs]} if include_runs else made

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The session that `to_dict` described.

        Raises:
            InvalidArgument: a field has the wrong type.
        """
        plain = ("session_id", "agent_id", "team_id", "user_id", "session_data", "metadata", "agent_data")
        given: dict[str, Any] = {name: data[name] for name in plain if data.get(name) is not None}
        given |= {name: data.get(name, False) for name in ("archived", "pinned")}
        try:
            for name in ("created_at", "updated_at"):
                given[name] = msgspec.convert(data.get(name), datetime | None)
            given["summary"] = msgspec.convert(data.get("summary"), SessionSummary | None)
            given["tags"] = msgspec.convert(data.get("tags", ()), tuple[str, ...])
            given["expire_after"] = msgspec.convert(data.get("expire_after"), timedelta | None)
        except msgspec.ValidationError as error:
            raise InvalidArgument("session", str(error).replace("`", "")) from error
        runs = [(TeamRunOutput if run.get("team_id") else RunOutput).from_dict(run) for run in data.get("runs") or ()]
        return cls(**given, runs=runs)

    def changes(self) -> Changes:
        """What differs from what was read, for `save_session`."""
        return Changes(
            name=self.name if self.name != self.header.name else None,
            values={kind: self._changed(kind) for kind in ("metadata", "state", "summary")},
            runs=tuple(self._upserted.values()),
        )

    def whole(self) -> Changes:
        """All of it, for `upsert_session`."""
        values = {kind: dict(self._texts(kind)) for kind in ("metadata", "state", "summary", "tag")}
        return Changes(name=self.name or None, values=values, runs=tuple(self._runs))

    def _texts(self, kind: str) -> Mapping[str, str]:
        if kind == "summary":
            return {} if self.summary is None else {"summary": checks.encode(self.summary).decode()}
        if kind not in self._opened:
            return self._values.get(kind, {})
        return checks.json_object("session_state" if kind == "state" else kind, self._opened[kind])

    def _changed(self, kind: str) -> dict[str, str | None]:
        before, after = self._values.get(kind, {}), self._texts(kind)
        gone: dict[str, str | None] = dict.fromkeys(before.keys() - after.keys())
        return gone | {key: text for key, text in after.items() if before.get(key) != text}

    def _open(self, kind: str) -> dict[str, Any]:
        if kind not in self._opened:
            self._opened[kind] = {key: checks.decode(text) for key, text in self._values.get(kind, {}).items()}
        return self._opened[kind]

    def __repr__(self) -> str:
        title = self.name or self.preview
        return f"{type(self).__name__}({self.session_id}: {title!r}, {len(self._runs)} runs)"

    def _repr_html_(self) -> str:
        return transcript_html(self.get_messages(skip_statuses=CHAT_SKIP_STATUSES))


class TeamSession(AgentSession):
    """A conversation with a team: the runs of its leader, and those of its members, which name one as their parent.

    Arguments are those of Agno's class.
    """

    kind: ClassVar[str] = "team"

    def __init__(
        self,
        session_id: str,
        team_id: str | None = None,
        user_id: str | None = None,
        team_data: dict[str, Any] | None = None,
        session_data: Mapping[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        runs: Iterable[RunOutput] | None = None,
        summary: SessionSummary | None = None,
        created_at: datetime | None = None,
        updated_at: datetime | None = None,
        *,
        agent_id: str | None = None,
        agent_data: dict[str, Any] | None = None,
        tags: Sequence[str] = (),
        archived: bool = False,
        pinned: bool = False,
        expire_after: timedelta | None = None,
    ) -> None:
        super().__init__(
            session_id=session_id,
            agent_id=agent_id,
            team_id=team_id,
            user_id=user_id,
            session_data=session_data,
            metadata=metadata,
            agent_data=team_data if agent_data is None else agent_data,
            runs=runs,
            summary=summary,
            created_at=created_at,
            updated_at=updated_at,
            tags=tags,
            archived=archived,
            pinned=pinned,
            expire_after=expire_after,
        )

    @property
    def team_data(self) -> dict[str, Any] | None:
        """What the caller keeps here of the team; not stored."""
        return self.agent_data

    def get_messages(  # type: ignore[override]
        self,
        team_id: str | None = None,
        member_ids: Sequence[str] | None = None,
        last_n_runs: int | None = None,
        limit: int | None = None,
        skip_roles: Sequence[str] | None = None,
        skip_statuses: Sequence[RunStatus] | None = None,
        skip_history_messages: bool = True,  # noqa: FBT001, FBT002 - Agno's signature
        skip_member_messages: bool = True,  # noqa: FBT001, FBT002 - Agno's signature
        *,
        agent_id: str | None = None,
    ) -> list[Message]:
        """As `AgentSession.get_messages`, in Agno's order of arguments."""
        return super().get_messages(
            agent_id,
            team_id,
            last_n_runs,
            limit,
            skip_roles,
            skip_statuses,
            skip_history_messages,
            member_ids=member_ids,
            skip_member_messages=skip_member_messages,
        )

    def upsert_run(self, run_response: RunOutput) -> None:
        """Add a run to this object, or replace the one with the same id; nothing is stored."""
        super().upsert_run(run_response)

    def get_team_history(self, team_id: str | None = None, num_runs: int | None = None) -> list[tuple[str, str]]:
        """What was asked and answered in the completed runs of the conversation itself, oldest first.

        With ``team_id``, in those of this team, also where it is a member of another; the newest ``num_runs`` of them.
        """
        runs = [
            run
            for run in self.runs
            if run.status is RunStatus.completed
            and (run.parent_run_id is None if team_id is None else run.team_id == team_id)
        ]
        newest = runs if num_runs is None else runs[max(len(runs) - checks.count("num_runs", num_runs), 0) :]
        return [(_asked(run), run.content if isinstance(run.content, str) else "") for run in newest]

    def get_member_runs(self, run_id: str) -> list[RunOutput]:
        """The runs of members that are part of this one, in the order they began."""
        return [run for run in self.runs if run.parent_run_id == run_id]


def _asked(run: RunOutput) -> str:
    return "\n".join(message.text for message in input_messages(run.said, run.input_count) if message.role == "user")


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader changed in a session: only this is written back."""

    name: str | None = None
    values: Mapping[str, Mapping[str, Any]] = {}
    """By kind and key: the new JSON text, or None for a key that is gone."""
    runs: tuple[RunOutput, ...] = ()


def read_summary(stored: Mapping[str, str]) -> SessionSummary | None:
    """The summary among a session's stored values."""
    text = stored.get("summary")
    return msgspec.json.decode(text, type=SessionSummary) if text is not None else None
