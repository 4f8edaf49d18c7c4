"""A run: what is stored when, what the model is shown, what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest
from agent_kit import ScriptedModel, calls

from recollect import (
    Agent,
    EchoModel,
    File,
    Image,
    InvalidArgument,
    Message,
    ModelError,
    RunEvent,
    RunInProgress,
    RunStatus,
    SessionIdMissing,
    SessionNotFound,
    SqliteDb,
    StepLimit,
    UserRequired,
    doctor,
)
from recollect.port import Delta, Reply
from recollect.store.sessions import get_run

pytestmark = pytest.mark.anyio


async def test_what_a_run_returns_is_what_is_stored(bound: Any) -> None:
    agent = bound(ScriptedModel("Hello, Ada."), name="Travel Desk", instructions="Be brief.", metadata={"app": "t"})
    run = await agent.run("Hi", session_id="s", user_id="ada", metadata={"ticket": 7})
    assert run == await agent.get_run_output(run.run_id, "s")
    assert (run.content, run.input, run.status, run.agent_id) == ("Hello, Ada.", "Hi", "completed", "travel-desk")
    assert run.metadata == {"app": "t", "ticket": 7}
    assert [message.role for message in run.messages] == ["system", "user", "assistant"]
    assert (run.metrics.total_tokens, run.metrics.steps) == (15, 1)
    assert run.created_at is not None
    assert run.finished_at is not None
    assert run.finished_at >= run.created_at


async def test_a_message_keeps_the_id_its_caller_gave_it(bound: Any) -> None:
    agent = bound(ScriptedModel("Hello"))
    run = await agent.run(Message("user", "Hi", id="mine"), session_id="s")
    ids = ["mine", f"{run.run_id}.1"]
    assert [message.id for message in run.messages] == ids
    assert [message.id for message in await agent.get_session_messages("s")] == ids


async def test_the_users_message_is_stored_before_the_model_is_asked(bound: Any) -> None:
    seen: list[Any] = []

    class Looking(ScriptedModel):
        async def ask(self, request: Any, world: Any) -> Any:
            run = agent.agent.get_last_run_output("s")
            seen.append((run.status, run.input))
            async for item in super().ask(request, world):
                yield item

    agent = bound(Looking("Yes."))
    await agent.run("Am I stored?", session_id="s")
    assert seen == [(RunStatus.running, "Am I stored?")]


async def test_the_model_is_shown_the_past_of_its_session_only(bound: Any) -> None:
    model = ScriptedModel("one", "two", "three")
    agent = bound(model, instructions=["Be brief.", "Be kind."])
    await agent.run("first", session_id="s")
    await agent.run("elsewhere", session_id="t")
    run = await agent.run("second", session_id="s")
    prompt = ("system", "Be brief.\nBe kind.")
    assert model.seen() == [prompt, ("user", "first"), ("assistant", "one"), ("user", "second")]
    assert (run.metrics.history_runs, run.metrics.history_cut) == (1, False)


async def test_limits_of_the_past_hold_and_the_run_says_so(bound: Any) -> None:
    model = ScriptedModel(*(f"answer {n}" for n in range(6)))
    agent = bound(model, num_history_runs=2)
    for n in range(5):
        run = await agent.run(f"question {n}", session_id="s")
    assert [text for _, text in model.seen()] == ["question 2", "answer 2", "question 3", "answer 3", "question 4"]
    assert (run.metrics.history_runs, run.metrics.history_cut) == (2, True)
    short = bound(model, num_history_messages=1, db=agent.agent.db)
    await short.run("last", session_id="s")
    assert [text for _, text in model.seen()] == ["answer 4", "last"]


async def test_without_history_the_model_sees_only_the_question(bound: Any) -> None:
    model = ScriptedModel("one", "two")
    agent = bound(model, add_history_to_context=False)
    await agent.run("first", session_id="s")
    await agent.run("second", session_id="s")
    assert model.seen() == [("user", "second")]


async def test_a_run_without_a_session_begins_a_new_one(bound: Any) -> None:
    agent = bound(EchoModel())
    one, other = await agent.run("Hi"), await agent.run("Hi")
    assert one.session_id != other.session_id
    assert len(await agent.get_sessions()) == 2


async def test_an_agents_own_session_and_user_are_used_where_none_is_named(bound: Any) -> None:
    agent = bound(EchoModel(), session_id="mine", user_id="ada")
    run = await agent.run("Hi")
    assert (run.session_id, run.user_id) == ("mine", "ada")
    assert [message.text for message in await agent.get_chat_history()] == ["Hi", "You said: Hi"]


async def test_input_may_be_a_message_or_several(bound: Any) -> None:
    model = ScriptedModel("ok", "ok", "ok")
    agent = bound(model)
    await agent.run(Message("user", "one", name="ada"), session_id="s")
    examples = [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}, Message("user", "3+3")]
    run = await agent.run(examples, session_id="s")
    assert [message.text for message in run.input] == ["2+2", "4", "3+3"]
    assert (await agent.get_run_output(run.run_id, "s")).input == run.input
    assert [text for _, text in model.seen()] == ["one", "ok", "2+2", "4", "3+3"]


async def test_images_and_files_go_with_the_question_and_come_back(bound: Any) -> None:
    agent = bound(ScriptedModel("A dot."))
    run = await agent.run(
        "What is this?",
        images=[Image(content=b"\x89PNG", detail="low"), Image(url="https://example.com/a.png")],
        files=[File(content=b"%PDF", filename="a.pdf")],
        session_id="s",
    )
    [question, _] = await agent.get_session_messages("s")
    assert question.text == "What is this?"
    assert [image.url for image in question.images] == ["data:image/png;base64,iVBORw==", "https://example.com/a.png"]
    assert question.images[0].detail == "low"
    assert [(file.filename, file.url) for file in question.files] == [("a.pdf", "data:application/pdf;base64,JVBERg==")]
    assert run.messages[0] == question


async def test_a_stream_gives_the_answer_piece_by_piece_and_then_the_run(bound: Any) -> None:
    agent = bound(ScriptedModel([Delta("Hel"), Delta("lo"), "Hello"], [Delta(reasoning="hm"), Delta("Bye"), "Bye"]))
    assert [event.content async for event in agent.events("Hi", session_id="s", stream=True)] == ["Hel", "lo"]
    events = [event async for event in agent.events("Hi", session_id="s", stream=True, stream_events=True)]
    assert [event.event for event in events] == [
        RunEvent.run_started,
        RunEvent.reasoning_content,
        RunEvent.run_content,
        RunEvent.run_completed,
    ]
    assert events[-1].run == await agent.get_last_run_output("s")
    assert "".join(event.content or "" for event in events) == "Bye"


async def test_a_stream_is_whole_even_where_the_model_gives_no_pieces(bound: Any) -> None:
    agent = bound(ScriptedModel("All at once"))
    assert [event.content async for event in agent.events("Hi", stream=True)] == ["All at once"]


async def test_a_stream_that_was_not_begun_writes_nothing(bound: Any) -> None:
    agent = bound(EchoModel())
    stream = agent.agent.arun("Hi", session_id="s", stream=True) if agent.waits else agent.agent.run("Hi", stream=True)
    await stream.aclose() if agent.waits else stream.close()
    assert await agent.get_session("s") is None


async def test_a_failing_model_leaves_the_run_and_raises(bound: Any) -> None:
    agent = bound(ScriptedModel([Delta("I was say"), ModelError("quota", status=429)], ValueError("odd")))
    with pytest.raises(ModelError, match="quota") as raised:
        await agent.run("Hi", session_id="s")
    assert raised.value.run == await agent.get_last_run_output("s")
    assert raised.value.run.status is RunStatus.error
    assert raised.value.run.error == "quota"
    assert [message.text for message in raised.value.run.messages] == ["Hi", "I was say"]
    with pytest.raises(ModelError, match="ValueError: odd"):
        await agent.run("Hi", session_id="s")


async def test_a_failing_stream_tells_of_it_and_then_raises(bound: Any) -> None:
    agent = bound(ScriptedModel(ModelError("quota")))
    told: list[Any] = []

    async def listen() -> None:
        async for event in agent.events("Hi", session_id="s", stream_events=True):
            told.append(event)  # noqa: PERF401 - what was told before the failure is kept

    with pytest.raises(ModelError):
        await listen()
    assert [event.event for event in told] == [RunEvent.run_started, RunEvent.run_error]
    assert told[-1].run is not None
    assert told[-1].run.status is RunStatus.error


async def test_what_failed_is_not_shown_to_the_model_but_to_people(bound: Any) -> None:
    model = ScriptedModel(ModelError("down"), "fine")
    agent = bound(model)
    with pytest.raises(ModelError):
        await agent.run("lost?", session_id="s")
    await agent.run("again", session_id="s")
    assert model.seen() == [("user", "again")]
    assert [message.text for message in await agent.get_chat_history("s")] == ["lost?", "again", "fine"]


async def test_a_model_that_calls_tools_forever_is_stopped(bound: Any) -> None:
    def again() -> str:
        """Do it again."""
        return "done"

    agent = bound(ScriptedModel(*[calls(("again", "{}"))] * 3), tools=[again], max_steps=3)
    with pytest.raises(StepLimit, match="max_steps=3") as raised:
        await agent.run("Go", session_id="s")
    assert raised.value.run is not None
    assert len(raised.value.run.tools) == 3
    assert raised.value.run == await agent.get_last_run_output("s")


async def test_trying_again_with_a_run_id_does_not_run_twice(bound: Any) -> None:
    model = ScriptedModel("once")
    agent = bound(model)
    first = await agent.run("Hi", run_id="order-17", user_id="ada")
    again = await agent.run("Hi", run_id="order-17", user_id="ada")
    assert (again, len(model.requests)) == (first, 1)
    texts = [event.content async for event in agent.events("Hi", run_id="order-17", user_id="ada", stream=True)]
    assert texts == ["once"]


async def test_a_run_id_that_is_taken_by_a_run_under_way_is_refused(bound: Any) -> None:
    agent = bound(ScriptedModel())
    agent.agent.db.begin_run("s", [Message("user", "Hi")], run_id="busy")
    before = await agent.get_session("s")
    with pytest.raises(RunInProgress, match="busy"):
        await agent.run("Hi", session_id="s", run_id="busy")
    assert (await agent.get_session("s")).to_dict() == before.to_dict()


async def test_a_run_that_failed_is_tried_again_as_the_next_attempt_of_the_same_run(bound: Any) -> None:
    def look() -> str:
        """Look."""
        return "seen"

    model = ScriptedModel("first", calls(("look", "{}")), ModelError("down"), ModelError("still down"), "fine")
    agent = bound(model, tools=[look])
    await agent.run("Before", session_id="s")
    for attempt in (1, 2):
        with pytest.raises(ModelError) as raised:
            await agent.run("Look", session_id="s", run_id="r")
        assert raised.value.run is not None
        assert raised.value.run.attempt == attempt
    run = await agent.run("Look", session_id="s", run_id="r")
    assert (run.content, run.attempt, run.status) == ("fine", 3, "completed")
    assert model.seen() == [("user", "Before"), ("assistant", "first"), ("user", "Look")]
    session = await agent.get_session("s")
    assert [(each.run_id, each.attempt) for each in session.runs][1:] == [("r", 3)]
    assert session.runs[1] == run == await agent.get_run_output("r", "s")
    assert [message.text for message in session.get_chat_history()] == ["Before", "first", "Look", "fine"]
    assert (session.header.run_count, session.header.completed_count, session.header.message_count) == (2, 2, 4)
    assert all(finding.status != "problem" for finding in doctor.database(agent.agent.db))
    assert await agent.run("Look", session_id="s", run_id="r") == run


class Meddled(SqliteDb):
    """A database in which somebody does something right before or after a run is looked up."""

    before: Callable[[], object] | None = None
    after: Callable[[], object] | None = None

    def transact(self, operation: Any, /, *args: Any, **kwargs: Any) -> Any:
        self._meddle(operation, "before")
        value = super().transact(operation, *args, **kwargs)
        self._meddle(operation, "after")
        return value

    async def atransact(self, operation: Any, /, *args: Any, **kwargs: Any) -> Any:
        self._meddle(operation, "before")
        value = await super().atransact(operation, *args, **kwargs)
        self._meddle(operation, "after")
        return value

    def _meddle(self, operation: Any, when: str) -> None:
        meddle = getattr(self, when)
        if operation is get_run and meddle is not None:
            setattr(self, when, None)
            meddle()


@pytest.fixture
def meddled(tmp_path: Path) -> Iterator[Meddled]:
    with Meddled(tmp_path / "meddled.db", durability="normal") as db:
        yield db


async def fails(agent: Any) -> None:
    with pytest.raises(ModelError):
        await agent.run("Hi", session_id="s", run_id="r")


async def test_a_run_that_failed_and_is_completed_by_somebody_faster_is_given_as_it_is(
    bound: Any, meddled: Meddled
) -> None:
    agent = bound(ScriptedModel(ModelError("down"), "slower"), db=meddled)
    await fails(agent)
    meddled.after = lambda: Agent(EchoModel(reply="faster"), db=meddled).run("Hi", session_id="s", run_id="r")
    run = await agent.run("Hi", session_id="s", run_id="r")
    assert (run.status, run.content) == (RunStatus.completed, "faster")


async def test_a_run_whose_session_is_deleted_when_it_is_tried_again_is_begun_anew(
    bound: Any, meddled: Meddled
) -> None:
    agent = bound(ScriptedModel(ModelError("down"), "anew"), db=meddled)
    await fails(agent)
    meddled.before = lambda: meddled.delete_session("s")
    run = await agent.run("Hi", session_id="s", run_id="r")
    assert (run.status, run.content, run.attempt) == (RunStatus.completed, "anew", 1)


async def test_a_run_that_ends_early_while_it_is_to_be_continued_is_continued(bound: Any, meddled: Meddled) -> None:
    agent = bound(ScriptedModel("continued"), db=meddled)
    held = meddled.begin_run("s", [Message("user", "Hi")], run_id="r")
    meddled.before = lambda: meddled.finish_run(held, status=RunStatus.error, error="down")
    run = await agent.continue_run("r", session_id="s")
    assert (run.status, run.content) == (RunStatus.completed, "continued")


async def test_nobody_tries_again_in_anothers_session(bound: Any) -> None:
    agent = bound(ScriptedModel(ModelError("down")))
    with pytest.raises(ModelError):
        await agent.run("Hi", session_id="s", user_id="bob", run_id="r")
    before = await agent.get_session("s")
    with pytest.raises(SessionNotFound):
        await agent.run("Hi", session_id="s", user_id="alice", run_id="r")
    with pytest.raises(UserRequired):
        await agent.run("Hi", session_id="s", run_id="r")
    with pytest.raises(SessionNotFound):
        agent.agent.db.begin_run("s", [Message("user", "Hi")], user_id="alice", run_id="r", again=True)
    assert (await agent.get_session("s")).to_dict() == before.to_dict()


async def test_a_session_belongs_to_its_user(bound: Any) -> None:
    agent = bound(EchoModel())
    await agent.run("Hi", session_id="s", user_id="bob")
    await agent.run("Hi", session_id="unowned")
    before = await agent.get_sessions()
    with pytest.raises(UserRequired):
        await agent.run("Hi", session_id="s")
    for session_id in ("s", "unowned"):
        with pytest.raises(SessionNotFound):
            await agent.run("Hi", session_id=session_id, user_id="alice")
    assert await agent.get_sessions() == before


async def test_an_answer_is_read_as_the_type_that_was_asked_for(bound: Any) -> None:
    class Trip(pydantic.BaseModel):
        city: str
        days: int

    class Flight(msgspec.Struct):
        number: str

    model = ScriptedModel('{"city": "Rome", "days": 3}', '{"number": "RC1"}', "not JSON at all")
    run = await bound(model, output_schema=Trip).run("Plan", session_id="s")
    assert run.content == Trip(city="Rome", days=3)
    assert model.requests[0].output_schema is not None
    assert model.requests[0].output_schema["required"] == ["city", "days"]
    agent = bound(model, output_schema=Flight)
    assert (await agent.run("Book", session_id="s")).content == Flight("RC1")
    assert (await agent.run("Book", session_id="s")).content == "not JSON at all"
    stored = await agent.get_last_run_output("s")
    assert stored.content == "not JSON at all"


async def test_state_is_stored_key_by_key_as_tools_change_it(bound: Any) -> None:
    def learn(key: str, session_state: dict[str, Any]) -> str:
        """Learn something."""
        session_state[key] = {"known": True}
        session_state.pop("gone", None)
        return "learnt"

    agent = bound(ScriptedModel(calls(("learn", '{"key": "a"}')), "done", "ok"), tools=[learn], session_state={"n": 1})
    run = await agent.run("Learn", session_id="s", session_state={"gone": "soon", "none": None})
    state = {"n": 1, "none": None, "a": {"known": True}}
    assert run.session_state == state
    assert await agent.get_session_state("s") == state
    assert await agent.update_session_state({"n": 2}, "s") == state | {"n": 2}
    assert (await agent.run("Next", session_id="s")).session_state == state | {"n": 2}


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    "bad", [float("nan"), object(), "\ud800", {1: 2}, {"a": {1, 2}}, b"x", ENDLESS], ids=lambda bad: type(bad).__name__
)
async def test_state_that_cannot_be_stored_does_not_harm_the_run(bound: Any, bad: Any) -> None:
    def spoil(session_state: dict[str, Any]) -> str:
        """Spoil the state."""
        session_state["n"] = session_state["new"] = bad
        session_state["fine"] = 1
        return "spoilt"

    agent = bound(ScriptedModel(calls(("spoil", "{}")), "done"), tools=[spoil], session_state={"n": 1})
    run = await agent.run("Go", session_id="s")
    assert run.status is RunStatus.completed
    assert run.session_state == {"n": 1, "fine": 1} == await agent.get_session_state("s")


async def test_instructions_may_be_made_for_the_run(bound: Any) -> None:
    def instructions(run_context: Any) -> str:
        return f"Speak to {run_context.user_id}, who likes {run_context.session_state['likes']}."

    model = ScriptedModel("one", "two")
    agent = bound(model, instructions=instructions, session_state={"likes": "tea"})
    await agent.run("Hi", session_id="s", user_id="ada")
    await agent.update_session_state({"likes": "coffee"}, "s")
    await agent.run("Hi", session_id="s", user_id="ada")
    assert model.seen(0)[0] == ("system", "Speak to ada, who likes tea.")
    assert model.seen(1)[0] == ("system", "Speak to ada, who likes coffee.")
    session = await agent.get_session("s")
    assert [run.prompt.text for run in session.runs] == [
        "Speak to ada, who likes tea.",
        "Speak to ada, who likes coffee.",
    ]


@pytest.mark.parametrize(
    ("input", "options", "problem"),
    [
        ([], {}, "input"),
        (7, {}, "input"),
        ([7], {}, "input"),
        ([Message("system", "x")], {}, "input"),
        ("\ud800", {}, "message"),
        ("Hi", {"session_id": ""}, "session_id"),
        ("Hi", {"session_id": "x" * 256}, "session_id"),
        ("Hi", {"session_id": 7}, "session_id"),
        ("Hi", {"user_id": "a\nb"}, "user_id"),
        ("Hi", {"run_id": "\x00"}, "run_id"),
        ("Hi", {"metadata": {"a": float("nan")}}, "metadata"),
        ("Hi", {"metadata": {1: 2}}, "metadata"),
        ("Hi", {"session_state": {"a": {1, 2}}}, "session_state"),
        ("Hi", {"images": [Image()]}, "images"),
        ("Hi", {"images": ["a.png"]}, "images"),
        ("Hi", {"files": 7}, "files"),
        ("Hi", {"images": [Image(filepath="/nowhere/at/all.png")]}, "images"),
    ],
)
async def test_bad_input_is_refused_by_name_and_nothing_is_written(
    bound: Any, input: Any, options: dict[str, Any], problem: str
) -> None:
    agent = bound(EchoModel())
    with pytest.raises(InvalidArgument, match=problem):
        await agent.run(input, **options)
    assert len(await agent.get_sessions()) == 0


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"id": "x" * 256}, "id"),
        ({"max_steps": 0}, "max_steps"),
        ({"history_tokens": -1}, "history_tokens"),
        ({"history_tokens": None}, "history_tokens"),
        ({"num_history_runs": True}, "num_history_runs"),
        ({"session_state": {"a": object()}}, "session_state"),
        ({"metadata": []}, "metadata"),
        ({"output_schema": 7}, "output_schema"),
        ({"model": "gpt"}, "model"),
        ({"model": 7}, "model"),
        ({"instructions": 7}, "instructions"),
        ({"instructions": ["Be", 7]}, "instructions"),
        ({"instructions": "\ud800"}, "instructions"),
        ({"role": 7}, "role"),
        ({"description": 7}, "description"),
        ({"tools": 7}, "tools"),
        ({"db": "agent.db"}, "db"),
        ({"session_namer": 7}, "session_namer"),
        ({"session_summary_manager": 7}, "session_summary_manager"),
        ({"add_history_to_context": "no"}, "add_history_to_context"),
    ],
)
def test_a_bad_configuration_is_refused_by_name(options: dict[str, Any], argument: str) -> None:
    with pytest.raises(InvalidArgument, match=argument):
        Agent(**({"model": EchoModel()} | options))


class Unable:
    """Fails before it has anything to iterate over."""

    id, provider = "unable", "test"

    def ask(self, request: Any, world: Any) -> Any:
        del request, world
        msg = "no key"
        raise LookupError(msg)


@pytest.mark.parametrize("piece", [None, 7, Reply("text")], ids=str)  # type: ignore[arg-type]
async def test_an_adapter_that_does_not_do_as_adapters_do_has_failed(bound: Any, piece: Any) -> None:
    agent = bound(Unable() if piece is None else ScriptedModel([piece]))
    with pytest.raises(ModelError) as failed:
        await agent.run("Hi", session_id="s")
    assert failed.value.run == await agent.get_last_run_output("s")
    assert (await agent.get_last_run_output("s")).status is RunStatus.error


async def test_instructions_that_a_function_gives_are_text_or_lines(bound: Any) -> None:
    model = ScriptedModel("One.")
    await bound(model, instructions=lambda: ["Be brief.", "Be kind."]).run("Hi", session_id="s")
    assert model.seen()[0] == ("system", "Be brief.\nBe kind.")
    with pytest.raises(InvalidArgument, match="instructions"):
        await bound(model, instructions=lambda: 7).run("Hi", session_id="t")
    assert len(await bound(model).get_sessions()) == 1


def test_an_agent_does_not_change_but_may_be_replaced() -> None:
    agent = Agent(EchoModel(), name="One")
    with pytest.raises(AttributeError, match="replace"):
        agent.name = "Two"
    other = agent.replace(name="Two", instructions="Be brief.")
    assert (other.id, agent.id, other.db is agent.db) == ("two", "one", True)


async def test_a_method_that_needs_a_session_says_how_to_name_one(bound: Any) -> None:
    agent = bound(EchoModel())
    with pytest.raises(SessionIdMissing, match=r"conversation\("):
        await agent.get_chat_history()


async def test_everything_works_without_a_database(bound: Any) -> None:
    agent = bound(EchoModel(), db=None)
    run = await agent.run("Hi", session_id="s")
    assert (await agent.get_session("s")).runs[0] == run
