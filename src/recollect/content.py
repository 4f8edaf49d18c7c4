"""What a session holds, as short digests: the same on every database, and enough to compare two of them.

Leases, claims and versions belong to a database and are no part of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from recollect.checks import encode
from recollect.db.tables import expected
from recollect.port import Row
from recollect.run import RunStatus

TABLES: Final = ("sessions", "values", "prompts", "runs", "messages")
"""What holds a session, what others refer to first."""

COLUMNS: Final = {table: tuple(expected("sqlite").tables[f"recollect_{table}"].columns) for table in TABLES}

_OF_THE_DATABASE: Final = {
    "sessions": {"claim_owner", "claim_token", "claim_until", "version", "epoch"},
    "runs": {"version", "cancel_requested"},
}
"""Columns that say nothing of what was said."""

_OF_CONTENT: Final = {
    table: tuple(name for name in columns if name != "session_id" and name not in _OF_THE_DATABASE.get(table, ()))
    for table, columns in COLUMNS.items()
}

_NAMES: Final = {"name", "name_key", "name_source"}
"""What a session may get later."""

_GROWING: Final = {
    "preview",
    "next_seq",
    "run_count",
    "completed_count",
    "message_count",
    "input_tokens",
    "output_tokens",
    "aux_tokens",
    "summarised_through",
    "updated_at",
    "expires_at",
}
"""What differs of a session that went on; it follows from the runs."""

_DIGEST: Final = 16


class Content(msgspec.Struct):
    """What a session holds, as short digests: enough to tell whether another holds the same, or all of it and more."""

    header: Mapping[str, Any] = {}
    values: dict[tuple[str, str], bytes] = {}
    prompts: dict[str, bytes] = {}
    runs: dict[int, tuple[Row, str, bytes]] = {}
    """Of each run: what identifies it, its status, and the digest of its row."""
    said: dict[int, bytearray] = {}
    """The digests of each run's messages, one after the other."""

    @property
    def messages(self) -> int:
        return sum(len(said) for said in self.said.values()) // _DIGEST

    def checksum(self) -> str:
        """One number for all of it, the same on every database."""
        parts = (
            sorted(self.header.items()),
            sorted(self.values.items()),
            sorted(self.prompts.items()),
            sorted(self.runs.items()),
            [(seq, bytes(said)) for seq, said in sorted(self.said.items())],
        )
        return _digest(parts).hex()

    def beyond(self, other: Content) -> str:
        """What this one holds that the other does not; "" where all of it is in the other."""
        theirs = other.header
        for column, value in self.header.items():
            may_come = column in _NAMES and not value
            if column not in _GROWING and not may_come and value != theirs[column]:
                return column
        for (kind, key), digest in self.values.items():
            if other.values.get((kind, key)) != digest:
                return f"{kind} {key}"
        for key, digest in self.prompts.items():
            if other.prompts.get(key) != digest:
                return f"system message {key}"
        return next((f"run {row[0][0]}" for seq, row in self.runs.items() if not self._is_in(other, seq)), "")

    def _is_in(self, other: Content, seq: int) -> bool:
        """Whether the other holds this run, or more of it where this is a copy of one that was under way."""
        mine, theirs = self.runs[seq], other.runs.get(seq)
        said, whole = self.said.get(seq, b""), other.said.get(seq, b"")
        if theirs is None or mine[0] != theirs[0]:
            return False
        if mine == theirs:
            return said == whole
        return mine[1] == RunStatus.interrupted and whole.startswith(said)


def contents_of(pages: Iterable[tuple[str, Sequence[Row]]]) -> dict[str, Content]:
    """The contents of sessions by id, from rows of their tables."""
    contents: dict[str, Content] = {}
    for table, rows in pages:
        add_rows(contents, table, rows)
    return contents


def add_rows(contents: dict[str, Content], table: str, rows: Sequence[Row]) -> None:
    """Add rows to what is known of their sessions."""
    of_content, columns = _OF_CONTENT[table], COLUMNS[table]
    for row in rows:
        content = contents.get(row[0])
        if content is None:
            content = contents[row[0]] = Content()
        if table == "messages":
            content.said.setdefault(row[1], bytearray()).extend(_digest(row[1:]))
            continue
        fields = dict(zip(columns, row, strict=True))
        told = [fields[name] for name in of_content]
        if table == "sessions":
            content.header = dict(zip(of_content, told, strict=True))
        elif table == "runs":
            identity = tuple(fields[name] for name in ("run_id", "parent_run_id", "agent_id", "team_id", "created_at"))
            content.runs[fields["run_seq"]] = (identity, fields["status"], _digest(told))
        elif table == "values":
            content.values[fields["kind"], fields["key"]] = _digest(told)
        else:
            content.prompts[fields["digest"]] = _digest(told)


def _digest(value: Any) -> bytes:
    return hashlib.blake2b(encode(value), digest_size=_DIGEST).digest()
