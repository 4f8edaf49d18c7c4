"""What a request is about: a database, and whose sessions in it."""

from __future__ import annotations

import msgspec

from recollect.server.service import Kind
from recollect.session import AgentSession, SessionHeader
from recollect.store import Store
from recollect.store.rows import no_session


class Reach(msgspec.Struct, frozen=True):
    """The sessions that a request may read, or write: those of one user in one database, or everybody's."""

    db: Store
    user_id: str | None
    """None: everybody's."""

    async def header(self, session_id: str, kind: Kind | None = None) -> SessionHeader:
        """A session without its content.

        Raises:
            SessionNotFound: there is no such session for this caller.
        """
        header = await self.db.aget_header(session_id, self.user_id)
        if header is None or kind not in (None, header.kind):
            raise no_session(session_id)
        return header

    async def session(self, session_id: str, kind: Kind | None = None) -> AgentSession:
        """A session with all its runs.

        Raises:
            SessionNotFound: there is no such session for this caller.
        """
        session = await self.db.aget_session(session_id, self.user_id)
        if session is None or kind not in (None, session.header.kind):
            raise no_session(session_id)
        return session
