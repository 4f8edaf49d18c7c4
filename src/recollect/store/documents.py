"""What can be found of a session: a document for its name, its summary and each message, brought up to what was said.

Documents are read and made in one transaction and written in another, a part of the session at a time, so that nobody
who writes to it waits for the making. They are written only where nobody else did so meanwhile, and the session is
still of the epoch that they were made from.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from recollect.message import Message
from recollect.port import Access, Params, Row, Statement, Tx, reads, writes
from recollect.query import pairs, parts, spelled, words_of
from recollect.session import read_summary
from recollect.store.indexed import get_mark, list_unindexed, move_mark
from recollect.store.rows import LOCK

RUNS: Final = 200
"""Runs whose documents are written in one transaction, at most."""

ROOM: Final = 200_000
"""Characters in them, about; a run that is longer is written alone."""

PAGE: Final = 50
"""Sessions that are looked up at once."""

IN_SECOND: Final = 1 << 29
"""Documents that one second has room for."""

_LAST_SECOND: Final = (1 << 34) - 1

_LAST_RUN: Final = (1 << 31) - 1

NAME, SUMMARY = 0, 1
"""The places of what is no message, in a run 0 that there is not."""

IS_SPOKEN: Final = """
    r.parent_run_id is null and r.status <> 'regenerated' and (r.replaces is null or r.status = 'completed')
"""
"""The run ``r`` is part of the conversation: no member's, not replaced, and no mere candidate."""

ROLES: Final = "('user', 'assistant', 'tool')"
"""Whose messages can be found."""


class Text(msgspec.Struct, frozen=True):
    """Something that was said, before it is made a document, or more than one where it is very long."""

    run_seq: int
    idx: int
    at: int
    text: str

    def documents(self) -> Iterator[tuple[int, list[str]]]:
        """The parts that have words, each by its number."""
        for part, text in enumerate(parts(self.text)):
            if words := words_of(text):
                yield part, words


class Progress(msgspec.Struct, frozen=True):
    """Up to where a session can be found."""

    epoch: int
    version: int
    run_seq: int


class Step(msgspec.Struct, frozen=True):
    """The next documents of a session, and where they come from."""

    session_id: str
    was: Progress
    now: Progress
    version: int
    """The session's, when it was read."""
    is_last: bool
    """Whether that is all there is."""
    keys: tuple[str, ...]
    """What tells whose session it is."""
    texts: tuple[Text, ...]


def key_of(kind: str, value: str) -> str:
    """What documents are looked up by that belong to somebody: it is no word of any text."""
    return "\ue000" + hashlib.blake2b(f"{kind}:{value}".encode(), digest_size=8).hexdigest()


