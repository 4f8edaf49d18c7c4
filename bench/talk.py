"""What is said in the measurements: turns of 100 and 300 characters, and sessions full of them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from recollect.message import Message
from recollect.models.echo import EchoModel
from recollect.port import Delta, ModelRequest, Reply, World
from recollect.run import RunMetrics, RunOutput
from recollect.session import AgentSession
from recollect.store.rows import metrics_text

QUESTION: Final = 100
ANSWER: Final = 300
"""Characters of what the user says, and of what the model answers."""

RUN_METRICS: Final = RunMetrics(
    input_tokens=5900,
    output_tokens=84,
    duration=0.000512,
    time_to_first_token=0.000496,
    steps=1,
    history_runs=50,
    history_cut=True,
    history_tokens=5762,
)
METRICS: Final = metrics_text(RUN_METRICS)
"""The same as it is stored, and as long as what a run with an `EchoModel` stores."""

_WORDS: Final = (
    "flight",
    "order",
    "please",
    "refund",
    "a",
    "seat",
    "because",
    "to",
    "the",
    "luggage",
    "would",
    "Tuesday",
)


class Said(NamedTuple):
    """A turn."""

    question: str
    answer: str


def talk(seed: int = 0) -> Iterator[Said]:
    """Turns without end, the same for each seed."""
    chance = random.Random(seed)
    while True:
        yield Said(_text(chance, QUESTION), _text(chance, ANSWER))


def turns(count: int, seed: int = 0) -> list[Said]:
    """So many turns."""
    return [said for said, _ in zip(talk(seed), range(count), strict=False)]


def session(session_id: str, said: list[Said], *, members: int = 0) -> AgentSession:
    """A session of completed turns, followed by runs of members under the last of them."""
    runs = [_run(session_id, number, one) for number, one in enumerate(said)]
    parent = runs[-1].run_id if runs else ""
    runs += [_run(session_id, len(said) + number, said[-1], parent=parent) for number in range(members)]
    return AgentSession(session_id, agent_id="agent", runs=runs)


class Reader(EchoModel):
    """An `EchoModel` that decodes every message it is shown, as the adapter of a real provider has to."""

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        self.seen = [message.to_dict() for message in request.messages]
        async for item in super().ask(request, world):
            yield item


def _run(session_id: str, number: int, said: Said, *, parent: str | None = None) -> RunOutput:
    began = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    return RunOutput(
        run_id=f"{number:036}",
        session_id=session_id,
        agent_id="agent" if parent is None else "member",
        parent_run_id=parent,
        model="echo",
        messages=(Message("user", said.question), Message("assistant", said.answer)),
        metrics=RUN_METRICS,
        created_at=began,
        finished_at=began,
    )


def _text(chance: random.Random, length: int) -> str:
    words = " ".join(chance.choices(_WORDS, k=length // 3))
    return words[:length].ljust(length, "x")
