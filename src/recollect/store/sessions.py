"""A session as it is read: its header, all of it, some runs, some messages, its values."""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import Any, Final

from recollect import checks
from recollect.message import PROMPT_ROLES, Message
from recollect.port import Params, Tx, at_once, looks, reads
from recollect.run import RunOutput, RunStatus
from recollect.selection import Filter, arrange, select_messages
from recollect.session import AgentSession, SessionHeader, SessionMetrics, Snapshot, TeamSession
from recollect.store import rows
from recollect.store.newest import newest
from recollect.store.rows import ALL_RUNS, ALL_SPOKEN, HEADER, MINE, RUN, is_set, text_set

KINDS: Final = ("state", "metadata", "summary", "tag")
"""What a session's values are kept for."""


@looks
async def get_header(tx: Tx, session_id: str, user_id: str | None = None) -> SessionHeader | None:
    """The session without its content; None when there is none for this caller."""
    [found] = await tx.execute((HEADER_OF_MINE, of_session(session_id, user_id)))
    return rows.header(found[0]) if found else None


@at_once
@reads
async def get_snapshot(tx: Tx, session_id: str, user_id: str | None = None) -> Snapshot | None:
    """All of a session at one moment, its runs decoded when looked at."""
    p = of_session(session_id, user_id)
    header, values, runs, spoken, prompts = await tx.execute(*((sql, p) for sql in SNAPSHOT))
    if not header:
        return None
    return Snapshot(rows.header(header[0]), rows.values(values), rows.runs(session_id, runs, spoken, prompts))


@at_once
@reads
async def get_session(tx: Tx, session_id: str, user_id: str | None = None) -> AgentSession | TeamSession | None:
    """The session with its whole history; None when there is none for this caller."""
    snapshot = await get_snapshot(tx, session_id, user_id)
    return None if snapshot is None else shell(snapshot)


@at_once
@reads
async def get_messages(
    tx: Tx, session_id: str, wanted: Filter | None = None, user_id: str | None = None
) -> list[Message]:
    """The wanted messages, as `AgentSession.get_messages` would give them, reading only the runs they are in.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    wanted = wanted or Filter()
    if wanted.last_n_runs is None and wanted.limit is None:
        snapshot = await get_snapshot(tx, session_id, user_id)
        if snapshot is None:
            raise rows.no_session(session_id)
        return select_messages(snapshot.runs.newest(), wanted)
    p = of_session(session_id, user_id) | _filter(wanted)
    said = await (_of_limit(tx, p, wanted) if wanted.last_n_runs is None else _of_last(tx, p, wanted))
    return arrange([message for message in said if message.role not in wanted.skip_roles], wanted.limit)


async def _of_last(tx: Tx, p: Params, wanted: Filter) -> list[Message]:
    """The messages of the last runs."""
    chosen = _chosen(_statuses(wanted), _which(wanted))
    [found] = await tx.execute((chosen, p | {"runs": wanted.last_n_runs}))
    if not found:
        [there] = await tx.execute((THERE, p))
        rows.visible(there, p["session_id"])
    return rows.messages(found)


async def _of_limit(tx: Tx, p: Params, wanted: Filter) -> list[Message]:
    """The messages of so many runs that the limit is reached. Most runs hold two messages or more."""
    limit = wanted.limit or 0
    runs = limit // 2 + 1
    statuses, which = _statuses(wanted), _which(wanted)
    chosen, first_prompt = _chosen(statuses, which), _first_prompt(statuses, which)
    while True:
        there, found, prompt = await tx.execute((THERE, p), (chosen, p | {"runs": runs}), (first_prompt, p))
        rows.visible(there, p["session_id"])
        said = rows.messages(found)
        spoken = [m for m in said if m.role not in wanted.skip_roles and m.role not in PROMPT_ROLES]
        if len(spoken) >= limit or len({row[0] for row in found}) < runs:
            return rows.messages(prompt) + said
        runs *= 4


class _Which(Enum):
    """Whose runs are wanted."""

    top = "the session's own"
    all = "members', too"
    named = "of some agents and teams, whether the session's own or members'"


def _which(wanted: Filter) -> _Which:
    if wanted.member_ids:
        return _Which.named
    return _Which.all if wanted.with_members else _Which.top


def _statuses(wanted: Filter) -> frozenset[str]:
    return frozenset(RunStatus) - wanted.skip_statuses


@at_once
@reads
async def get_run(tx: Tx, run_id: str, session_id: str, user_id: str | None = None) -> RunOutput | None:
    """One run with its messages; None when there is none for this caller."""
    p = of_session(session_id, user_id) | {"run_id": checks.identifier("run_id", run_id)}
    runs, spoken, prompts = await tx.execute((_ONE_RUN, p), (_ONE_SPOKEN, p), (_ONE_PROMPT, p))
    return rows.runs(session_id, runs, spoken, prompts)[0] if runs else None


@at_once
@reads
async def get_last_run(tx: Tx, session_id: str, user_id: str | None = None) -> RunOutput | None:
    """The newest run of the conversation itself, whatever came of it; None when there is none.

    Runs of members, replaced ones, and those that were to replace one and did not, are passed over.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    p = of_session(session_id, user_id)
    there, runs, spoken, prompts = await tx.execute((THERE, p), (_LAST_RUN, p), (_LAST_SPOKEN, p), (_LAST_PROMPT, p))
    rows.visible(there, session_id)
    return rows.runs(session_id, runs, spoken, prompts)[0] if runs else None


