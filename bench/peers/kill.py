"""``kill -9`` while the model is thinking: what is left of the turn, and whether the session goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from bench.peers.bench import Bench, log
from bench.peers.process import Gone
from bench.peers.result import Cell, cell
from bench.peers.roster import Entry

SESSION: Final = "killed"
THINKING: Final = 0.5
"""Seconds between the question to the model and the kill, for whoever writes in the background."""
BEFORE: Final = ("The question before", "The answer before")
QUESTION: Final = "The question in flight"
AFTER: Final = ("The question after", "The answer after")


def cells(bench: Bench) -> Iterator[Cell]:
    for entry in bench.entries:
        if "run" in entry.kinds and not entry.is_variant:
            log(f"kill: {entry.key}")
            try:
                yield from _killed(bench, entry)
            except Gone as error:
                yield cell("kill", "the turn before", entry, [], said=str(error))


def _killed(bench: Bench, entry: Entry) -> Iterator[Cell]:
    with bench.place(entry) as (address, _), ExitStack() as stack:
        peer, fresh = (stack.enter_context(bench.start(entry)) for _ in range(2))
        peer.open(address)
        peer.ask("ready", [SESSION])
        peer.ask("run", [SESSION, *BEFORE])
        peer.ask("hang", [SESSION, QUESTION])
        time.sleep(THINKING)
        peer.kill()
        fresh.open(address)
        left = fresh.ask("texts", [SESSION]).value
        status = fresh.ask("status", [SESSION])
        went = fresh.ask("run", [SESSION, *AFTER])
        whole = fresh.ask("texts", [SESSION]).value
    yield cell("kill", "the turn before", entry, [], said="kept" if left[:2] == list(BEFORE) else "gone")
    yield cell("kill", "the message in flight", entry, [], said="kept" if QUESTION in left else "gone")
    yield cell("kill", "the turn is called", entry, [], said=str(status.value))
    is_kept = not went.refused and list(AFTER) == whole[-2:]
    yield cell(
        "kill", "the next turn", entry, [], said=went.refused[0] if went.refused else "kept" if is_kept else "lost"
    )
    yield cell("kill", "the session afterwards", entry, [], said=f"{len(whole)} messages")
