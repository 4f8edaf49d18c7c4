"""Law 5: hot statements read the rows they are asked for, along the index that was made for them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from store_kit import answer, user

from recollect.db.sqlite import SqliteDb
from recollect.history import HistoryLimits
from recollect.port import Operation, Statement, Tx, mode_of, reads, writes
from recollect.run import RunOutput, RunStatus
from recollect.selection import Filter
from recollect.session import AgentSession
from recollect.store import (
    attempts,
    begin,
    changes,
    claims,
    continued,
    copies,
    deletion,
    export,
    family,
    fork,
    lists,
    marks,
    names,
    outcome,
    pages,
    past,
    removed,
    replaced,
    sessions,
    summaries,
    turns,
)
from recollect.store.begin import begin_run
from recollect.store.lists import get_sessions
from recollect.store.sessions import get_header, get_last_run, get_messages, get_run, get_values
from recollect.store.turns import append_messages, finish_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteDb]:
    with SqliteDb(tmp_path_factory.mktemp("plans") / "s.db") as db:
        run = db.begin_run("s", [user()], run_id="r")
        db.finish_run(run, [answer()])
        yield db


class Recorder:
    """A transaction that runs what it is given, and remembers it."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx
        self.seen: list[Statement] = []

    async def execute(self, *statements: Statement, more: bool = False) -> list[list[tuple[Any, ...]]]:
        self.seen += [statement for statement in statements if not _is_nothing(statement[0])]
        return await self.tx.execute(*statements, more=more)


def _is_nothing(sql: str) -> bool:
    """Whether it is no statement in SQLite."""
    return re.sub("{many}.*?{/many}", "", sql, flags=re.DOTALL).strip() == ""


def ran(store: SqliteDb, operation: Operation[..., Any], *args: Any, **kwargs: Any) -> list[Statement]:
    """The statements that an operation runs; what it writes is kept."""

    async def recorded(tx: Tx) -> list[Statement]:
        recorder = Recorder(tx)
        await operation(recorder, *args, **kwargs)
        return recorder.seen

    recorded.mode = mode_of(operation)  # type: ignore[attr-defined]
    return store.transact(recorded)


class Step(msgspec.Struct, frozen=True):
    """A line of a query plan."""

    parent: int
    text: str

    @property
    def walks(self) -> bool:
        """Whether all of a stored table is read, not what an earlier step of the same statement found."""
        return bool(re.match(r"SCAN (s|r|m|p|l|v|recollect_\w+)\b", self.text))

    @property
    def walks_a_session(self) -> bool:
        """Whether all that a table holds of one session is read."""
        return bool(re.match(r"SEARCH (s|r|m|p|recollect_\w+) .*\(session_id=\?\)", self.text)) and not re.match(
            r"SEARCH (s|recollect_sessions) ", self.text
        )


@reads
async def _explain(tx: Tx, sql: str, params: dict[str, Any]) -> list[Step]:
    [found] = await tx.execute((f"explain query plan {sql}", params))
    return [Step(row[1], row[3]) for row in found]


def steps_of(store: SqliteDb, statement: Statement) -> list[Step]:
    return store.transact(_explain, *statement)


def plan(store: SqliteDb, statement: Statement) -> list[str]:
    return [step.text for step in steps_of(store, statement)]


def sorts_a_session(store: SqliteDb, statement: Statement) -> bool:
    """Whether a statement sorts all that a table holds of one session, instead of the rows that are asked for."""
    steps = steps_of(store, statement)
    sorted_under = {step.parent for step in steps if "TEMP B-TREE" in step.text}
    return any(step.walks or step.walks_a_session for step in steps if step.parent in sorted_under)


def plans(store: SqliteDb, operation: Operation[..., Any], *args: Any, **kwargs: Any) -> list[str]:
    """The steps of the plans of all that an operation runs."""
    return [step for statement in ran(store, operation, *args, **kwargs) for step in plan(store, statement)]


