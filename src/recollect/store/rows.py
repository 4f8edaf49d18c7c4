"""Rows as the values they stand for, and the SQL that every reading operation shares."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import msgspec

from recollect import checks
from recollect.checks import from_micros
from recollect.errors import SessionNotFound
from recollect.message import PROMPT_ROLES, Message
from recollect.port import Params, Row
from recollect.run import RunMetrics, RunOutput, RunStatus, TeamRunOutput
from recollect.selection import Outline
from recollect.session import Runs, SessionHeader
from recollect.store.newest import STATUS

HEADER: Final = """
    s.session_id, s.kind, s.agent_id, s.team_id, s.user_id, s.name, s.name_source, s.preview, s.archived, s.pinned,
    s.expires_at, s.expire_after, s.run_count, s.completed_count, s.message_count, s.input_tokens, s.output_tokens,
    s.aux_tokens, s.version, s.epoch, s.created_at, s.updated_at
"""

OWNED: Final = "(cast(:user_id as text) is null or s.user_id = :user_id)"
"""Law 4: a call that names a user reaches that user's sessions and no others; one without a user is trusted."""

LIVE: Final = "(s.expires_at is null or s.expires_at > :now)"
"""A session whose time is over is gone for everybody, although its rows wait for the purge."""

MINE: Final = f"({OWNED} and {LIVE})"
"""What a caller sees of the sessions ``s``."""

LOCK: Final = "{many}select 1 from recollect_sessions where session_id = :session_id for no key update{/many}"
"""First where a change depends on more than the header: what later statements see, nobody else changes meanwhile."""


def found(change: str) -> str:
    """SQL: a change that finds a row; where many write at a time, all is undone when it finds none (`Missing`).

    For there, what was asked before it is judged by what was there when the asking began.
    """
    return f"{{many}}with found as ({{/many}}{change}{{many}}returning 1) select 1 / count(*) from found{{/many}}"


OPEN: Final = f"""
    s.session_id = :session_id and coalesce(s.user_id, '') = coalesce(cast(:user_id as text), '') and {LIVE}
"""
"""A run may begin in session ``s``: it belongs to this very user, or to nobody and none is named."""

RUN: Final = f"""
    r.run_seq, r.run_id, r.parent_run_id, r.agent_id, r.agent_name, r.team_id, r.user_id, {STATUS}, r.attempt,
    r.prompt, r.model, r.input, r.metadata, r.metrics, r.error, r.created_at, r.finished_at,
    r.replaces
"""

ALL_RUNS: Final = "{gather itTTTTTtiTTITTTiIT}"
"""Before a select of `RUN` that may find many."""

ALL_SPOKEN: Final = "{gather iiTtt}"
"""Before a select of run_seq, idx, message_id, role and body that may find many."""


def name_key(name: str) -> str:
    """What a name is found by: without case and accents, the same on every database."""
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def named(name: str, source: str | None = "manual") -> Params:
    """The parameters of a name that is to be stored."""
    return {"name": name, "name_key": name_key(name), "source": source}


STATUSES: Final = {str(status): status for status in RunStatus}
NO_METRICS: Final = RunMetrics()


def metrics_text(metrics: RunMetrics) -> str | None:
    """Metrics as they are stored: the fields in order, as a JSON array, a third of the length of an object."""
    return None if metrics == NO_METRICS else checks.encode(msgspec.structs.astuple(metrics)).decode()


def read_metrics(text: str) -> RunMetrics:
    """Metrics as they were stored; fields that were added since have their defaults."""
    return RunMetrics(*checks.decode(text))


def header(row: Row) -> SessionHeader:
    """The header of a row selected as `HEADER`."""
    (
        session_id,
        kind,
        agent_id,
        team_id,
        user_id,
        name,
        source,
        preview,
        archived,
        pinned,
        expires,
        expire_after,
        *rest,
    ) = row
    runs, completed, messages, tokens_in, tokens_out, aux, version, epoch, created, updated = rest
    return SessionHeader(
        session_id=session_id,
        kind=kind,
        agent_id=agent_id,
        team_id=team_id,
        user_id=user_id,
        name=name,
        name_source=source,
        preview=preview,
        archived=bool(archived),
        pinned=bool(pinned),
        expires_at=None if expires is None else from_micros(expires),
        expire_after=None if expire_after is None else timedelta(microseconds=expire_after),
        run_count=runs,
        completed_count=completed,
        message_count=messages,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        aux_tokens=aux,
        version=version,
        epoch=epoch,
        created_at=from_micros(created),
        updated_at=from_micros(updated),
    )


