"""What type checkers infer of the two faces: read by mypy and pyright, never run."""

from collections.abc import AsyncIterator, Coroutine, Iterator
from datetime import timedelta
from typing import Any, assert_type

from recollect import (
    Agent,
    AgentSession,
    AsyncRunStream,
    AsyncSessionWatch,
    BatchReport,
    EchoModel,
    Message,
    RunOutput,
    RunStream,
    SearchHit,
    SearchPage,
    SessionChange,
    SessionHeader,
    SessionNamer,
    SessionPage,
    SessionSummary,
    SessionSummaryManager,
    SessionWatch,
    SqliteDb,
    TeamSession,
    title_from_first_message,
)

agent = Agent(model=EchoModel(), db=SqliteDb())

assert_type(agent.run("Hi"), RunOutput)
assert_type(agent.run("Hi", session_id="s", user_id="u"), RunOutput)
assert_type(agent.run("Hi", stream=True), RunStream)
assert_type(agent.run("Hi", stream_events=True), RunStream)
_ = assert_type(agent.arun("Hi"), Coroutine[Any, Any, RunOutput])
assert_type(agent.arun("Hi", stream=True), AsyncRunStream)
assert_type(agent.arun("Hi", stream=True, stream_events=True), AsyncRunStream)

assert_type(agent.regenerate("r", session_id="s"), RunOutput)
assert_type(agent.regenerate("r", stream=True), RunStream)
_ = assert_type(agent.aregenerate("r"), Coroutine[Any, Any, RunOutput])
assert_type(agent.aregenerate("r", stream_events=True), AsyncRunStream)
assert_type(agent.edit_message("r", "Hi", fork=True), RunOutput)
assert_type(agent.edit_message("r", "Hi", stream_events=True), RunStream)
_ = assert_type(agent.aedit_message("r", "Hi"), Coroutine[Any, Any, RunOutput])
assert_type(agent.aedit_message("r", "Hi", stream=True), AsyncRunStream)

assert_type(agent.get_session("s"), AgentSession | TeamSession | None)
assert_type(agent.get_session_messages("s", last_n_runs=3), list[Message])
assert_type(agent.get_chat_history(session_id="s"), list[Message])
assert_type(agent.get_sessions(user_id="u"), SessionPage)
assert_type(agent.search("hi", user_id="u"), SearchPage)
assert_type(agent.search("hi")[0], SearchHit)
assert_type(agent.iter_sessions(), Iterator[SessionHeader])
assert_type(agent.aiter_sessions(), AsyncIterator[SessionHeader])
assert_type(agent.get_session_name("s"), str)
assert_type(agent.set_session_name("s", session_name="Name"), AgentSession | TeamSession)
assert_type(agent.set_session_name("s", autogenerate=True, fallback=None), AgentSession | TeamSession)
assert_type(agent.generate_session_name("s", fallback=title_from_first_message), str)
assert_type(agent.name_sessions(limit=3, on_progress=lambda progress: progress.stop()), BatchReport)
assert_type(agent.get_session_summary("s"), SessionSummary | None)
assert_type(agent.create_session_summary("s"), SessionSummary | None)
assert_type(agent.flush(timeout=1.0), bool)
assert_type(agent.get_session_state("s"), dict[str, Any])
assert_type(agent.update_session_metadata({"k": 1}, "s"), dict[str, Any])
assert_type(agent.tag_session("s", ["red"], remove=["blue"]), tuple[str, ...])
assert_type(agent.archive_session("s"), SessionHeader)
assert_type(agent.set_session_expiry("s", timedelta(days=1)), SessionHeader)
assert_type(agent.fork_session("s", at_run="r"), AgentSession | TeamSession)
assert_type(agent.delete_sessions(older_than=timedelta(days=90)), int)
assert_type(agent.export_user("u"), Iterator[dict[str, Any]])

namer = SessionNamer(model="openai:gpt-5-nano", policy=lambda name, header: f"{header.user_id}: {name}")
named = agent.replace(session_namer=namer, session_summary_manager=SessionSummaryManager(last_n_runs=3))
assert_type(named, Agent)

chat = agent.conversation()
assert_type(chat.run("Hi"), RunOutput)
assert_type(chat.run("Hi", stream=True), RunStream)
assert_type(chat.name, str)
assert_type(chat.search("hi", limit=5), SearchPage)


async def awaited(db: SqliteDb) -> None:
    assert_type(await agent.arun("Hi"), RunOutput)
    assert_type(await agent.aget_session("s"), AgentSession | TeamSession | None)
    assert_type(await agent.aget_chat_history("s"), list[Message])
    assert_type(await agent.aget_session_name("s"), str)
    assert_type(await agent.aname_sessions(), BatchReport)
    assert_type(await agent.aset_session_name("s", autogenerate=True), AgentSession | TeamSession)
    assert_type(await db.aget_header("s", user_id="u"), SessionHeader | None)
    assert_type(db.get_header("s"), SessionHeader | None)
    assert_type(await db.afork_session("s", before_run="r"), SessionHeader)
    assert_type(await db.adelete_run("r", "s"), None)
    assert_type(db.aexport_user("u"), AsyncIterator[dict[str, Any]])
    assert_type(await db.apurge_sessions(limit=10), int)
    assert_type(db.get_sessions(user_id="u", limit=10), SessionPage)
    with db.watch_sessions("u") as changes:
        assert_type(changes, SessionWatch)
        assert_type(next(changes), SessionChange)
    async with agent.awatch_sessions(session_id="s") as awaited_changes:
        assert_type(awaited_changes, AsyncSessionWatch)
        assert_type(await anext(awaited_changes), SessionChange)
    assert_type(await db.asearch("hi", session_id="s", limit=10), SearchPage)
    assert_type(await chat.asearch("hi"), SearchPage)
    async with agent.arun("Hi", stream=True) as stream:
        async for event in stream:
            assert_type(event.content, str | None)
