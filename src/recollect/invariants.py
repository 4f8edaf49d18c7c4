"""What holds of every database: each check names what must not be, and the rules find where it is.

The rules are pure: they take rows as they are stored, and give a `Fault` for each that breaks one. `recollect.survey`
reads the rows, `recollect.doctor` tells what was found, and `recollect.repair` mends what can be mended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

from recollect import checks
from recollect.db.tables import Table, expected
from recollect.errors import InvalidArgument
from recollect.message import PROMPT_ROLES, Message
from recollect.run import RunStatus
from recollect.store.claims import CLAIM
from recollect.store.rows import name_key, read_metrics
from recollect.store.turns import LEASE, digest

EXAMPLES: Final = 3
"""Places of a fault that are named; the rest are counted."""

TABLES: Final[Mapping[str, Table]] = expected("sqlite").tables
"""The tables; their columns are the same on every database."""

AHEAD: Final = 5_000_000
"""Microseconds by which two looks at one clock may differ."""

Place = tuple[Any, ...]
Fields = Mapping[str, Any]
"""A row by its columns."""


Waiting = tuple[Any, "Fault | None"]
"""The id of a call that was not answered yet, and what is wrong when it never is."""


class Check(msgspec.Struct, frozen=True):
    """What must not be."""

    name: str
    fault: str
    """What is said of the places that are found."""
    status: Literal["note", "problem"] = "problem"


class Fault(msgspec.Struct, frozen=True):
    """A place where something is that must not be."""

    check: str
    session_id: Any
    place: Place = ()
    """The run, the message in it, or the kind and key of a value; empty for the session."""
    was: Any = None
    should: Any = None
    """What would be right, where that follows from the other rows; None where nobody can tell."""


CHECKS: Final = (
    Check("counts", "sessions whose header counts otherwise than their rows"),
    Check("tokens", "sessions counted fewer tokens than their runs took, or fewer than none"),
    Check("order", "places in a run are empty that should not be"),
    Check("duplicates", "rows are there twice; which of them is right, nobody can tell but you"),
    Check("columns", "rows hold something of another type than the column is for"),
    Check("times", "times are none that a calendar has"),
    Check(
        "headers",
        "sessions have an unknown kind, source of their name or flag, expire before they are used, or are found by "
        "another name",
    ),
    Check("claims", "sessions are held for longer than anybody may hold them"),
    Check("tool calls", "calls in completed runs have no result"),
    Check("tool results", "results have no call"),
    Check("tool call lists", "messages have tool_calls that are no list of objects"),
    Check("imported calls", "calls came without a result", "note"),
    Check("imported results", "results came without a call", "note"),
    Check("versions", "sessions are older than what is in them"),
    Check("statuses", "runs have no known status, or ended at no time"),
    Check("runs", "runs have metadata, metrics, an input or an attempt that cannot be read"),
    Check("sizes", "runs have another size than their messages"),
    Check("leases", "leases are held for runs that are not under way, or for longer than anybody may hold them"),
    Check("runs without lease", "runs are under way and held by nobody"),
    Check("members", "runs name a parent that is not there, or themselves"),
    Check("replacements", "runs are to replace themselves, or are part of another and to replace one"),
    Check("messages", "messages are no JSON, no messages, or of another role"),
    Check("values", "values are no JSON, or of an unknown kind"),
    Check("system messages", "runs name one that is not there, or it is none"),
    Check("messages without run", "messages belong to no run"),
    Check("rows without session", "sessions have no header"),
    Check("search index", "messages that are not there can be found"),
    Check(
        "broken off",
        "runs ended without a word; they are read as interrupted, and the next run in their session records it",
        "note",
    ),
    Check("under way", "runs are under way", "note"),
    Check("expired", "sessions have expired; nobody sees them, and a purge deletes them", "note"),
)

_KINDS: Final = ("agent", "team")
_SOURCES: Final = (None, "manual", "auto", "fallback")
_VALUES: Final = ("state", "metadata", "summary", "tag")
_OPEN: Final = ("running", "pending", "paused")
_COUNTED: Final = ("run_count", "completed_count", "message_count", "next_seq")
_TOKENS: Final = ("input_tokens", "output_tokens", "aux_tokens")
_TIMES: Final = ("created_at", "updated_at", "finished_at", "expires_at")
_FIRST: Final = -62_135_596_800_000_000
_LAST: Final = 253_402_300_799_999_999
"""The years 1 to 9999, which is what a calendar of Python has."""


class Counted(msgspec.Struct):
    """What the rows of a session come to."""

    runs: int = 0
    completed: int = 0
    spoken: int = 0
    last_seq: int = 0
    version: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def should(self, header: Fields) -> dict[str, int]:
        """The numbers that the header should have; what it has stays where that may be right."""
        place = max(_number(header["next_seq"]), self.last_seq + 1, 1)
        version = max(_number(header["version"]), self.version, 1)
        return {
            "run_count": self.runs,
            "completed_count": self.completed,
            "message_count": self.spoken,
            "next_seq": place,
            "version": version,
            "summarised_through": min(max(_number(header["summarised_through"]), 0), place - 1),
            # Attempts that were made again are gone, and what they took stays counted.
            "input_tokens": max(_number(header["input_tokens"]), self.input_tokens),
            "output_tokens": max(_number(header["output_tokens"]), self.output_tokens),
            "aux_tokens": max(_number(header["aux_tokens"]), 0),
            "epoch": _number(header["epoch"]),
        }


def of_header(header: Fields, counted: Counted, now: int) -> Iterator[Fault]:
    """What is wrong with a header beside the rows of its session."""
    session_id, should = header["session_id"], counted.should(header)
    was = {column: header[column] for column in should}
    if of_type("sessions", header):
        yield Fault("columns", session_id, was=was, should=should)
        return
    yield from _times("sessions", header, session_id, ())
    for check, columns in (("counts", _COUNTED), ("tokens", _TOKENS), ("versions", ("version", "summarised_through"))):
        if any(was[column] != should[column] for column in columns):
            yield Fault(check, session_id, was=was, should=should)
    flags = (header["archived"], header["pinned"])
    is_known = header["kind"] in _KINDS and header["name_source"] in _SOURCES and {*flags} <= {0, 1}
    if not is_known or (header["expire_after"] is not None and header["expire_after"] < 1):
        yield Fault("headers", session_id)
    if header["name_key"] != (key := name_key(header["name"])):
        yield Fault("headers", session_id, was=header["name_key"], should=key)
    if header["expires_at"] is not None and header["expires_at"] <= now:
        yield Fault("expired", session_id)
    if (header["claim_until"] or 0) > now + CLAIM + AHEAD:
        yield Fault("claims", session_id, was=header["claim_until"], should=now + CLAIM)


def of_run(run: Fields, said: Said, prompts: frozenset[str] | set[str]) -> Iterator[Fault]:
    """What is wrong with a run beside its messages."""
    session_id, place = run["session_id"], (run["run_seq"],)
    if of_type("runs", run):
        yield Fault("columns", session_id, place)
        return
    yield from _times("runs", run, session_id, place)
    if run["status"] not in tuple(RunStatus) or (run["finished_at"] is None and run["status"] not in _OPEN):
        yield Fault("statuses", session_id, place)
    if not _is_readable(run, said):
        yield Fault("runs", session_id, place)
    if run["replaces"] is not None and (run["replaces"] == run["run_id"] or run["parent_run_id"] is not None):
        yield Fault("replacements", session_id, place)
    if run["prompt"] is not None and run["prompt"] not in prompts:
        yield Fault("system messages", session_id, place)
    if said.is_whole and run["chars"] != said.chars:
        yield Fault("sizes", session_id, place, was=run["chars"], should=said.chars)
    if run["seen"] == RunStatus.interrupted and run["status"] == RunStatus.running:
        yield Fault("broken off", session_id, place)
    elif run["seen"] == RunStatus.running:
        yield Fault("under way", session_id, place)


def tokens_of(run: Fields) -> tuple[int, int]:
    """What a run took, input and output; nothing where that cannot be read."""
    if run["metrics"] is None or (metrics := _metrics(run["metrics"])) is None:
        return 0, 0
    return metrics.input_tokens, metrics.output_tokens


def of_lease(lease: Fields, statuses: Mapping[Any, Any], now: int) -> Iterator[Fault]:
    """What is wrong with a lease, beside the statuses of runs by their place."""
    session_id, place = lease["session_id"], (lease["run_seq"],)
    if of_type("leases", lease):
        yield Fault("columns", session_id, place)
    elif statuses.get(lease["run_seq"]) != RunStatus.running:
        yield Fault("leases", session_id, place)
    elif lease["until"] > now + LEASE + AHEAD:
        yield Fault("leases", session_id, place, was=lease["until"], should=now + LEASE)


def of_value(value: Fields) -> Iterator[Fault]:
    """What is wrong with a value."""
    place = (value["kind"], value["key"])
    if of_type("values", value):
        yield Fault("columns", value["session_id"], place)
    elif value["kind"] not in _VALUES or not _is_json(value["value"]):
        yield Fault("values", value["session_id"], place)


def of_prompt(prompt: Fields) -> Iterator[Fault]:
    """What is wrong with a system message."""
    session_id, place = prompt["session_id"], (prompt["digest"],)
    if of_type("prompts", prompt):
        yield Fault("columns", session_id, place)
        return
    try:
        message = Message.from_json(prompt["body"])
    except InvalidArgument:
        yield Fault("system messages", session_id, place)
        return
    is_known = message.role in PROMPT_ROLES and digest(message) == prompt["digest"]
    if message.role != prompt["role"] or not is_known:
        yield Fault("system messages", session_id, place)


def of_type(table: str, row: Fields) -> list[str]:
    """The columns that hold something of another type than they are for."""
    wrong = []
    for name, column in TABLES[f"recollect_{table}"].columns.items():
        value = row[name]
        if value is None:
            wrong += [name] if column.is_required else []
        elif not isinstance(value, str | bytes if column.type == "text" else int):
            wrong.append(name)
    return wrong


class Said:
    """What was said in a run, looked at message after message."""

    def __init__(self, session_id: str, run_seq: Any, *, is_completed: bool, is_imported: bool) -> None:
        self.session_id = session_id
        self.run_seq = run_seq
        self.faults: list[Fault] = []
        self.count = self.spoken = self.chars = 0
        self.is_whole = True
        """Whether every message could be read."""
        self._is_completed = is_completed
        self._calls_check = "imported calls" if is_imported else "tool calls"
        self._results_check = "imported results" if is_imported else "tool results"
        self._open: list[tuple[Any, Any]] = []
        """Calls without a result so far: their ids, and the places they were made at."""
        self._answered: set[Any] = set()
        self._last = -1
        self._may_be_up_to = 0
        self._has_answered = False
        self._knows_calls = True

    def hear(self, message: Fields, waiting: list[Waiting]) -> None:
        """Look at the next message; ``waiting`` are calls of earlier runs that may be answered before this one's."""
        idx, place = message["idx"], (self.run_seq, message["idx"])
        self.count += 1
        self.spoken += message["role"] in ("user", "assistant")
        if wrong := of_type("messages", message):
            self.faults.append(Fault("columns", self.session_id, place))
            self.is_whole = self._knows_calls = False
        if "idx" not in wrong:
            self._check_place(idx, place)
        if wrong:
            return
        try:
            read = Message.from_json(message["body"])
        except InvalidArgument:
            self._cannot_read(message, place)
            return
        self.chars += read.chars
        if read.role != message["role"]:
            self.faults.append(Fault("messages", self.session_id, place, was=message["role"], should=read.role))
        if read.role == "assistant":
            self._has_answered = True
            calls = read.tool_calls
            self._may_be_up_to = idx + 1 + len(calls)
            self._open += [(call.id, place) for call in calls]
        elif read.role == "tool":
            self._answer(read.tool_call_id, place, waiting)

    def end(self) -> list[Waiting]:
        """The calls that have no result in this run; a later run may begin with it."""
        is_due = self._is_completed and self._knows_calls
        faults = [Fault(self._calls_check, self.session_id, place) if is_due else None for _, place in self._open]
        return [(call_id, fault) for (call_id, _), fault in zip(self._open, faults, strict=True)]

    def _check_place(self, idx: int, place: Place) -> None:
        """A place is kept for the result of each call; in a run that was broken off it may have stayed empty."""
        if idx == self._last:
            self.faults.append(Fault("duplicates", self.session_id, place))
        elif idx < 0 or (idx > self._last + 1 and (self._is_completed or idx > self._may_be_up_to)):
            self.faults.append(Fault("order", self.session_id, place))
        self._last = idx

    def _cannot_read(self, message: Fields, place: Place) -> None:
        self.is_whole = self._knows_calls = False
        check = "tool call lists" if _has_other_calls(message["body"]) else "messages"
        self.faults.append(Fault(check, self.session_id, place))

    def _answer(self, call_id: Any, place: Place, waiting: list[Waiting]) -> None:
        """A result answers the nearest call before it: of its own run, or before its first answer of an earlier one."""
        if not self._knows_calls:
            return
        mine = [number for number, (own, _) in enumerate(self._open) if own == call_id]
        if mine:
            self._open.pop(mine[-1])
            self._answered.add(call_id)
            return
        earlier = [number for number, (own, _) in enumerate(waiting) if own == call_id]
        if earlier and not self._has_answered:
            waiting.pop(earlier[-1])
        elif call_id not in self._answered:
            # What a run was given may answer a run that was deleted or replaced since; nothing is damaged by that.
            check = self._results_check if self._has_answered else "imported results"
            self.faults.append(Fault(check, self.session_id, place))


