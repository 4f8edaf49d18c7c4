"""An agent: a model that converses in durable sessions."""

from __future__ import annotations

from typing import ClassVar

from recollect.planner import Who
from recollect.runner import Runner


class Agent(Runner):
    """A model that converses in durable sessions, with instructions, tools and a database.

    It does not change, and serves all users and sessions of a process, from any thread or event loop; `replace` makes
    another.
    """

    KIND: ClassVar[str] = "agent"

    def _who(self) -> Who:
        return Who(kind="agent", agent_id=self.id, agent_name=self.name, team_id=None)
