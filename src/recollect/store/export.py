"""All that is stored of a user, as plain JSON values, for those who have to hand it out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from recollect import checks
from recollect.port import Access, Tx, at_once, looks, reads
from recollect.session import Snapshot
from recollect.store import rows
from recollect.store.rows import MINE, OWNED
from recollect.store.sessions import SNAPSHOT, of_session

PAGE: Final = 1000
"""Ids that are looked up at once."""


async def export_user(access: Access, /, user_id: str) -> AsyncIterator[dict[str, Any]]:
    """Every session of a user with all that is stored in it, as JSON values, in the order of their ids.

    The header's facts, tags, state, metadata and summary, and every run with all its messages: members', replaced,
    failed and interrupted ones too. Sessions that have expired are there until they are purged.
    """
    checks.identifier("user_id", user_id)
    after = ""
    while ids := await access.do(list_ids_after, user_id, after):
        for session_id in ids:
            told = await access.do(export_session, session_id, user_id)
            if told is not None:  # deleted meanwhile
                yield told
        after = ids[-1]


@looks
async def list_ids_after(tx: Tx, user_id: str, after: str) -> list[str]:
    """The next ids of a user's sessions in their order."""
    [found] = await tx.execute((_IDS, {"user_id": user_id, "after": after, "limit": PAGE}))
    return [session_id for (session_id,) in found]


@at_once
@reads
async def export_session(tx: Tx, session_id: str, user_id: str | None = None) -> dict[str, Any] | None:
    """All of a session at one moment, expired or not; None when there is none for this caller."""
    p = of_session(session_id, user_id)
    header, values, runs, spoken, prompts = await tx.execute(*((sql, p) for sql in _SNAPSHOT))
    if not header:
        return None
    return _told(Snapshot(rows.header(header[0]), rows.values(values), rows.runs(session_id, runs, spoken, prompts)))


def _told(found: Snapshot) -> dict[str, Any]:
    values = {kind: {key: checks.decode(text) for key, text in texts.items()} for kind, texts in found.values.items()}
    header = msgspec.to_builtins(found.header)
    return {name: value for name, value in header.items() if name not in _OF_THE_DATABASE} | {
        "tags": sorted(values.get("tag", ())),
        "session_state": values.get("state", {}),
        "metadata": values.get("metadata", {}),
        "summary": values.get("summary", {}).get("summary"),
        "runs": [run.to_dict() for run in found.runs],
    }


_OF_THE_DATABASE: Final = ("version", "epoch")
"""What says nothing of the user."""

_SNAPSHOT: Final = tuple(sql.replace(MINE, OWNED) for sql in SNAPSHOT)

# Along an index that knows the user; the ids are sorted, for nothing else about a session stays as it is.
_IDS: Final = """
select s.session_id from recollect_sessions s {along recollect_sessions_user_created}
where s.user_id = :user_id and s.session_id > :after order by s.session_id limit :limit
"""
