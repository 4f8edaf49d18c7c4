"""What it takes to import a peer, and to import it, open a database and take one turn; each in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bench.pace import Spread
from bench.peers.bench import Bench, log
from bench.peers.process import Peer
from bench.peers.result import Cell, cell
from bench.peers.roster import Entry
from bench.talk import turns

CASES: Final = ("import, CPU", "import, peak memory", "import and one turn, CPU", "import and one turn, peak memory")


def cells(bench: Bench) -> Iterator[Cell]:
    entries = [
        entry for entry in bench.of("sqlite") if not entry.is_floor and (entry.only_starts or not entry.is_variant)
    ]
    log("start")
    samples: dict[str, list[list[float]]] = {entry.key: [] for entry in entries}
    empty = []
    for number in range(bench.effort.starts + 1):
        for entry in entries:
            told = _started(bench, entry)
            if number:  # the first compiles what was not compiled yet
                samples[entry.key].append(told)
        if number and "recollect" in bench.pythons:
            with Peer(bench.pythons["recollect"], "nothing", "", bench.folder / "nothing.log") as peer:
                used = peer.ask("usage")
                empty.append([used.cpu, used.rss])
    for place, case in enumerate(CASES):
        is_memory = place % 2 == 1
        unit = "MB" if is_memory else "s"
        for entry in entries:
            yield cell("start", case, entry, [one[place] for one in samples[entry.key]], unit=unit)
        if empty and entries:
            spread = Spread.of([one[place % 2] for one in empty])
            yield Cell(group="start", backend="sqlite", case=case, who="floor-full", spread=spread, unit=unit)


def _started(bench: Bench, entry: Entry) -> list[float]:
    """Seconds and megabytes after the import, and after one turn."""
    [one] = turns(1)
    with bench.place(entry) as (address, _), bench.start(entry) as peer:
        imported = peer.ask("usage")
        peer.open(address)
        peer.ask(entry.kinds[0], ["start", *one])
        used = peer.ask("usage")
    return [imported.cpu, imported.rss, used.cpu, used.rss]
