"""Run by an interpreter that has Agno: use the real package on a database of its own making.

``agno_writer.py write|more|migrate OUT ADDRESS...`` writes to OUT, as JSON, what Agno's own API then says of the
sessions at each address. The model is OpenAI's, at the address in the environment, where a test's server answers.
"""

import json
import sys
from pathlib import Path
from typing import Any

from agno.agent import Agent
from agno.media import File, Image
from agno.models.openai import OpenAIChat, OpenAIResponses
from agno.session import SessionSummaryManager
from agno.team import Team

try:
    from agno.run import RunContext

    def note(city: str, run_context: RunContext) -> str:
        """Note a city."""
        return noted(city, run_context.session_state)

except ImportError:  # as it was in the first releases

    def note(city: str, session_state: dict[str, Any]) -> str:
        """Note a city."""
        return noted(city, session_state)


PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(64))


def database(address: str) -> Any:
    if "://" in address:
        import psycopg
        from agno.db.postgres import PostgresDb
        from sqlalchemy import create_engine

        # The server is reached through a socket, whose path SQLAlchemy does not find in an address of libpq's.
        engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(address))
        return PostgresDb(db_engine=engine)
    from agno.db.sqlite import SqliteDb

    return SqliteDb(db_file=address)


def noted(city: str, state: Any) -> str:
    state["cities"] = [*state.get("cities", []), city]
    return f"noted {city}"


def weather(city: str) -> str:
    """How the weather is.

    Args:
        city (str): where
    """
    return f"sunny in {city} \u2600"


def broken(what: str) -> str:
    """Fail.

    Args:
        what (str): anything
    """
    raise ValueError(f"no {what} today")


def chat(db: Any, **options: Any) -> Agent:
    model = OpenAIChat(id="gpt-4o-mini", max_retries=0)
    return Agent(**{"id": "chat", "name": "Chat", "model": model, "db": db, "telemetry": False} | options)


def talk(db: Any) -> None:
    """Several turns with tools, of which the later ones repeat the earlier as history; named, summarised."""
    agent = chat(
        db,
        tools=[note, broken],
        instructions="Be brief.",
        add_history_to_context=True,
        session_state={"plan": "pro", "cities": []},
        metadata={"ticket": "T-42"},
        enable_session_summaries=True,
        session_summary_manager=SessionSummaryManager(model=OpenAIChat(id="gpt-4o-mini", max_retries=0)),
    )
    for said in ("Hello", "note: Porto", "fail: luck", "Thank you, \U0001f600"):
        agent.run(said, session_id="talk", user_id="ada")
    agent.set_session_name(session_id="talk", session_name="Weather in Porto")


def look(db: Any) -> None:
    """Pictures and files, by address and by content."""
    agent = chat(db, id="look")
    images = [Image(url="https://example.org/cat.png"), Image(content=PICTURE, mime_type="image/png")]
    agent.run("What is this?", images=images, session_id="media", user_id="bob")
    file = File(content=b"%PDF-1.4 hello", filename="a.pdf", mime_type="application/pdf")
    agent.run("And this?", files=[file], session_id="media", user_id="bob")


def think(db: Any) -> None:
    """The Responses API: thoughts, and calls whose ids are of two kinds."""
    model = OpenAIResponses(id="gpt-5-mini", store=False, max_retries=0)
    agent = chat(db, id="think", model=model, tools=[weather], add_history_to_context=True)
    attempt(agent, "weather: Lagos", session_id="thoughts")
    chat(db, id="think").run("think: of a number", session_id="thoughts")


def attempt(agent: Agent, *args: Any, **options: Any) -> None:
    """A run that may fail; the versions differ in whether they raise."""
    try:
        agent.run(*args, **options)
    except Exception as error:  # noqa: BLE001 - whatever it is, what was stored is what is looked at
        sys.stderr.write(f"failed: {error!r}\n")


