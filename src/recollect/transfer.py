"""Conversations as JSON lines in the Chat Completions form: read and checked, and written back.

A line is a conversation: ``{"conversation_id": ..., "messages": [...]}``, with ``user_id``, ``name``, ``metadata``
and any other keys beside them. The text of each message is kept byte for byte. The ids of the runs follow from the
conversation's id and their place in it: importing the same again adds nothing, and importing more adds what is new.

What these keys cannot say of a session that an agent made (the ids, states and times of its runs) stands under the
key ``recollect``; a line without it is all its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import msgspec

from recollect import checks
from recollect.errors import Conflict, InvalidArgument
from recollect.message import PROMPT_ROLES, Message
from recollect.run import RunOutput, RunStatus, TeamRunOutput
from recollect.selection import is_own
from recollect.session import AgentSession, SessionHeader, SessionSummary, TeamSession

IMPORTED: Final = "imported"
"""The key of a session's metadata under which unknown keys of its line are kept."""

_RUN_IDS: Final = uuid.UUID("b0f7c1de-52a4-5c0c-9a43-3a5f0e7d2b61")

_OF_SESSION: Final = (
    *("agent_id", "team_id", "created_at", "updated_at"),
    *("tags", "archived", "pinned", "expire_after", "summary"),
)
"""What a note says of a session in the words of `AgentSession`."""

_UNTOLD: Final = ("session_id", "run_seq", "content", "messages", "session_state")

_read_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_messages = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Line(msgspec.Struct, frozen=True):
    """A line of a file, read: a session as it is to be stored, or what is wrong with it."""

    number: int
    size: int
    """Bytes, the line break included."""
    session: AgentSession | None = None
    problem: str = ""


class _Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the key ``recollect`` says."""

    runs: list[dict[str, Any]]
    kind: str = "agent"
    agent_id: str | None = None
    team_id: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    state: dict[str, Any] = {}
    tags: list[str] = []
    archived: bool = False
    pinned: bool = False
    expire_after: timedelta | None = None
    summary: SessionSummary | None = None


class _NoteOfRun(msgspec.Struct, frozen=True):
    """What only the reader of a line needs to know of a run."""

    messages: int
    """How many messages of the line are this run's."""
    same_prompt: bool = False
    """Whether it had the system message of the run before, which is then not repeated."""


def read_lines(lines: Iterable[bytes], user_id: str | None = None) -> Iterator[Line]:
    """Read and check conversations, one at a time; ``user_id`` owns those whose line names nobody.

    A conversation that is there twice is wrong the second time; blank lines are passed over.
    """
    seen: dict[str, int] = {}
    for number, text in enumerate(lines, 1):
        if number == 1:
            text = text.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901 - a byte order mark is not part of the line
        line = _checked(number, text, user_id)
        if line.session is not None:
            first = seen.setdefault(line.session.session_id, number)
            if first != number:
                problem = f"conversation {line.session.session_id!r} is on line {first} already"
                line = Line(number, len(text), None, problem)
        yield line


def _checked(number: int, text: bytes, user_id: str | None) -> Line:
    if not text.strip():
        return Line(number, len(text))
    try:
        return Line(number, len(text), read_line(text, user_id))
    except InvalidArgument as error:
        return Line(number, len(text), None, str(error).removeprefix("line: "))


def read_line(text: bytes, user_id: str | None = None) -> AgentSession:
    """The session that a line describes.

    Raises:
        InvalidArgument: it cannot be stored as it is; the argument names the place in the line.
    """
    keys = _keys(text)
    session_id = checks.identifier("conversation_id", _value("conversation_id", _taken(keys, "conversation_id")))
    messages = _messages(_taken(keys, "messages"))
    note = _note(keys.pop("recollect", None))
    rest = {key: _value(key, value) for key, value in keys.items()}
    known = {key: rest.pop(key) for key in ("user_id", "name", "metadata") if rest.get(key) not in (None, "", {})}
    runs = runs_of(session_id, messages) if note is None else _noted_runs(session_id, messages, note.runs)
    return _session(
        note or _Note([]),
        session_id=session_id,
        user_id=checks.optional_identifier("user_id", known.get("user_id", user_id)),
        metadata=_metadata(known.get("metadata", {}), rest),
        session_data={"session_name": checks.name("name", known["name"])} if "name" in known else {},
        runs=runs,
    )