@at_once
@reads
async def get_values(tx: Tx, session_id: str, kind: str, user_id: str | None = None) -> dict[str, Any]:
    """The session's values of one kind (state, metadata, summary, tag) by key.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    p = of_session(session_id, user_id) | {"kind": checks.one_of("kind", kind, KINDS)}
    [found] = await tx.execute((_VALUES_OF_KIND, p))
    if not found:
        [there] = await tx.execute((THERE, p))
        rows.visible(there, session_id)
    return {key: checks.decode(text) for key, text in found}


@looks
async def get_metrics(tx: Tx, session_id: str, user_id: str | None = None) -> SessionMetrics:
    """What the session took in all; nothing is added up, the header holds it.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    [found] = await tx.execute((HEADER_OF_MINE, of_session(session_id, user_id)))
    header = rows.header(rows.visible(found, session_id))
    return SessionMetrics(
        input_tokens=header.input_tokens,
        output_tokens=header.output_tokens,
        aux_tokens=header.aux_tokens,
        run_count=header.run_count,
        completed_count=header.completed_count,
        message_count=header.message_count,
    )


def shell(snapshot: Snapshot) -> AgentSession | TeamSession:
    """A reader's own session around a snapshot."""
    return (TeamSession if snapshot.header.kind == "team" else AgentSession).of(snapshot)


HEADER_OF_MINE = f"select {HEADER} from recollect_sessions s where s.session_id = :session_id and {MINE}"

THERE = f"select 1 from recollect_sessions s where s.session_id = :session_id and {MINE}"

IS_MINE = f"""
    exists (select 1 from recollect_sessions s where s.session_id = :session_id and {MINE})
"""

VALUES_OF_MINE = f"select kind, key, value from recollect_values where session_id = :session_id and {IS_MINE}"

_VALUES_OF_KIND = f"""
select key, value from recollect_values where session_id = :session_id and kind = :kind and {IS_MINE}
"""

_RUNS = f"""
{ALL_RUNS}select {RUN} from recollect_runs r where r.session_id = :session_id and {IS_MINE} order by r.run_seq
"""

_SPOKEN = f"""
{ALL_SPOKEN}select run_seq, idx, message_id, role, body from recollect_messages
where session_id = :session_id and {IS_MINE} order by run_seq, idx
"""

_PROMPTS = f"select digest, role, body from recollect_prompts where session_id = :session_id and {IS_MINE}"

