"""What may come in: ids, names, text and JSON values that can be stored and given back faithfully.

Each check returns the accepted value or raises `InvalidArgument` naming the argument. Nothing here writes.
"""

from __future__ import annotations

import math
import re
import textwrap
import unicodedata
from collections.abc import Collection, ItemsView, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import msgspec

from recollect.errors import InvalidArgument

MAX_ID = 255
MAX_NAME = 200
MAX_DEPTH = 200

_LONGEST = 1 << 53
"""Microseconds: some 285 years."""

_UNSTORABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b\u2028\u2029]+")

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


def identifier(argument: str, value: object) -> str:
    """Accept an id: text of 1-255 characters without control characters or lone surrogates."""
    if not isinstance(value, str):
        raise InvalidArgument(argument, f"must be text, not {type(value).__name__} ({_short(value)})")
    if not 1 <= len(value) <= MAX_ID:
        raise InvalidArgument(argument, f"must have 1 to {MAX_ID} characters, this has {len(value)}")
    if not (value.isascii() and value.isprintable()) and (found := _UNSTORABLE.search(value)):
        raise InvalidArgument(
            argument, f"character {found.start()} of {_short(value)} is a control character or lone surrogate"
        )
    return value


def optional_identifier(argument: str, value: object) -> str | None:
    """Accept an id or None."""
    return None if value is None else identifier(argument, value)


def name(argument: str, value: object) -> str:
    """Accept a human-readable name of 1-200 characters, after folding white space and control characters."""
    if not isinstance(value, str):
        raise InvalidArgument(argument, f"must be text, not {type(value).__name__} ({_short(value)})")
    folded = _BLANKS.sub(" ", text(argument, value)).strip()
    if not 1 <= len(folded) <= MAX_NAME:
        raise InvalidArgument(argument, f"must have 1 to {MAX_NAME} visible characters, this has {len(folded)}")
    return unicodedata.normalize("NFC", folded)


def text(argument: str, value: object) -> str:
    """Accept text of any length that can be written as UTF-8."""
    if not isinstance(value, str):
        raise InvalidArgument(argument, f"must be text, not {type(value).__name__} ({_short(value)})")
    try:
        _check_text(value)
    except _Refused as refused:
        raise refused.at(argument) from None
    return value


def optional_text(argument: str, value: object) -> str | None:
    """Accept such text or None."""
    return None if value is None else text(argument, value)


def lines(argument: str, value: Any) -> Any:
    """Accept text, several lines of it, a function that gives either, or None."""
    if value is None or callable(value):
        return value
    if isinstance(value, str):
        return text(argument, value)
    if not isinstance(value, Sequence):
        raise InvalidArgument(argument, f"must be text, lines of it or a function, not {_short(value)}")
    return tuple(text(argument, line) for line in value)


def key(argument: str, value: object) -> str:
    """Accept text that has a column of its own: a top-level key, a tag. Not every database's text holds a NUL."""
    found = text(argument, value)
    if "\x00" in found:
        raise InvalidArgument(argument, f"{_short(found)} holds a NUL character, which only values and messages may")
    return found


def json_text(argument: str, value: object) -> str:
    """Encode a JSON value; refuse what would not come back as it is (NaN, other keys than text, other types)."""
    try:
        _check_json(value, 0)
    except _Refused as refused:
        raise refused.at(argument) from None
    try:
        return encode(value).decode()
    except (TypeError, RecursionError) as error:  # a subclass of a JSON type that is none itself
        raise InvalidArgument(argument, str(error)) from error


# With a usual type before the abstract one, `isinstance` need not search the classes for an answer.
def json_object(argument: str, value: object) -> dict[str, str]:
    """Accept a mapping whose top-level values are each given back as JSON text; None for an empty one."""
    if value is None:
        return {}
    if not isinstance(value, (dict, Mapping)):
        raise InvalidArgument(argument, f"must be a dictionary, not {type(value).__name__} ({_short(value)})")
    if not value:
        return {}
    json_text(argument, dict(value))
    return {key(argument, name): encode(item).decode() for name, item in value.items()}


def json_texts(argument: str, value: object) -> dict[str, str | None]:
    """Accept a mapping of JSON texts, or None for a key that is gone, as they are given to `json_object`."""
    if value is None:
        return {}
    if not isinstance(value, (dict, Mapping)):
        raise InvalidArgument(argument, f"must be a dictionary, not {type(value).__name__} ({_short(value)})")
    for name, item in value.items():
        key(argument, name)
        if item is not None:
            _json(f"{argument}[{name!r}]", item)
    return dict(value)


def _json(argument: str, value: object) -> None:
    try:
        decode(text(argument, value))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(argument, f"is no JSON text: {error}") from error


def texts(argument: str, value: object) -> tuple[str, ...]:
    """Accept a sequence of texts, or None for an empty one."""
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence | AbstractSet):
        raise InvalidArgument(argument, f"must be a sequence of texts, not {_short(value)}")
    return tuple(key(argument, item) for item in value)


def tags(argument: str, value: object) -> list[str]:
    """Accept tags of a session, or None for none."""
    return [identifier(argument, tag) for tag in texts(argument, value)]


def sequence(argument: str, value: Any) -> Sequence[Any]:
    """Accept several things in order; text is not several."""
    if isinstance(value, str) or not isinstance(value, (tuple, list, Sequence)):
        raise InvalidArgument(argument, f"must be a sequence, not {_short(value)}")
    return value


def instance(argument: str, value: Any, kind: type[Any]) -> Any:
    """Accept one of a kind."""
    if not isinstance(value, kind):
        raise InvalidArgument(argument, f"must be a {kind.__name__}, not {_short(value)}")
    return value


