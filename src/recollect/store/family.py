"""A run with the runs of its members, of theirs, and so on: what becomes of it becomes of them.

And what else of a session tells of a run: its summary, and the preview.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from recollect import checks
from recollect.errors import RunInProgress, RunNotFound
from recollect.message import Message
from recollect.port import Params, Row, Statement, Tx
from recollect.store.names import OPENING, OPENING_MESSAGES, OPENING_RUNS
from recollect.store.newest import STATUS, among

THIS_RUN: Final = "r.session_id = :session_id and r.run_id = :run_id"

FAMILY: Final = f"""
family (run_seq, run_id) as (
    select r.run_seq, r.run_id from recollect_runs r where {THIS_RUN}
    union
    select r.run_seq, r.run_id from family f join recollect_runs r {{along recollect_runs_parents}}
        on r.session_id = :session_id and r.parent_run_id = f.run_id
)
"""
"""The places and ids of a run and of all that belong to it, as a table ``family``; after ``with recursive``."""

FIND_FAMILY: Final = f"""
with recursive {FAMILY}
select r.run_id, r.run_seq, r.parent_run_id, {STATUS}, r.prompt from recollect_runs r
where r.session_id = :session_id and r.run_seq {among("select f.run_seq from family f")}
"""

IN_FAMILY: Final = f"session_id = :session_id and run_seq {among('select f.run_seq from family f')}"

_DELETE_FAMILY: Final = tuple(
    f"with recursive {FAMILY} delete from recollect_{table} where {IN_FAMILY}"
    for table in ("documents", "messages", "leases", "runs")
)

_DELETE_PROMPT: Final = """
delete from recollect_prompts where session_id = :session_id and digest = :digest
and not exists (select 1 from recollect_runs r where r.session_id = :session_id and r.prompt = :digest)
"""

FORGET_SUMMARY: Final = """
delete from recollect_values where session_id = :session_id and kind = 'summary' and exists (
    select 1 from recollect_sessions s
    where s.session_id = :session_id and (s.summarised_through >= :place or s.summarised_through = 0)
)
"""
"""A summary that tells of what was at a place goes, also one that came along or was set; `REWRITTEN` has to follow."""

REWRITTEN: Final = """
    epoch = :epoch, summarised_through = case when s.summarised_through >= :place then 0 else s.summarised_through end
"""
"""What changes in the header ``s`` when what was at a place does."""

_NAME_ANOTHER: Final = """
update recollect_runs set replaces = nullif((
    select max(r.run_id) from recollect_runs r
    where r.session_id = :session_id and r.replaces = :run_id and r.status = 'completed'
), run_id)
where session_id = :session_id and replaces = :run_id
"""

ASKED: Final = """
select m.role, m.body from recollect_messages m
where m.session_id = :session_id and m.run_seq = :place and m.role = 'user' order by m.idx limit 1
"""

RENEW_PREVIEW: Final = """
update recollect_sessions set preview = :preview where session_id = :session_id and preview = :was
"""


def delete_family(p: Params, family: Sequence[Row]) -> list[Statement]:
    """What deletes a family that `FIND_FAMILY` found, and the system messages that no other run has.

    What was to stand in the place of its run, or did once, names the one that stands there now, or none: for the id of
    the run may be given again.
    """
    prompts = {prompt for *_, prompt in family} - {None}
    unused = ((_DELETE_PROMPT, {**p, "digest": prompt}) for prompt in prompts)
    return [*((sql, p) for sql in _DELETE_FAMILY), (_NAME_ANOTHER, p), *unused]


def preview_of(asked: Sequence[Row]) -> str:
    """What a session shows of the first user message of a run, as `ASKED` found it."""
    return checks.preview(Message.stored(asked[0][1], None, asked[0][0]).text) if asked else ""


async def show_opening(tx: Tx, p: Params) -> None:
    """Show how the session begins now, where what was shown, ``was``, is gone."""
    [spoken] = await tx.execute((OPENING, p | {"runs": OPENING_RUNS, "most": OPENING_MESSAGES}), more=True)
    preview = preview_of([said for said in spoken if said[0] == "user"])
    await tx.execute((RENEW_PREVIEW, p | {"preview": preview}), more=True)


def no_run(p: Params) -> RunNotFound:
    """The error for a run that is not in its session."""
    return RunNotFound(f"there is no run {p['run_id']!r} in session {p['session_id']!r}")


def in_progress(p: Params) -> RunInProgress:
    """The error for a run that cannot be touched while somebody works on it."""
    return RunInProgress(f"run {p['run_id']!r} of session {p['session_id']!r} is under way; cancel it, or wait for it")
