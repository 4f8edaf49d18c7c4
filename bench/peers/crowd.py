"""Four processes that take turns in one session at once: what is kept, refused and lost, and how many a second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from time import perf_counter
from typing import Final

import msgspec

from bench.peers.bench import Bench, log
from bench.peers.process import Answer, Gone, Peer
from bench.peers.result import Cell, cell
from bench.peers.roster import Entry
from bench.talk import turns

PROCESSES: Final = 4
BEFORE: Final = 10


class Round(msgspec.Struct, frozen=True):
    """What came of one round."""

    turns: int
    """That were begun."""
    rate: float
    """Turns acknowledged a second."""
    refused: int
    lost: int
    """Turns acknowledged of which not all is there afterwards."""
    orders: int
    """In how many orders the processes see the session afterwards."""
    torn: int
    """Questions that are kept and not followed by their answer."""
    errors: list[str]


def cells(bench: Bench) -> Iterator[Cell]:
    for entry in bench.entries:
        if not entry.is_variant:
            log(f"crowd: {entry.key}")
            try:
                yield from _crowded(bench, entry)
            except Gone as error:
                yield cell("crowd", "turns a second", entry, [], said=str(error))


def _crowded(bench: Bench, entry: Entry) -> Iterator[Cell]:
    with bench.place(entry) as (address, _), ExitStack() as stack:
        peers = [stack.enter_context(bench.start(entry)) for _ in range(PROCESSES + 1)]
        for peer in peers:
            peer.open(address)
        for kind in entry.kinds:
            if kind != "short":
                names = (f"crowd-{kind}-{number}" for number in range(bench.effort.crowds))
                rounds = [_round(peers, kind, name, bench.effort.crowd_turns) for name in names]
                for made in _told(entry, rounds):
                    yield msgspec.structs.replace(made, kind=kind)


def _told(entry: Entry, rounds: Sequence[Round]) -> Iterator[Cell]:
    errors = sorted({error for one in rounds for error in one.errors})
    every = sum(one.turns for one in rounds)
    refused, lost = sum(one.refused for one in rounds), sum(one.lost for one in rounds)
    yield cell("crowd", "turns a second", entry, [one.rate for one in rounds], unit="a second")
    yield cell("crowd", "kept", entry, [], said=f"{every - refused - lost} of {every}")
    yield cell("crowd", "refused", entry, [], said=" ".join([str(refused), *errors]))
    yield cell("crowd", "lost", entry, [], said=str(lost))
    yield cell("crowd", "orders seen", entry, [], said=str(max(one.orders for one in rounds)))
    yield cell("crowd", "torn", entry, [], said=str(sum(one.torn for one in rounds)))


def _round(peers: Sequence[Peer], kind: str, session_id: str, each: int) -> Round:
    """All but the last of the processes take turns; all of them look at the session afterwards."""
    texts = enumerate(turns(PROCESSES * each, seed=3))
    said = [(f"{number:03} {question}", f"{number:03} {answer}") for number, (question, answer) in texts]
    *takers, reader = peers
    for peer in takers:
        peer.ask("ready", [session_id])
        _first(peer, kind, session_id)
    began = perf_counter()
    for place, peer in enumerate(takers):
        peer.send(kind, *([session_id, *one] for one in said[place::PROCESSES]))
    answers = [peer.answer() for peer in takers]
    seconds = perf_counter() - began
    seen = [peer.ask("texts", [session_id]).value for peer in (reader, *takers)]
    return _round_of(said, answers, seen, seconds)


def _first(peer: Peer, kind: str, session_id: str) -> None:
    """One turn of each, one after another, so that everything is open and known; again where it is refused."""
    for one in turns(BEFORE, seed=7):
        if not peer.ask(kind, [session_id, *one]).refused:
            return


def _round_of(
    said: Sequence[tuple[str, str]], answers: Sequence[Answer], seen: Sequence[list[str]], seconds: float
) -> Round:
    acknowledged = [
        one
        for place, answer in enumerate(answers)
        for one, took in zip(said[place::PROCESSES], answer.seconds, strict=True)
        if took is not None
    ]
    texts = seen[0] or []
    after = dict(zip(texts, [*texts[1:], ""], strict=True))
    kept = set(texts)
    return Round(
        turns=len(said),
        rate=len(acknowledged) / seconds,
        refused=len(said) - len(acknowledged),
        lost=sum(not kept.issuperset(one) for one in acknowledged),
        orders=len({tuple(one or ()) for one in seen}),
        torn=sum(after[question] != answer for question, answer in said if question in kept),
        errors=[error for answer in answers for error in answer.refused],
    )