def second_of(at: int) -> int:
    """The first number of the documents in SQLite of the second in which a time is: newer ones have higher numbers."""
    return min(max(at // 1_000_000, 0), _LAST_SECOND) * IN_SECOND


async def index_sessions(access: Access, *, limit: int | None = None, seconds: float | None = None) -> int:
    """Have everything that was said until now found fast; give how many sessions had something new.

    Searching does this by and by: call it after many sessions came in from elsewhere, or before the first search of a
    large database. It ends after ``limit`` sessions, or so many ``seconds``; what is left is for the next time.
    """
    until = None if seconds is None else time.monotonic() + seconds
    count, failed = 0, set[str]()
    while todo := await access.do(list_unindexed, await _changed(access), PAGE + len(failed)):
        if not (new := [session_id for session_id in todo if session_id not in failed]):
            break
        for session_id in new:
            if (limit is not None and count >= limit) or (until is not None and time.monotonic() > until):
                return count
            if not await index_session(access, session_id):
                failed.add(session_id)  # somebody else is at it
            count += 1
    await access.do(move_mark)
    return count


async def _changed(access: Access) -> Params:
    return {"changed": (await access.do(get_mark))[0]}


async def index_session(access: Access, session_id: str) -> bool:
    """Bring one session up to what was said; False where somebody else does."""
    while True:
        step = await access.do(read_step, session_id)
        if step is None:
            return True
        if not await access.do(write_step, step):
            return False
        if step.is_last:
            return True


@reads
async def read_step(tx: Tx, session_id: str) -> Step | None:
    """The next documents of a session; None where there is no such session."""
    p: Params = {"session_id": session_id}
    [header] = await tx.execute((_HEADER, p))
    if not header:
        return None
    epoch, version, at, name, kind, agent_id, user_id, summary, *was = header[0]
    progress = Progress(*was)
    begin = progress if progress.epoch == epoch else Progress(epoch, -1, 0)
    p |= {"version": begin.version, "run_seq": begin.run_seq, "runs": RUNS}
    [found] = await tx.execute((_RUNS, p))
    runs = _fitting(found)
    is_last = len(runs) == len(found) < RUNS
    told = _NEW_SAID if progress.epoch == epoch else _SAID
    asked = [(told, {"session_id": session_id, "run_seq": run[0]}) for run in runs if run[3]]
    said = await tx.execute(*asked) if asked else []
    texts = [text for found in said for text in _said(found)]
    if is_last:
        texts += _of_session(at, name, summary)
    last = Progress(epoch, version, _LAST_RUN) if is_last else Progress(epoch, runs[-1][1], runs[-1][0])
    owner = {"session_id": session_id, "kind": kind, "agent_id": agent_id, "user_id": user_id}
    keys = tuple(key_of(what, value) for what, value in owner.items() if value is not None)
    return Step(session_id, progress, last, version, is_last, keys, tuple(texts))


def _fitting(runs: Sequence[Row]) -> Sequence[Row]:
    """The first runs that have room in one transaction, at least one."""
    chars = 0
    for place, run in enumerate(runs):
        chars += run[2]
        if place and chars > ROOM:
            return runs[:place]
    return runs


def _said(found: Sequence[Row]) -> Iterator[Text]:
    for run_seq, idx, at, role, body in found:
        yield Text(run_seq, idx, at, message_text(role, body))


def message_text(role: str, body: str) -> str:
    """What is found of a message as it is stored; of one that is damaged, nothing."""
    try:
        return Message.stored(body, None, role).text
    except (ValueError, TypeError, msgspec.MsgspecError):
        return ""


def _of_session(at: int, name: str, summary: str | None) -> Iterator[Text]:
    yield Text(0, NAME, at, name)
    yield Text(0, SUMMARY, at, summary_text(summary))


def summary_text(stored: str | None) -> str:
    """What is found of a summary as it is stored: its text, and its topics; of one that is damaged, nothing."""
    try:
        summary = None if stored is None else read_summary({"summary": stored})
    except msgspec.MsgspecError:
        return ""
    return "" if summary is None else "\n".join((summary.summary, *summary.topics))


@writes
async def write_step(tx: Tx, step: Step) -> bool:
    """Write documents; False when somebody else did so since, or the session was rewritten or deleted."""
    p: Params = {
        "session_id": step.session_id,
        **{f"was_{name}": value for name, value in msgspec.structs.asdict(step.was).items()},
        **msgspec.structs.asdict(step.now),
        "read": step.version,
        "last": int(step.is_last),
    }
    _, _, gate = await tx.execute((LOCK, p), (_BE_THERE, p), (_GO_ON, p))
    if not gate:
        return False
    if step.was.epoch != step.now.epoch:
        await tx.execute((_CLEAR, p))
    elif step.is_last:
        await tx.execute((_CLEAR_OWN, p))
    batch = list(_added(step))
    if batch:
        await tx.execute(*batch)
    return True


def _added(step: Step) -> Iterator[Statement]:
    for text in step.texts:
        for part, words in text.documents():
            keys = [*step.keys, *dict.fromkeys(pairs(words))]
            p: Params = {"session_id": step.session_id, "run_seq": text.run_seq, "idx": text.idx, "part": part}
            p |= {"at": text.at, "words": spelled(words), "first": second_of(text.at), "keys": " ".join(keys)}
            yield _ADD, p | {"terms": " ".join(dict.fromkeys([*words, *keys]))}


_HEADER: Final = """
select s.epoch, s.version, s.updated_at, s.name, s.kind, s.agent_id, s.user_id, (
    select v.value from recollect_values v
    where v.session_id = s.session_id and v.kind = 'summary' and v.key = 'summary'
), coalesce(i.epoch, 0), coalesce(i.version, 0), coalesce(i.run_seq, 0)
from recollect_sessions s left join recollect_indexed i on i.session_id = s.session_id
where s.session_id = :session_id
"""

_RUNS: Final = f"""
select r.run_seq, r.version, r.chars, case when {IS_SPOKEN} then 1 else 0 end from recollect_runs r
where r.session_id = :session_id and (r.version, r.run_seq) > (:version, :run_seq)
order by r.version, r.run_seq limit :runs
"""

_SAID: Final = f"""
select m.run_seq, m.idx, r.created_at, m.role, m.body
from recollect_runs r join recollect_messages m on m.session_id = r.session_id and m.run_seq = r.run_seq
where r.session_id = :session_id and r.run_seq = :run_seq and m.role in {ROLES}
"""

_NEW_SAID: Final = f"""
{_SAID} and not exists (
    select 1 from recollect_documents d
    where d.session_id = :session_id and d.run_seq = :run_seq and d.idx = m.idx
)
"""

_BE_THERE: Final = """
insert into recollect_indexed (session_id, epoch, version, run_seq, due)
select s.session_id, 0, 0, 0, 1 from recollect_sessions s where s.session_id = :session_id and s.epoch = :epoch
on conflict (session_id) do nothing
"""

_GO_ON: Final = """
update recollect_indexed set epoch = :epoch, version = :version, run_seq = :run_seq, due = case
    when :last = 1 and :read = (select s.version from recollect_sessions s where s.session_id = :session_id) then 0
    else 1
end
where session_id = :session_id and epoch = :was_epoch and version = :was_version and run_seq = :was_run_seq
    and exists (select 1 from recollect_sessions s where s.session_id = :session_id and s.epoch = :epoch)
returning 1
"""

_CLEAR: Final = "delete from recollect_documents where session_id = :session_id"

_CLEAR_OWN: Final = "delete from recollect_documents where session_id = :session_id and run_seq = 0"

_ADD: Final = f"""
insert into recollect_documents (
    {{one}}id, {{/one}}session_id, run_seq, idx, part, at, words, {{one}}keys{{/one}}{{many}}terms{{/many}}
)
select
    {{one}}coalesce((
        select max(d.id) from recollect_documents d where d.id >= :first and d.id < :first + {IN_SECOND}
    ), :first - 1) + 1,{{/one}}
    :session_id, :run_seq, :idx, :part, :at, :words,
    {{one}}:keys{{/one}}{{many}}array_to_tsvector(string_to_array(:terms, ' ')){{/many}}
where 1 = 1
on conflict (session_id, run_seq, idx, part) do nothing
"""