def runs_of(session_id: str, messages: Sequence[Message]) -> list[RunOutput]:
    """A conversation as runs: each user message begins one."""
    turns = enumerate(_turns([message.role for message in messages]))
    return [_imported_run(session_id, place, messages[start:end]) for place, (start, end) in turns]


def fit(session: AgentSession, stored: SessionHeader | None) -> AgentSession:
    """A session as it can be added to what is stored under its id: a name and an owner that are there stay.

    Raises:
        Conflict: the one that is stored has another owner.
    """
    if stored is None:
        return session
    if session.user_id not in (None, stored.user_id):
        owner = f"user {stored.user_id!r}" if stored.user_id else "nobody"
        msg = f"session {session.session_id!r} is stored already and belongs to {owner}, not to {session.user_id!r}"
        raise Conflict(msg)
    session.header = msgspec.structs.replace(session.header, user_id=stored.user_id)
    session.name = stored.name or session.name
    return session


def write_line(session: AgentSession) -> str:
    """The line that `read_line` makes this session of again, without a line break.

    Runs of a team's members, replaced runs, and those that were to replace one and did not, are left out.
    """
    runs = [run for run in session.runs if is_own(run)]
    messages, notes = _told(session.session_id, runs)
    metadata = dict(session.metadata)
    imported = metadata.pop(IMPORTED) if isinstance(metadata.get(IMPORTED), dict) else {}
    known = {"user_id": session.user_id, "name": session.name, "metadata": metadata}
    note = {} if _is_plain(session, runs) else {"recollect": _note_of(session, notes)}
    rest = imported | {key: value for key, value in known.items() if value} | note
    fields = {"conversation_id": _text(session.session_id), "messages": f"[{', '.join(messages)}]"}
    fields |= {key: _text(value) for key, value in rest.items() if key not in fields}
    return "{" + ", ".join(f"{_text(key)}: {text}" for key, text in fields.items()) + "}"


