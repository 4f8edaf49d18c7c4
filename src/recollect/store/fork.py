"""A session that begins as another one is, or as it was up to one of its runs; then both live and die apart.

The rows are copied by the database, one statement for each table; runs and messages keep their ids and places. Where no
member of a team ever ran, which is the rule, what comes along is known by its place alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from recollect import checks
from recollect.errors import InvalidArgument, RunConflict, SessionConflict
from recollect.port import Params, Row, Statement, Tx, writes
from recollect.run import RunStatus
from recollect.selection import is_candidate
from recollect.session import SessionHeader
from recollect.store import rows
from recollect.store.deletion import clear_expired
from recollect.store.family import no_run
from recollect.store.replaced import find_standing
from recollect.store.rows import HEADER, LOCK, MINE
from recollect.store.sessions import of_session
from recollect.store.turns import new_id, new_token


@writes
async def fork_session(
    tx: Tx,
    session_id: str,
    *,
    at_run: str | None = None,
    before_run: str | None = None,
    new_session_id: str | None = None,
    name: str | None = None,
    user_id: str | None = None,
) -> SessionHeader:
    """Make a session of what is in another one: all of it, or up to a run.

    ``at_run`` is the last run that comes along, ``before_run`` the first that does not. Runs of members come with the
    run that they are part of; one under way comes as interrupted. State, metadata and tags are those of now, and the
    metadata say where it comes from: ``forked_from`` is the session, ``forked_at`` the last run of the conversation
    that came along. It is neither archived nor pinned. Before a run that was to replace another and did not is before
    the place that it was meant for.

    Raises:
        InvalidArgument: both runs are named, or one that is part of another; or something cannot be stored.
        SessionNotFound: there is no such session for this caller.
        RunNotFound: it has no such run.
        RunConflict: the run was replaced by another, or ``at_run`` was to replace one and did not.
        SessionConflict: there is a session with the new id.
    """
    if at_run is not None and before_run is not None:
        raise InvalidArgument("before_run", "is given beside at_run; a fork is at one run or before one")
    p = of_session(session_id, user_id) | {
        "new": new_id() if new_session_id is None else checks.identifier("new_session_id", new_session_id),
        "run_id": _named_run(at_run, before_run),
        "renamed": int(name is not None),
        **rows.named("" if name is None else checks.name("name", name)),
        "epoch": new_token(),
    }
    _, source, run, members = await tx.execute((LOCK, p), (_SOURCE, p), (_RUN, p), (_HAS_MEMBERS, p))
    next_seq, summarised = rows.visible(source, session_id)
    upto = next_seq - 1 if p["run_id"] is None else await _place(tx, p, run, at=at_run is not None)
    p |= {"upto": upto, "summarised": summarised if summarised <= upto else 0}
    await _make(tx, p)
    chosen = _WITH_MEMBERS if members and p["run_id"] is not None else _BY_PLACE
    *_, runs, spoken = await tx.execute(*((sql, p) for sql in (*chosen, *_REST, _RUNS, _SPOKEN)))
    *_, header = await tx.execute(*_origin(p, runs), (_COUNT, p | _counts(p, runs, spoken[0])))
    return rows.header(header[0])


def _named_run(at_run: str | None, before_run: str | None) -> str | None:
    if at_run is None:
        return checks.optional_identifier("before_run", before_run)
    return checks.identifier("at_run", at_run)


async def _place(tx: Tx, p: Params, found: Sequence[Row], *, at: bool) -> int:
    """The last place that comes along of a fork at a run, or before it."""
    if not found:
        raise no_run(p)
    place, parent, status, root = found[0]
    if parent is not None:
        raise InvalidArgument("at_run", f"run {p['run_id']!r} is part of run {parent!r}; fork at that one")
    is_mere = is_candidate(root, status)
    if not is_mere and status != RunStatus.regenerated:
        return int(place) - (not at)
    standing = await find_standing(tx, p["session_id"], root or p["run_id"], p["run_id"])
    if is_mere and not at:
        return (int(place) if standing is None else standing.place) - 1
    was = "was to replace another and did not" if is_mere else "was replaced"
    instead = f"{standing.run_id!r} stands there; fork at that one" if standing else "what stood there is gone"
    raise RunConflict(f"run {p['run_id']!r} of session {p['session_id']!r} {was}: {instead}")


async def _make(tx: Tx, p: Params) -> None:
    [made] = await tx.execute((_MAKE, p))
    if not made:
        await clear_expired(tx, p["new"])
        [made] = await tx.execute((_MAKE, p))
    if not made:
        raise SessionConflict(f"there is a session {p['new']!r} already")


def _origin(p: Params, runs: Sequence[Row]) -> list[Statement]:
    """What says in the metadata where a fork comes from."""
    own = [
        (seq, run_id)
        for seq, run_id, parent, status, root, _ in runs
        if parent is None and status != RunStatus.regenerated and not is_candidate(root, status)
    ]
    last = max(own, default=(0, None))[1]
    said = {"forked_from": p["session_id"], "forked_at": last}
    return [(_SAY, {"new": p["new"], "key": key, "value": checks.encode(told).decode()}) for key, told in said.items()]


def _counts(p: Params, runs: Sequence[Row], spoken: Row) -> Params:
    """What the header of a fork says of the runs that came along."""
    top = [status for _, _, parent, status, *_ in runs if parent is None]
    took = [rows.read_metrics(metrics) for *_, metrics in runs if metrics is not None]
    messages, questions = spoken
    return {
        "next_seq": max([p["upto"], *(seq for seq, *_ in runs)]) + 1,
        "runs": len(top),
        "completed": top.count(RunStatus.completed),
        "messages": messages,
        "begins": int(questions > 0),
        "input_tokens": sum(metrics.input_tokens for metrics in took),
        "output_tokens": sum(metrics.output_tokens for metrics in took),
    }


_SOURCE: Final = f"""
select s.next_seq, s.summarised_through from recollect_sessions s where s.session_id = :session_id and {MINE}
"""

_RUN: Final = """
select r.run_seq, r.parent_run_id, r.status, r.replaces from recollect_runs r
where r.session_id = :session_id and r.run_id = :run_id
"""

_HAS_MEMBERS: Final = """
select 1 from recollect_runs r {along recollect_runs_parents}
where r.session_id = :session_id and r.parent_run_id is not null limit 1
"""

_MAKE: Final = """
insert into recollect_sessions (
    session_id, kind, agent_id, team_id, user_id, name, name_key, name_source, preview, expires_at, expire_after,
    own_expiry, summarised_through, version, epoch, created_at, updated_at
)
select
    :new, s.kind, s.agent_id, s.team_id, s.user_id,
    case when :renamed = 1 then :name else s.name end, case when :renamed = 1 then :name_key else s.name_key end,
    case when :renamed = 1 then :source else s.name_source end, s.preview, :now + s.expire_after, s.expire_after,
    s.own_expiry, :summarised, 1, :epoch, :now, :now
