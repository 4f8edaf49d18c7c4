"""A page of twenty hits among many messages, on SQLite and on Postgres; and what a turn costs where somebody searches.

The messages are of a vocabulary in which words are as rare as in English, fifty in a session; a thousand users. They
are put where the store puts them by hand, for that is not what is measured. The floor is one statement for the same
twenty documents in the same order, along the same index, that asks nobody whose they are and shows no text.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg

from bench.pace import interleave, together
from bench.postgres import _server
from bench.table import Budget, Line, line
from bench.talk import RUN_METRICS, turns
from recollect.db.postgres import PostgresDb
from recollect.db.sqlite import SqliteDb
from recollect.message import Message
from recollect.query import Query
from recollect.store import Store
from recollect.store.documents import key_of, second_of

GROUP: Final = "{where}: a page of 20 hits among {count:,} messages; the floor finds the same, and shows no text"
TURNS: Final = "A turn where somebody searches; the floor is a database that nobody searches"
PAGE: Final = Budget(30_000, "median")
RATIO: Final = 1.05
SIZE: Final = 20
MESSAGES: Final = 50
"""In a session."""
USERS: Final = 1_000
WORDS: Final = 40
"""In a message."""


class Rows(NamedTuple):
    """The rows of one session, by table."""

    session: tuple[Any, ...]
    runs: list[tuple[Any, ...]]
    messages: list[tuple[Any, ...]]
    documents: list[tuple[Any, ...]]
    keys: str


def lines(folder: Path, *, quick: bool, count: int = 100_000) -> Iterator[Line]:
    file = folder / f"search-{count}.db"
    with SqliteDb(file, durability="normal") as db:
        db.get_header("nobody")
        _fill_file(db, count)
        yield from _pages(db, "SQLite", count, _sqlite_floor(db), 20 if quick else 100)
    yield from _turns(folder, 200 if quick else 2_000)


def postgres_lines(folder: Path, *, quick: bool, count: int = 100_000) -> Iterator[Line]:
    del folder
    with _server().postgres_url() as url, PostgresDb(url) as db, psycopg.connect(url, autocommit=True) as by_hand:
        _fill_server(by_hand, count)
        yield from _pages(db, "Postgres", count, _postgres_floor(by_hand), 20 if quick else 100)


def _pages(
    db: Store, where: str, count: int, floor: Callable[[Query, str | None], object], rounds: int
) -> Iterator[Line]:
    wanted = _wanted(count)
    calls = [
        (_asked(db, query, user_id), _by_hand(floor, Query.of(query), user_id)) for query, user_id in wanted.values()
    ]
    for what, pair in zip(wanted, together(calls, rounds), strict=True):
        yield line(GROUP.format(where=where, count=count), what, pair, PAGE)


def _asked(db: Store, query: str, user_id: str | None) -> Callable[[], object]:
    return lambda: db.search(query, user_id=user_id, limit=SIZE)


def _by_hand(floor: Callable[[Query, str | None], object], query: Query, user_id: str | None) -> Callable[[], object]:
    return lambda: floor(query, user_id)


def _wanted(count: int) -> dict[str, tuple[str, str | None]]:
    """What is searched for, and by whom."""
    words = vocabulary()
    rare, often = words[-7], words[2]
    return {
        "a word of one message in two": (often, None),
        "a word of one message in thousands": (rare, None),
        "two words, each in one message of ten": (f"{words[20]} {words[21]}", None),
        "a phrase of two frequent words": (f'"{words[4]} {words[3]}"', None),
        "a frequent and a rare word": (f"{often} {words[len(words) // 2]}", None),
        "a beginning of two letters": (f"{often[:2]}*", None),
        "a beginning of five letters": (f"{rare[:5]}*", None),
        "a frequent word, of one user in a thousand": (often, "user-7"),
        "a rare word, of one user in a thousand": (words[3_000], "user-7"),
        f"a word that is in none of {count:,}": ("nowhereatall", None),
    }


def vocabulary() -> list[str]:
    """Words of five to nine letters, the most frequent first."""
    chance = random.Random(11)
    made = {
        "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randrange(5, 10))): None for _ in range(31_000)
    }
    return list(made)[:30_000]


def _sessions(count: int) -> Iterator[Rows]:
    words, chance = vocabulary(), random.Random(5)
    weights = list(itertools.accumulate(1 / (place + 3) for place in range(len(words))))
    began = int(time.time() * 1_000_000) - 86_400_000_000 * 365
    for number in range(count // MESSAGES):
        session_id, user_id = f"session-{number:06}", f"user-{number % USERS}"
        at = began + number * (86_400_000_000 * 300 // (count // MESSAGES))
        owner = {"session_id": session_id, "kind": "agent", "agent_id": "cook", "user_id": user_id}
        keys = " ".join(key_of(*pair) for pair in owner.items())
        said = chance.choices(words, cum_weights=weights, k=MESSAGES * WORDS)
        texts = [" ".join(said[place : place + WORDS]) for place in range(0, len(said), WORDS)]
        times = [at + place // 2 * 1_700_000 for place in range(MESSAGES)]
        yield Rows(
            (session_id, "agent", "cook", user_id, MESSAGES // 2 + 1, 1, 1, at, times[-1]),
            [
                (session_id, seq, f"run-{seq}", "completed", 1, times[2 * seq - 2])
                for seq in range(1, MESSAGES // 2 + 1)
            ],
            [
                (session_id, place // 2 + 1, place % 2, ("user", "assistant")[place % 2], _body(place, text))
                for place, text in enumerate(texts)
            ],
            [(session_id, place // 2 + 1, place % 2, 0, times[place], f" {text} ") for place, text in enumerate(texts)],
            keys,
        )


def _body(place: int, text: str) -> str:
    return f'{{"role":"{("user", "assistant")[place % 2]}","content":"{text}"}}'


_SESSION: Final = "session_id, kind, agent_id, user_id, next_seq, version, epoch, created_at, updated_at"
_RUN: Final = "session_id, run_seq, run_id, status, version, created_at"
_MESSAGE: Final = "session_id, run_seq, idx, role, body"
_DOCUMENT: Final = "session_id, run_seq, idx, part, at, words"
_INDEXED: Final = "session_id, epoch, version, run_seq, due"


def _fill_file(db: SqliteDb, count: int) -> None:
    connection: Any = db._writer or db._open_writer()  # noqa: SLF001 - by hand
    connection.execute("begin")
    within: dict[int, int] = {}
    for rows in _sessions(count):
        connection.execute(
            f"insert into recollect_sessions ({_SESSION}) values (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows.session
        )
        connection.executemany(f"insert into recollect_runs ({_RUN}) values (?, ?, ?, ?, ?, ?)", rows.runs)
        connection.executemany(f"insert into recollect_messages ({_MESSAGE}) values (?, ?, ?, ?, ?)", rows.messages)
        documents = []
        for row in rows.documents:
            first = second_of(row[4])
            within[first] = within.get(first, -1) + 1
            documents.append((first + within[first], *row, rows.keys))
        connection.executemany(
            f"insert into recollect_documents (id, {_DOCUMENT}, keys) values (?, ?, ?, ?, ?, ?, ?, ?)", documents
        )
        connection.execute(
            f"insert into recollect_indexed ({_INDEXED}) values (?, 1, 1, 2147483647, 0)", rows.session[:1]
        )
    connection.execute(f"insert into recollect_indexed ({_INDEXED}) values ('', 0, ?, 0, 0)", (_now(),))
    connection.execute("insert into recollect_words (recollect_words) values ('optimize')")
    connection.execute("commit")


def _now() -> int:
    return int(time.time() * 1_000_000)


def _fill_server(connection: Any, count: int) -> None:
    connection.execute("drop index recollect_documents_terms")
    sessions = _sessions(count)
    while some := list(itertools.islice(sessions, 500)):
        _copy(connection, f"recollect_sessions ({_SESSION})", [rows.session for rows in some])
        _copy(connection, f"recollect_runs ({_RUN})", [row for rows in some for row in rows.runs])
        _copy(connection, f"recollect_messages ({_MESSAGE})", [row for rows in some for row in rows.messages])
        documents = [(*row, _terms(row[5], rows.keys)) for rows in some for row in rows.documents]
        _copy(connection, f"recollect_documents ({_DOCUMENT}, terms)", documents)
        _copy(
            connection, f"recollect_indexed ({_INDEXED})", [(*rows.session[:1], 1, 1, 2147483647, 0) for rows in some]
        )
    connection.execute(f"insert into recollect_indexed ({_INDEXED}) values ('', 0, %s, 0, 0)", (_now(),))
    connection.execute("create index recollect_documents_terms on recollect_documents using gin (terms)")
    connection.execute("vacuum analyze")


def _terms(words: str, keys: str) -> str:
    return " ".join(f"'{term}'" for term in {*words.split(), *keys.split()})


def _copy(connection: Any, into: str, rows: list[tuple[Any, ...]]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"copy {into} from stdin") as copy:
        for row in rows:
            copy.write_row(row)


def _sqlite_floor(db: SqliteDb) -> Callable[[Query, str | None], object]:
    connection: Any = db._connect()  # noqa: SLF001 - by hand
    sql = """
    select d.session_id, d.run_seq, d.idx from recollect_words w cross join recollect_documents d
    where recollect_words match ? and d.id = w.rowid {side_by_side} order by w.rowid desc limit ?
    """

    def floor(query: Query, user_id: str | None) -> object:
        lookups = [*query.lookups(), *([(key_of("user_id", user_id), False)] if user_id else [])]
        match = " ".join(f'"{word}"{"*" if is_prefix else ""}' for word, is_prefix in lookups)
        phrases = [term.pattern for term in query.terms if not term.is_plain]
        made = sql.format(side_by_side="and instr(d.words, ?) " * len(phrases))
        return connection.execute(made, (match, *phrases, SIZE)).fetchall()

    return floor


def _postgres_floor(connection: Any) -> Callable[[Query, str | None], object]:
    sql = """
    select d.session_id, d.run_seq, d.idx from recollect_documents d
    where d.terms @@ cast(%s as tsquery) {side_by_side} order by d.at desc, d.session_id desc limit %s
    """

    def floor(query: Query, user_id: str | None) -> object:
        lookups = [*query.lookups(), *([(key_of("user_id", user_id), False)] if user_id else [])]
        match = " & ".join(f"'{word}'{':*' if is_prefix else ''}" for word, is_prefix in lookups)
        phrases = [term.pattern for term in query.terms if not term.is_plain]
        made = sql.format(side_by_side="and strpos(d.words, %s) > 0 " * len(phrases))
        return connection.execute(made, (match, *phrases, SIZE)).fetchall()

    return floor


def _turns(folder: Path, rounds: int) -> Iterator[Line]:
    """Turns in two databases of the same sessions; in one of them everything is found fast, and kept so."""
    with (
        SqliteDb(folder / "searched.db", durability="normal") as one,
        SqliteDb(folder / "not.db", durability="normal") as other,
    ):
        for db in (one, other):
            for number in range(20):
                for said in turns(20, seed=number):
                    _turn(db, f"s{number}", said)
        one.index_sessions()
        assert len(one.search("the")) >= 0
        told = itertools.cycle(turns(500, seed=1))
        sessions = itertools.cycle(f"s{number}" for number in range(20))
        pair = interleave(
            lambda: _turn(one, next(sessions), next(told)), lambda: _turn(other, next(sessions), next(told)), rounds
        )
        yield line(TURNS, "begin_run + finish_run, SQLite, normal", pair, RATIO)


def _turn(db: Store, session_id: str, said: Any) -> None:
    run = db.begin_run(session_id, [Message("user", said.question)], agent_id="agent", model="echo")
    db.finish_run(run, [Message("assistant", said.answer)], metrics=RUN_METRICS)
