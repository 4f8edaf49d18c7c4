"""The window on the past as a cache keeps it for the next turn, and a run that becomes part of it when it ends.

It is what would be read at one ``(epoch, version)``, while no run is under way whose lease could run out: so the run
that keeps it must have been the only one from its begin to its end, and each of its steps the next version.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from recollect.history import HISTORY_STATUSES, History, HistoryLimits, select
from recollect.message import Message
from recollect.store import sizes
from recollect.store.past import Past, has_tools
from recollect.store.turns import Commit, OpenRun


class _PastRun:
    """A run of the past."""

    __slots__ = ("bytes", "chars", "messages", "seq", "tools")

    def __init__(self, seq: int, roles: Sequence[str], bodies: Sequence[str]) -> None:
        self.seq = seq
        self.messages = Message.stored_all(roles, bodies)
        self.chars = sum(message.chars for message in self.messages)
        self.tools = has_tools(roles, "".join(bodies))
        self.bytes = sum(sizes.of_message(body) for body in bodies)


class Window:
    """The newest runs that fit the limits."""

    __slots__ = ("_history", "_older", "_runs", "at", "bytes", "limits")

    def __init__(self, at: tuple[int, int], limits: HistoryLimits, runs: Sequence[_PastRun], *, older: bool) -> None:
        self.at = at
        self.limits = limits
        self.bytes = sizes.WINDOW + sum(sizes.RUN // 2 + run.bytes for run in runs)
        self._runs = runs
        self._older = older
        self._history: History | None = None

    @classmethod
    def of(cls, past: Past, at: tuple[int, int], limits: HistoryLimits) -> Window:
        """The window that was read at this epoch and version."""
        runs = [list(zip(*rows, strict=True)) for _, rows in groupby(past.rows, itemgetter(0))]
        return cls(at, limits, [_PastRun(seqs[0], roles, bodies) for seqs, roles, bodies, *_ in runs], older=past.older)

    def history(self) -> History:
        """What the model is shown of it."""
        if self._history is None:
            messages = [message for run in self._runs for message in run.messages]
            seqs = [run.seq for run in self._runs for _ in run.messages]
            tools = any(run.tools for run in self._runs)
            chars = sum(run.chars for run in self._runs)
            self._history = select(messages, seqs, self.limits, older=self._older, tools=tools, chars=chars)
        return self._history

    def then(self, at: tuple[int, int], seq: int, said: Sequence[Message]) -> Window:
        """The window after one more run; older runs make room for it."""
        new = _PastRun(seq, [message.role for message in said], [message.to_json() for message in said])
        runs = [*self._runs, new]
        chars, first = sum(run.chars for run in runs), 0
        while first < len(runs) and (chars > self.limits.chars or len(runs) - first > self.limits.runs):
            chars -= runs[first].chars
            first += 1
        return Window(at, self.limits, runs[first:], older=self._older or first > 0)

    def later(self, at: tuple[int, int]) -> Window:
        """The same window at a later version."""
        return Window(at, self.limits, self._runs, older=self._older)


class Growing:
    """A run under way, and the window that it began with."""

    __slots__ = ("_at", "_said", "_window")

    def __init__(self, run: OpenRun, window: Window, asked: Sequence[Message]) -> None:
        self._window = window
        self._at: tuple[int, int] | None = (run.epoch, run.version) if run.is_apart else None
        self._said = dict(enumerate(asked))

    def append(self, messages: Sequence[Message], at: int | None, commit: Commit, *, raised: bool) -> None:
        """A step was stored, and ``raised`` the version or not; where anybody else wrote since, nothing is kept."""
        if self._at is None:
            return
        epoch, version = self._at
        self._at = (epoch, commit.version) if commit.version == version + raised else None
        self._said.update(enumerate(messages, max(self._said, default=-1) + 1 if at is None else at))

    def finish(self, run: OpenRun, status: str) -> Window | None:
        """The window for the next turn, where it is known."""
        if self._at is None:
            return None
        if run.parent_run_id is not None or status not in HISTORY_STATUSES:
            return self._window.later(self._at)
        return self._window.then(self._at, run.run_seq, [self._said[place] for place in sorted(self._said)])
