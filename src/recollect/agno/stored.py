"""What is now stored of a session that came from Agno, for counting it again."""

from __future__ import annotations

from typing import Final

from recollect.port import Tx, reads


@reads
async def messages_by_run(tx: Tx, session_id: str) -> dict[str, int]:
    """How many messages each run of a session has, by the run's id; its system message is one of them."""
    [found] = await tx.execute((_COUNTS, {"session_id": session_id}))
    return {run_id: int(count) for run_id, count in found}


_COUNTS: Final = """
select r.run_id, case when r.prompt is null then 0 else 1 end + (
    select count(*) from recollect_messages m where m.session_id = r.session_id and m.run_seq = r.run_seq
)
from recollect_runs r where r.session_id = :session_id
"""
