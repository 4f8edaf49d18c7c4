"""A session as it is changed apart from its turns: made, named, its values set, saved, stored whole.

Each change touches only what it names: a name does not carry the state along, nor one key another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument, RunConflict, SessionConflict
from recollect.message import messages_of
from recollect.port import Params, Statement, Tx, at_once, writes
from recollect.run import FINISHED, RunOutput, RunStatus
from recollect.session import AgentSession, Changes, SessionHeader, TeamSession
from recollect.store import rows
from recollect.store.deletion import clear_expired
from recollect.store.indexed import TO_INDEX, TO_INDEX_ANEW, TO_INDEX_STORED
from recollect.store.rows import HEADER, LIVE, MINE
from recollect.store.sessions import HEADER_OF_MINE, get_snapshot
from recollect.store.turns import digest, new_id, new_token


@writes
async def create_session(
    tx: Tx,
    session_id: str | None = None,
    *,
    user_id: str | None = None,
    kind: str = "agent",
    agent_id: str | None = None,
    team_id: str | None = None,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    session_state: Mapping[str, Any] | None = None,
    expire_after: timedelta | None = None,
) -> SessionHeader:
    """Make an empty session; without an id, under a new UUIDv7.

    ``expire_after`` is how long after its making, or the begin of its last run, it is gone.

    Raises:
        InvalidArgument: something cannot be stored; nothing was written.
        SessionConflict: there is a session with this id.
    """
    p = _new(new_id() if session_id is None else session_id, user_id, kind, agent_id, team_id)
    p |= _named(name) | {"expire_after": checks.optional_span("expire_after", expire_after)}
    values = {
        "metadata": checks.json_object("metadata", metadata),
        "state": checks.json_object("session_state", session_state),
    }
    [made] = await tx.execute((_CREATE, p))
    if not made:
        await clear_expired(tx, p["session_id"])
        [made] = await tx.execute((_CREATE, p))
    if not made:
        msg = f"there is a session {p['session_id']!r} already"
        raise SessionConflict(msg)
    *_, header = await tx.execute(*_set_values(p, values), (_HEADER_OF, p))
    return rows.header(header[0])


@at_once
@writes
async def set_session_name(
    tx: Tx, session_id: str, name: str, user_id: str | None = None, source: str = "manual"
) -> SessionHeader:
    """Name a session; give it as it then is.

    Raises:
        InvalidArgument: the name has no visible character, or more than 200.
        SessionNotFound: there is no such session for this caller.
    """
    p = _mine(session_id, user_id) | rows.named(
        checks.name("session_name", name), checks.one_of("source", source, ("manual", "auto", "fallback"))
    )
    named, _, header = await tx.execute((_NAME, p), (TO_INDEX, p), (_HEADER_OF, p))
    rows.visible(named, session_id)
    return rows.header(header[0])


@at_once
@writes
async def update_values(
    tx: Tx, session_id: str, kind: str, changes: Mapping[str, Any], user_id: str | None = None
) -> dict[str, Any]:
    """Set top-level keys of a session's state or metadata, each as a whole; give all keys as they then are.

    Raises:
        InvalidArgument: a value cannot be stored; nothing was written.
        SessionNotFound: there is no such session for this caller.
    """
    p = _mine(session_id, user_id) | {"kind": checks.one_of("kind", kind, ("state", "metadata", "tag"))}
    texts = checks.json_object(_ARGUMENT.get(kind, kind), changes)
    touch = _TOUCH if texts else _THERE
    changed, *_, found = await tx.execute((touch, p), *_set_values(p, {kind: texts}, touched=True), (_VALUES_OF, p))
    rows.visible(changed, session_id)
    return {key: checks.decode(text) for key, text in found}


@at_once
@writes
async def tag_session(
    tx: Tx, session_id: str, tags: Sequence[str] = (), *, remove: Sequence[str] = (), user_id: str | None = None
) -> tuple[str, ...]:
    """Add tags to a session and take others away; give all that it then has.

    Raises:
        InvalidArgument: a tag is none, or is to be added and removed; nothing was written.
        SessionNotFound: there is no such session for this caller.
    """
    p = _mine(session_id, user_id) | {"kind": "tag"}
    added = dict.fromkeys(checks.tags("tags", tags), "null")
    removed = dict.fromkeys(checks.tags("remove", remove))
    if both := added.keys() & removed.keys():
        raise InvalidArgument("remove", f"{min(both)!r} is among the tags to be added")
    touch = _TOUCH if added or removed else _THERE
    setting = _set_values(p, {"tag": {**added, **removed}}, touched=True)
    there, *_, found = await tx.execute((touch, p), *setting, (_VALUES_OF, p))
    rows.visible(there, session_id)
    return tuple(sorted(tag for tag, _ in found))


@writes
async def save_session(tx: Tx, session: AgentSession | TeamSession) -> SessionHeader:
    """Store what a reader changed in a session: name, metadata, state, added runs; a session not yet stored is made.

    Raises:
        SessionConflict: the session was changed since it was read; nothing was written.
        SessionNotFound: the session was deleted since it was read.
    """
    if _session(session).version == 0:
        return await upsert_session(tx, session)
    changes = _checked(session.changes())
    p = _mine(session.session_id, None) | {"version": session.version, "epoch": session.header.epoch}
    anything = changes.name is not None or changes.runs or any(changes.values.values())
    [gate] = await tx.execute((_TOUCH_SAME if anything else _SAME, p))
    if not gate:
        [there] = await tx.execute((HEADER_OF_MINE, p))
        rows.visible(there, session.session_id)
        msg = f"session {session.session_id!r} was changed since it was read; read it again and repeat the change"
        raise SessionConflict(msg)
    stored = {run.run_id: run for run in await _stored_runs(tx, session.session_id)} if changes.runs else {}
    return await _write(tx, p, msgspec.structs.replace(changes, runs=_unknown(changes.runs, stored)))


@writes
async def upsert_session(tx: Tx, session: AgentSession | TeamSession) -> SessionHeader:
    """Store a whole session with its runs, for imports and copies; what is there already is left as it is.

    Runs are added by ``run_id`` in the order given and never deleted; a session that holds all of it stays unchanged.
    Archive, pin and expiry are those given where the session is made by this; its span of time then begins now.

    Raises:
        InvalidArgument: something cannot be stored; nothing was written.
        SessionNotFound: the session belongs to another user.
        RunConflict: a finished run under the same id differs.
    """
    header = _session(session).header
    p = _new(session.session_id, session.user_id, header.kind, header.agent_id, header.team_id)
    p |= {"created": header.created_at and checks.moment("created_at", header.created_at)}
    p |= {"updated": header.updated_at and checks.moment("updated_at", header.updated_at)}
    p |= {"archived": int(header.archived), "pinned": int(header.pinned)}
    p |= {"expire_after": checks.optional_span("expire_after", header.expire_after)}
    whole = _checked(session.whole())
    [made] = await tx.execute((_CREATE, p | _named(None)))
    if made:
        return await _write(tx, p, whole, preview=True)
    [held] = await tx.execute((_HOLD, p))
    snapshot = await get_snapshot(tx, session.session_id) if held else None
    if snapshot is None:  # deleted meanwhile, or expired
        await clear_expired(tx, session.session_id)
        return await upsert_session(tx, session)
    if snapshot.header.user_id != session.user_id:
        raise rows.no_session(session.session_id)
    new = Changes(
        name=None if snapshot.header.name else whole.name,
        values={kind: _news(snapshot.values.get(kind, {}), whole.values[kind]) for kind in whole.values},
        runs=_unknown(whole.runs, {run.run_id: run for run in snapshot.runs}),
    )
    if not (new.name or new.runs or any(new.values.values())):
        return snapshot.header
    await tx.execute((_TOUCH, p))
    return await _write(tx, p, new, preview=not snapshot.header.preview)


@at_once
@writes
async def claim_session(tx: Tx, session_id: str, user_id: str) -> SessionHeader:
    """Give a session without an owner its owner, once; claiming it again for the same user changes nothing.

    Raises:
        SessionNotFound: there is no such session, or it is another user's.
    """
    p = _mine(session_id, checks.identifier("user_id", user_id))
    _, _, header = await tx.execute((_CLAIM, p), (TO_INDEX_ANEW, p), (HEADER_OF_MINE, p))
    return rows.header(rows.visible(header, session_id))


async def hold_session(tx: Tx, session_id: str, user_id: str | None = None) -> SessionHeader:
    """A session without its content, which nobody else changes until this transaction ends.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    p = _mine(session_id, user_id)
    _, found = await tx.execute((_HOLD, p), (HEADER_OF_MINE, p))
    return rows.header(rows.visible(found, session_id))