def test_a_header_is_found_by_its_key(store: SqliteDb) -> None:
    for user_id in (None, "u"):
        assert plans(store, get_header, "s", user_id) == ["SEARCH s USING PRIMARY KEY (session_id=?)"]


@pytest.mark.parametrize(
    ("operation", "args"),
    [
        (get_run, ("r", "s")),
        (get_last_run, ("s",)),
        (get_values, ("s", "state")),
        (sessions.get_snapshot, ("s",)),
        (sessions.get_metrics, ("s",)),
        (changes.update_values, ("s", "state", {"k": 1})),
        (changes.set_session_name, ("s", "Name")),
        (changes.claim_session, ("s", "u")),
        (names.begin_naming, ("s", 1)),
        (names.get_opening, ("s",)),
        (names.finish_naming, ("s", 1, 1, "Name", "auto", 1)),
        (names.restore_session_name, ("s", "Given", "Name", "auto")),
        (pages.get_run_page, ("s",)),
        (pages.get_ends, (["s", "s"],)),
        (summaries.get_summary, ("s",)),
        (summaries.get_unsummarised, ("s",)),
        (claims.let_go, (["s"], 1)),
        (changes.tag_session, ("s", ["red"])),
        (marks.archive_session, ("s",)),
        (marks.pin_session, ("s",)),
        (marks.set_session_expiry, ("s", None)),
        (fork.fork_session, ("s",)),
        (removed.delete_run, ("r", "s")),
        (export.export_session, ("s",)),
        (deletion.delete_if_due, ("s",)),
        (deletion.list_due, (None, None, 9)),
        (deletion.list_due, (1, None, 9)),
        (deletion.list_due, (1, "u", 9)),
        (export.list_ids_after, ("u", "")),
        (deletion.delete_session, ("s",)),
    ],
)
def test_nothing_asked_of_one_session_walks_a_table_or_sorts(
    tmp_path: Path, operation: Operation[..., Any], args: tuple[Any, ...]
) -> None:
    with SqliteDb(tmp_path / "s.db") as db:
        run = db.begin_run("s", [user()], run_id="r")
        db.finish_run(run, [answer()])
        statements = ran(db, operation, *args)
        assert statements
        for statement in statements:
            assert not any(step.walks for step in steps_of(db, statement)), statement[0]
            assert not sorts_a_session(db, statement), statement[0]


def test_no_step_of_a_turn_walks_a_table_or_sorts(store: SqliteDb) -> None:
    began = ran(store, begin_run, "t", [user()], state={"k": 1}, with_state=True, history=HistoryLimits())
    run = store.begin_run("t", [user()])
    stepped = ran(store, append_messages, run, [answer()], state={"k": "1", "l": None})
    ended = ran(store, finish_run, run, [answer()])
    for statement in [*began, *stepped, *ended]:
        assert not any(step.walks for step in steps_of(store, statement)), statement[0]
        assert not sorts_a_session(store, statement), statement[0]


def test_the_window_on_the_past_walks_back_along_its_own_index(store: SqliteDb) -> None:
    statements = ran(store, begin_run, "s", [user()], history=HistoryLimits())
    windows = [statement for statement in statements if "recollect_runs_completed" in statement[0]]
    steps = [text for window in windows for text in plan(store, window)]
    along = [step for step in steps if "recollect_runs" in step or re.match(r"(SEARCH|SCAN) r ", step)]
    assert along
    covering = (
        r"SEARCH r USING COVERING INDEX recollect_runs_(completed \(session_id=\?|others \(session_id=\? AND status=\?)"
    )
    assert all(re.match(covering, step) for step in along)
    assert any(
        step.startswith("SEARCH m USING INDEX recollect_messages_place (session_id=? AND run_seq=?") for step in steps
    )
    assert not any(sorts_a_session(store, window) for window in windows)


def test_the_last_run_is_the_first_of_two_indexes_that_hold_no_member_runs(store: SqliteDb) -> None:
    steps = plans(store, get_last_run, "s")
    assert any("INDEX recollect_runs_others (session_id=? AND status=?" in step for step in steps)
    assert any("INDEX recollect_runs_completed (session_id=?" in step for step in steps)


