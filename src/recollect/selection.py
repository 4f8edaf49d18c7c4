"""Which messages of a session are shown: pure questions to its runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument
from recollect.message import PROMPT_ROLES, Message
from recollect.run import HISTORY_SKIP_STATUSES, RunOutput, RunStatus


class Outline(msgspec.Struct, frozen=True, gc=False):
    """A run as far as messages are chosen by it; the rest of it is not made for that."""

    status: str
    parent_run_id: str | None
    agent_id: str | None
    team_id: str | None
    replaces: str | None
    messages: tuple[Message, ...]


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

    def takes(self, run: RunOutput | Outline) -> bool:
        """Whether the messages of this run are wanted."""
        if run.status in self.skip_statuses or (run.replaces is not None and is_candidate(run.replaces, run.status)):
            return False
        if run.parent_run_id is not None and not self.with_members:
            return False
        if self.member_ids and (run.agent_id or run.team_id) not in self.member_ids:
            return False
        is_theirs = self.agent_id is None or run.agent_id == self.agent_id
        return is_theirs and (self.team_id is None or run.team_id == self.team_id)


def is_candidate(replaces: str | None, status: str) -> bool:
    """Whether a run was to replace another and did not, or not yet: then it is no part of the conversation."""
    return replaces is not None and status not in (RunStatus.completed, RunStatus.regenerated)


def is_own(run: RunOutput) -> bool:
    """Whether a run is part of the conversation itself: no member's, not replaced, and no mere candidate."""
    is_replaced = run.status is RunStatus.regenerated or is_candidate(run.replaces, run.status)
    return run.parent_run_id is None and not is_replaced


def select_messages(newest: Iterable[RunOutput | Outline], wanted: Filter) -> list[Message]:
    """The wanted messages of runs, the newest of which comes first, by the rules of `AgentSession.get_messages`."""
    found: list[Sequence[Message]] = []
    # System messages in the midst of a run are notes to the model, not part of what was said.
    skipped, leading = PROMPT_ROLES | wanted.skip_roles, PROMPT_ROLES - wanted.skip_roles
    leads: set[int] = set()
    takes, most = wanted.takes, wanted.last_n_runs
    for run in newest:
        if most is not None and len(found) >= most:
            break
        if takes(run):
            messages = run.messages
            found.append(messages)
            if messages and messages[0].role in leading:
                leads.add(id(messages[0]))
    every = chain.from_iterable(reversed(found))
    said = [message for message in every if message.role not in skipped or id(message) in leads]
    return arrange(said, wanted.limit)


def arrange(messages: list[Message], limit: int | None) -> list[Message]:
    """The messages of chosen runs as they are shown: the system message once, the newest where there is a limit."""
    return _with_one_prompt(messages) if limit is None else _newest(messages, limit)


def _with_one_prompt(messages: list[Message]) -> list[Message]:
    prompts = [message for message in messages if message.role in PROMPT_ROLES]
    if not prompts[1:]:
        return messages
    return [message for message in messages if message is prompts[0] or message.role not in PROMPT_ROLES]


def _newest(messages: list[Message], limit: int) -> list[Message]:
    prompt = next((message for message in messages if message.role in PROMPT_ROLES), None)
    spoken = [message for message in messages if message.role not in PROMPT_ROLES]
    room = limit - (prompt is not None)
    newest = spoken[-room:] if room > 0 else []
    lead = next((place for place, message in enumerate(newest) if message.role != "tool"), len(newest))
    return ([prompt] if prompt is not None and limit > 0 else []) + newest[lead:]
