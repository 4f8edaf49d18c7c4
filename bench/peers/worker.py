"""A process that works with one store of one peer, in the peer's own environment; it knows the standard library alone.

``python -m bench.peers.worker MODULE STORE``. It reads a request a line and answers each with a line, both JSON:
``{"do": "turn", "each": [[...], ...], "upto": 0.25}`` calls the verb with each list of arguments, until as many seconds
have passed but twice at least, and answers how long each call took and what the last one gave. A call that fails is a
name among ``refused``, and None among the seconds. ``{"do": "open", "address": ...}`` comes first.

``{"do": "fresh", "address": ..., "call": "turn", "each": [[...]]}`` asks a worker that has opened nothing: a fork of it
opens the store, calls the verb once, and ends; the time is of both. The clock is in here, so what the pipe takes is not
counted.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from time import perf_counter
from typing import Any, TextIO


def peak() -> float:
    """Megabytes that this process has held at most."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - pathlib is not loaded for it
            return int(status.read().partition("VmHWM:")[2].split()[0]) / 1024
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


class Worker:
    """A store, when it has been opened, and the requests to it."""

    def __init__(self, module: str, store: str, out: TextIO) -> None:
        self.out = out
        self.name = store
        began, cpu = perf_counter(), time.process_time()
        self.module = importlib.import_module(f"bench.peers.{module}") if module != "nothing" else None
        for needed in self.module.STORES[store].NEEDS if self.module is not None else ():
            importlib.import_module(needed)
        self.say(seconds=[perf_counter() - began], cpu=time.process_time() - cpu, rss=peak(), value="ready")
        self.store: Any = None

    def say(self, **answer: object) -> None:
        self.out.write(json.dumps(answer) + "\n")
        self.out.flush()

    def answer(self, request: dict[str, Any]) -> None:
        verb = request["do"]
        if verb == "open":
            self._timed(self._open, [[request["address"]]])
        elif verb == "usage":
            self.say(seconds=[], cpu=time.process_time(), rss=peak(), value=None)
        elif verb == "settle":
            gc.collect()
            gc.freeze()
            self.say(seconds=[], value=None)
        elif verb == "fresh":
            self._fresh(request)
        elif verb == "hang":
            self.store.held = self._hang
            self.store.run(*request["each"][0], "")
        else:
            self._timed(getattr(self.store, verb), request["each"], request.get("upto", float("inf")))

    def _open(self, address: str) -> bool:
        assert self.module is not None
        self.store = self.module.STORES[self.name](address)
        return bool(self.store.BULK)

    def _fresh(self, request: dict[str, Any]) -> None:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
        self._timed(lambda *arguments: self._first(request["address"], request["call"], arguments), request["each"])
        self.store.close()
        os._exit(0)

    def _first(self, address: str, verb: str, arguments: tuple[Any, ...]) -> object:
        self._open(address)
        value: object = getattr(self.store, verb)(*arguments)
        return value

    def _timed(self, verb: Callable[..., object], each: list[list[Any]], upto: float = float("inf")) -> None:
        took: list[float | None] = []
        refused: list[str] = []
        value: object = None
        ends = perf_counter() + upto
        for arguments in each:
            began = perf_counter()
            try:
                value = verb(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever a peer raises is told, and counted by the driver
                took.append(None)
                refused.append(type(error).__name__)
                print(repr(error), file=sys.stderr, flush=True)
            else:
                took.append(perf_counter() - began)
            if len(took) > 1 and perf_counter() > ends:
                break
        self.say(seconds=took, refused=refused, value=value if isinstance(value, int | str | list | dict) else None)

    def _hang(self) -> None:
        """Say that the model was asked, and never answer."""
        self.say(seconds=[], value="asked")
        time.sleep(3600)


def main(module: str, store: str) -> None:
    # What a peer prints goes to the log, not among the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        worker = Worker(module, store, out)
        for line in sys.stdin:
            worker.answer(json.loads(line))
    if worker.store is not None:
        worker.store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
