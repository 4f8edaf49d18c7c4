"""Sessions and runs as the inbox shows them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Final

import msgspec

from recollect import checks
from recollect.message import Image, Message
from recollect.run import RunOutput, RunStatus, input_messages
from recollect.session import SessionHeader

PAUSE: Final = timedelta(hours=1)
"""Between two runs, from which on the time is written between them."""

WHY_CHARS: Final = 600

RESULT_CHARS: Final = 20_000
"""Characters of a tool's result that are shown."""

PICTURES: Final = ("data:image/png", "data:image/jpeg", "data:image/gif", "data:image/webp")
"""Pictures that are shown: those that are stored with the message, of kinds that hold nothing but a picture."""

_WHY: Final = {
    RunStatus.pending: "This run has not begun.",
    RunStatus.paused: "This run is paused.",
    RunStatus.cancelled: "This run was stopped before it was done.",
    RunStatus.interrupted: "The process that worked on this run ended before it was done.",
}

ENDED_EARLY: Final = frozenset({RunStatus.cancelled, RunStatus.error, RunStatus.interrupted})


class Entry(msgspec.Struct, frozen=True):
    """A session in the list."""

    header: SessionHeader
    end: str = ""
    """The status of its last run; "" where there is none."""

    @property
    def mark(self) -> str:
        """``running``, ``failed`` or "" for the dot before the name."""
        if self.end in (RunStatus.running, RunStatus.pending):
            return "running"
        return "failed" if self.end in (RunStatus.error, RunStatus.interrupted) else ""

    @property
    def at(self) -> datetime:
        header = self.header
        return header.updated_at or header.created_at or datetime.max.replace(tzinfo=UTC)


class Day(msgspec.Struct, frozen=True):
    """Sessions that were last active on one day."""

    label: str
    entries: list[Entry]


class Call(msgspec.Struct, frozen=True):
    """A tool call with its result."""

    name: str
    arguments: str
    result: str | None
    failed: bool
    cut: int
    """Characters of the result that are left out."""


class Bubble(msgspec.Struct, frozen=True):
    """One message."""

    role: str
    text: str
    images: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    """Pictures and files that are somewhere else or cannot be shown: what they are called, and where."""
    thinking: str = ""
    calls: tuple[Call, ...] = ()
    cut_short: str = ""


class Turn(msgspec.Struct, frozen=True):
    """One run."""

    run: RunOutput
    bubbles: list[Bubble]
    depth: int
    """0 for a run of the session's own, 1 for that of a team's member, 2 for a member of that, and so on."""
    pause: timedelta | None
    """How long nothing was said before it, where that is worth a note."""
    asker: str = ""
    """Who asked: the user, or of a member's run whoever handed the task on."""
    members: list[Turn] = []
    """The runs of a team's members, in the order in which they began."""

    @property
    def who(self) -> str:
        return self.run.agent_name or self.run.agent_id or self.run.team_id or "assistant"

    @property
    def parts(self) -> tuple[list[Bubble], list[Bubble]]:
        """What was said before the members had answered, and what was said then."""
        handed_on = max((place + 1 for place, bubble in enumerate(self.bubbles) if bubble.calls), default=0)
        split = handed_on if self.members and handed_on else len(self.bubbles)
        return self.bubbles[:split], self.bubbles[split:]

    @property
    def why(self) -> str:
        """Why there is no answer, or none that is whole; "" where there is one."""
        if self.run.status is RunStatus.error:
            return "This run failed: " + checks.preview(self.run.error or "no reason is known", WHY_CHARS)
        return _WHY.get(self.run.status, "")

    @property
    def is_under_way(self) -> bool:
        return self.run.status in (RunStatus.running, RunStatus.pending)

    @property
    def can_go_on(self) -> bool:
        """Whether it can be taken up where it stopped."""
        return self.depth == 0 and self.run.status in ENDED_EARLY

    @property
    def facts(self) -> str:
        """What it took, on one line."""
        metrics, told = self.run.metrics, []
        if self.run.model:
            told.append(self.run.model)
        if metrics.total_tokens:
            told.append(f"{metrics.input_tokens:,} in · {metrics.output_tokens:,} out")
        if metrics.duration:
            told.append(f"{metrics.duration:.1f} s")
        return " · ".join(told)


