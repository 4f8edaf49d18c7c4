"""About how much memory it takes to hold what was stored, once all of it was looked at. CPython 3.11, measured."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from recollect.port import Row

WINDOW: Final = 600
COPY: Final = 2600
RUN: Final = 500
ENTRY: Final = 350
"""What a cache needs for one session, whatever it holds of it."""

_MESSAGE: Final = 380
_KEY: Final = 200
_CALL: Final = 260
_GC: Final = 16

_IS_NESTED: Final = re.compile(r'"(?:content"\s*:\s*\[|tool_calls"|provider_data")').search


class _Looked(msgspec.Struct):
    """The keys of a message that are held apart from its text when it was looked at."""

    content: Any = None
    tool_calls: tuple[Any, ...] | None = None


_look = msgspec.json.Decoder(_Looked).decode


def of_message(body: str) -> int:
    """A message: its text, and the content in it once more."""
    size = _MESSAGE + of_text(body)
    if _IS_NESTED(body) is None:
        return size + _characters(body)
    try:
        looked = _look(body)
    except msgspec.MsgspecError:  # whoever reads it will be told
        return size + _characters(body)
    calls = sum(_CALL + of_value(call) // 4 for call in looked.tool_calls or ())
    return size + of_value(looked.content) + calls


def of_text(text: str) -> int:
    """A text, with the UTF-8 that is kept beside one that was decoded or stored."""
    return _characters(text) + (0 if text.isascii() else len(text.encode(errors="replace")))


def _characters(text: str) -> int:
    """A text alone; a copy of it, for what is kept beside it would be counted, too."""
    return sys.getsizeof(text if text.isascii() else text + " ")


def of_another(body: str) -> int:
    """One more message of the same text."""
    return of_message(body) - of_text(body)


def of_value(value: Any) -> int:
    """A JSON value with all that is in it."""
    size, left = 0, [value]
    while left:
        one = left.pop()
        size += sys.getsizeof(one)
        if isinstance(one, dict):
            size += _GC
            left += one.values()
        elif isinstance(one, list | tuple):
            size += _GC
            left += one
    return size


def of_row(row: Row) -> int:
    """The texts of a row."""
    return sum(of_text(text) for text in row if isinstance(text, str))


def of_values(values: Mapping[str, Mapping[str, str]]) -> int:
    """A session's values by kind and key."""
    return sum(_KEY + sum(_of_pairs(texts.items())) for texts in values.values())


def _of_pairs(pairs: Iterable[tuple[str, str]]) -> Iterable[int]:
    return (_KEY // 5 + of_text(key) + of_text(text) for key, text in pairs)