def is_imported(run_id: Any) -> bool:
    """The id of an imported run is a UUID of version 5. What was never answered where it comes from is no fault."""
    return isinstance(run_id, str) and len(run_id) == 36 and run_id[14] == "5"  # noqa: PLR2004 - a UUID as text


def _times(table: str, row: Fields, session_id: Any, place: Place) -> Iterator[Fault]:
    columns = TABLES[f"recollect_{table}"].columns
    times = [row[name] for name in _TIMES if name in columns and row[name] is not None]
    if not all(_FIRST <= time <= _LAST for time in times):
        yield Fault("times", session_id, place)


def _is_readable(run: Fields, said: Said) -> bool:
    if run["metadata"] is not None and not _is_json(run["metadata"], of=dict):
        return False
    if run["metrics"] is not None and _metrics(run["metrics"]) is None:
        return False
    return run["attempt"] >= 1 and 0 <= (run["input"] or 0) <= max(said.count, 1)


def _metrics(text: Any) -> Any:
    try:
        metrics = read_metrics(text)
        read = msgspec.convert(msgspec.to_builtins(metrics), type(metrics))
    except (msgspec.MsgspecError, TypeError, UnicodeError, RecursionError):
        return None
    return read if isinstance(checks.decode(text), list) else None


def _is_json(text: Any, of: type = object) -> bool:
    try:
        return isinstance(checks.decode(text), of)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False


def _has_other_calls(body: Any) -> bool:
    """Whether the tool calls are what makes a message none."""
    try:
        read = checks.decode(body)
        rest = {key: value for key, value in read.items() if key != "tool_calls"}
        Message.from_json(checks.encode(rest))
    except (msgspec.MsgspecError, UnicodeError, RecursionError, AttributeError, InvalidArgument):
        return False
    return True


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
