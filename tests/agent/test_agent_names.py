"""Names made by a model: what is asked, what becomes of the answer, and when it is done."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from agent_kit import NamingModel, ScriptedModel, calls

from recollect import (
    Agent,
    EchoModel,
    InvalidArgument,
    Message,
    ModelError,
    NamingFailed,
    RunOutput,
    SessionHeader,
    SessionNamer,
    SessionNotFound,
    SqliteDb,
    open_db,
    title_from_first_message,
)
from recollect.session import AgentSession
from recollect.store.claims import Wanted, claim_next
from recollect.summary import SessionSummaryManager

pytestmark = pytest.mark.anyio

PLAN = "Plan the launch of our new bicycle lamp with me"


async def named(agent: Any, session_id: str = "s") -> tuple[str, str | None]:
    session = await agent.get_session(session_id)
    return session.name, session.name_source


async def test_a_name_is_generated_and_stored_with_where_it_comes_from(bound: Any) -> None:
    model = NamingModel('"E-commerce API Planning"')
    agent = bound(model)
    await agent.run(PLAN, session_id="s", user_id="ada")
    session = await agent.set_session_name("s", autogenerate=True)
    assert (session.name, session.name_source) == ("E-commerce API Planning", "auto")
    assert await agent.get_session_name("s") == "E-commerce API Planning"
    [request] = model.requests
    assert request.purpose == "name"
    assert request.max_output_tokens == 64
    assert [message.role for message in request.messages] == ["system", "user"]
    assert PLAN in request.messages[1].text


async def test_what_is_sent_is_only_what_user_and_assistant_said_first(bound: Any) -> None:
    def look() -> str:
        """Look."""
        return "TOOL OUTPUT"

    agent = bound(
        ScriptedModel(calls(("look", "{}")), "I looked.", "SECOND ANSWER", "A Name"),
        tools=[look],
        instructions="SYSTEM PROMPT",
        session_namer=SessionNamer(context_messages=2),
    )
    await agent.run("Look at this", session_id="s")
    await agent.run("And this", session_id="s")
    await agent.set_session_name("s", autogenerate=True)
    sent = "\n".join(message.text for message in agent.agent.model.requests[-1].messages)
    assert "Look at this" in sent
    assert "I looked." in sent
    assert not any(left_out in sent for left_out in ("SYSTEM PROMPT", "TOOL OUTPUT", "And this", "SECOND ANSWER"))
    assert not agent.agent.model.requests[-1].tools


def long_session(turns: int) -> AgentSession:
    runs = [
        RunOutput(
            run_id=str(number),
            session_id="s",
            messages=(Message("user", f"{PLAN} {number} " + "x" * 3000), Message("assistant", "yes " * 1000)),
        )
        for number in range(turns)
    ]
    return AgentSession("s", runs=runs)


@pytest.mark.parametrize("turns", [2, 50, 5000])
async def test_a_name_is_one_call_within_the_same_bound_however_long_the_session(bound: Any, turns: int) -> None:
    model = NamingModel()
    agent = bound(model)
    agent.agent.db.upsert_session(long_session(turns))
    await agent.set_session_name("s", autogenerate=True)
    assert len(model.requests) == 1
    assert model.chars() <= 2000 + 1200
    assert await named(agent) == ("A Generated Name", "auto")


FALLBACK = ("Plan the launch", "fallback")

ANSWERS: dict[str, tuple[Any, tuple[str, str]]] = {
    "nothing": ("", FALLBACK),
    "only punctuation": ("-- ... !!", FALLBACK),
    "a refusal": (Message("assistant", "I can't help with that.", finish_reason="refusal"), FALLBACK),
    "a refusal in prose": ("I'm sorry, but I can't help with that.", FALLBACK),
    "only thinking": ("<think>What could it be", FALLBACK),
    "an incomplete answer without text": (Message("assistant", "", finish_reason="length"), FALLBACK),
    "a failure": (ModelError("overloaded", status=503, transient=True), FALLBACK),
    "a bug": (ZeroDivisionError("oops"), FALLBACK),
    "10,000 words": ("bicycle " * 10_000, ("bicycle bicycle bicycle bicycle bicycle", "auto")),
    "several lines": ("\n\n**Bicycle Lamp Launch**\n\nI chose it because\nit fits.", ("Bicycle Lamp Launch", "auto")),
    "thinking first": ("<think>Hm.</think>\nTitle: “Bicycle Lamp Launch”.", ("Bicycle Lamp Launch", "auto")),
    "controls": ("\u202eBicycle\u0000 \u200bLamp\u2069", ("Bicycle Lamp", "auto")),
    "Chinese": ("《自行车灯的发布计划》", ("自行车灯的发布计划", "auto")),
    "Arabic": ("«خطة إطلاق المصباح»", ("خطة إطلاق المصباح", "auto")),
    "emoji": ("🚲💡", ("🚲💡", "auto")),
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_whatever_a_model_answers_the_name_is_a_good_one(bound: Any, answer: str) -> None:
    said, (name, source) = ANSWERS[answer]
    agent = bound(NamingModel(said))
    await agent.run(PLAN, session_id="s")
    session = await agent.set_session_name("s", autogenerate=True)
    if source == "fallback":
        assert session.name == title_from_first_message(session)
        assert session.name.startswith(name)
    else:
        assert session.name == name
    assert session.name_source == source


@pytest.mark.parametrize(
    ("fallback", "name"),
    [
        ("T-4711", "T-4711"),
        (lambda session: f"Ticket of {session.user_id}, {len(session.runs)} run", "Ticket of ada, 1 run"),
        (title_from_first_message, "Refund my order"),
    ],
)
async def test_a_fallback_is_the_name_where_the_model_fails(bound: Any, fallback: Any, name: str) -> None:
    agent = bound(NamingModel(ModelError("down")))
    await agent.run("Please refund my order", session_id="s", user_id="ada")
    session = await agent.set_session_name("s", autogenerate=True, fallback=fallback)
    assert (session.name, session.name_source) == (name, "fallback")
    agent.agent.model.answers["name"] = "Order Refund"
    session = await agent.set_session_name("s", autogenerate=True, fallback=fallback)
    assert (session.name, session.name_source) == ("Order Refund", "auto")


def _raise(_: Any) -> str:
    msg = "no ticket"
    raise KeyError(msg)


@pytest.mark.parametrize(
    ("fallback", "reason"),
    [
        (None, "said nothing that could be a name"),
        (lambda _: "", "1 to 200"),
        (lambda _: None, "must be text"),
        (_raise, "raised KeyError: 'no ticket'"),
    ],
)
async def test_without_a_fallback_naming_fails_and_the_name_is_as_it_was(
    bound: Any, fallback: Any, reason: str
) -> None:
    agent = bound(NamingModel(""))
    await agent.run(PLAN, session_id="s")
    await agent.set_session_name("s", session_name="As it was")
    with pytest.raises(NamingFailed, match=reason):
        await agent.set_session_name("s", autogenerate=True, fallback=fallback)
    with pytest.raises(NamingFailed, match=reason):
        await agent.generate_session_name("s", fallback=fallback)
    assert await named(agent) == ("As it was", "manual")
    free = agent.agent.db.transact(claim_next, Wanted(due="not summarised"), 1)
    assert free.session_ids == ("s",), "no claim is left"


@pytest.mark.parametrize("fallback", [7, "", "x" * 201, ["a"]])
async def test_a_fallback_that_cannot_be_one_is_refused_before_a_model_is_asked(bound: Any, fallback: Any) -> None:
    model = NamingModel()
    agent = bound(model)
    await agent.run(PLAN, session_id="s")
    with pytest.raises(InvalidArgument, match="fallback"):
        await agent.set_session_name("s", autogenerate=True, fallback=fallback)
    assert not model.requests


async def test_an_empty_session_calls_no_model(bound: Any) -> None:
    model = NamingModel()
    agent = bound(model)
    agent.agent.db.create_session("s")
    with pytest.raises(NamingFailed, match="nothing was said"):
        await agent.set_session_name("s", autogenerate=True)
    assert (await agent.set_session_name("s", autogenerate=True, fallback="T-1")).name == "T-1"
    assert not model.requests


async def test_a_generated_name_can_be_had_without_being_given(bound: Any) -> None:
    agent = bound(NamingModel("Bicycle Lamp"))
    await agent.run(PLAN, session_id="s")
    assert await agent.generate_session_name("s") == "Bicycle Lamp"
    assert await named(agent) == ("", None)


async def test_a_session_that_is_not_there_is_not_named(bound: Any) -> None:
    model = NamingModel()
    agent = bound(model)
    for method in (agent.generate_session_name, lambda s: agent.set_session_name(s, autogenerate=True)):
        with pytest.raises(SessionNotFound):
            await method("nowhere")
    assert not model.requests


async def test_the_model_is_the_namers_else_the_summary_managers_else_the_agents(bound: Any) -> None:
    own, cheap, cheaper = NamingModel("Own"), NamingModel("Cheap"), NamingModel("Cheaper")
    manager = SessionSummaryManager(model=cheap)
    for options, name in (
        ({}, "Own"),
        ({"session_summary_manager": manager}, "Cheap"),
        ({"session_summary_manager": manager, "session_namer": SessionNamer(max_words=3)}, "Cheap"),
        ({"session_summary_manager": manager, "session_namer": SessionNamer(model=cheaper)}, "Cheaper"),
    ):
        agent = bound(own, **options)
        await agent.run(PLAN, session_id="s")
        assert (await agent.set_session_name("s", autogenerate=True)).name == name


async def test_the_namers_rules_hold(bound: Any) -> None:
    model = NamingModel("one two three four five six seven eight")
    namer = SessionNamer(
        model=model, max_words=7, prompt="Name it in {max_words} words.", model_options={"top_p": 0.5}, timeout=7
    )
    agent = bound(EchoModel(), session_namer=namer)
    await agent.run(PLAN, session_id="s")
    assert (await agent.set_session_name("s", autogenerate=True)).name == "one two three four five six seven"
    [request] = model.requests
    assert request.messages[0].text.startswith("Name it in 7 words.")
    assert (request.options, request.timeout, request.max_output_tokens) == ({"top_p": 0.5}, 7, 84)


async def test_a_policy_changes_or_refuses_names_however_they_are_made(bound: Any) -> None:
    def policy(name: str, header: SessionHeader) -> str | None:
        if "secret" in name.lower():
            return None
        return f"[{header.user_id}] {name.removeprefix(f'[{header.user_id}] ')}"

    model = NamingModel("A Talk")
    agent = bound(model, session_namer=SessionNamer(policy=policy))
    await agent.run("Tell me about the lamp", session_id="s", user_id="ada")
    assert (await agent.set_session_name("s", session_name="By hand")).name == "[ada] By hand"
    with pytest.raises(InvalidArgument, match="session_name"):
        await agent.set_session_name("s", session_name="My secret")
    assert (await agent.set_session_name("s", autogenerate=True)).name == "[ada] A Talk"
    model.answers["name"] = "Secret Talk"
    assert await named(agent) == ("[ada] A Talk", "auto")
    assert (await agent.set_session_name("s", autogenerate=True, fallback="T-1")).name == "[ada] T-1"
    with pytest.raises(NamingFailed, match="fallback"):
        await agent.set_session_name("s", autogenerate=True, fallback="secret, too")
    session = await agent.get_session("s")
    session.name = "Saved"
    await agent.save_session(session)
    assert await named(agent) == ("[ada] Saved", "manual")


async def test_a_name_set_by_hand_while_one_is_being_made_wins(bound: Any) -> None:
    def meanwhile(_: Any) -> str:
        agent.agent.db.set_session_name("s", "By hand")
        return "Generated"

    agent = bound(NamingModel(meanwhile))
    await agent.run(PLAN, session_id="s")
    for before in (None, "By hand", "Another"):
        if before:
            await agent.set_session_name("s", session_name=before)
        session = await agent.set_session_name("s", autogenerate=True)
        assert (session.name, session.name_source) == ("By hand", "manual")
    session = await agent.get_session("s")
    assert (await agent.get_session_metrics("s")).aux_tokens == 45, "what it took is counted all the same"


async def test_a_session_deleted_and_made_anew_does_not_get_the_name_of_the_old_one(bound: Any) -> None:
    def meanwhile(_: Any) -> str:
        agent.agent.db.delete_session("s")
        agent.agent.db.create_session("s")
        return "Of the old one"

    agent = bound(NamingModel(meanwhile))
    await agent.run(PLAN, session_id="s")
    with pytest.raises(SessionNotFound):
        await agent.set_session_name("s", autogenerate=True)
    assert (await agent.get_session_metrics("s")).aux_tokens == 0
    assert await named(agent) == ("", None)


async def test_tokens_of_names_are_counted_apart_from_those_of_runs(bound: Any) -> None:
    agent = bound(NamingModel())
    await agent.run(PLAN, session_id="s")
    before = await agent.get_session_metrics("s")
    await agent.set_session_name("s", autogenerate=True)
    await agent.generate_session_name("s")
    agent.agent.model.answers["name"] = "..."
    await agent.set_session_name("s", autogenerate=True)
    after = await agent.get_session_metrics("s")
    assert (after.input_tokens, after.output_tokens) == (before.input_tokens, before.output_tokens)
    assert (before.aux_tokens, after.aux_tokens) == (0, 45)


async def test_the_loop_is_never_blocked_while_names_are_made() -> None:
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - before)

    with SqliteDb() as db:
        agent = Agent(NamingModel("bicycle " * 200_000, seconds=1.5), db=db, auto_name_sessions=True)
        heart = asyncio.create_task(beat())
        for number in range(3):
            await agent.arun(PLAN, session_id=f"s{number}")
            await agent.arun(PLAN, session_id=f"s{number}")
        await asyncio.gather(*(agent.aset_session_name(f"s{number}", autogenerate=True) for number in range(3)))
        assert await agent.aflush(20)
        await agent.aname_sessions(only_unnamed=False, concurrency=2)
        heart.cancel()
    assert longest < 1.2, "a model that thinks for 1.5 s held up nobody"


async def test_a_cancelled_naming_lets_go_of_the_session() -> None:
    with SqliteDb() as db:
        agent = Agent(NamingModel(seconds=30), db=db)
        agent.run(PLAN, session_id="s")
        task = asyncio.create_task(agent.aset_session_name("s", autogenerate=True))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert db.transact(claim_next, Wanted(due="unnamed"), 1).session_ids == ("s",)


async def test_a_session_names_itself_after_its_second_answer_and_once(bound: Any) -> None:
    model = NamingModel("Bicycle Lamp")
    agent = bound(model, auto_name_sessions=True)
    await agent.run("Hi", session_id="s")
    assert await agent.flush(10)
    assert not model.requests
    await agent.run(PLAN, session_id="s")
    assert await agent.flush(10)
    assert await named(agent) == ("Bicycle Lamp", "auto")
    for _ in range(3):
        await agent.run("Go on", session_id="s")
    assert await agent.flush(10)
    assert len(model.requests) == 1


async def test_a_name_set_by_hand_is_never_replaced_by_itself(bound: Any) -> None:
    model = NamingModel()
    agent = bound(model, auto_name_sessions=True)
    await agent.run("Hi", session_id="s")
    await agent.set_session_name("s", session_name="By hand")
    for _ in range(8):
        await agent.run("Go on", session_id="s")
    await agent.flush(10)
    assert (await named(agent), model.requests) == (("By hand", "manual"), [])


async def test_a_fallback_is_tried_again_ever_more_rarely(bound: Any) -> None:
    model = NamingModel(ModelError("down"))
    agent = bound(model, auto_name_sessions=True, background=False)
    asked = []
    for count in range(1, 20):
        await agent.run(PLAN, session_id="s")
        asked += [count] * (len(model.requests) - len(asked))
    assert asked == [2, 4, 8, 16]
    assert (await named(agent))[1] == "fallback"
    model.answers["name"] = "Bicycle Lamp"
    while (await agent.get_session("s")).header.completed_count < 32:
        await agent.run(PLAN, session_id="s")
    assert await named(agent) == ("Bicycle Lamp", "auto")


async def test_the_reply_is_not_delayed_by_the_name(bound: Any) -> None:
    asked, answer = threading.Event(), threading.Event()

    def slow(_: Any) -> str:
        asked.set()
        assert answer.wait(30)
        return "Bicycle Lamp"

    agent = bound(NamingModel(slow), auto_name_sessions=True)
    for _ in range(2):
        run = await agent.run(PLAN, session_id="s")
    assert run.content == "ok"
    assert asked.wait(10), "it is made in the background"
    assert not await agent.flush(0.01)
    assert await named(agent) == ("", None)
    answer.set()
    assert await agent.flush(10)
    assert await named(agent) == ("Bicycle Lamp", "auto")


async def test_without_a_background_the_name_is_there_with_the_reply(bound: Any) -> None:
    before = threading.active_count()
    agent = bound(NamingModel("Bicycle Lamp"), auto_name_sessions=True, background=False)
    await agent.run("Hi", session_id="s")
    told = [event async for event in agent.events(PLAN, session_id="s", stream=True)]
    assert await named(agent) == ("Bicycle Lamp", "auto")
    assert told
    assert not [thread for thread in threading.enumerate()[before:] if thread.name == "recollect-background"]


async def test_what_fails_in_the_background_is_logged_and_not_raised(
    bound: Any, caplog: pytest.LogCaptureFixture
) -> None:
    agent = bound(NamingModel(RuntimeError("no quota")), auto_name_sessions=True)
    with caplog.at_level(logging.WARNING, "recollect"):
        for _ in range(2):
            await agent.run(PLAN, session_id="s")
        assert await agent.flush(10)
    assert "session s gets no generated name" in caplog.text
    assert "no quota" in caplog.text
    assert (await named(agent))[1] == "fallback"


async def test_a_run_that_is_given_back_a_second_time_is_not_followed_up(bound: Any) -> None:
    model = NamingModel()
    agent = bound(model, auto_name_sessions=True, background=False)
    for _ in range(3):
        await agent.run(PLAN, session_id="s", run_id="same")
    assert not model.requests


async def test_closing_waits_for_names(place: str) -> None:
    db = open_db(place)
    with Agent(NamingModel("Bicycle Lamp", seconds=0.3), db=db, auto_name_sessions=True) as one:
        for _ in range(2):
            one.run(PLAN, session_id="s")
    with open_db(place) as db:
        header = db.get_header("s")
        assert header is not None
        assert header.name == "Bicycle Lamp"


PROGRAM = """
import sys, time
sys.path.insert(0, {kit!r})
from agent_kit import NamingModel
from recollect import Agent, open_db
from recollect.store import names

