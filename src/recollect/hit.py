"""What a search finds: where it is, and a piece of the text in which the terms are marked. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice, takewhile
from typing import Any, Final, Literal

import msgspec

from recollect.query import OVERLAP, Query, Term, composed, places

SNIPPET: Final = 160
"""Characters of a text that are shown, about."""

BEFORE: Final = 40
"""Characters that are shown before the first marked term, about."""

BLOCK: Final = 5_000
"""Characters that are looked through at once for what is to be marked."""

MOST: Final = 200
"""Places of a text that are looked at for what to show."""

Mark = tuple[int, int]
Where = Literal["message", "name", "summary"]


class SearchHit(msgspec.Struct, frozen=True, kw_only=True):
    """One text that holds what was searched for: a message, or the name or summary of a session."""

    session_id: str
    session_name: str
    """"" while the session has none."""
    user_id: str | None = None
    where: Where = "message"
    run_id: str | None = None
    """The run that the message is part of; None of a name and a summary."""
    run_seq: int | None = None
    """The place of the run in its session, and ``idx`` that of the message in its run."""
    idx: int | None = None
    role: str | None = None
    """Who said it: ``user``, ``assistant`` or ``tool``; None of a name and a summary."""
    snippet: str
    """A piece of the text on one line, with ``…`` where it was cut. It is as it was said: escape it before it becomes
    part of a page."""
    marks: tuple[Mark, ...] = ()
    """Where the terms are in the snippet: begin and end of each, in order, none of them over another."""
    time: datetime
    """When the run began that the message is part of; of a name and a summary, the last activity of the session when it
    was looked at."""
    rank: float
    """How well the text fits, from 0 to 1: how often the terms are in it, for its length."""

    def marked(self, before: str, after: str, escape: Callable[[str], str] = str) -> str:
        """The snippet with something put around each term, the text itself passed through ``escape``.

        >>> from datetime import UTC
        >>> from html import escape
        >>> hit = SearchHit(
        ...     session_id="s", session_name="", snippet="a <b> c", marks=((3, 4),), time=datetime.now(UTC), rank=1.0
        ... )
        >>> hit.marked("<mark>", "</mark>", escape)
        'a &lt;<mark>b</mark>&gt; c'
        """
        told, done = "", 0
        for begin, end in self.marks:
            told += escape(self.snippet[done:begin]) + before + escape(self.snippet[begin:end]) + after
            done = end
        return told + escape(self.snippet[done:])

    def to_dict(self) -> dict[str, Any]:
        """The hit as plain JSON values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


class SearchPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of what a search finds, newest first, and where the next hits begin."""

    hits: tuple[SearchHit, ...] = ()
    next_cursor: str | None = None
    """Pass it as ``cursor=`` for the next page; None on the last one."""

    def __iter__(self) -> Iterator[SearchHit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, place: int) -> SearchHit:
        return self.hits[place]

    def to_dict(self) -> dict[str, Any]:
        """The page as plain JSON values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def snippet(text: str, query: Query) -> tuple[str, tuple[Mark, ...]]:
    """The piece of a text that shows most of the terms, on one line, and where they are in it."""
    line = composed(" ".join(text.split()))
    for start in range(0, max(len(line), 1), BLOCK - OVERLAP):
        block = line[start : start + BLOCK]
        if found := _found(block, query):
            return _cut(line, [(start + begin, start + end, term) for begin, end, term in found])
    return _cut(line, [])


def _found(block: str, query: Query) -> list[tuple[int, int, int]]:
    """Where terms are in a text, each with which of them it is."""
    seen = list(places(block))
    words = [word for word, _, _ in seen]
    places_of: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        places_of.setdefault(word, []).append(place)
    found: list[tuple[int, int, int]] = []
    for number, term in enumerate(query.terms):
        width = len(term.words)
        at = (at for at in _begins(places_of, term) if _is_at(words, at, term))
        found += [(seen[begin][1], seen[begin + width - 1][2], number) for begin in at]
    return sorted(found)[:MOST]


def _begins(places_of: dict[str, list[int]], term: Term) -> Iterator[int]:
    """Where the first word of a term is."""
    first, *others = term.words
    if others or not term.is_prefix:
        yield from places_of.get(first, ())
        return
    for word, at in places_of.items():
        if word.startswith(first):
            yield from at


def _is_at(words: Sequence[str], at: int, term: Term) -> bool:
    *whole, last = term.words
    end = at + len(whole)
    if end >= len(words) or words[at:end] != whole:
        return False
    return words[end].startswith(last) if term.is_prefix else words[end] == last


def _cut(line: str, found: Sequence[tuple[int, int, int]]) -> tuple[str, tuple[Mark, ...]]:
    if len(line) <= SNIPPET:
        return line, _merged(found, 0, len(line), 0)
    best = max(range(len(found)), key=lambda place: _shown(found, place), default=None)
    begin = 0 if best is None else _begin(line, found[best][0])
    end = _end(line, begin)
    lead, tail = "…" if begin else "", "…" if end < len(line) else ""
    return lead + line[begin:end].rstrip() + tail, _merged(found, begin, end, len(lead) - begin)


def _shown(found: Sequence[tuple[int, int, int]], first: int) -> int:
    """How many different terms are shown where a snippet shows this one of them first."""
    until = found[first][0] + SNIPPET - BEFORE
    near = takewhile(lambda one: one[0] < until, islice(found, first, None))
    return len({term for _, end, term in near if end <= until})


def _begin(line: str, first: int) -> int:
    """Where a snippet begins that shows this place: at a word, where one begins near."""
    begin = max(0, min(first - BEFORE, len(line) - SNIPPET))
    blank = line.find(" ", begin - 1, first) if begin else -1
    return begin if blank < 0 else blank + 1


def _end(line: str, begin: int) -> int:
    end = begin + SNIPPET
    if end >= len(line):
        return len(line)
    blank = line.rfind(" ", begin + SNIPPET - BEFORE, end + 1)
    return end if blank < 0 else blank


def _merged(found: Sequence[tuple[int, int, int]], begin: int, end: int, move: int) -> tuple[Mark, ...]:
    """What is marked between two places: terms that meet or overlap are one."""
    marks: list[Mark] = []
    for start, stop, _ in found:
        if start < begin or stop > end:
            continue
        if marks and start + move <= marks[-1][1]:
            marks[-1] = marks[-1][0], max(marks[-1][1], stop + move)
        else:
            marks.append((start + move, stop + move))
    return tuple(marks)
