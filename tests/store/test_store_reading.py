"""What was stored is read as it was: whole, by filters, by id; and who reads sees one moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_kit import FACES, Face, MovingClock, answer, calls, dump, header_of, result, system, turn, user

from recollect.db.sqlite import SqliteDb
from recollect.errors import SessionNotFound
from recollect.history import UNKNOWN_OUTCOME, HistoryLimits
from recollect.run import RunMetrics, RunOutput, RunStatus, TeamRunOutput
from recollect.selection import Filter
from recollect.session import AgentSession, TeamSession

pytestmark = pytest.mark.anyio

agents = st.sampled_from(["a", "b", "c", None])


@st.composite
def stored_runs(draw: st.DrawFn) -> list[RunOutput]:
    """Runs as a team with members leaves them: every status, with and without prompts, calls and answers."""
    runs: list[RunOutput] = []
    for place in range(draw(st.integers(1, 8))):
        ids = [f"{place}.{number}" for number in range(draw(st.integers(0, 2)))]
        said = [user(f"question {place}")]
        said += [calls(*ids), *(result(call) for call in ids)] if ids else []
        said += draw(st.sampled_from([[], [answer(f"answer {place}")], [user("and"), answer("so")]]))
        prompt = draw(st.sampled_from([(), (system("A"),), (system("B"),)]))
        runs.append(
            RunOutput(
                run_id=f"r{place}",
                session_id="",
                status=draw(st.sampled_from([s for s in RunStatus if s not in ("running", "pending")])),
                agent_id=draw(agents),
                team_id=draw(st.sampled_from([None, "t"])),
                parent_run_id="r0" if place and draw(st.booleans()) else None,
                messages=(*prompt, *said),
            )
        )
    return runs


def _some(values: list[str]) -> st.SearchStrategy[Any]:
    return st.none() | st.lists(st.sampled_from(values), unique=True, max_size=3)


filters = st.fixed_dictionaries(
    {
        "agent_id": agents,
        "team_id": st.sampled_from([None, None, "t"]),
        "member_ids": _some(["a", "b", "c"]),
        "last_n_runs": st.none() | st.integers(0, 5),
        "limit": st.none() | st.integers(0, 12),
        "skip_roles": _some(["system", "user", "assistant", "tool"]),
        "skip_statuses": _some(["completed", "error", "cancelled", "regenerated", "interrupted"]),
        "skip_member_messages": st.booleans(),
    }
)


@given(runs=stored_runs(), chosen=st.lists(filters, min_size=12, max_size=12))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_messages_read_by_filters_are_those_of_the_whole_session(
    db: Face, runs: list[RunOutput], chosen: list[dict[str, Any]]
) -> None:
    session_id = (await db.create_session()).session_id
    await db.upsert_session(AgentSession(session_id, runs=runs))
    whole = await db.get_session(session_id)
    assert [run.messages for run in whole.runs] == [run.messages for run in runs]
    for wanted in chosen:
        expected = whole.get_messages(**wanted)
        found = await db.get_messages(session_id, Filter.checked(**wanted))
        assert [(message.id, message) for message in found] == [(message.id, message) for message in expected], wanted


async def test_an_id_that_holds_commas_is_one_id(db: Face) -> None:
    """An id may hold any character but control characters, so also one that separates ids elsewhere."""
    await turn(db, run_id="top")
    for run_id, agent_id in (("1", "x,a,y"), ("2", "a")):
        run = await db.begin_run("s", [user(agent_id)], run_id=run_id, agent_id=agent_id, parent_run_id="top")
        await db.finish_run(run, [answer()])
    wanted = {"member_ids": ["x,a,y"], "last_n_runs": 1}
    assert await db.get_messages("s", Filter.checked(**wanted)) == (await db.get_session("s")).get_messages(**wanted)


async def test_system_messages_in_midst_of_a_run_take_no_room_of_those_said(db: Face) -> None:
    for number in range(3):
        run = await db.begin_run("s", [user(f"{number}?")])
        await db.append_messages(run, [system(f"Note {number}a"), system(f"Note {number}b")])
        await db.finish_run(run, [answer(f"{number}.")])
    whole = await db.get_session("s")
    for limit in range(9):
        found = await db.get_messages("s", Filter.checked(limit=limit))
        assert found == whole.get_messages(limit=limit), limit


async def test_by_default_failures_members_and_repeated_prompts_are_left_out(db: Face) -> None:
    for status in RunStatus:
        if status not in ("running", "pending"):
            run = await db.begin_run("s", [user(f"{status}?")], prompt=system(), run_id=status)
            await db.finish_run(run, [answer(f"{status}.")], status=status)
    member = await db.begin_run("s", [user("member?")], parent_run_id="completed", agent_id="m", prompt=system("M"))
    await db.finish_run(member, [answer("member.")])
    await turn(db, text="last?", prompt=system())

    said = [message.text for message in await db.get_messages("s")]
    assert said == ["Be brief.", "completed?", "completed.", "last?", "You said: last?"]
    assert said == [message.text for message in (await db.get_session("s")).get_messages()]
    with_member = await db.get_messages("s", Filter.checked(member_ids=["m"]))
    assert "member." in [message.text for message in with_member]


async def test_a_limit_keeps_the_system_message_and_no_result_leads_without_its_call(db: Face) -> None:
    run = await db.begin_run("s", [user("1")], prompt=system())
    await db.append_messages(run, [calls("a"), result("a", "3")])
    await db.finish_run(run, [answer("4")])

    async def read(limit: int) -> list[str]:
        return [message.role for message in await db.get_messages("s", Filter.checked(limit=limit))]

    assert await read(0) == []
    assert await read(1) == ["system"]
    assert await read(2) == ["system", "assistant"]
    assert await read(3) == ["system", "assistant"]
    assert await read(4) == ["system", "assistant", "tool", "assistant"]
    assert await read(9) == ["system", "user", "assistant", "tool", "assistant"]


async def test_chat_history_is_what_both_said_in_every_run_but_replaced_ones(db: Face) -> None:
    for status in ("completed", "regenerated", "error", "cancelled"):
        run = await db.begin_run("s", [user(f"{status}?")], prompt=system())
        await db.append_messages(run, [calls(status), result(status)])
        await db.finish_run(run, [answer(f"{status}.")], status=RunStatus(status))
    await db.begin_run("s", [user("running?")])
    chat = (await db.get_session("s")).get_chat_history()
    assert [message.text for message in chat if message.text] == [
        *("completed?", "completed.", "error?", "error.", "cancelled?", "cancelled.", "running?")
    ]
    assert {message.role for message in chat} == {"user", "assistant"}
    newest = (await db.get_session("s")).get_chat_history(last_n_runs=1)
    assert [message.text for message in newest] == ["running?"]


async def test_the_last_run_is_the_newest_of_the_top_level_whatever_became_of_it(db: Face) -> None:
    await db.create_session("s")
    assert await db.get_last_run("s") is None
    replaced = await db.begin_run("s", [user("replaced")])
    await db.finish_run(replaced, [answer()], status=RunStatus.regenerated)
    assert await db.get_last_run("s") is None, "a run that was replaced is no part of the conversation"
    for status in ("completed", "error", "paused", "cancelled"):
        run = await db.begin_run("s", [user(status)], prompt=system())
        member = await db.begin_run("s", [user()], parent_run_id=run.run_id)
        await db.finish_run(run, [answer()], status=RunStatus(status))
        await db.finish_run(member, [answer()])
        assert (await db.get_last_run("s")) == (await db.get_run(run.run_id, "s"))
        assert (await db.get_last_run("s")).status == status
    running = await db.begin_run("s", [user()])
    assert (await db.get_last_run("s")).run_id == running.run_id


async def test_one_run_read_by_its_id_is_the_same_as_in_the_whole_session(db: Face) -> None:
    for number in range(3):
        await turn(db, text=str(number), run_id=f"r{number}", prompt=system(str(number)))
    session = await db.get_session("s")
    for number in range(3):
        assert await db.get_run(f"r{number}", "s") == session.runs[number] == session.get_run(f"r{number}")
    assert await db.get_run("r9", "s") is None
    assert await db.get_run("r1", "other") is None
    assert session.get_run("r9") is None


async def test_what_is_not_there_is_none_or_said(db: Face) -> None:
    assert await db.get_session("s") is None
    assert await db.get_header("s") is None
    for read in (
        lambda: db.get_messages("s"),
        lambda: db.get_messages("s", Filter.checked(limit=3)),
        lambda: db.get_last_run("s"),
        lambda: db.get_values("s", "state"),
        lambda: db.get_metrics("s"),
    ):
        with pytest.raises(SessionNotFound):
            await read()


async def test_tool_calls_come_newest_run_first_in_the_form_of_chat_completions(db: Face) -> None:
    for number in range(2):
        run = await db.begin_run("s", [user()])
        await db.append_messages(run, [calls(f"{number}a", f"{number}b")])
        await db.finish_run(run, [result(f"{number}a"), result(f"{number}b"), answer()])
    session = await db.get_session("s")
    found = session.get_tool_calls()
    assert [call["id"] for call in found] == ["1a", "1b", "0a", "0b"]
    assert found[0] == {"id": "1a", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    assert session.get_tool_calls(num_calls=1) == found[:1]
    assert [(tool.tool_call_id, tool.result) for tool in session.runs[0].tools] == [("0a", "seen"), ("0b", "seen")]


async def _everything(db: Face) -> TeamSession:
    await db.create_session("s", user_id="u", kind="team", team_id="t", name="Named", metadata={"m": [1, None]})
    run = await db.begin_run(
        "s", [user("a"), answer("b"), user("c")], kind="team", team_id="t", user_id="u", prompt=system(),
        agent_name="Team", model="m", metadata={"k": {"l": 1}}, state={"x": None, "y": {"z": [1.5]}},
    )  # fmt: skip
    member = await db.begin_run("s", [user()], parent_run_id=run.run_id, agent_id="m", user_id="u")
    await db.append_messages(run, [calls("c1", "c2"), result("c2")], at=3)
    await db.finish_run(member, status=RunStatus.error, error="gave up")
    metrics = RunMetrics(input_tokens=1, output_tokens=2, cache_read_tokens=1, duration=0.5, steps=2, history_cut=True)
    await db.finish_run(run, [answer("d")], metrics=metrics)
    await db.tag_session("s", ["billing", "vip"], user_id="u")
    await db.archive_session("s", user_id="u")
    await db.pin_session("s", user_id="u")
    await db.set_session_expiry("s", timedelta(days=1), user_id="u")
    session = await db.get_session("s")
    assert type(session) is TeamSession
    return session


async def test_a_session_written_as_a_dictionary_is_read_back_the_same(db: Face) -> None:
    session = await _everything(db)
    written = json.loads(json.dumps(session.to_dict()))
    again = TeamSession.from_dict(written)
    assert again.to_dict() == session.to_dict()
    assert [run.messages for run in again.runs] == [run.messages for run in session.runs]
    assert [type(run) for run in again.runs] == [TeamRunOutput, RunOutput]
    assert again.runs[0].input == session.runs[0].input
    assert "runs" not in session.to_dict(include_runs=False)


async def test_a_session_copied_into_another_database_reads_the_same(db: Face) -> None:
    session = await _everything(db)
    with SqliteDb() as elsewhere:
        copy = type(db)(elsewhere, MovingClock())
        await copy.upsert_session(session)
        assert (await copy.get_session("s")).to_dict() == session.to_dict()
        theirs, ours = await header_of(copy), await header_of(db)
        counted = ("run_count", "completed_count", "message_count", "input_tokens", "output_tokens", "preview")
        assert [getattr(theirs, name) for name in counted] == [getattr(ours, name) for name in counted]


async def test_changing_what_one_read_changes_nothing_for_anyone_else(db: Face) -> None:
    session = await _everything(db)
    before, rows = (await db.get_session("s")).to_dict(), dump(db)
    session.metadata["m"].append("mine")
    session.session_state["y"]["z"] = "mine"
    session.name = "Mine"
    session.runs[0].metadata["k"]["l"] = 2
    session.runs[0].messages[0].to_dict()["content"] = "mine"
    session.get_tool_calls()[0]["function"]["name"] = "mine"
    session.upsert_run(RunOutput(run_id="mine", session_id="s"))
    with pytest.raises(AttributeError):
        session.runs[0].status = "error"
    with pytest.raises(AttributeError):
        session.runs[0].messages[0].role = "user"
    assert session.runs[0].metadata == {"k": {"l": 1}}
    assert (await db.get_session("s")).to_dict() == before
    assert dump(db) == rows


async def test_a_run_whose_lease_ran_out_reads_as_interrupted_everywhere(db: Face) -> None:
    run = await db.begin_run("s", [user("1")])
    await db.append_messages(run, [calls("c")])
    rows = dump(db)
    db.clock.forward(29)
    assert (await db.get_last_run("s")).status == "running"
    db.clock.forward(2)
    read = [
        (await db.get_last_run("s")).status,
        (await db.get_run(run.run_id, "s")).status,
        (await db.get_session("s")).runs[0].status,
    ]
    assert read == [RunStatus.interrupted] * 3
    assert await db.get_messages("s", Filter.checked(last_n_runs=1)) == []
    shown = await db.get_messages("s", Filter.checked(last_n_runs=1, skip_statuses=()))
    assert [message.role for message in shown] == ["user", "assistant"]
    assert dump(db) == rows, "reading records nothing"


MIDWAY = """
import sys, time
from recollect.db.sqlite import SqliteDb
from recollect.message import Message
db = SqliteDb(sys.argv[1])
run = db.begin_run("s", [Message("user", "1")], run_id="r")
call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
db.append_messages(run, [Message("assistant", None, tool_calls=[call])])
print("said", flush=True)
time.sleep(60)
"""


async def test_a_run_whose_process_was_killed_is_interrupted_at_once_and_the_next_goes_on(
    file_db: Face, tmp_path: Path
) -> None:
    killed = subprocess.Popen(  # noqa: ASYNC220 - it is meant to be there while this test goes on
        [sys.executable, "-c", MIDWAY, str(tmp_path / "sessions.db")], stdout=subprocess.PIPE, text=True
    )
    with killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "said\n"
        assert (await file_db.get_last_run("s")).status == "running"
        os.kill(killed.pid, signal.SIGKILL)
    stored = await file_db.get_last_run("s")
    assert stored.status == "interrupted"
    assert [message.role for message in stored.messages] == ["user", "assistant"]
    assert [row[8] for row in dump(file_db)["runs"]] == ["running"], "nobody has recorded it"

    run = await file_db.begin_run("s", [user("2")], history=HistoryLimits())
    assert [message.text for message in run.history.messages] == ["1", "", UNKNOWN_OUTCOME]
    assert [row[8] for row in dump(file_db)["runs"]] == ["interrupted", "running"]
    assert [row[1] for row in dump(file_db)["leases"]] == [run.run_seq]
    await file_db.finish_run(run, [answer("3")])
    assert (await header_of(file_db)).run_count == 2


@pytest.mark.parametrize("kind", FACES)
async def test_a_read_of_several_statements_sees_one_moment(tmp_path: Path, kind: str) -> None:
    stop = threading.Event()
    with SqliteDb(tmp_path / "s.db", durability="normal") as store:
        db = FACES[kind](store, MovingClock())
        await turn(db)

        def write() -> None:
            while not stop.is_set():
                run = store.begin_run("s", [user()], state={"n": 1})
                store.finish_run(run, [answer()], state={"n": str(run.run_seq)})

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(60):
                session = await db.get_session("s")
                assert session.header.run_count == len(session.runs)
                assert session.header.message_count == sum(len(run.messages) for run in session.runs)
        finally:
            stop.set()
            writer.join()
