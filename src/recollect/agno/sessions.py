"""A session of Agno's as one of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from recollect import checks
from recollect.agno.rest import KEY, mapping, something, value, with_rest
from recollect.agno.runs import Session, Turn, moment, turn_of
from recollect.errors import InvalidArgument
from recollect.run import RunOutput
from recollect.session import AgentSession, SessionSummary, TeamSession

_KINDS: Final[Mapping[str, type[AgentSession]]] = {"agent": AgentSession, "team": TeamSession}

WORKFLOW: Final = "workflow"
"""The kind of session that has no counterpart here."""

_REST: Final = ("workflow_id", "agent_data", "team_data", "workflow_data")


class Found(msgspec.Struct, frozen=True):
    """A session of Agno's, read: as it is to be stored, and what is wrong with it or with some of its runs."""

    session_id: str
    kind: str
    """``agent``, ``team``, or ``workflow``, which is passed over."""
    session: AgentSession | None = None
    problems: tuple[str, ...] = ()
    runs: Mapping[str, int] = {}
    """How many messages Agno has of each run that is to be stored, by the run's id."""


def found_of(row: Mapping[str, Any], turns: Sequence[Turn], user_id: str | None = None) -> Found:
    """A row of the table of sessions with its runs; ``user_id`` owns a session without an owner."""
    session_id, kind = str(row["session_id"]), kind_of(row)
    if kind == WORKFLOW:
        return Found(session_id, kind)
    wrong = tuple(f"run {turn.run_id!r}: {turn.problem}" for turn in turns if turn.problem)
    counts = {turn.run_id: turn.messages for turn in turns if turn.run is not None}
    try:
        session = _session(row, kind, _with_parents(turn.run for turn in turns if turn.run is not None), user_id)
    except InvalidArgument as error:
        return Found(session_id, kind, problems=(str(error), *wrong))
    return Found(session_id, kind, session, wrong, counts)


def kind_of(row: Mapping[str, Any]) -> str:
    """Whose session it is; the first of its ids tells where its type does not."""
    if row["session_type"] is not None:
        return str(row["session_type"])
    return next((kind for kind in ("team", WORKFLOW) if row[f"{kind}_id"]), "agent")


def facts_of(row: Mapping[str, Any]) -> Session:
    """What the runs of a session must know of it.

    Raises:
        InvalidArgument: its id cannot be stored, or its data are none.
    """
    session_id = checks.identifier("session_id", row["session_id"])
    state = mapping("session_data", row["session_data"]).get("session_state")
    return Session(session_id, state if isinstance(state, dict) else {})


def turns_of(row: Mapping[str, Any], stored: Iterable[Turn], facts: Session) -> list[Turn]:
    """The runs of a session, each once: those in its row, in their order, then those that only have rows of their own.

    A database that was brought from release 2 to 3 has runs in both places; the one with a row of its own is newer.
    """
    runs = value("runs", row["runs"])
    if not isinstance(runs, list | None):
        raise InvalidArgument("runs", f"must be a list, not {type(runs).__name__}")
    own = {turn.run_id: turn for turn in stored}
    listed = [turn_of(data, facts, str(place)) for place, data in enumerate(runs or ())]
    first = [own.pop(turn.run_id, turn) for turn in listed]
    top = [*first, *own.values()]
    known = {turn.run_id for turn in top}
    inner = {one.run_id: turn.run_id for turn in top for one in turn.all() if one.run_id not in known}
    return _each_once(one for turn in top for one in turn.all() if one is turn or inner.get(one.run_id) == turn.run_id)


def _each_once(turns: Iterable[Turn]) -> list[Turn]:
    """Of runs with the same id the first; another one that is not the same is told."""
    seen: dict[str, Turn] = {}
    others = [turn for turn in turns if seen.setdefault(turn.run_id, turn) != turn]
    return [*seen.values(), *(Turn(turn.run_id, problem="is there twice, and not the same") for turn in others)]


def _session(row: Mapping[str, Any], kind: str, runs: Sequence[RunOutput], user_id: str | None) -> AgentSession:
    if kind not in _KINDS:
        raise InvalidArgument("session_type", f"{kind!r} is none that is known")
    data = mapping("session_data", row["session_data"])
    name, state = data.pop("session_name", None), data.pop("session_state", None)
    summary, rest = _summary(value("summary", row["summary"]))
    name, whole = _name(name)
    rest |= {"session_name": whole, **data} | {key: value(key, row[key]) for key in _REST if row[key] != "null"}
    checks.json_object("session_state", state)
    metadata = with_rest(mapping("metadata", row["metadata"]), rest)
    checks.json_object("metadata", metadata)
    return _KINDS[kind](
        session_id=checks.identifier("session_id", row["session_id"]),
        agent_id=row["agent_id"] or None,
        team_id=row["team_id"] or None,
        user_id=row["user_id"] or checks.optional_identifier("user_id", user_id),
        session_data={"session_name": name, "session_state": state},
        metadata=metadata,
        summary=summary,
        runs=runs,
        created_at=moment("created_at", row["created_at"]),
        updated_at=moment("updated_at", row["updated_at"]),
    )


def _name(given: Any) -> tuple[str | None, Any]:
    """The name as it can be stored, and the whole of it where that is more."""
    if not isinstance(given, str):
        return None, given
    name = checks.preview(given, checks.MAX_NAME)
    if not name:
        return None, None
    return checks.name("session_name", name), given if name != checks.preview(given, len(given)) else None


def _summary(given: Any) -> tuple[SessionSummary | None, dict[str, Any]]:
    """The summary, and what has no place in it."""
    if not isinstance(given, dict) or not isinstance(given.get("summary"), str):
        return None, {"summary": given}
    topics, updated = given.get("topics") or (), _time(given.get("updated_at"))
    made = SessionSummary(
        summary=checks.text("summary", given["summary"]),
        topics=tuple(str(topic) for topic in topics) if isinstance(topics, list) else (),
        updated_at=updated,
    )
    rest = {key: value for key, value in given.items() if key not in ("summary", "topics", "updated_at")}
    return made, {"summary": something(rest)}


def _time(text: Any) -> datetime | None:
    """A time that Agno wrote without saying where; taken for UTC, as servers have it."""
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return time if time is None or time.tzinfo is not None else time.replace(tzinfo=UTC)


def _with_parents(runs: Iterable[RunOutput]) -> list[RunOutput]:
    """Runs of which each names a parent that is there, or none; one that is not there is told with the rest."""
    listed = list(runs)
    ids = {run.run_id for run in listed}
    return [run if run.parent_run_id in (None, *ids - {run.run_id}) else _orphan(run) for run in listed]


def _orphan(run: RunOutput) -> RunOutput:
    metadata = run.metadata
    metadata[KEY] = {**metadata.get(KEY, {}), "parent_run_id": run.parent_run_id}
    return msgspec.structs.replace(run, parent_run_id=None, metadata_json=checks.json_text("metadata", metadata))