_ARGUMENT: Final = {"state": "session_state"}

_CREATE = """
insert into recollect_sessions (
    session_id, kind, agent_id, team_id, user_id, name, name_key, name_source, expire_after, expires_at, own_expiry,
    archived, pinned, version, epoch, created_at, updated_at
) values (
    :session_id, :kind, :agent_id, :team_id, :user_id, :name, :name_key, :source, cast(:expire_after as bigint),
    :now + cast(:expire_after as bigint), case when cast(:expire_after as bigint) is null then 0 else 1 end,
    :archived, :pinned, 1, :epoch,
    coalesce(cast(:created as bigint), :now), coalesce(cast(:updated as bigint), cast(:created as bigint), :now)
)
on conflict (session_id) do nothing returning version
"""

_HOLD = "select 1 from recollect_sessions where session_id = :session_id{many} for no key update{/many}"

_HEADER_OF = f"select {HEADER} from recollect_sessions s where s.session_id = :session_id"

_TOUCH = f"""
update recollect_sessions as s set version = version + 1 where s.session_id = :session_id and {MINE}
returning version
"""

_THERE = f"select 1 from recollect_sessions s where s.session_id = :session_id and {MINE}"

_IS_SAME = f"s.session_id = :session_id and s.version = :version and s.epoch = :epoch and {LIVE}"