names.CLAIM = 1_000_000
agent = Agent(NamingModel("Bicycle Lamp", seconds={seconds}), db=open_db({place!r}), auto_name_sessions=True)
for _ in range(2):
    agent.run("Plan the launch", session_id="s")
{end}
"""


def _program(place: str, seconds: float, end: str = "") -> float:
    began = time.perf_counter()
    text = PROGRAM.format(kit=str(Path(__file__).parent), place=place, seconds=seconds, end=end)
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)
    return time.perf_counter() - began


def _claims_return(place: str) -> None:
    """Wait for it: where a process died, only the time of its claims tells on Postgres."""
    if place.startswith("postgresql"):
        time.sleep(1)


def test_the_end_of_a_program_waits_for_names(place: str) -> None:
    _program(place, 0.5)
    with open_db(place) as db:
        assert db.get_header("s").name == "Bicycle Lamp"  # type: ignore[union-attr]


def test_the_end_of_a_program_waits_for_a_bounded_time_and_the_next_run_makes_the_name(place: str) -> None:
    assert _program(place, 60, "from recollect import background; background.AT_EXIT = 0.2") < 30
    _claims_return(place)
    with open_db(place) as db:
        assert db.get_header("s").name == ""  # type: ignore[union-attr]
        agent = Agent(NamingModel("Bicycle Lamp"), db=db, auto_name_sessions=True)
        agent.run("Go on", session_id="s")
        assert agent.flush(10)
        assert db.get_header("s").name == "Bicycle Lamp"  # type: ignore[union-attr]


def test_what_a_killed_process_was_naming_is_named_by_the_next_run(place: str) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        _program(place, 60, "time.sleep(0.3); import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    _claims_return(place)
    with open_db(place) as db:
        agent = Agent(NamingModel("Bicycle Lamp"), db=db, auto_name_sessions=True, background=False)
        agent.run("Go on", session_id="s")
        assert db.get_header("s").name == "Bicycle Lamp"  # type: ignore[union-attr]


def test_names_outlive_the_event_loop_they_were_asked_for_in(place: str) -> None:
    with open_db(place) as db:
        agent = Agent(NamingModel("Bicycle Lamp", seconds=0.1), db=db, auto_name_sessions=True)
        for number in range(4):
            asyncio.run(agent.arun(PLAN, session_id=f"s{number % 2}"))
        assert asyncio.run(agent.aflush(10))
        assert [header.name for header in db.iter_sessions()] == ["Bicycle Lamp"] * 2


def test_a_database_that_is_closed_meanwhile_has_the_name(place: str) -> None:
    db = open_db(place)
    agent = Agent(NamingModel("Bicycle Lamp", seconds=0.2), db=db, auto_name_sessions=True)
    for _ in range(2):
        agent.run(PLAN, session_id="s")
    db.close()
    if isinstance(db, SqliteDb):
        assert db._writer is None, "nobody opened it again"
    with open_db(place) as other:
        assert other.get_header("s").name == "Bicycle Lamp"  # type: ignore[union-attr]


async def test_a_session_deleted_while_it_is_named_in_the_background_stays_deleted(
    bound: Any, caplog: pytest.LogCaptureFixture
) -> None:
    deleted = threading.Event()

    def slow(_: Any) -> str:
        assert deleted.wait(10)
        return "Too late"

    agent = bound(NamingModel(slow), auto_name_sessions=True, enable_session_summaries=True)
    for _ in range(2):
        await agent.run(PLAN, session_id="s")
    await agent.delete_session("s")
    deleted.set()
    with caplog.at_level(logging.WARNING, "recollect"):
        assert await agent.flush(10)
    assert await agent.get_session("s") is None
    assert not caplog.records, "that is no failure"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_names_are_made_on_both_sides_of_a_fork(place: str) -> None:
    with open_db(place) as db:
        agent = Agent(NamingModel("Bicycle Lamp", seconds=0.1), db=db, auto_name_sessions=True)
        for _ in range(2):
            agent.run(PLAN, session_id="parents")
        child = os.fork()
        if child == 0:
            for _ in range(2):
                agent.run(PLAN, session_id="childs")
            os._exit(0 if agent.flush(10) and agent.get_session_name("childs") == "Bicycle Lamp" else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert agent.flush(10)
        assert {header.name for header in db.iter_sessions()} == {"Bicycle Lamp"}
        assert all(header.aux_tokens == 15 for header in db.iter_sessions()), "each was named once"