SNAPSHOT = (HEADER_OF_MINE, VALUES_OF_MINE, _RUNS, _SPOKEN, _PROMPTS)
"""What reads all of a session."""


def _one_run(condition: str) -> tuple[str, str, str]:
    """The run ``r`` that meets the condition, its messages and its system message."""
    return (
        f"select {RUN} from recollect_runs r where r.session_id = :session_id and {condition} and {IS_MINE}",
        f"""
        select m.run_seq, m.idx, m.message_id, m.role, m.body
        from recollect_runs r join recollect_messages m on m.session_id = r.session_id and m.run_seq = r.run_seq
        where r.session_id = :session_id and {condition} and {IS_MINE} order by m.idx
        """,
        f"""
        select p.digest, p.role, p.body
        from recollect_runs r join recollect_prompts p on p.session_id = r.session_id and p.digest = r.prompt
        where r.session_id = :session_id and {condition} and {IS_MINE}
        """,
    )


_ONE_RUN, _ONE_SPOKEN, _ONE_PROMPT = _one_run("r.run_id = :run_id")

_TAKEN = """
    and (cast(:agent_id as text) is null or r.agent_id = :agent_id)
    and (cast(:team_id as text) is null or r.team_id = :team_id)
"""


# Where there is no system message, no run is looked at for one.
_ONE_IF_ANY = """
case when exists (select 1 from recollect_prompts p where p.session_id = :session_id) then 1 else 0 end
"""


def _wanted(
    statuses: frozenset[str], which: _Which, *, condition: str = "", limit: str = ":runs", order: str = "desc"
) -> str:
    """The newest (or oldest) runs that are wanted, as a table ``wanted`` of their places."""
    members = None if which is _Which.top else "1 = 1"
    named = f"and {is_set('member_ids', 'coalesce(r.agent_id, r.team_id)')}" if which is _Which.named else ""
    taken = f"{_TAKEN} {named} {condition}"
    return f"wanted as ({newest('r.run_seq', statuses, limit, condition=taken, members=members, order=order)})"


@cache
def _chosen(statuses: frozenset[str], which: _Which) -> str:
    """The messages of the newest runs that are wanted; a run without messages has one row."""
    return f"""
    with {_wanted(statuses, which)}
    select
        r.run_id, p.role, case when coalesce(m.idx, 0) = 0 then p.body end, m.idx, m.message_id, m.role, m.body
    from wanted
    join recollect_runs r on r.session_id = :session_id and r.run_seq = wanted.run_seq
    left join recollect_messages m on m.session_id = r.session_id and m.run_seq = r.run_seq
    left join recollect_prompts p on p.session_id = r.session_id and p.digest = r.prompt
    where {IS_MINE} order by r.run_seq, m.idx
    """


@cache
def _first_prompt(statuses: frozenset[str], which: _Which) -> str:
    """The system message of the first run that has one."""
    return f"""
    with {_wanted(statuses, which, condition="and r.prompt is not null", limit=_ONE_IF_ANY, order="asc")}
    select r.run_id, p.role, p.body, null, null, null, null from wanted
    join recollect_runs r on r.session_id = :session_id and r.run_seq = wanted.run_seq
    join recollect_prompts p on p.session_id = r.session_id and p.digest = r.prompt
    where {IS_MINE}
    """


_NOT_REPLACED = frozenset(RunStatus) - {RunStatus.regenerated}

LAST = f"r.run_seq = (select run_seq from ({newest('r.run_seq', _NOT_REPLACED, '1')}) last)"

_LAST_RUN, _LAST_SPOKEN, _LAST_PROMPT = _one_run(LAST)


def of_session(session_id: str, user_id: str | None) -> Params:
    return {
        "session_id": checks.identifier("session_id", session_id),
        "user_id": checks.optional_identifier("user_id", user_id),
    }


def _filter(wanted: Filter) -> Params:
    return {
        "agent_id": wanted.agent_id,
        "team_id": wanted.team_id,
        "member_ids": text_set(wanted.member_ids),
    }