def end_early(db: Any) -> None:
    """A run that fails, one that is cancelled, and one after them."""

    def stop() -> str:
        """Stop."""
        agent.cancel_run("cancelled-run")
        return "stopping"

    agent = chat(db, id="early", tools=[stop])
    agent.run("Before", session_id="early")
    attempt(agent, "error 500", session_id="early")
    attempt(agent, "stop: now", session_id="early", run_id="cancelled-run")
    agent.run("After", session_id="early")


def team_up(db: Any) -> None:
    """A team whose leader asks its members."""
    members = [chat(None, id=name, name=name.title(), role=f"{name}s things") for name in ("finder", "writer")]
    team = Team(
        id="desk",
        name="Desk",
        members=members,
        model=OpenAIChat(id="gpt-4o-mini", max_retries=0),
        db=db,
        telemetry=False,
        add_history_to_context=True,
    )
    for said in ("delegate: finder", "delegate: writer", "Thanks"):
        team.run(said, session_id="team", user_id="ada", session_state={"board": [1, None]})


def flow(db: Any) -> None:
    """A workflow."""
    from agno.workflow import Step, Workflow

    agent = chat(None, id="step")
    Workflow(name="Flow", db=db, steps=[Step(name="one", agent=agent)], telemetry=False).run("Go", session_id="flow")


def write(db: Any) -> None:
    for hold in (talk, look, think, end_early, team_up, flow):
        hold(db)


def more(db: Any) -> None:
    """One more turn of a session that is there, and a new one."""
    agent = chat(db, instructions="Be brief.", add_history_to_context=True)
    agent.run("One more thing", session_id="talk", user_id="ada")
    chat(db, id="look").run("Something new", session_id="later", user_id="eve")


def migrate(db: Any) -> None:
    """Bring a database of release 2 to release 3 as Agno does it, and go on in it."""
    import asyncio

    from agno.db.migrations.manager import MigrationManager

    asyncio.run(MigrationManager(db).up())
    more(db)


def told(db: Any) -> dict[str, Any]:
    """What Agno says of each session."""
    from agno.db.base import SessionType

    every = [
        session
        for kind in (SessionType.AGENT, SessionType.TEAM)
        for session in db.get_sessions(session_type=kind, limit=100)
    ]
    return {session.session_id: of_session(session) for session in every}


def of_session(session: Any) -> dict[str, Any]:
    data = session.session_data or {}
    has_filters = hasattr(session, "get_messages")  # the first releases said it in other words
    return {
        "name": data.get("session_name") or "",
        "state": data.get("session_state") or {},
        "user_id": session.user_id,
        "metadata": session.metadata or {},
        "created_at": session.created_at,
        "updated_at": session.updated_at,
        "summary": session.summary and {"summary": session.summary.summary, "topics": session.summary.topics},
        "messages": [of_message(message) for message in session.get_messages()] if has_filters else None,
        "chat": [of_message(message) for message in session.get_chat_history()] if has_filters else None,
        "runs": [of_run(run) for run in session.runs],
    }


def of_run(run: Any) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "status": str(getattr(run.status, "value", run.status)).lower(),
        "parent_run_id": run.parent_run_id,
        "agent_id": getattr(run, "agent_id", None),
        "team_id": getattr(run, "team_id", None),
        "name": getattr(run, "agent_name", None) or getattr(run, "team_name", None),
        "content": run.content,
        "model": run.model,
        "input_tokens": run.metrics.input_tokens if run.metrics else 0,
        "created_at": run.created_at,
        "messages": [of_message(message) for message in run.messages or [] if not message.from_history],
    }


def of_message(message: Any) -> dict[str, Any]:
    return {
        "role": message.role,
        "text": message.content or "",
        "calls": [
            [call["id"], call["function"]["name"], call["function"]["arguments"]] for call in message.tool_calls or ()
        ],
        "answers": message.tool_call_id,
        "failed": bool(message.tool_call_error),
        "reasoning": message.reasoning_content,
        "images": len(message.images or ()),
        "files": len(message.files or ()),
    }


def main(do: str, out: str, *addresses: str) -> None:
    for address in addresses:
        {"write": write, "more": more, "migrate": migrate}[do](database(address))
    Path(out).write_text(json.dumps([told(database(address)) for address in addresses]), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