_SAME = f"select s.version from recollect_sessions s where {_IS_SAME}"

_TOUCH_SAME = f"update recollect_sessions as s set version = s.version + 1 where {_IS_SAME} returning version"

# Whoever was making a name when this one was set has lost the claim, and with it the right to set another.
_NAME = f"""
update recollect_sessions as s set
    name = :name, name_key = :name_key, name_source = :source, claim_token = null, version = version + 1
where s.session_id = :session_id and {MINE} returning version
"""

_NAME_ONLY = """
update recollect_sessions set name = :name, name_key = :name_key, name_source = 'manual', claim_token = null
where session_id = :session_id
"""

_CLAIM = f"""
update recollect_sessions as s set user_id = :user_id, version = s.version + 1
where s.session_id = :session_id and s.user_id is null and {LIVE}
"""

_IS_MINE = f"""
    exists (select 1 from recollect_sessions s where s.session_id = :session_id and {MINE})
"""

_SET = f"""
insert into recollect_values (session_id, kind, key, value)
select s.session_id, :kind, :key, :value from recollect_sessions s
where s.session_id = :session_id and {MINE} and s.version >= :least
on conflict (session_id, kind, key) do update set value = excluded.value
"""

_UNSET = f"""
delete from recollect_values where session_id = :session_id and kind = :kind and key = :key and {_IS_MINE}
"""

_VALUES_OF = f"""
select key, value from recollect_values where session_id = :session_id and kind = :kind and {_IS_MINE}
"""

