"""What holds of every database, one question each: a query that gives a row for each fault.

`recollect.doctor` asks them, and `recollect.repair` mends what it can of the answers.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from recollect.run import RunStatus
from recollect.store.newest import STATUS_ANYWHERE

EXAMPLES: Final = 3
"""Places of a fault that are named; the rest are counted."""


SESSION: Final = "session_id"
RUN: Final = "session_id, run_seq"
MESSAGE: Final = "session_id, run_seq, idx"


class Question(msgspec.Struct, frozen=True):
    """What must not be."""

    check: str
    fault: str
    """What is said of the places that are found."""
    faults: str
    """A query that gives a row for each fault."""
    columns: str = RUN
    """Where it is: the session, and the run and the message where these are meant."""
    status: Literal["note", "problem"] = "problem"

    @property
    def sql(self) -> str:
        """The question as it is asked: how many faults, and where the first of them are."""
        return f"""
        with faults as ({self.faults})
        select (select count(*) from faults), {self.columns} from faults order by {self.columns} limit {EXAMPLES}
        """


TOTALS: Final = """
select (select count(*) from recollect_sessions), (select count(*) from recollect_runs),
    (select count(*) from recollect_messages)
"""

_COUNTS: Final = """
    select s.session_id from recollect_sessions s
    left join (
        select session_id, max(run_seq) as last_seq,
            sum(case when parent_run_id is null then 1 else 0 end) as runs,
            sum(case when parent_run_id is null and status = 'completed' then 1 else 0 end) as completed
        from recollect_runs group by session_id
    ) r on r.session_id = s.session_id
    left join (
        select m.session_id, count(*) as spoken
        from recollect_messages m
        join recollect_runs r on r.session_id = m.session_id and r.run_seq = m.run_seq
        where r.parent_run_id is null and m.role in ('user', 'assistant')
        group by m.session_id
    ) m on m.session_id = s.session_id
    where s.run_count <> coalesce(r.runs, 0) or s.completed_count <> coalesce(r.completed, 0)
        or s.message_count <> coalesce(m.spoken, 0) or s.next_seq <= coalesce(r.last_seq, 0)
"""

# A place is reserved for the result of each tool call; in a run that was broken off it may have stayed empty.
_GAPS: Final = """
    select p.session_id, p.run_seq, p.idx
    from (
        select session_id, run_seq, idx, lag(idx, 1, -1) over (partition by session_id, run_seq order by idx) as before
        from recollect_messages
    ) p
    join recollect_runs r on r.session_id = p.session_id and r.run_seq = p.run_seq
    where p.idx > p.before + 1 and (r.status = 'completed' or p.idx > 1 + coalesce((
        select m.idx + case when json_valid(m.body) then json_array_length(m.body, '$.tool_calls') end
        from recollect_messages m
        where m.session_id = p.session_id and m.run_seq = p.run_seq and m.idx < p.idx and m.role = 'assistant'
        order by m.idx desc limit 1
    ), -1))
"""

_EXCHANGES: Final = """
    calls as (
        select m.session_id, m.run_seq, m.idx, c.value ->> 'id' as call_id
        from recollect_messages m, json_each(case when json_valid(m.body) then m.body end, '$.tool_calls') c
        where m.role = 'assistant' and instr(m.body, '"tool_calls"') > 0 and c.type = 'object'
    ),
    results as (
        select session_id, run_seq, idx,
            case when json_valid(body) then json_extract(body, '$.tool_call_id') end as call_id
        from recollect_messages where role = 'tool'
    )
"""

# The id of an imported run is a UUID of version 5. What was never answered where it comes from is no fault here.
_IS_IMPORTED: Final = "length(r.run_id) = 36 and substr(r.run_id, 15, 1) = '5'"


def _open_calls(origin: str) -> str:
    return f"""
        with {_EXCHANGES}
        select c.session_id, c.run_seq, c.idx from calls c
        join recollect_runs r on r.session_id = c.session_id and r.run_seq = c.run_seq
        left join results a on a.session_id = c.session_id and a.call_id = c.call_id
            and (a.run_seq, a.idx) > (c.run_seq, c.idx)
        where a.session_id is null and r.status = 'completed' and {origin}
        """


def _lone_results(origin: str) -> str:
    return f"""
        with {_EXCHANGES}
        select a.session_id, a.run_seq, a.idx from results a
        join recollect_runs r on r.session_id = a.session_id and r.run_seq = a.run_seq
        left join calls c on c.session_id = a.session_id and c.call_id = a.call_id
            and (c.run_seq, c.idx) < (a.run_seq, a.idx)
        where c.session_id is null and {origin}
        """


_LOST_PROMPTS: Final = """
    select r.session_id, r.run_seq from recollect_runs r
    left join recollect_prompts p on p.session_id = r.session_id and p.digest = r.prompt
    where r.prompt is not null and p.digest is null
