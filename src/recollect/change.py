"""That a session has changed, as watchers are told it: facts of its row, never what was said in it. Pure.

A `Ledger` knows at which epoch and version each session of one scope was when it was last looked at, and finds out what
differs. A cursor holds its place in the ledger and a digest of all that stood in it: so whoever comes back knows what
was missed while the ledger lives, and after that still whether anything was.
"""

from __future__ import annotations

import base64
import hashlib
import random
from typing import Final, Literal, NamedTuple

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument

KEPT: Final = 256
"""Changes that a ledger keeps for those who come back, each session's last one."""


class SessionChange(msgspec.Struct, frozen=True, kw_only=True):
    """That a session has changed. Several changes of one session may be told as one, the last."""

    kind: Literal["changed", "deleted", "reset"]
    """``changed``: it was made, or is not as it was. ``deleted``: it is gone, or has expired. ``reset``: more may have
    happened than can be told one by one; read anew what you show."""
    session_id: str | None
    """None where ``kind`` is ``reset``, as are all the others but the cursor."""
    user_id: str | None = None
    """Whose it is. Of a session that is gone nobody knows any more, unless a user's sessions are watched."""
    agent_id: str | None = None
    team_id: str | None = None
    version: int | None = None
    """The session's version, at least that; None when it is gone."""
    cursor: str
    """Where to go on from: everything up to this change has been told."""


class Scope(NamedTuple):
    """Which sessions are watched: all, those of a user, or one."""

    user_id: str | None
    session_id: str | None

    def holds(self, stamp: Stamp) -> bool:
        """Whether a session is one of them."""
        return self.user_id in (None, stamp.user_id) and self.session_id in (None, stamp.session_id)


class Stamp(NamedTuple):
    """Where a session stands, by its row."""

    session_id: str
    user_id: str | None
    agent_id: str | None
    team_id: str | None
    version: int
    epoch: int


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Somebody's place: in which ledger, up to where, and what stood in it then."""

    ledger: int
    seq: int
    digest: int

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(checks.encode(msgspec.structs.astuple(self))).decode().rstrip("=")

    @staticmethod
    def of(text: str) -> Cursor:
        """Read a cursor that was given out.

        Raises:
            InvalidArgument: it was not.
        """
        try:
            return msgspec.json.decode(
                base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True), type=Cursor
            )
        except (ValueError, TypeError, msgspec.MsgspecError) as error:
            msg = f"{text!r} is no cursor that was given out by a watcher; leave it out to be told what comes"
            raise InvalidArgument("since", msg) from error


class Ledger:
    """Where the sessions of one scope stood when they were last looked at, and what has changed of late."""

    __slots__ = ("_digest", "_floor", "_log", "_seq", "_stamp", "_token", "known", "scope")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.known: dict[str, int] = {}
        """Epoch and version of each session, as one number."""
        self._stamp: Stamp | None = None
        """The last one that was noted."""
        self._token = random.getrandbits(62)
        self._digest = 0
        self._seq = 0
        self._log: dict[str, tuple[int, SessionChange]] = {}
        self._floor = 0
        """Up to where the log was cut."""

    @property
    def cursor(self) -> Cursor:
        """The place of somebody who knows everything."""
        return Cursor(self._token, self._seq, self._digest)

    def lay(self, stamp: Stamp) -> None:
        """Take down where a session stands that was there when the ledger was opened: that is no news."""
        self._put(stamp)

    def note(self, stamp: Stamp) -> SessionChange | None:
        """Take down where a session stands; what is told of that, or None where nothing is new."""
        if self.known.get(stamp.session_id) == stamp.epoch << 64 | stamp.version:
            return None
        self._put(stamp)
        return self._told(stamp.session_id, stamp)

    def strike(self, session_id: str) -> SessionChange | None:
        """Take a session out that is gone; what is told of that, or None where it was not there."""
        if session_id not in self.known:
            return None
        self._digest ^= _mark(session_id, self.known.pop(session_id))
        return self._told(session_id, None)

    def since(self, cursor: Cursor) -> list[SessionChange]:
        """What happened since somebody was told something last."""
        if cursor.ledger == self._token and cursor.seq >= self._floor:
            return [change for seq, change in self._log.values() if seq > cursor.seq]
        if cursor.digest == self._digest:
            return []
        one = self.scope.session_id
        if one is None:
            return [reset(self.cursor)]
        return [self._change(one, self._stamp if one in self.known else None)]

    def _put(self, stamp: Stamp) -> None:
        before = self.known.get(stamp.session_id)
        now = self.known[stamp.session_id] = stamp.epoch << 64 | stamp.version
        self._digest ^= _mark(stamp.session_id, now) ^ (0 if before is None else _mark(stamp.session_id, before))
        self._stamp = stamp

    def _told(self, session_id: str, stamp: Stamp | None) -> SessionChange:
        self._seq += 1
        change = self._change(session_id, stamp)
        self._log.pop(session_id, None)
        self._log[session_id] = self._seq, change
        if len(self._log) > KEPT:
            self._floor, _ = self._log.pop(next(iter(self._log)))
        return change

    def _change(self, session_id: str, stamp: Stamp | None) -> SessionChange:
        if stamp is None:
            return SessionChange(
                kind="deleted", session_id=session_id, user_id=self.scope.user_id, cursor=str(self.cursor)
            )
        return SessionChange(
            kind="changed",
            session_id=session_id,
            user_id=stamp.user_id,
            agent_id=stamp.agent_id,
            team_id=stamp.team_id,
            version=stamp.version,
            cursor=str(self.cursor),
        )


def reset(cursor: Cursor | str) -> SessionChange:
    """That more happened than can be told."""
    return SessionChange(kind="reset", session_id=None, cursor=str(cursor))


def _mark(session_id: str, stand: int) -> int:
    """64 bits that are others for each session, and whenever it has changed; the same in every process."""
    said = f"{session_id}\x1f{stand}"
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest())