_COUNT_RUNS = """
update recollect_sessions set
    next_seq = next_seq + :runs, run_count = run_count + :top, completed_count = completed_count + :completed,
    message_count = message_count + :spoken, input_tokens = input_tokens + :input_tokens,
    output_tokens = output_tokens + :output_tokens,
    preview = case when preview = '' then :preview else preview end
where session_id = :session_id returning next_seq - :runs, version
"""

_REPLACED = """
select run_seq from recollect_runs where session_id = :session_id and run_id = :run_id
"""

_NEW_RUN = """
insert into recollect_runs (
    session_id, run_seq, run_id, parent_run_id, agent_id, agent_name, team_id, user_id, status, attempt, prompt,
    model, input, metadata, metrics, error, chars, replaces, version, created_at, finished_at
) values (
    :session_id, :run_seq, :run_id, :parent_run_id, :agent_id, :agent_name, :team_id, :run_user, :status, :attempt,
    :prompt, :model, :input, :metadata, :metrics, :error, :chars, :replaces, :version,
    coalesce(cast(:began as bigint), :now), coalesce(cast(:ended as bigint), cast(:began as bigint), :now)
)
"""

_NEW_MESSAGE = """
insert into recollect_messages (session_id, run_seq, idx, message_id, role, body)
values (:session_id, :run_seq, :idx, :message_id, :role, :body)
"""

_NEW_PROMPT = """
insert into recollect_prompts (session_id, digest, role, body) values (:session_id, :digest, :role, :body)
on conflict (session_id, digest) do nothing
"""


async def _write(tx: Tx, p: Params, changes: Changes, *, preview: bool = False) -> SessionHeader:
    """Write changes into a session whose version was raised already."""
    batch = [*_set_values(p, changes.values), (TO_INDEX_STORED, p)]
    if changes.name is not None:
        batch.append((_NAME_ONLY, p | _named(changes.name)))
    if changes.runs:
        [gate] = await tx.execute((_COUNT_RUNS, p | _totals(changes.runs, preview=preview)))
        first, version = gate[0]
        for place, run in enumerate(changes.runs):
            batch += _new_run({**p, "run_seq": first + place, "version": version}, run)
    *_, header = await tx.execute(*batch, (_HEADER_OF, p))
    return rows.header(header[0])


def _unknown(given: Sequence[RunOutput], stored: Mapping[str, RunOutput]) -> tuple[RunOutput, ...]:
    """The runs that are not there yet.

    Raises:
        RunConflict: one is there and says something else.
    """
    for run in given:
        known = stored.get(run.run_id)
        if known is not None and not _same(known, run):
            state = "finished" if known.status in FINISHED else "unfinished"
            msg = (
                f"run {run.run_id!r} is stored as {state} and differs from the one given; a stored run is not replaced"
            )
            raise RunConflict(msg)
    return tuple(run for run in given if run.run_id not in stored)


async def _stored_runs(tx: Tx, session_id: str) -> Sequence[RunOutput]:
    snapshot = await get_snapshot(tx, session_id)
    return () if snapshot is None else snapshot.runs


def _session(given: Any) -> AgentSession:
    if not isinstance(given, AgentSession):
        raise InvalidArgument("session", f"must be an AgentSession or TeamSession, not {type(given).__name__}")
    return given


def _checked(changes: Changes) -> Changes:
    """Refuse runs that cannot be stored; one under way elsewhere is not under way here."""
    ids = [checks.identifier("run_id", run.run_id) for run in changes.runs]
    if len(set(ids)) < len(ids):
        raise InvalidArgument("runs", "two of them have the same run_id")
    for run in changes.runs:
        checks.one_of("status", run.status, tuple(RunStatus))
        messages_of("messages", run.messages)
    settled = tuple(
        msgspec.structs.replace(run, status=RunStatus.interrupted) if run.status == RunStatus.running else run
        for run in changes.runs
    )
    return msgspec.structs.replace(changes, runs=settled)


