"""What callers may say: ids, names, times and JSON, as the document describes them.

What the document says of them is not judged here: the library does that, and says which argument it refuses and why.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path, Query
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

from recollect import checks
from recollect.server.address import part
from recollect.server.limits import MOST

_CONTROLS: Final = r"\u0000-\u001f\u007f-\u009f"

_ID: Final = {"minLength": 1, "maxLength": checks.MAX_ID, "pattern": f"^[^{_CONTROLS}]+$"}
_ID_OR_NONE: Final = {"maxLength": checks.MAX_ID, "pattern": f"^[^{_CONTROLS}]*$"}
"""Clients of AgentOS say nothing by an empty text."""

SESSION: Final = "0199f0a8-7c1e-7d2a-9d55-5a1c0f3c2b11"
RUN: Final = "0199f0a8-7c20-7b11-8a4e-1f0d9c6b7a55"


def _id(description: str, example: str) -> Any:
    return Path(description=description, examples=[example], json_schema_extra=_ID)


SessionId = Annotated[str, _id("The session's id.", SESSION), AfterValidator(part)]
RunId = Annotated[str, _id("The run's id.", RUN), AfterValidator(part)]
AgentId = Annotated[str, _id("The agent's id.", "travel-desk"), AfterValidator(part)]
TeamId = Annotated[str, _id("The team's id.", "travel-team"), AfterValidator(part)]

Id = Annotated[str, Field(json_schema_extra=_ID)]
IdOrNone = Annotated[str, Field(json_schema_extra=_ID_OR_NONE)]

Name = Annotated[
    str,
    Field(
        json_schema_extra={
            "minLength": 1,
            "maxLength": checks.MAX_NAME,
            "pattern": rf"^[^\s{_CONTROLS}\u200b\u2028\u2029]",
        }
    ),
]

Json = Annotated[dict[str, Any], Field(json_schema_extra={"propertyNames": {"pattern": r"^[^\u0000]*$"}})]
"""An object whose top-level keys each have a place of their own."""


def _dated(given: Any) -> Any:
    if isinstance(given, str) and given.replace(".", "", 1).lstrip("+-").isdigit():
        msg = "must be a date and time with its offset, such as 2026-01-01T00:00:00Z"
        raise ValueError(msg)
    return given


Moment = Annotated[AwareDatetime, BeforeValidator(_dated)]

UserId = Annotated[
    IdOrNone | None,
    Query(description="Whose sessions are meant; for those who may name others.", examples=["ada"]),
]
DbId = Annotated[
    str | None, Query(description="The database that is meant, as ``/config`` lists them; the first unless given.")
]
Limit = Annotated[
    int | None, Query(ge=1, le=MOST, description="How many at most; 20 sessions or 100 messages.", examples=[20])
]
Cursor = Annotated[str | None, Query(description="The ``next_cursor`` of the page before.")]