def _keys(text: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _read_object(text)
    except msgspec.ValidationError as error:
        raise InvalidArgument("line", f"not a JSON object: {_plainly(error)}") from error
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        surrogate = "; perhaps it holds half of a surrogate pair, such as \\ud800" if b"\\ud" in text else ""
        raise InvalidArgument("line", f"not valid JSON: {_plainly(error)}{surrogate}") from error


def _taken(keys: dict[str, msgspec.Raw], key: str) -> msgspec.Raw:
    try:
        return keys.pop(key)
    except KeyError:
        raise InvalidArgument(key, "is missing") from None


def _value(key: str, raw: msgspec.Raw) -> Any:
    try:
        return checks.decode(raw)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(key, f"not valid JSON: {_plainly(error)}") from error


def _messages(raw: msgspec.Raw) -> list[Message]:
    try:
        texts = _read_messages(raw)
    except msgspec.ValidationError as error:
        raise InvalidArgument("messages", f"must be a list: {_plainly(error)}") from error
    return [_message(place, text) for place, text in enumerate(texts)]


def _message(place: int, raw: msgspec.Raw) -> Message:
    try:
        return Message.from_json(bytes(raw))
    except InvalidArgument as error:
        where = f"messages[{place}]{error.argument.removeprefix('message')}"
        raise InvalidArgument(where, str(error).removeprefix(f"{error.argument}: ")) from error


def _metadata(given: Any, rest: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise InvalidArgument("metadata", f"must be an object, not {type(given).__name__}")
    if IMPORTED in given and (rest or isinstance(given[IMPORTED], dict)):
        raise InvalidArgument(f"metadata.{IMPORTED}", "is where keys that are not known are kept; rename it")
    return given | {IMPORTED: dict(rest)} if rest else given


def _note(raw: msgspec.Raw | None) -> _Note | None:
    try:
        return None if raw is None else msgspec.json.decode(raw, type=_Note)
    except msgspec.MsgspecError as error:
        raise InvalidArgument("recollect", f"was not written by this program: {_plainly(error)}") from error


def _session(note: _Note, **given: Any) -> AgentSession:
    kind = TeamSession if note.kind == "team" else AgentSession
    given["session_data"] |= {"session_state": note.state}
    given |= {name: getattr(note, name) for name in _OF_SESSION}
    return kind(**given)


def _turns(roles: Sequence[str]) -> list[tuple[int, int]]:
    """Where runs begin and end: at user messages, which take along the system messages right before them.

    What comes before the first user message belongs to the first run.
    """
    starts = [0]
    for place, role in enumerate(roles):
        if role == "user":
            starts.append(_with_prompts(roles, place))
    del starts[1:2]  # the first user message ends nothing
    return [(start, end) for start, end in pairwise([*starts, len(roles)]) if start < end]


def _with_prompts(roles: Sequence[str], place: int) -> int:
    while place and roles[place - 1] in PROMPT_ROLES:
        place -= 1
    return place


def _imported_run(session_id: str, place: int, messages: Sequence[Message]) -> RunOutput:
    said = messages[1:] if messages[0].role in PROMPT_ROLES else messages
    asked = next((number for number, message in enumerate(said, 1) if message.role == "user"), None)
    answered = any(message.role in ("assistant", "tool") for message in said[:asked])
    return RunOutput(
        run_id=_run_id(session_id, place),
        session_id=session_id,
        messages=tuple(messages),
        input_count=asked if answered else None,
    )


def _run_id(session_id: str, place: int) -> str:
    return str(uuid.uuid5(_RUN_IDS, f"{session_id}\n{place}"))


def _noted_runs(session_id: str, messages: Sequence[Message], notes: Sequence[dict[str, Any]]) -> list[RunOutput]:
    """Runs as the line describes them; each takes its messages from the front of the rest."""
    runs: list[RunOutput] = []
    rest, prompt = list(messages), None
    for place, given in enumerate(notes):
        try:
            note = msgspec.convert(given, _NoteOfRun)
            run = (TeamRunOutput if given.get("team_id") else RunOutput).from_dict(
                given | {"session_id": session_id, "messages": ()}
            )
        except (msgspec.ValidationError, InvalidArgument) as error:
            raise InvalidArgument(f"recollect.runs[{place}]", _plainly(error)) from error
        said = rest[: note.messages]
        del rest[: note.messages]
        if note.same_prompt and prompt is not None:
            said.insert(0, prompt)
        runs.append(msgspec.structs.replace(run, messages=tuple(said)))
        prompt = runs[-1].prompt or prompt
    if rest:
        raise InvalidArgument("recollect.runs", f"tell nothing of the last {len(rest)} messages")
    return runs


def _told(session_id: str, runs: Sequence[RunOutput]) -> tuple[list[str], list[dict[str, Any]]]:
    """The messages of runs as JSON texts, a system message only where it changes, and a note of each run.

    What was imported is told as it came, repeated system messages included.
    """
    texts: list[str] = []
    notes = []
    prompt: Message | None = None
    for place, run in enumerate(runs):
        same = run.prompt is not None and run.prompt == prompt and run.run_id != _run_id(session_id, place)
        told = run.said if same else run.messages
        texts += [message.to_json() for message in told]
        notes.append(_note_of_run(run) | {"messages": len(told)} | ({"same_prompt": True} if same else {}))
        prompt = run.prompt or prompt
    return texts, notes


def _is_plain(session: AgentSession, runs: Sequence[RunOutput]) -> bool:
    """Whether the messages alone say all there is to say."""
    marks = _note_of(session, [])
    if marks.keys() - {"kind", "created_at", "updated_at", "runs"} or session.kind != "agent":
        return False
    nowhere: dict[str, Any] = {"run_seq": None, "created_at": None, "finished_at": None}
    bare = [msgspec.structs.replace(run, **nowhere) for run in runs]
    return bare == runs_of(session.session_id, [message for run in runs for message in run.messages])


def _note_of(session: AgentSession, runs: list[dict[str, Any]]) -> dict[str, Any]:
    header = session.header
    told = {
        "kind": session.kind,
        "agent_id": session.agent_id,
        "team_id": session.team_id,
        "created_at": session.created_at,
        "updated_at": session.updated_at,
        "state": session.session_state,
        "tags": session.tags,
        "archived": header.archived,
        "pinned": header.pinned,
        "expire_after": header.expire_after,
        "summary": session.summary,
    }
    return {key: value for key, value in told.items() if value} | {"runs": runs}


def _note_of_run(run: RunOutput) -> dict[str, Any]:
    told = {key: value for key, value in run.to_dict().items() if value and key not in _UNTOLD}
    # A copy of a run that is under way will never be finished.
    return told | ({"status": "interrupted"} if run.status is RunStatus.running else {})


def _text(value: Any) -> str:
    return checks.encode(value).decode()


def _plainly(error: Exception) -> str:
    return str(error).replace("`", "")
