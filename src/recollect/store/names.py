"""A session's name as a model makes it: claim the session, read how it begins, store the name with what it took."""

from __future__ import annotations

from typing import Final

import msgspec

from recollect import checks
from recollect.message import Message
from recollect.port import Params, Row, Tx, at_once, reads, writes
from recollect.run import RunStatus
from recollect.session import SessionHeader
from recollect.store import rows
from recollect.store.claims import CLAIM, DUE, FREE, HOLD, Due
from recollect.store.indexed import TO_INDEX
from recollect.store.newest import newest
from recollect.store.rows import HEADER, MINE
from recollect.store.sessions import THERE

OPENING_RUNS: Final = 8
"""Runs from the start of a session that are read for its name."""

OPENING_MESSAGES: Final = 64
"""Messages of these that are read at most."""


class Opening(msgspec.Struct, frozen=True):
    """How a session begins: what its name is made of."""

    header: SessionHeader
    messages: tuple[Message, ...] = ()
    """The first messages of user and assistant in top-level runs, oldest first."""


@writes
async def begin_naming(
    tx: Tx, session_id: str, token: int, user_id: str | None = None, *, due: Due | None = None, runs: int = 0
) -> Opening | None:
    """Claim a session and read how it begins; with ``due``, None unless it is due and nobody is at work on it.

    Raises:
        SessionNotFound: there is no such session for this caller.
    """
    p = _session(session_id, user_id) | {"token": token, "claim": CLAIM}
    [claimed] = await tx.execute((_claim("1 = 1" if due is None else f"{DUE[due]} and {FREE}"), p))
    if due is not None and not claimed:
        return None
    rows.visible(claimed, session_id)
    return await get_opening(tx, session_id, runs=runs)


@at_once
@reads
async def get_opening(tx: Tx, session_id: str, user_id: str | None = None, *, runs: int = 0) -> Opening | None:
    """How a session begins, from its first ``runs`` runs or some more; None when there is none for this caller."""
    runs = max(runs, OPENING_RUNS)
    p = _session(session_id, user_id) | {"runs": runs, "most": OPENING_MESSAGES + 4 * runs}
    header, spoken = await tx.execute((_HEADER, p), (OPENING, p))
    return Opening(rows.header(header[0]), _messages(spoken)) if header else None


@at_once
@writes
async def finish_naming(
    tx: Tx, session_id: str, token: int, epoch: int, name: str | None, source: str | None, tokens: int
) -> SessionHeader | None:
    """Store a name that was made, where the claim still holds, and count what it took; None when the session is gone.

    Without a name only the tokens are counted. A name set by hand meanwhile has taken the claim away, and stays.
    """
    p: Params = {
        "session_id": session_id,
        "token": token,
        "epoch": epoch,
        "tokens": checks.count("tokens", tokens),
        "named": int(name is not None),
        **rows.named("" if name is None else checks.name("session_name", name), source),
    }
    found, _ = await tx.execute((_FINISH, p), (TO_INDEX, p))
    return rows.header(found[0]) if found else None


@at_once
@writes
async def restore_session_name(
    tx: Tx, session_id: str, given: str, name: str, source: str | None, user_id: str | None = None
) -> bool:
    """Take back the name that a session was given: it has the one it had before, ``name``, or none (``""``).

    False where its name is another one by now; that one stays.

    Raises:
        InvalidArgument: the name has more than 200 characters, or the source is unknown.
        SessionNotFound: there is no such session for this caller.
    """
    had = (
        rows.named(checks.name("name", name), checks.one_of("source", source, ("manual", "auto", "fallback")))
        if name
        else rows.named("", None)
    )
    p = _session(session_id, user_id) | had | {"given": given}
    there, restored, _ = await tx.execute((THERE, p), (_RESTORE, p), (TO_INDEX, p))
    rows.visible(there, session_id)
    return bool(restored)


_RESTORE: Final = f"""
update recollect_sessions as s set
    name = :name, name_key = :name_key, name_source = :source, claim_token = null, version = s.version + 1
where s.session_id = :session_id and {MINE} and s.name = :given
returning 1
"""

_HEADER = f"select {HEADER} from recollect_sessions s where s.session_id = :session_id and {MINE}"


def _claim(condition: str) -> str:
    return f"""
    update recollect_sessions as s set {HOLD} where s.session_id = :session_id and {MINE} and {condition}
    returning session_id
    """


_SPOKEN_IN = frozenset(RunStatus) - {RunStatus.regenerated}

OPENING: Final = f"""
with first as ({newest("r.run_seq", _SPOKEN_IN, ":runs", order="asc")})
select m.role, m.body from recollect_messages m
where m.session_id = :session_id and m.run_seq in (select run_seq from first) and m.role in ('user', 'assistant')
and exists (select 1 from recollect_sessions s where s.session_id = :session_id and {MINE})
order by m.run_seq, m.idx limit :most
"""

_HOLDS: Final = "s.claim_token = :token"

_GETS_IT: Final = f"(:named = 1 and {_HOLDS})"

_FINISH = f"""
update recollect_sessions as s set
    name = case when {_GETS_IT} then :name else s.name end,
    name_key = case when {_GETS_IT} then :name_key else s.name_key end,
    name_source = case when {_GETS_IT} then :source else s.name_source end,
    aux_tokens = s.aux_tokens + :tokens,
    version = s.version + case when :tokens > 0 or {_GETS_IT} then 1 else 0 end,
    claim_owner = case when {_HOLDS} then null else s.claim_owner end,
    claim_until = case when {_HOLDS} then null else s.claim_until end,
    claim_token = case when {_HOLDS} then null else s.claim_token end
where s.session_id = :session_id and s.epoch = :epoch
returning {HEADER.replace("s.", "")}
"""


def _messages(spoken: list[Row]) -> tuple[Message, ...]:
    return tuple(Message.stored(body, None, role) for role, body in spoken)


def _session(session_id: str, user_id: str | None) -> Params:
    return {
        "session_id": checks.identifier("session_id", session_id),
        "user_id": checks.optional_identifier("user_id", user_id),
    }
