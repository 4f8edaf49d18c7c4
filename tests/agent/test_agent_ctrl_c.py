"""Ctrl-C at any moment of a run: the next call works, and the run is settled or was never begun."""

from __future__ import annotations

import linecache
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from agent_kit import ScriptedModel, calls
from postgres_kit import postgres_db

import recollect
from recollect import Agent, EchoModel, Message, RunStatus, SqliteDb, Store, Team
from recollect.heartbeat import HEARTBEAT
from recollect.port import Delta

LIBRARY = str(Path(recollect.__file__).parent)

Point = tuple[str, int]
"""A moment of a run: a file and line that is come to for the first time."""


@cache
def is_moment(file: str, line: int) -> bool:
    """Python looks for signals after each call, and before a bare ``try`` there is none."""
    return linecache.getline(file, line).strip() != "try:"


class Trace:
    """Where the library is, line by line; raises at one of them, as Ctrl-C does."""

    def __init__(self, point: Point | None = None) -> None:
        self.points: dict[Point, None] = {}
        self._point = point

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(LIBRARY) else None

    def _line(self, frame: FrameType, event: str, _: Any) -> Any:
        point = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and point not in self.points and is_moment(*point):
            self.points[point] = None
            if point == self._point:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._line


@contextmanager
def traced(trace: Callable[..., Any]) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def look() -> str:
    """Look."""
    return "seen"


def alone(db: Store) -> Agent:
    """An agent that calls a tool, and then two at once."""
    model = ScriptedModel(calls(("look", "{}")), calls(("look", "{}"), ("look", "{}")), [Delta("D"), "Done."])
    return Agent(model, db=db, tools=[look], session_state={"n": 1})


def together(db: Store) -> Team:
    """A team that has one member answer, in this thread, and then both at once, in others."""
    asked = [("delegate_task_to_member", f'{{"member_id": "{own}", "task": "Look"}}') for own in "ab"]
    members = [Agent(EchoModel(), id=own, tools=[look]) for own in "ab"]
    return Team(members, model=ScriptedModel(calls(asked[0]), calls(*asked), [Delta("D"), "Done."]), db=db)


WHO: dict[str, Callable[[Store], Agent | Team]] = {"agent": alone, "team": together}


def run(db: Store, who: str, session_id: str, trace: Trace) -> BaseException | None:
    """A run with tools, beside another one that is under way, with Ctrl-C at one moment."""
    runner = WHO[who](db)
    db.finish_run(db.begin_run(session_id, [Message("user", "Before")]), [Message("assistant", "Yes")])
    other = db.begin_run(session_id, [Message("user", "Beside")])
    try:
        with traced(trace):
            runner.run("Look", session_id=session_id, run_id="r")
    except BaseException as error:  # noqa: BLE001 - whatever came out is what is looked at
        return error
    finally:
        db.finish_run(other)
    return None


OPENED: dict[str, Callable[[Path], AbstractContextManager[Store]]] = {
    "sqlite": lambda folder: SqliteDb(folder / "s.db", durability="normal", timeout=1),
    "postgres": lambda _: postgres_db(pool=1, timeout=5),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine .* never awaited")
@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("kind", OPENED)
def test_ctrl_c_at_any_moment_leaves_the_run_settled_and_the_database_of_use(
    kind: str, who: str, tmp_path: Path
) -> None:
    with OPENED[kind](tmp_path) as db:
        assert run(db, who, "first", Trace()) is None
        whole = Trace()
        assert run(db, who, "whole", whole) is None
        assert len(whole.points) > 400
        wrong = [(point, found) for point in whole.points if (found := what_is_left(db, who, point)) is not None]
        assert wrong == []
        signs = threading.Thread(target=HEARTBEAT._sign_all, daemon=True)
        signs.start()
        signs.join(10)
        assert not signs.is_alive(), "signs of life are still given"


def what_is_left(db: Store, who: str, point: Point) -> str | None:
    """What Ctrl-C at this moment did wrong."""
    session_id = str(hash(point))
    raised = run(db, who, session_id, Trace(point))
    if raised is not None and not isinstance(raised, KeyboardInterrupt):
        return repr(raised)
    del raised  # what it holds is let go of when it was dealt with
    left = db.get_run("r", session_id)
    if left is not None and left.status not in (RunStatus.cancelled, RunStatus.completed):
        return f"left {left.status}"
    if not members_ended(db, session_id):
        return "left a member running"
    if Agent(EchoModel(), db=db).run("Next", session_id=session_id).status is not RunStatus.completed:
        return "the next run fails"
    return None


def members_ended(db: Store, session_id: str) -> bool:
    """Whether the runs of members end, which other threads are at work on."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        session = db.get_session(session_id)
        if session is None or all(run.status is not RunStatus.running for run in session.runs):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("event", ["call", "line"])
@pytest.mark.parametrize("function", ["__call__", "alive", "lives"])
def test_ctrl_c_in_a_function_that_sqlite_calls_is_not_taken_for_an_error(
    tmp_path: Path, function: str, event: str
) -> None:
    def trace(frame: FrameType, what: str, _: Any) -> Any:
        if frame.f_code.co_filename.startswith(LIBRARY) and frame.f_code.co_name == function and what == event:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    with SqliteDb(tmp_path / "s.db") as db:
        run = db.begin_run("s", [Message("user", "Hi")], run_id="r")
        with pytest.raises(KeyboardInterrupt), traced(trace):
            db.get_run("r", "s")
        assert db.get_run("r", "s").status is RunStatus.running  # type: ignore[union-attr]
        with pytest.raises(KeyboardInterrupt), traced(trace):
            db.begin_run("s", [Message("user", "Beside")], run_id="beside")
        assert db.get_run("beside", "s") is None
        db.finish_run(run)
