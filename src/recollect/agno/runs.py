"""A run of Agno's as one of ours."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from recollect import checks
from recollect.agno.messages import message_of
from recollect.agno.rest import mapping, something, with_rest
from recollect.checks import from_micros
from recollect.errors import InvalidArgument
from recollect.message import Message
from recollect.run import RunMetrics, RunOutput, RunStatus, TeamRunOutput

_NAMELESS: Final = uuid.UUID("1f6f3f0a-6f3d-5f43-9d0c-0a5f4f5e8a11")
"""What the ids of runs follow from that have none."""

_STATUSES: Final = {
    "PENDING": RunStatus.interrupted,
    "RUNNING": RunStatus.interrupted,
    "COMPLETED": RunStatus.completed,
    "PAUSED": RunStatus.paused,
    "CANCELLED": RunStatus.cancelled,
    "ERROR": RunStatus.error,
    "REGENERATED": RunStatus.regenerated,
}
"""A run that was under way is so nowhere any more."""

_COUNTED: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")
_TIMED: Final = ("duration", "time_to_first_token")

_PLACED: Final = {
    "run_id",
    "session_id",
    "parent_run_id",
    "user_id",
    "agent_id",
    "agent_name",
    "team_id",
    "team_name",
    "status",
    "model",
    "messages",
    "metadata",
    "created_at",
    "member_responses",
}

_SECONDS: Final = 253_402_300_799
"""Until the end of the year 9999."""


class Turn(msgspec.Struct, frozen=True):
    """A run as it was found: as it is to be stored, or what is wrong with it."""

    run_id: str
    run: RunOutput | None = None
    problem: str = ""
    messages: int = 0
    """How many Agno has of it, those of earlier runs left out."""
    members: tuple[Turn, ...] = ()
    """Runs of members that stand within it."""

    def all(self) -> list[Turn]:
        """The run and those within it."""
        return [self, *(inner for member in self.members for inner in member.all())]


class Session(msgspec.Struct, frozen=True):
    """What a run must know of its session."""

    session_id: str
    state: Mapping[str, Any] = {}


def turn_of(data: Any, session: Session, place: str, parent: str | None = None) -> Turn:
    """A run with its members'; ``place`` tells where it stands, for one without an id."""
    if not isinstance(data, dict):
        return Turn(place, problem=f"a run must be an object, not {type(data).__name__}")
    run_id = data.get("run_id") or str(uuid.uuid5(_NAMELESS, f"{session.session_id}\n{place}"))
    given = data.get("member_responses")
    inner = enumerate(given if isinstance(given, list) else ())
    members = tuple(turn_of(member, session, f"{place}.{number}", run_id) for number, member in inner)
    try:
        run, problem = _run(data, run_id, session, parent), ""
    except InvalidArgument as error:
        run, problem = None, str(error)
    return Turn(str(run_id), run, problem, len(said(data)), members)


def said(data: Mapping[str, Any]) -> list[Any]:
    """What was said in a run, without the history that Agno repeats; the input where there is nothing else."""
    given = data.get("messages") or []
    if not isinstance(given, list):
        return [given]
    own = [message for message in given if not (isinstance(message, dict) and message.get("from_history"))]
    return own or _asked(data.get("input"))


def _asked(given: Any) -> list[Any]:
    """The input of a run that has no messages, as the message that it would have been."""
    content = given.get("input_content") if isinstance(given, dict) else given
    if isinstance(content, list):
        return [item if isinstance(item, dict) else {"role": "user", "content": item} for item in content]
    if isinstance(content, dict) and "role" in content:
        return [content]
    media = {key: given.get(key) for key in ("images", "files")} if isinstance(given, dict) else {}
    return [{"role": "user", "content": content, **media}] if content else []


def _run(data: dict[str, Any], run_id: Any, session: Session, parent: str | None) -> RunOutput:
    messages, beside = _messages(data)
    status = _status(data.get("status"))
    error = _error(data, messages, status)
    created = moment("created_at", data.get("created_at"))
    metrics, more = _metrics(data.get("metrics"), messages)
    rest = _rest(data, messages, error, session) | {"metrics": more, "messages": beside}
    metadata = with_rest(mapping("metadata", data.get("metadata")), rest)
    of_team = "agent_id" not in data and "team_id" in data
    return (TeamRunOutput if of_team else RunOutput)(
        run_id=checks.identifier("run_id", run_id),
        session_id=session.session_id,
        status=status,
        user_id=_id("user_id", data),
        agent_id=_id("agent_id", data),
        agent_name=_name(data.get("team_name" if of_team else "agent_name")),
        team_id=_id("team_id", data),
        parent_run_id=_id("parent_run_id", data) or parent,
        model=_name(data.get("model")),
        messages=messages,
        metrics=metrics,
        error=error,
        created_at=created,
        finished_at=None if created is None else created + timedelta(seconds=metrics.duration),
        metadata_json=checks.json_text("metadata", metadata) if metadata else None,
    )


