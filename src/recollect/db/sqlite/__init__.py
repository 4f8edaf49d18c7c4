"""SQLite: one file, or memory, for both faces."""

from recollect.db.sqlite.database import SqliteDb

__all__ = ["SqliteDb"]
