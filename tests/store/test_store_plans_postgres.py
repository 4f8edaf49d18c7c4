"""Law 5 on Postgres: what a hot operation touches does not grow with the past, and on divided tables is one part.

Tables divided by the hash of ``session_id`` stand in for a distributed Postgres: what touches one part here touches one
node there.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import postgres_server
import psycopg
import pytest
from postgres_kit import postgres_db
from psycopg.sql import SQL, Identifier
from store_kit import answer, user
from test_store_plans import HOT, MARKED, OF, PAGES, PASTS, SHOWN, SORTS, _written, make_many, ran

from recollect.db import migrate
from recollect.db.postgres import PostgresDb
from recollect.history import HistoryLimits
from recollect.port import Operation, Statement, Tx, looks, mode_of, reads
from recollect.run import RunOutput, RunStatus
from recollect.selection import Filter
from recollect.session import AgentSession, SessionSummary
from recollect.store import (
    begin,
    changes,
    claims,
    continued,
    copies,
    deletion,
    export,
    lists,
    marks,
    names,
    outcome,
    pages,
    removed,
    sessions,
    summaries,
    turns,
)

PARTS = 8


@pytest.fixture(scope="module")
def store() -> Iterator[PostgresDb]:
    with postgres_db() as db:
        yield db


@reads
async def _prepare(tx: Tx, sql: str) -> None:
    await tx.execute((f"explain {sql}", dict.fromkeys(re.findall(r":(\w+)", sql))))


def test_every_statement_can_be_prepared(store: PostgresDb) -> None:
    for name, sql in _written():
        if store._dialect.command(sql, defaultdict(int), {}) is None:
            continue
        try:
            store.transact(_prepare, sql)
        except Exception as error:  # noqa: BLE001 - the test says which statement it was
            pytest.fail(f"{name}: {error}")


@looks
async def _flush(tx: Tx) -> None:
    """Have the server count, when this transaction ends, what this connection did."""
    await tx.execute(("select pg_stat_force_next_flush()", {}))


@looks
async def _blocks(tx: Tx) -> int:
    [[(blocks,)]] = await tx.execute(
        (
            """
            select sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0))
            from pg_statio_user_tables where relname like 'recollect_%' and relname <> 'recollect_schema'
            """,
            {},
        )
    )
    return int(blocks)


def touched(db: PostgresDb) -> int:
    """Blocks of the tables and their indexes that were looked at until now."""
    db.transact(_flush)
    return db.transact(_blocks)


def _settle(db: PostgresDb) -> None:
    """Have the tables as they are after a while, and the server leave them so: what it looks at itself would count."""
    with psycopg.connect(db._pools.address.conninfo, autocommit=True) as other:
        for (table,) in other.execute(
            "select relname from pg_stat_user_tables where relname like 'recollect_%'"
        ).fetchall():
            other.execute(SQL("alter table {} set (autovacuum_enabled = off)").format(Identifier(table)))
        other.execute("vacuum analyze")
        other.execute("select pg_stat_force_next_flush()")  # else this would be counted later, as work of ours


@cache
def _work(past: str, length: int) -> dict[str, int]:
    """How many blocks each hot operation touches in a session with such a past."""
    runs = [RunOutput(run_id="0", session_id="s", messages=(user(), answer()))]
    runs += [
        RunOutput(run_id=str(n), session_id="s", messages=(user("x" * 400), answer()), **PASTS[past])
        for n in range(1, length)
    ]
    done: dict[str, int] = {}
    with postgres_db(pool=1) as db:
        db.upsert_session(AgentSession("s", runs=runs))
        _settle(db)
        copy = db.transact(copies.copy_session, "s")

        def of(what: str, call: Callable[[], Any]) -> Any:
            before = touched(db)
            value = call()
            done[what] = touched(db) - before
            return value

        db.finish_run(db.begin_run("s", [user()]), [answer()])
        limits = HistoryLimits(runs=3)
        run = of("begin", lambda: db.begin_run("s", [user()], history=limits, with_state=True))
        of("append", lambda: db.append_messages(run, [answer()], state={"k": "1"}))
        of("finish", lambda: db.finish_run(run, [answer()]))
        of("look", lambda: db.transact(copies.get_version, "s"))
        of("catch up", lambda: db.transact(copies.copy_session, "s", None, copy))
        known = (run.epoch, run.version + 2)
        cached = of(
            "begin with a known past", lambda: db.begin_run("s", [user()], history=HistoryLimits(), known=known)
        )
        of("cancel", lambda: db.transact(continued.request_cancel, cached.run_id, "s"))
        db.finish_run(cached, status=RunStatus.error)
        of("continue", lambda: db.transact(continued.continue_run, cached.run_id, "s", history=limits))
        again = of("begin in a place", lambda: db.begin_run("s", [user()], replaces=run.run_id, history=limits))
        of("finish in a place", lambda: db.finish_run(again, [answer()]))
        of("delete a run", lambda: db.delete_run(again.run_id, "s"))
        part: dict[str, Any] = {"parent_run_id": "0", "agent_id": "a", "history": limits}
        member = of("begin of a member", lambda: db.begin_run("s", [user()], **part))
        of("finish of a member", lambda: db.finish_run(member, [answer()]))
        any_status = Filter(last_n_runs=3, skip_statuses=frozenset())
        reading: dict[str, Callable[[], Any]] = {
            "header": lambda: db.get_header("s"),
            "last run": lambda: db.get_last_run("s"),
            "one run": lambda: db.get_run("0", "s"),
            "state": lambda: db.get_values("s", "state"),
            "metrics": lambda: db.get_metrics("s"),
            "list": db.get_sessions,
            "last of what was said": lambda: db.get_messages("s", Filter(last_n_runs=1)),
            "last runs of any status": lambda: db.get_messages("s", any_status),
            "newest messages": lambda: db.get_messages("s", Filter(limit=2)),
            "newest page": lambda: db.transact(pages.get_run_page, "s", limit=3),
            "older page": lambda: db.transact(pages.get_run_page, "s", before=length - 10, limit=3),
            "page onward": lambda: db.transact(pages.get_run_page, "s", after=length // 2, limit=3),
            "ends": lambda: db.transact(pages.get_ends, ["s"]),
        }
        for what, call in reading.items():
            of(what, call)
    return done


# Where all members' runs of all sessions belong to one run, the server is right to read them all to find those of one.
MEASURED = [
    (operation, past)
    for operation in HOT
    for past in PASTS
    if operation != "delete a run" or past not in ("members'", "one member's")
]


@pytest.mark.parametrize(("operation", "past"), MEASURED)
def test_what_an_operation_touches_does_not_grow_with_the_past(operation: str, past: str) -> None:
    short, long = _work(past, 60)[operation], _work(past, 1500)[operation]
    assert long <= short * 1.5 + 20, f"{short} blocks after 60 runs, {long} after 1,500"


@pytest.mark.parametrize("past", SHOWN)
@pytest.mark.parametrize("operation", PAGES)
def test_what_a_page_touches_does_not_grow_with_the_past(operation: str, past: str) -> None:
    short, long = _work(past, 60)[operation], _work(past, 1500)[operation]
    assert long <= short * 1.5 + 20, f"{short} blocks after 60 runs, {long} after 1,500"


@cache
def _listing(count: int) -> list[int]:
    """How many blocks a page of each kind touches among so many sessions."""
    took = []
    with postgres_db(pool=1) as db:
        db.transact(make_many, count)
        _settle(db)
        for of, marked, sort in itertools.product(({}, *OF.values()), MARKED, SORTS):
            before = touched(db)
            db.get_sessions(**of, **marked, sort=sort)  # type: ignore[arg-type]
            took.append(touched(db) - before)
    return took


def test_a_page_touches_the_same_among_few_and_among_many() -> None:
    for few, many in zip(_listing(1200), _listing(12_000), strict=True):
        assert many <= few * 1.5 + 20


@pytest.fixture(scope="module")
def divided() -> Iterator[PostgresDb]:
    """A database whose tables are divided by the hash of ``session_id``, with a few hundred sessions."""
    postgres_server.needed()
    server = postgres_server.server()
    name = server.create()
    with psycopg.connect(server.dsn(name), autocommit=True) as connection:
        connection.execute(migrate.RECORD)
        for step in migrate.steps("postgres"):
            connection.execute(_divided(step.sql))
            connection.execute("insert into recollect_schema values (%s, %s, 0)", (step.number, step.min_reader))
        # The tables are small here, and would be walked where large ones are not.
        separator = "&" if "?" in server.dsn(name) else "?"
        with PostgresDb(f"{server.dsn(name)}{separator}options=-c%20enable_seqscan%3Doff") as db:
            for number in range(300):
                run = db.begin_run(f"s{number}", [user()], user_id=f"u{number % 3}", agent_id="a", team_id="t")
                db.finish_run(run, [answer()])
            connection.execute("vacuum analyze")
            yield db
    server.drop(name)


def _divided(sql: str) -> str:
    """The same tables, each divided into parts."""
    sql = re.sub(r"\n\)( with \(fillfactor = \d+\))?;", "\n) partition by hash (session_id);", sql)
    tables = re.findall(r"create table (\w+)", sql)
    parts = [
        f"create table {table}_{part} partition of {table} for values with (modulus {PARTS}, remainder {part});"
        for table in tables
        for part in range(PARTS)
    ]
    return "\n".join([sql, *parts])


def _explained(db: PostgresDb, statement: Statement) -> str:
    """The plan of a statement with its parameters."""

    @reads
    async def explain(tx: Tx) -> list[tuple[Any, ...]]:
        sql, params = statement
        [found] = await tx.execute((f"explain {sql}", params))
        return found

    explain.mode = mode_of(looks(explain))  # type: ignore[attr-defined]
    return "\n".join(line for (line,) in db.transact(explain))


def parts_in(plan: str) -> set[str]:
    """The parts of tables that a plan names."""
    return set(re.findall(r" on recollect_[a-z]+_(\d+)\b", plan))


def _hot(db: PostgresDb) -> dict[str, tuple[Operation[..., Any], tuple[Any, ...], dict[str, Any]]]:
    run, other, ended = (db.begin_run("s7", [user()], user_id="u1") for _ in range(3))
    db.finish_run(ended, status=RunStatus.error)
    old = db.begin_run("s7", [user()], user_id="u1")
    db.finish_run(old, [answer()])
    candidate = db.begin_run("s7", [user()], user_id="u1", replaces=old.run_id)
    since = db.transact(summaries.get_unsummarised, "s7")
    copy = db.transact(copies.copy_session, "s7")
    whole = db.get_session("s7")
    assert whole is not None
    everything: dict[str, Any] = {"history": HistoryLimits(), "with_state": True, "with_summary": True}
    return {
        "save": (changes.save_session, (whole,), {}),
        "begin": (begin.begin_run, ("s7", [user()]), {"user_id": "u1", "state": {"k": 1}, **everything}),
        "begin, cached": (begin.begin_run, ("s7", [user()]), {"user_id": "u1", "known": (1, 1), **everything}),
        "append": (turns.append_messages, (run, [answer()]), {"state": {"k": "1", "gone": None}}),
        "finish": (turns.finish_run, (run, [answer()]), {}),
        "look for others": (begin.count_ahead, (other,), {}),
        "refresh": (begin.refresh_run, (other,), everything),
        "continue": (continued.continue_run, (ended.run_id, "s7", "u1"), everything),
        "cancel": (continued.request_cancel, (other.run_id, "s7"), {}),
        "was it begun": (outcome.find_begun, ("s7",), {"run_id": other.run_id, "token": other.token}),
        "was it appended": (outcome.find_appended, (other,), {"at": 0}),
        "was it finished": (outcome.find_finished, (other, [answer()]), {"at": 1}),
        "session": (sessions.get_session, ("s7", "u1"), {}),
        "header": (sessions.get_header, ("s7", "u1"), {}),
        "last runs": (sessions.get_messages, ("s7", Filter(last_n_runs=3)), {}),
        "newest messages": (sessions.get_messages, ("s7", Filter(limit=3)), {}),
        "members' messages": (sessions.get_messages, ("s7", Filter(limit=3, skip_member_messages=False)), {}),
        "run": (sessions.get_run, (other.run_id, "s7"), {}),
        "last run": (sessions.get_last_run, ("s7",), {}),
        "values": (sessions.get_values, ("s7", "state"), {}),
        "metrics": (sessions.get_metrics, ("s7",), {}),
        "version": (copies.get_version, ("s7",), {}),
        "copy": (copies.copy_session, ("s7",), {}),
        "catch up": (copies.copy_session, ("s7", None, copy), {}),
        "name": (changes.set_session_name, ("s7", "Plan"), {}),
        "state": (changes.update_values, ("s7", "state", {"k": 1}), {}),
        "upsert": (changes.upsert_session, (AgentSession("s7", user_id="u1"),), {}),
        "tag": (changes.tag_session, ("s7", ["red"]), {"remove": ["blue"]}),
        "pin": (marks.pin_session, ("s7",), {}),
        "expiry": (marks.set_session_expiry, ("s7", None), {}),
        "begin in a place": (
            begin.begin_run,
            ("s7", [user()]),
            {"user_id": "u1", "replaces": old.run_id, **everything},
        ),
        "finish in a place": (turns.finish_run, (candidate, [answer()]), {}),
        "delete a run": (removed.delete_run, (old.run_id, "s7"), {}),
        "export": (export.export_session, ("s7",), {}),
        "delete if due": (deletion.delete_if_due, ("s7", None, 1), {}),
        "claim": (changes.claim_session, ("s7", "u1"), {}),
        "opening": (names.begin_naming, ("s7", 1), {}),
        "named": (names.finish_naming, ("s7", 1, 1, "Name", "auto", 1), {}),
        "name taken back": (names.restore_session_name, ("s7", "Plan", "Name", "auto"), {}),
        "page of runs": (pages.get_run_page, ("s7",), {"user_id": "u1", "limit": 2}),
        "page of runs onward": (pages.get_run_page, ("s7",), {"after": 1, "limit": 2}),
        "end": (pages.get_ends, (["s7"],), {}),
        "summary": (summaries.get_summary, ("s7",), {}),
        "unsummarised": (summaries.get_unsummarised, ("s7",), {}),
        "summarised": (summaries.finish_summary, ("s7", since, 1, SessionSummary(summary="They spoke."), 5), {}),
        "let go": (claims.let_go, (["s7"], 1), {}),
        "delete": (deletion.delete_session, ("s7",), {}),
    }


def test_whatever_is_done_to_one_session_touches_one_part_of_each_table(divided: PostgresDb) -> None:
    for what, (operation, args, kwargs) in _hot(divided).items():
        asked = ran(divided, operation, *args, **kwargs)  # type: ignore[arg-type]
        statements = [statement for statement in asked if divided._dialect.command(*statement, {"owner": ""})]
        assert statements, what
        for statement in statements:
            plan = _explained(divided, statement)
            found = parts_in(plan)
            is_one_row = re.match(r"Insert on .*\n( +Conflict .*\n)* +->  Result ", plan)  # it goes where it belongs
            assert len(found) == 1 or (is_one_row and not found), f"{what} touches {found}: {statement[0]}\n{plan}"


LISTED = {"user": {"user_id": "u1"}, "agent": {"agent_id": "a"}, "team": {"team_id": "t"}, "kind": {"kind": "agent"}}


@pytest.mark.parametrize("sort", ["updated_at", "created_at"])
@pytest.mark.parametrize("page", ["first", "later"])
@pytest.mark.parametrize("by", [None, *LISTED])
def test_a_list_goes_out_to_all_parts_and_is_merged_with_the_limit_in_each(
    divided: PostgresDb, by: str | None, page: str, sort: Any
) -> None:
    chosen: dict[str, Any] = {**(LISTED[by] if by else {}), "sort": sort, "limit": 5}
    if page == "later":
        chosen["cursor"] = divided.get_sessions(**chosen).next_cursor
    [statement] = ran(divided, lists.get_sessions, **chosen)  # type: ignore[arg-type]
    plan = _explained(divided, statement)
    assert parts_in(plan) == {str(part) for part in range(PARTS)}
    assert "Merge Append" in plan
    assert "Seq Scan" not in plan
    merged = plan[: plan.index("Merge Append")]
    assert "Limit" in merged, "the merge ends with the page"
    if by is not None:
        assert "Sort  (" not in plan, plan
    assert len(divided.get_sessions(**chosen)) == 5
