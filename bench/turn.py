"""What a turn costs, from the tenth of a session to its ten thousandth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, cycle
from pathlib import Path
from typing import Final, Literal, NamedTuple

from bench.floor import Floor, decoded
from bench.pace import Calls, Spread, interleave
from bench.table import Budget, Line, line
from bench.talk import RUN_METRICS, Reader, session, turns
from recollect.agent import Agent
from recollect.db.sqlite import SqliteDb
from recollect.history import HistoryLimits
from recollect.message import Message
from recollect.models.echo import EchoModel

GROUP: Final = "A turn, in a process that goes on"
RUN: Final = 4.0
STORE: Final = 2.5
FLAT: Final = Budget(1.25, "median")
"""How many times a turn may cost at 10,000 what it costs at 100, where the model is first shown fifty runs: noise."""


class Place(NamedTuple):
    """Sessions that stand just before a turn; turn 10 needs many, in the others one hardly moves."""

    turn: int
    ids: Sequence[str]

    def __str__(self) -> str:
        return f"turn {self.turn:,}"


def lines(folder: Path, *, quick: bool) -> Iterator[Line]:
    rounds = 60 if quick else 400
    places = _places(rounds)
    sides = Sides(folder, "normal", places)
    whole: dict[int, Spread] = {}
    for place in places:
        pair = interleave(*sides.whole(place, decoding=True), rounds)
        whole[place.turn] = pair.ours
        yield line(GROUP, f"run(), normal, {place}; both decode the past", pair, RUN)
    flat = Spread.of([whole[10_000].median / whole[100].median])
    yield Line(group=GROUP, what="run(), normal, turn 10,000 over turn 100", ours=flat, unit="x", budget=FLAT)
    for place in places:
        pair = interleave(*sides.whole(place, decoding=False), rounds)
        yield line(GROUP, f"run(), normal, {place}; neither decodes", pair)
    for place in places:
        pair = interleave(*sides.store(place), rounds)
        yield line(GROUP, f"begin_run + finish_run, normal, {place}; neither decodes", pair, STORE)
    yield line(GROUP, "append_messages of one message, normal", interleave(*sides.step("1000-0"), rounds))
    sides.close()
    yield from _full(folder, rounds // 2)


def _full(folder: Path, rounds: int) -> Iterator[Line]:
    place = Place(1_000, ["full-0"])
    sides = Sides(folder, "full", [place])
    whole = interleave(*sides.whole(place, decoding=True), rounds)
    yield line(GROUP, f"run(), full, {place}; both decode the past", whole)
    store = interleave(*sides.store(place), rounds)
    yield line(GROUP, f"begin_run + finish_run, full, {place}; neither decodes", store)
    yield line(GROUP, "append_messages of one message, full", interleave(*sides.step("full-0"), rounds))
    sides.close()


def _places(rounds: int) -> list[Place]:
    few = [Place(turn, [f"{turn}-0"]) for turn in (100, 1_000, 10_000)]
    return [Place(10, [f"10-{number}" for number in range(rounds)]), *few]


class Sides:
    """The same sessions in Recollect and in the floor, and the ways to take a turn in each."""

    def __init__(self, folder: Path, durability: Literal["normal", "full"], places: Sequence[Place]) -> None:
        self.db = SqliteDb(folder / f"turn-{durability}-ours.db", durability=durability)
        self.floor = Floor(folder / f"turn-{durability}-floor.db", durability)
        self.floor.create()
        for place in places:
            said = turns(place.turn - 1)
            for session_id in place.ids:
                self.db.upsert_session(session(session_id, said))
                self.floor.fill(session_id, said)

    def whole(self, place: Place, *, decoding: bool) -> Calls:
        """A whole `Agent.run`; with ``decoding`` the model decodes what it is shown, and so does the floor."""
        model = Reader("") if decoding else EchoModel("")
        agent = Agent(model=model, db=self.db)
        one, other = cycle(place.ids), cycle(place.ids)
        said, same = cycle(turns(500, seed=1)), cycle(turns(500, seed=1))

        def ours() -> None:
            question, model.reply = next(said)
            agent.run(question, session_id=next(one))

        def floor() -> None:
            past = self.floor.turn(next(other), next(same))
            if decoding:
                decoded(past)

        return ours, floor

    def store(self, place: Place) -> Calls:
        """`begin_run` with the past, then `finish_run`."""
        one, other, limits = cycle(place.ids), cycle(place.ids), HistoryLimits()
        said, same = cycle(turns(500, seed=1)), cycle(turns(500, seed=1))

        def ours() -> None:
            question, answer = next(said)
            asked = (Message("user", question),)
            run = self.db.begin_run(next(one), asked, agent_id="agent", model="echo", history=limits)
            self.db.finish_run(run, (Message("assistant", answer),), metrics=RUN_METRICS)

        def floor() -> None:
            self.floor.turn(next(other), next(same))

        return ours, floor

    def step(self, session_id: str) -> Calls:
        """`append_messages` of one message, in a run that goes on."""
        run = self.db.begin_run(session_id, [Message("user", "?")], agent_id="agent", model="echo")
        seq, _ = self.floor.begin(session_id, "?")
        one, other = count(1), count(1)
        said, same = cycle(turns(500, seed=1)), cycle(turns(500, seed=1))

        def ours() -> None:
            self.db.append_messages(run, (Message("assistant", next(said).answer),), at=next(one))

        def floor() -> None:
            self.floor.append(session_id, seq, next(other), next(same).answer)

        return ours, floor

    def close(self) -> None:
        self.db.close()
        self.floor.close()
