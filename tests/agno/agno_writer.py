"""Run by an interpreter that has Agno: hold conversations with the real package, in a database of its own making.

``agno_writer.py ADDRESS OUT`` writes to OUT, as JSON, what Agno's own API then says of each session. The model is
OpenAI's, at the address in the environment, where a test's server answers.
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
        from agno.db.postgres import PostgresDb

        return PostgresDb(db_url=address.replace("postgresql://", "postgresql+psycopg://"))
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
    name = getattr(agent, "set_session_name")
    name(session_id="talk", session_name="Weather in Porto")


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
        print(f"failed: {error!r}", file=sys.stderr)


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
    from agno.workflow import Step, Workflow

    agent = chat(None, id="step")
    Workflow(name="Flow", db=db, steps=[Step(name="one", agent=agent)], telemetry=False).run("Go", session_id="flow")


SESSIONS = {"talk": "chat", "media": "look", "thoughts": "think", "early": "early", "team": None}


def told(db: Any) -> dict[str, Any]:
    """What Agno says of each session."""
    found: dict[str, Any] = {}
    for session_id, agent_id in SESSIONS.items():
        if agent_id is None:
            of = Team(id="desk", members=[], db=db, telemetry=False)
        else:
            of = chat(db, id=agent_id)
        session = of.get_session(session_id=session_id)
        every = {"skip_statuses": []}
        found[session_id] = {
            "name": (session.session_data or {}).get("session_name"),
            "state": of.get_session_state(session_id=session_id),
            "user_id": session.user_id,
            "metadata": session.metadata,
            "created_at": session.created_at,
            "summary": None if session.summary is None else session.summary.to_dict(),
            "chat": [plain(m) for m in messages(session, **every, skip_roles=["system", "tool"])],
            "messages": [plain(m) for m in messages(session)],
            "runs": [
                {
                    "run_id": run.run_id,
                    "status": str(getattr(run.status, "value", run.status)),
                    "parent_run_id": run.parent_run_id,
                    "agent_id": getattr(run, "agent_id", None),
                    "team_id": getattr(run, "team_id", None),
                    "content": run.content if isinstance(run.content, str) else None,
                    "model": run.model,
                    "created_at": run.created_at,
                    "messages": [plain(m) for m in run.messages or [] if not m.from_history],
                }
                for run in session.runs
            ],
        }
    return found


def messages(session: Any, **options: Any) -> list[Any]:
    ask = getattr(session, "get_messages", None) or session.get_messages_from_last_n_runs
    return ask(**options)


def plain(message: Any) -> dict[str, Any]:
    calls = [
        [call.get("id"), call["function"]["name"], call["function"]["arguments"]] for call in message.tool_calls or ()
    ]
    return {
        "role": message.role,
        "content": message.content,
        "tool_calls": calls,
        "tool_call_id": message.tool_call_id,
        "tool_call_error": bool(message.tool_call_error),
        "reasoning": message.reasoning_content,
        "images": len(message.images or ()),
        "files": len(message.files or ()),
    }


def main(address: str, out: str) -> None:
    db = database(address)
    for hold in (talk, look, think, end_early, team_up, flow):
        hold(db)
    Path(out).write_text(json.dumps(told(database(address)), default=str), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
