"""The newest top-level runs of a session, as SQL: one branch for each status, along an index that holds only its runs.

The branches are merged in order, and the limit ends them all: nothing is sorted, and nothing is walked past that is not
wanted, whatever else the session holds, be it thousands of members' runs, or of failed or cancelled ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from recollect.run import RunStatus

ALIVE: Final = """exists (
    select 1 from recollect_leases l where l.session_id = :session_id and l.run_seq = r.run_seq and {alive}
)"""
"""The run ``r`` of the session has a lease whose holder may still be at work."""

STATUS: Final = f"case when r.status <> 'running' or {ALIVE} then r.status else 'interrupted' end"
"""A run of the session whose lease ran out is interrupted, whether or not somebody has recorded it yet."""

STATUS_ANYWHERE: Final = STATUS.replace(":session_id", "r.session_id")
"""The same of a run of any session."""


def among(few: str) -> str:
    """SQL: a condition that a column is one of a few values that a select gives.

    Said so that Postgres looks each of them up, and does not walk past the rest of the session to meet them.
    """
    return f"{{one}}in ({few}){{/one}}{{many}}= any(array({few})){{/many}}"


_OF_MEMBERS: Final = "recollect_runs r where r.session_id = :session_id and r.parent_run_id is not null"


def member(agent_id: str | None) -> str:
    """A condition on the runs of one member of a team, which is an agent or a team itself.

    The ids are those of parameters ``:agent_id`` and ``:team_id``. Whose ``agent_id`` is None is a team.
    """
    if agent_id is None:
        return "r.agent_id is null and r.team_id = :team_id"
    return "r.agent_id = :agent_id and r.team_id is null"


def stored_as(status: str, of: str | None = None) -> str:
    """The runs that are stored with this status, as the source of a select.

    They are the session's own, on the top level, candidates left out; or, where ``of`` is a condition made by
    `member`, that member's.
    """
    if of is not None:
        return f"""
            recollect_runs r {{along recollect_runs_members}}
            where r.session_id = :session_id and r.parent_run_id is not null and {of} and r.status = '{status}'
        """
    index = "recollect_runs_completed" if status == RunStatus.completed else "recollect_runs_others"
    return f"""
        recollect_runs r {{along {index}}}
        where r.session_id = :session_id and r.parent_run_id is null and r.status = '{status}'
        {_IN_INDEX.get(status, "and r.status <> 'completed' and r.replaces is null")}
    """


_IN_INDEX: Final[dict[str, str]] = {
    RunStatus.completed: "",
    RunStatus.regenerated: "and r.status <> 'completed' and (r.replaces is null or r.status = 'regenerated')",
}
"""What has to be said for a database to see that the index holds these runs."""

UNDER_WAY: Final = """
recollect_leases l cross join recollect_runs r
where l.session_id = :session_id and {alive}
    and r.session_id = l.session_id and r.run_seq = l.run_seq and r.parent_run_id is null and r.status = 'running'
"""
"""The top-level runs that somebody may still be at work on, candidates too, as the source of a select."""


def newest(
    columns: str,
    statuses: Iterable[str],
    limit: str,
    *,
    condition: str = "",
    members: str | None = None,
    of: str | None = None,
    order: str = "desc",
) -> str:
    """A select of the newest runs that read as one of these statuses. The first column must be ``r.run_seq``.

    ``condition`` begins with ``and``. ``members`` is a condition on members' runs that are wanted too; without it none
    are. ``of``, as in `stored_as`, asks for the runs of one member alone. ``order="asc"`` gives the oldest instead.
    """
    wanted = set(statuses)
    sources = [stored_as(status, of) for status in RunStatus if status in wanted - _LEASED]
    if RunStatus.interrupted in wanted:
        sources.append(stored_as(RunStatus.interrupted, of))
    if wanted & _LEASED:
        # Asked like this, and not as a bare condition, for Postgres makes a join of that, and joins lose the order.
        held = "" if wanted >= _LEASED else f"and ({ALIVE}) is {'' if RunStatus.running in wanted else 'not '}true"
        sources.append(stored_as(RunStatus.running, of) + held)
    if members is not None:
        reads_as = ", ".join(f"'{status}'" for status in sorted(wanted)) or "''"
        sources.append(f"{_OF_MEMBERS} and {members} and {STATUS} in ({reads_as})")
    sources = sources or [f"{stored_as(RunStatus.completed)} and 1 = 0"]
    end = f"order by 1 {order} limit {limit}"
    selects = [f"select {columns} from {source} {condition}" for source in sources]
    if len(selects) == 1:
        return f"{selects[0]} {end}"
    branches = " union all ".join(f"{{cut}}{select} {{at}}{end}{{/cut}}" for select in selects)
    return f"{branches} {end}"


_LEASED: Final = {RunStatus.running, RunStatus.interrupted}
"""What a run that is stored as running may read as."""
