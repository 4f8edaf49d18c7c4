"""What Agno stores and a session of ours has no place for: kept under one key of metadata, within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument

KEY: Final = "agno"
"""The key of a session's and of a run's metadata under which the rest is kept."""

ROOM: Final = 64_000
"""Characters of JSON that are kept beside one run, or one session; of more, only the size is told."""

LEFT_OUT: Final = "left_out"
"""The key that tells what was too large, with the characters it had."""

NOTHING: Final[tuple[Any, ...]] = (None, "", [], {})


def value(argument: str, text: Any) -> Any:
    """A JSON column's value. Release 2 encodes it twice on SQLite.

    Raises:
        InvalidArgument: it is not valid JSON.
    """
    try:
        while isinstance(text, str):
            text = checks.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidArgument(argument, f"is not valid JSON: {error}") from error
    return text


def mapping(argument: str, text: Any) -> dict[str, Any]:
    """The object in a JSON column; an empty one where there is none.

    Raises:
        InvalidArgument: it is something else.
    """
    found = value(argument, text)
    if not isinstance(found, dict | None):
        raise InvalidArgument(argument, f"must be an object, not {type(found).__name__}")
    return found or {}


def something(data: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that say something: what is empty, or a flag that is not set, is how Agno writes nothing."""
    return {key: value for key, value in data.items() if value is not False and value not in NOTHING}


def with_rest(given: Mapping[str, Any], rest: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata with the rest under its key; somebody's own value under that key is part of the rest."""
    metadata = dict(given)
    if KEY in metadata:
        rest = {"metadata": {KEY: metadata.pop(KEY)}, **rest}
    kept = _within(something(rest))
    return metadata | {KEY: kept} if kept else metadata


def _within(rest: Mapping[str, Any]) -> dict[str, Any]:
    """As much as there is room for, small things first."""
    sizes = {key: len(checks.json_text(f"{KEY}.{key}", value)) for key, value in rest.items()}
    kept: dict[str, Any] = {}
    room = ROOM
    for key in sorted(rest, key=sizes.__getitem__):
        room -= sizes[key]
        if room < 0:
            break
        kept[key] = rest[key]
    left_out = {key: sizes[key] for key in rest if key not in kept}
    return kept | {LEFT_OUT: left_out} if left_out else kept
