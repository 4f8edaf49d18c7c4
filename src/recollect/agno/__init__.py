"""Sessions out of the databases of Agno, release 2 or 3, on SQLite and Postgres.

Agno keeps a session as a row of JSON columns: its runs in one of them (release 2), or in a table of their own
(release 3). Rows are read one session at a time; neither Agno nor SQLAlchemy is needed for that, and nothing is
written. What has no place in a session of ours is kept under the key ``agno`` of its metadata, or of its run's.
"""

from recollect.agno.sessions import Found
from recollect.agno.source import AgnoDatabase

__all__ = ["AgnoDatabase", "Found"]