WANTED = {
    "runs": Filter(last_n_runs=3),
    "limit": Filter(limit=20),
    "roles": Filter(last_n_runs=3, limit=20, skip_roles=frozenset({"tool"})),
    "any status": Filter(last_n_runs=3, skip_statuses=frozenset()),
    "agent": Filter(last_n_runs=3, agent_id="a"),
    "team": Filter(last_n_runs=3, team_id="t"),
    "member": Filter(limit=20, member_ids=frozenset({"m"})),
    "with members": Filter(last_n_runs=3, skip_member_messages=False),
}


@pytest.mark.parametrize("name", WANTED)
def test_chosen_runs_are_found_along_the_indexes_of_their_kind(store: SqliteDb, name: str) -> None:
    wanted = WANTED[name]
    statements = ran(store, get_messages, "s", wanted)
    for statement in statements:
        assert not any(step.walks for step in steps_of(store, statement)), statement[0]
        assert not sorts_a_session(store, statement), statement[0]
    steps = [text for statement in statements for text in plan(store, statement)]
    by_run = [step for step in steps if step.startswith("SEARCH r ") and "run_seq" not in step]
    members = wanted.with_members
    assert all("recollect_runs_completed" in step or "recollect_runs_others" in step for step in by_run) or members
    if not members:
        assert by_run


