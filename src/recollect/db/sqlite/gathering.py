"""Many rows fetched as one: each column as one text, joined by SQLite and split here.

Python's ``sqlite3`` takes longer to step to a row and to make a value of a cell than SQLite takes to find them: it
releases and takes the interpreter's lock for each row, and asks SQLite three times for each cell. So a statement that
finds a whole conversation is asked for ``group_concat`` of each of its columns instead; for a moment its texts are held
twice. Where what is found cannot be told apart again, or is longer than SQLite joins, it is asked for as it is written.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, repeat
from typing import Any, Final

import msgspec

from recollect.port import Row

Execute = Callable[[str, Any], sqlite3.Cursor]

_NEXT: Final = "\x1e"
"""Between two values: neither JSON nor an id holds it."""

_NONE: Final = "\x1f"
"""A value that is not there."""

_read_numbers: Final = msgspec.json.Decoder(list[int | None]).decode

_TOKEN: Final = re.compile(r"[(),]|\bselect\b|\bfrom\b|\border by\b")


class Gathering:
    """A statement that finds many rows, and the one that finds them as columns.

    ``kinds`` has a letter for each column, as `recollect.port.Tx.execute` explains them. The first columns are a key,
    by which the rows are sorted here: in which order SQLite joins them is not said anywhere.
    """

    def __init__(self, sql: str, kinds: str) -> None:
        self._plain = sql
        self._kinds = kinds
        self._joined = _joined(sql, kinds)

    def rows(self, execute: Execute, params: Any) -> list[Row]:
        """What the statement finds, in order."""
        try:
            [texts] = execute(self._joined, params).fetchall()
            return self._split(texts)
        except (sqlite3.DataError, msgspec.MsgspecError, ValueError):  # longer than SQLite joins, or not what was said
            return execute(self._plain, params).fetchall()

    def _split(self, texts: Sequence[Any]) -> list[Row]:
        """The rows of joined columns.

        Raises:
            ValueError: the columns are not equally long.
            msgspec.MsgspecError: a number is none.
        """
        if texts[0] is None:
            return []
        count = texts[0].count(",") + 1
        found = [*zip(*map(_column, texts, self._kinds, repeat(count)), strict=True)]
        found.sort()
        return found


def _column(text: str, kind: str, count: int) -> Sequence[Any]:
    """The values of one column; where all are the same, as they often are, nothing is split."""
    if kind in "iI":
        numbers: list[int | None] = _read_numbers(f"[{text}]")
        return numbers
    first = text[: text.find(_NEXT)] if count > 1 else text
    if len(text) == (len(first) + 1) * count - 1 and text == _NEXT.join(repeat(first, count)):
        return [None if kind == "T" and first == _NONE else first] * count
    values = text.split(_NEXT)
    if kind == "T" and _NONE in text:
        return [None if value == _NONE else value for value in values]
    return values


def _joined(sql: str, kinds: str) -> str:
    """The statement that gives each column of another one as one text."""
    words = [*_outermost(sql)]
    start = next(end for word, _, end in words if word == "select")
    source = next(begin for word, begin, _ in words if word == "from")
    order = next((begin for word, begin, _ in words if word == "order by"), len(sql))
    commas = [begin for word, begin, _ in words if word == "," and start < begin < source]
    columns = [sql[begin:end].strip(", \n") for begin, end in pairwise([start, *commas, source])]
    made = [_joined_column(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    return f"{sql[:start]} {', '.join(made)} {sql[source:order]}"


def _joined_column(column: str, kind: str) -> str:
    if kind in "iI":
        return f"group_concat(coalesce({column}, 'null'))" if kind == "I" else f"group_concat({column})"
    value = f"coalesce({column}, '{_NONE}')" if kind == "T" else column
    return f"group_concat({value}, '{_NEXT}')"


def _outermost(sql: str) -> Iterator[tuple[str, int, int]]:
    """The words that matter, outside of all brackets, and where each begins and ends."""
    depth = 0
    for token in _TOKEN.finditer(sql):
        word = token[0]
        depth += (word == "(") - (word == ")")
        if depth == 0 and word != ")":
            yield word, token.start(), token.end()