def one_of(argument: str, value: object, known: Collection[str]) -> str:
    """Accept one of the known words."""
    if not isinstance(value, str) or value not in known:
        raise InvalidArgument(argument, f"{_short(value)} is not one of {', '.join(known)}")
    return value


def flag(argument: str, value: object) -> bool:
    """Accept True or False."""
    if not isinstance(value, bool):
        raise InvalidArgument(argument, f"must be True or False, not {_short(value)}")
    return value


def moment(argument: str, value: object) -> int:
    """Accept an aware datetime; give microseconds since 1970 UTC."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidArgument(argument, f"must be a datetime with a time zone, not {_short(value)}")
    return micros(value)


def span(argument: str, value: object, *, least: int = 1) -> int:
    """Accept a span of time; give microseconds. A bare number is none: nobody knows what it counts."""
    if not isinstance(value, timedelta):
        raise InvalidArgument(argument, f"must be a timedelta such as timedelta(days=90), not {_short(value)}")
    micros = value // timedelta(microseconds=1)
    if not least <= micros <= _LONGEST:
        raise InvalidArgument(
            argument, f"must be {'above' if least else 'at least'} 0 and at most 285 years, not {value}"
        )
    return micros


def optional_span(argument: str, value: object) -> int | None:
    """Accept a span of time or None."""
    return None if value is None else span(argument, value)


def count(argument: str, value: object, *, least: int = 0, most: int = 1 << 53) -> int:
    """Accept a whole number within bounds."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgument(argument, f"must be a whole number, not {_short(value)}")
    if not least <= value <= most:
        raise InvalidArgument(argument, f"must be from {least} to {most}, not {value}")
    return value


def seconds(argument: str, value: object, *, none: bool = False) -> float:
    """Accept a span of time above zero; with ``none``, also no time at all."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InvalidArgument(argument, f"must be a number of seconds, not {_short(value)}")
    if not (value or none):
        raise InvalidArgument(argument, "must be above 0 seconds")
    return float(value)


def options(argument: str, value: object) -> Mapping[str, object]:
    """Accept named options, or None for none."""
    if not isinstance(value, Mapping | None):
        raise InvalidArgument(argument, f"must be a dictionary, not {type(value).__name__}")
    return MappingProxyType({text(argument, name): option for name, option in (value or {}).items()})


def model(argument: str, value: Any) -> Any:
    """Accept a model, the name of one, or None."""
    if isinstance(value, str):
        return identifier(argument, value)
    if value is not None and not hasattr(value, "ask"):
        raise InvalidArgument(argument, f"{_short(value)} is no model, nor the name of one such as 'openai:gpt-5.2'")
    return value


def prompt(argument: str, value: object) -> str | None:
    """Accept rules for a model, or None for those that are built in."""
    if value is None:
        return None
    if not text(argument, value).strip():
        raise InvalidArgument(argument, "says nothing; leave it out for the rules that are built in")
    return text(argument, value)


def clean_text(value: str) -> tuple[str, bool]:
    """Repair text from a model or tool so that it can be stored: lone surrogates become U+FFFD. True if changed."""
    if value.isascii() or not _SURROGATE.search(value):
        return value, False
    return _SURROGATE.sub("\ufffd", value), True


def problem(argument: str, value: object) -> str:
    """Accept what went wrong, as text that a plain text column can hold."""
    if not isinstance(value, str):
        raise InvalidArgument(argument, f"must be text, not {type(value).__name__} ({_short(value)})")
    return clean_text(value)[0].replace("\x00", "\ufffd")


def preview(value: str, length: int = 120) -> str:
    """The start of a text as one line, without what a plain text column cannot hold."""
    if value.isascii() and value.isprintable():
        return " ".join(value[: length * 2].split())[:length]
    return _SURROGATE.sub("\ufffd", _BLANKS.sub(" ", value[: length * 2]).strip()[:length])


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(value: datetime) -> int:
    """Microseconds since 1970 UTC."""
    delta = value - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_micros(value: int) -> datetime:
    """The aware datetime of a count of microseconds since 1970 UTC."""
    return _EPOCH + timedelta(microseconds=value)


def _check_json(value: object, depth: int) -> None:
    if value is None or isinstance(value, bool | int):
        return
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _Refused(f"{value} is not a JSON number")
    elif depth > MAX_DEPTH:
        raise _Refused(f"is nested more than {MAX_DEPTH} levels deep")
    elif isinstance(value, dict):
        _check_items(value.items(), depth)
    elif isinstance(value, list | tuple):
        _check_items(enumerate(value), depth)
    else:
        raise _Refused(f"{type(value).__name__} is not JSON: {_short(value)}")


def _check_items(items: Iterable[tuple[object, object]], depth: int) -> None:
    for key, item in items:
        try:
            if isinstance(items, ItemsView):
                _check_key(key)
            _check_json(item, depth + 1)
        except _Refused as refused:
            refused.path.append(key)
            raise


class _Refused(Exception):
    """A value that is not JSON; the path to it is collected on the way out, so that good values pay nothing."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.path: list[object] = []

    def at(self, argument: str) -> InvalidArgument:
        steps = "".join(f"[{_short(step)}]" for step in reversed(self.path[-8:]))
        return InvalidArgument(argument + steps, str(self))


def _check_text(value: str) -> None:
    if not value.isascii() and (found := _SURROGATE.search(value)):
        raise _Refused(f"character {found.start()} is a lone surrogate ({found[0]!r}), which UTF-8 cannot hold")


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise _Refused(f"keys must be text, not {type(key).__name__} ({_short(key)})")
    _check_text(key)


def _short(value: object) -> str:
    return textwrap.shorten(repr(value), 60, placeholder="...")