def _id(key: str, data: Mapping[str, Any]) -> str | None:
    return checks.optional_identifier(key, data.get(key) or None)


def _name(value: Any) -> str | None:
    return checks.preview(value, checks.MAX_ID) or None if isinstance(value, str) else None


def _messages(data: Mapping[str, Any]) -> tuple[tuple[Message, ...], dict[str, Any]]:
    """The messages, and by their places in the run what of them has no place in one."""
    made: list[Message] = []
    beside: dict[str, Any] = {}
    calls: dict[str, Any] = {}
    for place, given in enumerate(said(data)):
        try:
            message, rest = message_of(given, calls)
        except InvalidArgument as error:
            problem = str(error).removeprefix(f"{error.argument}: ")
            raise InvalidArgument(f"messages[{place}]{error.argument.removeprefix('message')}", problem) from error
        made.append(message)
        if rest.get("created_at") == data.get("created_at"):
            rest.pop("created_at", None)
        if rest:
            beside[str(place)] = rest
    return tuple(made), beside


def _status(word: Any) -> RunStatus:
    """The status; releases that had none stored only what was done."""
    if word is None:
        return RunStatus.completed
    if not isinstance(word, str) or word.upper() not in _STATUSES:
        raise InvalidArgument("status", f"{word!r} is none that is known")
    return _STATUSES[word.upper()]


def _error(data: Mapping[str, Any], messages: Sequence[Message], status: RunStatus) -> str | None:
    """Why a run failed: Agno says it in the place of the answer."""
    content = data.get("content")
    if status is not RunStatus.error or not isinstance(content, str) or content == _answer(messages):
        return None
    return checks.problem("error", content)


def _answer(messages: Sequence[Message]) -> str | None:
    return next((message.text for message in reversed(messages) if message.role == "assistant"), None)


def _metrics(given: Any, messages: Sequence[Message]) -> tuple[RunMetrics, dict[str, Any]]:
    """The metrics we know, and the others."""
    found = given if isinstance(given, dict) else {}
    counts: dict[str, Any] = {key: _count(found.get(key)) for key in _COUNTED}
    times: dict[str, Any] = {key: time for key in _TIMED if (time := _seconds(found.get(key))) is not None}
    steps = sum(message.role == "assistant" for message in messages)
    more = {key: value for key, value in something(found).items() if value != 0 and key not in {*counts, *times}}
    if more.get("total_tokens") == counts["input_tokens"] + counts["output_tokens"]:
        del more["total_tokens"]
    return RunMetrics(**counts, **times, steps=steps), more


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else 0


def _seconds(value: Any) -> float | None:
    is_time = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _SECONDS
    return float(value) if is_time else None


def _rest(data: dict[str, Any], messages: Sequence[Message], error: str | None, session: Session) -> dict[str, Any]:
    """The keys without a place; what only repeats what is stored elsewhere is left out."""
    rest = {key: value for key, value in something(data).items() if key not in _PLACED}
    thoughts = {message.reasoning_content for message in messages}
    repeated: dict[str, Any] = {
        "content": rest.get("content") in (_answer(messages), error),
        "content_type": rest.get("content_type") == "str",
        "reasoning_content": rest.get("reasoning_content") in thoughts,
        "session_state": rest.get("session_state") == session.state,
        "input": _is_said(rest.get("input"), messages),
    }
    rest = {key: value for key, value in rest.items() if not repeated.get(key)}
    return rest | {"tools": _tools(rest.pop("tools", None), messages)}


def _is_said(given: Any, messages: Sequence[Message]) -> bool:
    """Whether an input is nothing but a text, perhaps with media, that is among the messages."""
    content = given.get("input_content") if isinstance(given, dict) else given
    return isinstance(content, str) and any(message.role == "user" and message.text == content for message in messages)


def _tools(given: Any, messages: Sequence[Message]) -> list[Any]:
    """What Agno says of tool calls beyond what the messages say."""
    results: dict[Any, str] = {message.tool_call_id: message.text for message in messages if message.role == "tool"}
    told = ("tool_name", "tool_args", "tool_call_error", "result", "created_at")
    made: list[Any] = []
    for tool in given if isinstance(given, list) else ():
        call_id = tool.get("tool_call_id") if isinstance(tool, dict) else None
        if not isinstance(call_id, str) or tool.get("result") != results.get(call_id):
            made.append(tool)
            continue
        more = something({key: value for key, value in tool.items() if key not in told})
        made += [more] if more.keys() - {"tool_call_id"} else []
    return made


def moment(argument: str, value: Any) -> datetime | None:
    """A time that Agno counts in seconds since 1970 UTC.

    Raises:
        InvalidArgument: it is none.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidArgument(argument, f"must be a number of seconds, not {value!r}")
    if not 0 <= value <= _SECONDS:
        raise InvalidArgument(argument, f"{value!r} seconds since 1970 are no time that a calendar has")
    return from_micros(round(value * 1_000_000))