def turns_of(runs: Sequence[RunOutput], before: datetime | None = None) -> list[Turn]:
    """The runs in the order in which they are read, with the pauses between them.

    Runs of a team's members are with the team's own; where that is on another page, they stand for themselves.
    """
    turns: list[Turn] = []
    known: dict[str, Turn] = {}
    for run in runs:
        parent = known.get(run.parent_run_id or "")
        depth = (parent.depth if parent else 0) + 1 if run.parent_run_id else 0
        pause = run.created_at - before if run.created_at and before and depth == 0 else None
        turn = known[run.run_id] = Turn(
            run,
            list(_bubbles(run)),
            depth,
            pause if pause and pause >= PAUSE else None,
            parent.who if parent else run.user_id or "User",
        )
        (parent.members if parent else turns).append(turn)
        if depth == 0:
            before = run.finished_at or run.created_at or before
    return turns


def _bubbles(run: RunOutput) -> Iterator[Bubble]:
    asked = len(input_messages(run.said, run.input_count))
    results = {message.tool_call_id: message for message in run.said if message.role == "tool"}
    for place, message in enumerate(run.said):
        if message.role == "tool" and message.tool_call_id in _called(run):
            continue
        if message.role in ("system", "developer") and place >= asked:
            continue
        images, links = _media(message)
        yield Bubble(
            role=message.role,
            text=message.text,
            images=images,
            links=links,
            thinking=message.reasoning_content or "",
            calls=tuple(_call(call.name, call.arguments, results.get(call.id)) for call in message.tool_calls),
            cut_short=message.finish_reason or "",
        )


def _called(run: RunOutput) -> frozenset[str]:
    return frozenset(call.id for message in run.said for call in message.tool_calls)


def _call(name: str, arguments: str, result: Message | None) -> Call:
    said = None if result is None else result.text
    cut = max(0, len(said or "") - RESULT_CHARS)
    return Call(
        name,
        _pretty(arguments),
        said and _pretty(said[:RESULT_CHARS]),
        failed=result is not None and result.tool_call_error,
        cut=cut,
    )


def _pretty(text: str) -> str:
    """JSON on several lines; anything else as it is."""
    if len(text) > RESULT_CHARS or not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def _media(message: Message) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    shown = tuple(image.url for image in message.images if image.url and image.url.startswith(PICTURES))
    links = [_link("picture", image) for image in message.images if image.url and image.url not in shown]
    links += [(file.filename or file.file_id or "file", _address(file.url)) for file in message.files]
    return shown, tuple(links)


def _link(what: str, image: Image) -> tuple[str, str]:
    return what, _address(image.url)


def _address(url: str | None) -> str:
    return url if url and url.startswith(("http://", "https://")) else ""


def days_of(entries: Sequence[Entry], now: datetime, zone: tzinfo) -> list[Day]:
    """Sessions by the day of their last activity, as the reader's clock has it."""
    today = now.astimezone(zone).date()
    days: list[Day] = []
    for entry in entries:
        label = day_label(entry.at.astimezone(zone).date(), today)
        if not days or days[-1].label != label:
            days.append(Day(label, []))
        days[-1].entries.append(entry)
    return days


def day_label(day: date, today: date) -> str:
    """What a day is called.

    >>> day_label(date(2026, 3, 1), date(2026, 3, 2))
    'Yesterday'
    """
    ago = (today - day).days
    if ago <= 0:
        return "Today"
    if ago == 1:
        return "Yesterday"
    if ago < 7:  # noqa: PLR2004 - a week
        return f"{day:%A}"
    return f"{day.day} {day:%B}" if day.year == today.year else f"{day.day} {day:%B %Y}"


def pause_label(pause: timedelta) -> str:
    """How long nothing was said.

    >>> pause_label(timedelta(hours=30))
    '1 day later'
    """
    hours = int(pause.total_seconds() // 3600)
    count, unit = (hours // 24, "day") if hours >= 24 else (hours, "hour")  # noqa: PLR2004 - hours of a day
    return f"{count:,} {unit}{'' if count == 1 else 's'} later"


def tickets(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What of a session's metadata leads to a page elsewhere, such as the ticket: key and address."""
    return [
        (key, value)
        for key, value in metadata.items()
        if isinstance(value, str) and value.startswith(("http://", "https://"))
    ]
