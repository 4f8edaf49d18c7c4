"""Which messages of a session are shown: pure questions to its runs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument
from recollect.message import PROMPT_ROLES, Message
from recollect.run import HISTORY_SKIP_STATUSES, RunOutput, RunStatus


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages of a session are wanted."""

    agent_id: str | None = None
    team_id: str | None = None
    member_ids: frozenset[str] = frozenset()
    last_n_runs: int | None = None
    limit: int | None = None
    skip_roles: frozenset[str] = frozenset()
    skip_statuses: frozenset[str] = frozenset(HISTORY_SKIP_STATUSES)
    skip_member_messages: bool = True

    @classmethod
    def checked(
        cls,
        *,
        agent_id: str | None = None,
        team_id: str | None = None,
        member_ids: Sequence[str] | None = None,
        last_n_runs: int | None = None,
        limit: int | None = None,
        skip_roles: Sequence[str] | None = None,
        skip_statuses: Sequence[str] | None = None,
        skip_member_messages: bool = True,
    ) -> Filter:
        """The filter that the arguments of ``get_messages`` mean.

        Raises:
            InvalidArgument: one of them is of the wrong type, a count is negative, or a status is unknown.
        """
        statuses = HISTORY_SKIP_STATUSES if skip_statuses is None else checks.texts("skip_statuses", skip_statuses)
        unknown = [status for status in statuses if status not in RunStatus.__members__.values()]
        if unknown:
            raise InvalidArgument("skip_statuses", f"{unknown[0]!r} is not one of {', '.join(RunStatus)}")
        return cls(
            agent_id=checks.optional_identifier("agent_id", agent_id),
            team_id=checks.optional_identifier("team_id", team_id),
            member_ids=frozenset(checks.texts("member_ids", member_ids)),
            last_n_runs=None if last_n_runs is None else checks.count("last_n_runs", last_n_runs),
            limit=None if limit is None else checks.count("limit", limit),
            skip_roles=frozenset(checks.texts("skip_roles", skip_roles)),
            skip_statuses=frozenset(str(status) for status in statuses),
            skip_member_messages=checks.flag("skip_member_messages", skip_member_messages),
        )

    @property
    def with_members(self) -> bool:
        """Whether runs of a team's members are wanted, too."""
        return bool(self.member_ids) or self.team_id is not None or not self.skip_member_messages

    def takes(self, run: RunOutput) -> bool:
        """Whether the messages of this run are wanted."""
        if run.status in self.skip_statuses or is_candidate(run.replaces, run.status):
            return False
        if run.parent_run_id is not None and not self.with_members:
            return False
        if self.member_ids and (run.agent_id or run.team_id) not in self.member_ids:
            return False
        return self.agent_id in (None, run.agent_id) and self.team_id in (None, run.team_id)


def is_candidate(replaces: str | None, status: str) -> bool:
    """Whether a run was to replace another and did not, or not yet: then it is no part of the conversation."""
    return replaces is not None and status not in (RunStatus.completed, RunStatus.regenerated)


def is_own(run: RunOutput) -> bool:
    """Whether a run is part of the conversation itself: no member's, not replaced, and no mere candidate."""
    is_replaced = run.status is RunStatus.regenerated or is_candidate(run.replaces, run.status)
    return run.parent_run_id is None and not is_replaced


def select_messages(runs: Sequence[RunOutput], wanted: Filter) -> list[Message]:
    """The wanted messages of these runs, by the rules of `AgentSession.get_messages`."""
    found: list[list[Message]] = []
    for run in reversed(runs):
        if wanted.last_n_runs is not None and len(found) >= wanted.last_n_runs:
            break
        if wanted.takes(run):
            found.append([message for message in shown(run) if message.role not in wanted.skip_roles])
    return arrange([message for said in reversed(found) for message in said], wanted.limit)


def shown(run: RunOutput) -> list[Message]:
    """The run's messages without system messages in its midst: notes to the model, not part of what was said."""
    said = [message for message in run.said if message.role not in PROMPT_ROLES]
    return said if run.prompt is None else [run.prompt, *said]


def arrange(messages: list[Message], limit: int | None) -> list[Message]:
    """The messages of chosen runs as they are shown: the system message once, the newest where there is a limit."""
    return _with_one_prompt(messages) if limit is None else _newest(messages, limit)


def _with_one_prompt(messages: list[Message]) -> list[Message]:
    first = next((message for message in messages if message.role in PROMPT_ROLES), None)
    return [message for message in messages if message is first or message.role not in PROMPT_ROLES]


def _newest(messages: list[Message], limit: int) -> list[Message]:
    prompt = next((message for message in messages if message.role in PROMPT_ROLES), None)
    spoken = [message for message in messages if message.role not in PROMPT_ROLES]
    room = limit - (prompt is not None)
    newest = spoken[-room:] if room > 0 else []
    lead = next((place for place, message in enumerate(newest) if message.role != "tool"), len(newest))
    return ([prompt] if prompt is not None and limit > 0 else []) + newest[lead:]