from recollect_sessions s where s.session_id = :session_id
on conflict (session_id) do nothing returning 1
"""


def _copies(chosen: str, which: str) -> tuple[str, str]:
    """What copies the chosen runs, and what was said in them."""
    return (
        f"""
        insert into recollect_runs (
            session_id, run_seq, run_id, parent_run_id, agent_id, agent_name, team_id, user_id, status, attempt,
            prompt, model, input, metadata, metrics, error, chars, replaces, version, created_at, finished_at
        )
        {chosen}
        select
            :new, r.run_seq, r.run_id, r.parent_run_id, r.agent_id, r.agent_name, r.team_id, r.user_id,
            case r.status when 'running' then 'interrupted' else r.status end, r.attempt, r.prompt, r.model, r.input,
            r.metadata, r.metrics, r.error, r.chars, r.replaces, 1, r.created_at,
            case r.status when 'running' then coalesce(r.finished_at, r.created_at) else r.finished_at end
        from recollect_runs r where r.session_id = :session_id and r.run_seq {which}
        """,
        f"""
        insert into recollect_messages (session_id, run_seq, idx, message_id, role, body)
        {chosen}
        select :new, m.run_seq, m.idx, m.message_id, m.role, m.body
        from recollect_messages m where m.session_id = :session_id and m.run_seq {which}
        """,
    )


_BY_PLACE: Final = _copies("", "<= :upto")

_WITH_MEMBERS: Final = _copies(
    """
    with recursive chosen (run_seq, run_id) as (
        select r.run_seq, r.run_id from recollect_runs r
        where r.session_id = :session_id and r.parent_run_id is null and r.run_seq <= :upto
        union
        select r.run_seq, r.run_id from chosen f join recollect_runs r {along recollect_runs_parents}
            on r.session_id = :session_id and r.parent_run_id = f.run_id
    )
    """,
    "in (select f.run_seq from chosen f)",
)

_REST: Final = (
    """
    insert into recollect_prompts (session_id, digest, role, body)
    select :new, p.digest, p.role, p.body from recollect_prompts p
    where p.session_id = :session_id and p.digest in (
        select r.prompt from recollect_runs r where r.session_id = :new and r.prompt is not null
    )
    """,
    """
    insert into recollect_values (session_id, kind, key, value)
    select :new, v.kind, v.key, v.value from recollect_values v
    where v.session_id = :session_id and (v.kind <> 'summary' or :summarised > 0)
    """,
)

_RUNS: Final = """
select r.run_seq, r.run_id, r.parent_run_id, r.status, r.replaces, r.metrics
from recollect_runs r where r.session_id = :new
"""

_SPOKEN: Final = """
select count(*), coalesce(sum(case m.role when 'user' then 1 else 0 end), 0)
from recollect_messages m join recollect_runs r on r.session_id = :new and r.run_seq = m.run_seq
where m.session_id = :new and m.role in ('user', 'assistant') and r.parent_run_id is null
"""

_SAY: Final = """
insert into recollect_values (session_id, kind, key, value) values (:new, 'metadata', :key, :value)
on conflict (session_id, kind, key) do update set value = excluded.value
"""

_COUNT: Final = f"""
update recollect_sessions set
    next_seq = :next_seq, run_count = :runs, completed_count = :completed, message_count = :messages,
    preview = case when :begins = 1 then preview else '' end,
    input_tokens = :input_tokens, output_tokens = :output_tokens
where session_id = :new returning {HEADER.replace("s.", "")}
"""