"""

_RUNLESS: Final = """
    select m.session_id, m.run_seq from recollect_messages m
    left join recollect_runs r on r.session_id = m.session_id and r.run_seq = m.run_seq
    where r.session_id is null
"""

_HEADLESS: Final = "union all".join(
    f"""
    select distinct t.session_id from recollect_{table} t
    left join recollect_sessions s on s.session_id = t.session_id where s.session_id is null
    """
    for table in ("runs", "messages", "values", "prompts", "leases")
)

_BROKEN_OFF: Final = f"""
    select * from (
        select r.session_id, r.run_seq, r.status as stored, {STATUS_ANYWHERE} as seen from recollect_runs r
    )
"""

_STATUSES: Final = ", ".join(f"'{status}'" for status in RunStatus)

_NOT_RUNNING: Final = """
    select l.session_id, l.run_seq from recollect_leases l
    left join recollect_runs r on r.session_id = l.session_id and r.run_seq = l.run_seq
    where coalesce(r.status, '') <> 'running'
"""

_NO_LEASE: Final = """
    select r.session_id, r.run_seq from recollect_runs r
    left join recollect_leases l on l.session_id = r.session_id and l.run_seq = r.run_seq
    where r.status = 'running' and l.session_id is null
"""

_VERSIONS: Final = """
    select distinct r.session_id from recollect_runs r join recollect_sessions s on s.session_id = r.session_id
    where r.version > s.version or s.summarised_through >= s.next_seq
"""

_STATES: Final = f"""
    select session_id, run_seq from recollect_runs
    where status not in ({_STATUSES}) or status not in ('running', 'pending', 'paused') and finished_at is null
"""

_ORPHANS: Final = """
    select r.session_id, r.run_seq from recollect_runs r
    left join recollect_runs p on p.session_id = r.session_id and p.run_id = r.parent_run_id
    where r.parent_run_id is not null and p.session_id is null
"""

_BODIES: Final = """
    select session_id, run_seq, idx from recollect_messages
    where not json_valid(body) or json_type(body) <> 'object' or coalesce(json_extract(body, '$.role'), '') <> role
"""

_TEXTS: Final = "select session_id, kind, key from recollect_values where not json_valid(value)"

QUESTIONS: Final = (
    Question("counts", "sessions whose header counts otherwise than their rows", _COUNTS, SESSION),
    Question("order", "places in a run are empty that should not be", _GAPS, MESSAGE),
    Question("tool calls", "calls in completed runs have no result", _open_calls(f"not ({_IS_IMPORTED})"), MESSAGE),
    Question("tool results", "results have no call", _lone_results(f"not ({_IS_IMPORTED})"), MESSAGE),
    Question("imported calls", "calls came without a result", _open_calls(_IS_IMPORTED), MESSAGE, "note"),
    Question("imported results", "results came without a call", _lone_results(_IS_IMPORTED), MESSAGE, "note"),
    Question("versions", "sessions are older than what is in them", _VERSIONS, SESSION),
    Question("statuses", "runs have no known status, or ended at no time", _STATES),
    Question("leases", "leases are held for runs that are not under way", _NOT_RUNNING),
    Question("runs without lease", "runs are under way and held by nobody", _NO_LEASE),
    Question("members", "runs name a parent that is not there", _ORPHANS),
    Question("messages", "messages are no JSON, or of another role", _BODIES, MESSAGE),
    Question("values", "values are no JSON", _TEXTS, "session_id, kind, key"),
    Question("system messages", "runs name one that is not there", _LOST_PROMPTS),
    Question("messages without run", "messages belong to no run", _RUNLESS),
    Question(
        "rows without session",
        "sessions have no header",
        f"select distinct * from ({_HEADLESS})",
        SESSION,
    ),
    Question(
        "broken off",
        "runs ended without a word; they are read as interrupted, and the next run in their session records it",
        f"{_BROKEN_OFF} where stored = 'running' and seen = 'interrupted'",
        RUN,
        "note",
    ),
    Question("under way", "runs are under way", f"{_BROKEN_OFF} where seen = 'running'", RUN, "note"),
)
