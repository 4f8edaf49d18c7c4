"""What a run is to be: all that it needs to know before it begins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Literal

import msgspec

from recollect.history import HistoryLimits
from recollect.media import without_media
from recollect.message import Message
from recollect.port import Model, Stop
from recollect.store.turns import Commit
from recollect.tokens import TokenBudget
from recollect.tools import Tool

Others = Literal["allow", "queue", "refuse"]
FollowUp = Callable[[Commit], Awaitable[None]]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that one run needs to know before it begins."""

    model: Model
    session_id: str
    run_id: str
    input: tuple[Message, ...]
    user_id: str | None = None
    kind: str = "agent"
    agent_id: str | None = None
    agent_name: str | None = None
    team_id: str | None = None
    parent_run_id: str | None = None
    beside: tuple[int, int] | None = None
    """Places, where it is part of a run that replaces another: what stands from the first to the second is no past."""
    leader: Stop | None = None
    """Where somebody says that the run it is part of is to end; None on the top level."""
    prompt: Message | None = None
    context: str = ""
    """What the model is told behind the system message in this run only; it is not stored."""
    tools: Mapping[str, Tool] = {}
    answer: Any = None
    """The type of the answer; None for text."""
    history: HistoryLimits | None = None
    """How much of the past is read for the model; None for nothing."""
    budget: TokenBudget | None = None
    """How much of that it is shown, where tokens are counted."""
    max_steps: int = 20
    state: Mapping[str, Any] = {}
    """Keys of the session's state that this run sets."""
    state_defaults: Mapping[str, Any] = {}
    """Keys that are set where the session does not have them yet."""
    with_state: bool = False
    tells_state: bool = False
    """Whether the model is told the state as it is at each step."""
    with_summary: bool = False
    """Whether the model is told what the session was about until now."""
    others: Others = "allow"
    """What to do while another run is under way in the session."""
    patience: float = 60.0
    """Seconds to wait for the runs before this one, when they are queued."""
    replaces: str | None = None
    """The run whose place this one takes when it is completed."""
    expire_after: timedelta | None = None
    """How long from the begin of this run, or of a later one, after which the session is gone."""
    continues: bool = False
    """Whether the run was begun before, and is taken up where it stopped: then the rest of what is asked is its own."""
    follow_up: FollowUp | None = None
    """What is done when the run is completed and stored, before that is told."""
    metadata: Mapping[str, Any] = {}
    store_media: bool = True
    """Whether pictures, documents and sound are stored; else a note stands in their place."""
    store_tool_messages: bool = True
    """Whether calls of tools and their results are stored; else only what was asked and answered."""
    stream: bool = False

    def stored(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Messages as they are stored."""
        return messages if self.store_media else tuple(map(without_media, messages))
