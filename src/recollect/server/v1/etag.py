"""What names a state of a session, so that callers can say which one they know."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Header

from recollect.server.problem import Refused
from recollect.session import SessionHeader

IfMatch = Annotated[
    str | None,
    Header(
        description="The ETag that the session must still have; else 412 and nothing is changed.",
        examples=['"5f1c0a7be2d94c33-12"'],
    ),
]
IfNoneMatch = Annotated[
    str | None,
    Header(description="The ETag that is known: 304 where it still holds.", examples=['"5f1c0a7be2d94c33-12"']),
]

ANY: Final = "*"


def etag(header: SessionHeader) -> str:
    """What names this state of a session."""
    return f'"{header.epoch:x}-{header.version}"'


def is_known(header: SessionHeader, if_none_match: str) -> bool:
    """Whether the caller knows this state; what a proxy has packed, and marked as weak, is the same."""
    known = [tag.removeprefix("W/") for tag in _tags(if_none_match)]
    return ANY in known or etag(header) in known


def check_match(header: SessionHeader, if_match: str) -> None:
    """See to it that a session is still what the caller knows.

    Raises:
        Refused: it is not.
    """
    known = _tags(if_match)
    if ANY not in known and etag(header) not in known:
        detail = f"session {header.session_id!r} was changed since; its ETag is now {etag(header)}"
        raise Refused(412, "precondition_failed", detail, {"ETag": etag(header)})


def _tags(given: str) -> list[str]:
    return [tag.strip() for tag in given.split(",")]