def _same(one: RunOutput, other: RunOutput) -> bool:
    return (one.status, one.parent_run_id, one.agent_id, one.messages) == (
        other.status,
        other.parent_run_id,
        other.agent_id,
        other.messages,
    )


def _totals(runs: Sequence[RunOutput], *, preview: bool) -> Params:
    top = [run for run in runs if run.parent_run_id is None]
    spoken = [message for run in top for message in run.said if message.role in ("user", "assistant")]
    asked = next((message.text for message in spoken if message.role == "user"), "") if preview else ""
    return {
        "runs": len(runs),
        "top": len(top),
        "completed": sum(run.status is RunStatus.completed for run in top),
        "spoken": len(spoken),
        "input_tokens": sum(run.metrics.input_tokens for run in runs),
        "output_tokens": sum(run.metrics.output_tokens for run in runs),
        "preview": checks.preview(asked),
    }


def _new_run(p: Params, run: RunOutput) -> list[Statement]:
    prompt = run.prompt
    row = {
        "run_id": checks.identifier("run_id", run.run_id),
        "parent_run_id": checks.optional_identifier("parent_run_id", run.parent_run_id),
        "agent_id": checks.optional_identifier("agent_id", run.agent_id),
        "agent_name": checks.optional_identifier("agent_name", run.agent_name),
        "team_id": checks.optional_identifier("team_id", run.team_id),
        "run_user": checks.optional_identifier("user_id", run.user_id),
        "status": str(run.status),
        "attempt": run.attempt,
        "replaces": checks.optional_identifier("replaces", run.replaces),
        "prompt": None if prompt is None else digest(prompt),
        "model": checks.optional_identifier("model", run.model),
        "input": run.input_count,
        "metadata": run.metadata_json,
        "metrics": rows.metrics_text(run.metrics),
        "error": None if run.error is None else checks.problem("error", run.error),
        "chars": sum(message.chars for message in run.said),
        "began": None if run.created_at is None else checks.moment("created_at", run.created_at),
        "ended": None if run.finished_at is None else checks.moment("finished_at", run.finished_at),
    }
    batch: list[Statement] = [(_NEW_RUN, p | row)]
    if prompt is not None:
        stored = {"digest": digest(prompt), "role": prompt.role, "body": prompt.to_json()}
        batch.append((_NEW_PROMPT, p | stored))
    for place, message in enumerate(run.said):
        own = message.id if message.id != f"{run.run_id}.{place}" else None
        said = {"idx": place, "message_id": own, "role": message.role, "body": message.to_json()}
        batch.append((_NEW_MESSAGE, p | said))
    return batch


def _set_values(p: Params, values: Mapping[str, Mapping[str, str | None]], *, touched: bool = False) -> list[Statement]:
    """``touched``: of a session whose version was raised; where none was found, one made since has another version."""
    return [
        (_UNSET if text is None else _SET, {**p, "kind": kind, "key": key, "value": text, "least": 1 + touched})
        for kind, changes in values.items()
        for key, text in changes.items()
    ]


def _news(stored: Mapping[str, str], given: Mapping[str, str | None]) -> dict[str, str | None]:
    return {key: text for key, text in given.items() if key not in stored}


def _new(session_id: str, user_id: str | None, kind: str, agent_id: str | None, team_id: str | None) -> Params:
    return _mine(session_id, user_id) | {
        "kind": checks.one_of("kind", kind, ("agent", "team")),
        "agent_id": checks.optional_identifier("agent_id", agent_id),
        "team_id": checks.optional_identifier("team_id", team_id),
        "epoch": new_token(),
        "created": None,
        "updated": None,
        "expire_after": None,
        "archived": 0,
        "pinned": 0,
    }


def _named(name: str | None) -> Params:
    if name is None:
        return rows.named("", None)
    return rows.named(checks.name("session_name", name))


def _mine(session_id: str, user_id: str | None) -> Params:
    return {
        "session_id": checks.identifier("session_id", session_id),
        "user_id": checks.optional_identifier("user_id", user_id),
    }