NAMED = {"user": {"user_id": "u"}, "agent": {"agent_id": "a"}, "team": {"team_id": "t"}, "kind": {"kind": "agent"}}
SORTS = {"updated_at": "active", "created_at": "created"}
SOON = datetime(2099, 1, 1, tzinfo=UTC)
FOUND = "SEARCH s USING PRIMARY KEY (session_id=?)"


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("page", ["first", "later"])
@pytest.mark.parametrize("named", [None, *NAMED])
def test_a_page_is_read_along_one_index_in_its_order(store: SqliteDb, named: str | None, page: str, sort: Any) -> None:
    chosen: dict[str, Any] = {**(NAMED[named] if named else {}), "sort": sort}
    if page == "later":
        chosen["cursor"] = lists._cursor(sort, ("s", *range(30)))
    index = f"recollect_sessions_{named or 'kind'}_{SORTS[sort]}"
    for extra in ({}, {"since": SOON}, {"until": SOON}, {"name": "x"}, {"archived": False}, {"pinned": True}):
        along = f"recollect_sessions_{named or 'kind'}_pinned_{SORTS[sort]}" if "pinned" in extra else index
        searches = [step for step in plans(store, get_sessions, **chosen, **extra) if " s USING " in step]
        states = 1 if "archived" in extra else 2
        if "name" in extra:
            assert searches[1::2] == [FOUND] * (len(searches) // 2), "what has the name is read then, and nothing else"
            searches = searches[::2]
        assert len(searches) == states * (1 if named else 2), "what is not filtered by is read of each kind, and merged"
        for step in searches:
            holds_names = "name" in extra and along == "recollect_sessions_kind_active"
            kind_of_index = "COVERING INDEX" if holds_names else "INDEX"
            assert step.startswith(f"SEARCH s USING {kind_of_index} {along} "), (extra, step)
            assert "archived=?" in step
            column = {"user": "user_id", "agent": "agent_id", "team": "team_id"}.get(named or "", "kind")
            assert f"({column}=?" in step
            if page == "later":
                assert f"{sort}" in step.partition("(")[2], "the cursor is where the search begins"


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("pair", list(itertools.combinations(NAMED, 2)), ids="-".join)
def test_a_page_by_two_filters_is_never_sorted(store: SqliteDb, pair: tuple[str, str], sort: Any) -> None:
    steps = plans(store, get_sessions, **NAMED[pair[0]], **NAMED[pair[1]], sort=sort, archived=False)
    assert re.match(rf"SEARCH s USING INDEX recollect_sessions_({'|'.join(pair)})_{SORTS[sort]} ", steps[0])
    assert len(steps) == 1


@pytest.mark.parametrize("named", [None, *NAMED])
def test_metadata_and_tags_are_found_by_their_index(store: SqliteDb, named: str | None) -> None:
    steps = plans(store, get_sessions, metadata={"k": 1}, tags=["red"], **(NAMED[named] if named else {}))
    assert len([step for step in steps if step.startswith("MATERIALIZE found")]) == 2
    found = [step for step in steps if re.search(r"(SEARCH|SCAN) v ", step)]
    by_value = "COVERING INDEX recollect_values_found (kind=? AND key=? AND value=?"
    by_session = "recollect_values_1 (session_id=? AND kind=? AND key=?"
    assert len([step for step in found if by_value in step]) == 2
    assert all(by_value in step or by_session in step for step in found)
    assert steps.count("SEARCH s USING PRIMARY KEY (session_id=?)") == 2


MANY_SESSIONS = (
    """
    insert into recollect_sessions (
        session_id, kind, agent_id, team_id, user_id, archived, pinned, version, epoch, created_at, updated_at
    )
    with recursive n (i) as (select 1 union all select i + 1 from n where i < :count)
    select
        's' || i, case i % 4 when 0 then 'team' else 'agent' end, 'a' || i % 2, 't' || i % 2, 'u' || i % 3,
        case i % 5 when 0 then 1 else 0 end, case i % (:count / 30) when 0 then 1 else 0 end, 1, 1, :count - i, i
    from n
    """,
    "insert into recollect_values select s.session_id, 'tag', 'common', 'null' from recollect_sessions s",
    """
    insert into recollect_values
    select s.session_id, 'metadata', 'ticket', '"T-42"' from recollect_sessions s where s.updated_at % (:count / 10) = 0
    """,
)
"""Sessions of which all have one tag, thirty are pinned, and ten have a value."""

MARKED: list[dict[str, Any]] = [
    {},
    {"archived": True},
    {"pinned": True},
    {"pinned": True, "archived": False},
    {"metadata": {"ticket": "T-42"}},
    {"metadata": {"ticket": "T-42"}, "archived": False, "pinned": False},
    {"metadata": {"ticket": "T-43"}},
    {"tags": ["common"]},
    {"tags": ["common"], "pinned": True},
    {"tags": ["common"], "metadata": {"ticket": "T-42"}},
]

OF = {"user": {"user_id": "u1"}, "agent": {"agent_id": "a1"}, "team": {"team_id": "t1"}, "kind": {"kind": "agent"}}


@writes
async def make_many(tx: Tx, count: int) -> None:
    await tx.execute(*((sql, {"count": count}) for sql in MANY_SESSIONS))


@cache
def _listing(count: int) -> list[int]:
    """How many instructions a page of each kind takes among so many sessions."""
    counted = 0

    def tick() -> None:
        nonlocal counted
        counted += 1

    took = []
    with SqliteDb() as db:
        db.transact(make_many, count)
        assert db._writer is not None
        db._writer.set_progress_handler(tick, 1)
        for of, marked, sort in itertools.product(({}, *OF.values()), MARKED, SORTS):
            counted = 0
            db.get_sessions(**of, **marked, sort=sort)
            took.append(counted)
    return took


def test_a_page_takes_the_same_among_few_and_among_many() -> None:
    for few, many in zip(_listing(1200), _listing(12_000), strict=True):
        assert many <= few * 1.5 + 50


BEGINNING = re.compile(r"\s*({(one|many)}\s*)?(select|insert|update|delete|with)\s", re.IGNORECASE)


def _written() -> Iterator[tuple[str, str]]:
    """Every whole statement of the store modules, by name."""
    for module in (
        deletion,
        export,
        family,
        fork,
        marks,
        removed,
        replaced,
        turns,
        begin,
        continued,
        outcome,
        attempts,
        past,
        copies,
        changes,
        claims,
        names,
        summaries,
        sessions,
        lists,
    ):
        for name, value in vars(module).items():
            texts = value if isinstance(value, tuple) else (value,)
            yield from ((f"{module.__name__}.{name}", text) for text in texts if _is_statement(text))
    running, interrupted = RunStatus.running, RunStatus.interrupted
    kinds = [(), (running,), (interrupted,), (running, interrupted), tuple(RunStatus)]
    for members, statuses in itertools.product((False, True), map(frozenset, kinds)):
        yield f"chosen {members} {statuses}", sessions._chosen(statuses, members)
        yield f"first prompt {members} {statuses}", sessions._first_prompt(statuses, members)
    for due, user_id, since in itertools.product(claims.DUE, (None, "u"), (None, SOON)):
        wanted = claims.Wanted(due=due, user_id=user_id, since=since)
        for make in (claims._window, claims._claim_next, claims._let_go_next, claims._count, claims._list):
            yield f"{make.__name__} {wanted}", make(wanted)
        yield f"claim {due}", names._claim(f"{claims.DUE[due]} and {claims.FREE}")
    for order in ("asc", "desc"):
        yield f"runs since, {order}", summaries._runs_since(order)
        yield f"said since, {order}", summaries._said_since(order)
    for sort in SORTS:
        yield f"page by {sort}", lists._page(tuple(lists._CONDITIONS.values()), sort)
        yield f"page of all by {sort}", lists._page((), sort)
        yield f"page by {sort} of what is pinned", lists._page(("s.pinned = 1", "s.archived = 0"), sort)
        yield f"page by {sort} of what has values", lists._page(tuple(lists._CONDITIONS.values()), sort, 2)
    yield "what is unused", deletion._list_unused(of_user=False)
    yield "what a user does not use", deletion._list_unused(of_user=True)


def _is_statement(text: object) -> bool:
    return isinstance(text, str) and "recollect_" in text and bool(BEGINNING.match(text))


@reads
async def _prepare(tx: Tx, sql: str) -> None:
    params = dict.fromkeys(re.findall(r":(\w+)", sql))
    await tx.execute((f"explain {sql}", params))


def test_the_statements_of_the_store_are_all_found() -> None:
    assert len(list(_written())) > 50


def test_every_statement_can_be_prepared(store: SqliteDb) -> None:
    for name, sql in _written():
        if _is_nothing(sql):
            continue
        try:
            store.transact(_prepare, sql)
        except Exception as error:  # noqa: BLE001 - the test says which statement it was
            pytest.fail(f"{name}: {error}")


PASTS: dict[str, dict[str, Any]] = {
    "completed": {"status": RunStatus.completed},
    "interrupted": {"status": RunStatus.interrupted},
    "cancelled": {"status": RunStatus.cancelled},
    "failed": {"status": RunStatus.error},
    "regenerated": {"status": RunStatus.regenerated},
    "members'": {"status": RunStatus.completed, "parent_run_id": "0"},
    "one member's": {"status": RunStatus.completed, "parent_run_id": "0", "agent_id": "a"},
    "candidates'": {"status": RunStatus.cancelled, "replaces": "0"},
}


@cache
def _work(past: str, length: int) -> dict[str, int]:
    """How many instructions SQLite executes for each hot operation on a session with such a past."""
    counted = 0

    def count() -> None:
        nonlocal counted
        counted += 1

    def of(call: Any) -> Any:
        nonlocal counted
        counted = 0
        return call()

    done: dict[str, int] = {}
    runs = [RunOutput(run_id="0", session_id="s", messages=(user(), answer()))]
    runs += [
        RunOutput(run_id=str(n), session_id="s", messages=(user("x" * 400), answer()), **PASTS[past])
        for n in range(1, length)
    ]
    with SqliteDb() as db:
        db.upsert_session(AgentSession("s", runs=runs))
        assert db._writer is not None
        copy = db.transact(copies.copy_session, "s")
        db._writer.set_progress_handler(count, 1)
        run = of(lambda: db.begin_run("s", [user()], history=HistoryLimits(runs=3), with_state=True))
        done["begin"] = counted
        of(lambda: db.append_messages(run, [answer()], state={"k": "1"}))
        done["append"] = counted
        of(lambda: db.finish_run(run, [answer()]))
        done["finish"] = counted
        of(lambda: db.transact(copies.get_version, "s"))
        done["look"] = counted
        of(lambda: db.transact(copies.copy_session, "s", None, copy))
        done["catch up"] = counted
        known = (run.epoch, run.version + 2)
        cached = of(lambda: db.begin_run("s", [user()], history=HistoryLimits(), known=known))
        done["begin with a known past"] = counted
        assert cached.past is None
        of(lambda: db.transact(continued.request_cancel, cached.run_id, "s"))
        done["cancel"] = counted
        db.finish_run(cached, status=RunStatus.error)
        of(lambda: db.transact(continued.continue_run, cached.run_id, "s", history=HistoryLimits(runs=3)))
        done["continue"] = counted
        again = of(lambda: db.begin_run("s", [user()], replaces=run.run_id, history=HistoryLimits(runs=3)))
        done["begin in a place"] = counted
        of(lambda: db.finish_run(again, [answer()]))
        done["finish in a place"] = counted
        of(lambda: db.delete_run(again.run_id, "s"))
        done["delete a run"] = counted
        part: dict[str, Any] = {"parent_run_id": "0", "agent_id": "a", "history": HistoryLimits(runs=3)}
        member = of(lambda: db.begin_run("s", [user()], **part))
        done["begin of a member"] = counted
        of(lambda: db.finish_run(member, [answer()]))
        done["finish of a member"] = counted
        reading: dict[str, Callable[[], Any]] = {
            "header": lambda: db.get_header("s"),
            "last run": lambda: db.get_last_run("s"),
            "one run": lambda: db.get_run("0", "s"),
            "state": lambda: db.get_values("s", "state"),
            "metrics": lambda: db.get_metrics("s"),
            "list": db.get_sessions,
            "last of what was said": lambda: db.get_messages("s", Filter(last_n_runs=1)),
            "last runs of any status": lambda: db.get_messages("s", Filter(last_n_runs=3, skip_statuses=frozenset())),
            "newest messages": lambda: db.get_messages("s", Filter(limit=2)),
            "newest page": lambda: db.transact(pages.get_run_page, "s", limit=3),
            "older page": lambda: db.transact(pages.get_run_page, "s", before=length - 10, limit=3),
            "page onward": lambda: db.transact(pages.get_run_page, "s", after=length // 2, limit=3),
            "ends": lambda: db.transact(pages.get_ends, ["s"]),
        }
        for name, call in reading.items():
            of(call)
            done[name] = counted
    return done


HOT = ["begin", "append", "finish", "header", "last run", "one run", "state", "metrics", "list"]
HOT += ["look", "catch up", "begin with a known past", "cancel", "continue"]
HOT += ["begin in a place", "finish in a place", "delete a run", "begin of a member", "finish of a member"]
HOT += ["last of what was said", "last runs of any status", "newest messages", "ends"]

PAGES = ["newest page", "older page", "page onward"]
"""Of all runs that are shown. Those that were replaced are passed over one by one."""

SHOWN = [past for past in PASTS if past not in ("regenerated", "candidates'")]


@pytest.mark.parametrize("past", PASTS)
@pytest.mark.parametrize("operation", HOT)
def test_the_work_of_an_operation_does_not_grow_with_the_past(operation: str, past: str) -> None:
    short, long = _work(past, 60)[operation], _work(past, 1500)[operation]
    assert long <= short * 1.5 + 50, f"{short} instructions after 60 runs, {long} after 1,500"


@pytest.mark.parametrize("past", SHOWN)
@pytest.mark.parametrize("operation", PAGES)
def test_the_work_of_a_page_does_not_grow_with_the_past(operation: str, past: str) -> None:
    short, long = _work(past, 60)[operation], _work(past, 1500)[operation]
    assert long <= short * 1.5 + 50, f"{short} instructions after 60 runs, {long} after 1,500"