def outline(row: Row, spoken: Iterable[Row], prompts: Mapping[str, Message]) -> Outline:
    """The outline of a row selected as `RUN`; ``spoken`` are rows of (run_seq, idx, message_id, role, body)."""
    _, run_id, parent, agent_id, _, team_id, _, status, _, prompt, _, _, _, _, _, _, _, replaces = row
    stored, said = Message.stored, []
    for _, idx, own_id, role, body in spoken:  # a comprehension costs as much as a run's two messages
        said.append(stored(body, own_id or f"{run_id}.{idx}", role))
    if prompt is not None and prompt in prompts:
        said.insert(0, prompts[prompt].with_id(f"{run_id}.prompt"))
    return Outline(status, parent, agent_id, team_id, replaces, tuple(said))


def run(session_id: str, row: Row, said: tuple[Message, ...]) -> RunOutput:
    """The run of a row selected as `RUN`, with its messages."""
    run_seq, run_id, parent, agent_id, agent_name, team_id, user_id, status, attempt, _, *rest = row
    model, input_count, metadata, metrics, error, created, finished, replaces = rest
    return (RunOutput if team_id is None else TeamRunOutput)(
        run_id=run_id,
        session_id=session_id,
        status=STATUSES[status],
        user_id=user_id,
        agent_id=agent_id,
        agent_name=agent_name,
        team_id=team_id,
        parent_run_id=parent,
        replaces=replaces,
        model=model,
        messages=said,
        metrics=NO_METRICS if metrics is None else read_metrics(metrics),
        error=error,
        attempt=attempt,
        run_seq=run_seq,
        created_at=from_micros(created),
        finished_at=None if finished is None else from_micros(finished),
        input_count=input_count,
        metadata_json=metadata,
    )


def runs(session_id: str, found: Sequence[Row], spoken: Sequence[Row], prompts: Sequence[Row]) -> Runs:
    """Runs of rows in order, decoded when looked at; ``spoken`` holds (run_seq, idx, message_id, role, body)."""
    bodies = {digest: Message.stored(body, None, role) for digest, role, body in prompts}
    outlines: list[Outline | None] = [None] * len(found)
    places: dict[int, Sequence[Row]] = {}

    def outlined(number: int) -> Outline:
        known = outlines[number]
        if known is None:
            if not places:
                places[0] = ()  # so that a session without messages is grouped once, too
                places.update(by_run(spoken))
            row = found[number]
            known = outlines[number] = outline(row, places.get(row[0], ()), bodies)
        return known

    def decode(number: int) -> RunOutput:
        made = run(session_id, found[number], outlined(number).messages)
        outlines[number] = None
        return made

    return Runs(len(found), decode, outlined)


def by_run(spoken: Iterable[Row]) -> dict[int, Sequence[Row]]:
    """Rows in the order of the runs that they begin with, by these."""
    return {run_seq: [*said] for run_seq, said in groupby(spoken, itemgetter(0))}


def messages(found: Iterable[Row]) -> list[Message]:
    """Messages of rows of (run_id, prompt's role, prompt, idx, message_id, role, body), each prompt beside place 0.

    As `recollect.selection.select_messages` has it, system messages in the midst of a run are left out.
    """
    said: list[Message] = []
    for run_id, prompt_role, prompt, idx, own_id, role, body in found:
        if prompt is not None:
            said.append(Message.stored(prompt, f"{run_id}.prompt", prompt_role))
        if body is not None and role not in PROMPT_ROLES:
            said.append(Message.stored(body, own_id or f"{run_id}.{idx}", role))
    return said


def values(found: Iterable[Row]) -> dict[str, dict[str, str]]:
    """Rows of (kind, key, value) by kind and key."""
    grouped: dict[str, dict[str, str]] = {}
    for kind, key, value in found:
        grouped.setdefault(kind, {})[key] = value
    return grouped


def visible(found: Sequence[Row], session_id: str) -> Row:
    """The one row of a session that must be there for this caller.

    Raises:
        SessionNotFound: it is not, or is not the caller's.
    """
    if not found:
        raise no_session(session_id)
    return found[0]


def no_session(session_id: str) -> SessionNotFound:
    """The error for a session that is not there for this caller; it does not tell why."""
    return SessionNotFound(f"there is no session {session_id!r}")


def is_set(name: str, column: str) -> str:
    """SQL: the text in ``column`` is one of those in parameter ``:name``, made by `text_set`."""
    return f"replace(:{name}, '\x1f' || {column} || '\x1f', '') <> :{name}"


def text_set(texts: Iterable[Any]) -> str:
    """Texts as one parameter, between characters that no id holds; not every database takes lists."""
    return "\x1f" + "".join(f"\x1f{text}\x1f" for text in sorted(texts))
