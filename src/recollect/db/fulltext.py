"""The full-text index of an SQLite file: an FTS5 table over ``recollect_documents``, kept by triggers of that table.

Who deletes a document deletes what it is found by, so no statement has to name the index. Where SQLite was built
without FTS5, the triggers are taken away, so that everything but searching works; then the index is behind, and whoever
opens the file next with FTS5 makes it anew, and the triggers with it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from typing import Final

_TABLE: Final = """
create virtual table if not exists recollect_words using fts5 (
    words, keys, content = 'recollect_documents', content_rowid = 'id', tokenize = 'ascii', prefix = '1 2 3',
    detail = 'none', columnsize = 0
)
"""
"""What it is given was cut into words before, so only blanks divide them; where words stand, ``words`` tells."""

_VOCABULARY: Final = """
create virtual table if not exists recollect_vocabulary using fts5vocab ('recollect_words', 'instance')
"""
"""The words that are in it, in order: so those that begin with more letters than it has a list for can be named."""

_TRIGGERS: Final = {
    "recollect_documents_added": """
        create trigger recollect_documents_added after insert on recollect_documents begin
            insert into recollect_words (rowid, words, keys) values (new.id, new.words, new.keys);
        end
    """,
    "recollect_documents_gone": """
        create trigger recollect_documents_gone after delete on recollect_documents begin
            insert into recollect_words (recollect_words, rowid, words, keys)
            values ('delete', old.id, old.words, old.keys);
        end
    """,
}


@cache
def has_fts5() -> bool:
    """Whether this SQLite can search."""
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("create virtual table probe using fts5 (words)")
        except sqlite3.OperationalError:
            return False
    return True


def set_up(connection: sqlite3.Connection) -> None:
    """Make the index where it is missing or behind; or have the file do without it.

    Raises:
        sqlite3.Error: it cannot be written.
    """
    if _is_kept(connection) == has_fts5():
        return
    connection.execute("begin immediate")
    try:
        if _is_kept(connection) != has_fts5():
            _make(connection) if has_fts5() else _let_be(connection)
        connection.execute("commit")
    except BaseException:  # an interrupt, too: no transaction is left open
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def forget_deleted(connection: sqlite3.Connection) -> None:
    """Write the index anew without the words of what was deleted; it keeps them until then, beside a note to skip them.

    Raises:
        sqlite3.Error: it cannot be written.
    """
    if _is_kept(connection):
        connection.execute("insert into recollect_words (recollect_words) values ('optimize')")


def _is_kept(connection: sqlite3.Connection) -> bool:
    parts = [*_TRIGGERS, "recollect_vocabulary"]
    names = ", ".join(f"'{name}'" for name in parts)
    found = connection.execute(f"select count(*) from sqlite_master where name in ({names})")
    return bool(found.fetchone()[0] == len(parts))


def _make(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    connection.execute(_VOCABULARY)
    for name, trigger in _TRIGGERS.items():
        connection.execute(f"drop trigger if exists {name}")
        connection.execute(trigger)
    connection.execute("insert into recollect_words (recollect_words) values ('rebuild')")


def _let_be(connection: sqlite3.Connection) -> None:
    for name in _TRIGGERS:
        connection.execute(f"drop trigger if exists {name}")
