"""Two people talk with an agent in three sessions, which get names; then the database is asked what was said.

Last, the inbox shows them: on a terminal until Ctrl-C; elsewhere it is fetched once, to see that it is there.

Without a key the answers come from EchoModel, which needs no network; with OPENAI_API_KEY set, from OpenAI.
"""

import os
import secrets
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from urllib.request import HTTPCookieProcessor, ProxyHandler, build_opener

from recollect import Agent, EchoModel, SqliteDb
from recollect.models.openai import OpenAIResponses
from recollect.server import Caller, create_app, serve

FILE = Path("tmp/demo.db")

FORECASTS = {"Lisbon": "24 degrees and sunny", "Porto": "19 degrees and a little rain"}


def weather(city: str) -> str:
    """Tell tomorrow's weather.

    Args:
        city: name of the city
    """
    return FORECASTS.get(city, "no forecast")


def note(text: str, session_state: dict[str, list[str]]) -> str:
    """Write down something to be remembered in this conversation.

    Args:
        text: what to remember
    """
    session_state["notes"] = [*session_state.get("notes", []), text]
    return "noted"


def talk(agent: Agent) -> None:
    """Three conversations of two users; the answers are stored as they are given."""
    trip = agent.conversation(user_id="ada")
    trip.run("I am planning a weekend away.")
    trip.run("Please check the weather: Lisbon")
    trip.run("And please note: a room with a view of the river")
    trip.name = "Weekend in Lisbon"

    for event in agent.run("Please check the weather: Porto", session_id="porto", user_id="ada", stream=True):
        sys.stdout.write(event.content or "")
    sys.stdout.write("   (streamed)\n\n")
    agent.run("My suitcase did not arrive.", session_id="claim-17", user_id="bob", metadata={"ticket": "T-17"})

    report = agent.name_sessions(on_progress=lambda progress: print(f"naming: {progress.done} of {progress.total}"))
    print(f"{report.named} sessions named, {report.fallbacks} of them from their first message\n")


def show(agent: Agent) -> None:
    """What the database holds, newest conversation first."""
    print(f"{FILE} holds:\n")
    for header in agent.iter_sessions():
        print(f"  {header.title:<30} {header.user_id:<5} {header.run_count} runs, {header.message_count} messages")
    for header in agent.iter_sessions():
        print(f"\n--- {header.title} ({header.user_id})")
        for message in agent.get_session_messages(header.session_id, skip_roles=["system"]):
            for call in message.tool_calls:
                print(f"{message.role:>10}: calls {call.name}({call.arguments})")
            if message.text:
                print(f"{message.role:>10}: {message.text}")
        state = agent.get_session_state(header.session_id)
        if state:
            print(f"{'state':>10}: {state}")


def inbox(agent: Agent) -> None:
    """Serve the conversations to a browser."""
    token = secrets.token_urlsafe(16)
    app = create_app([agent], auth={token: Caller(scopes=frozenset({"admin"}))})

    def started(address: str) -> None:
        print(f"\nThe inbox: {address}/?token={token}", flush=True)
        if sys.stdout.isatty():
            print("Ctrl-C ends it.")
        else:
            threading.Thread(target=fetch, args=(f"{address}/?token={token}",)).start()

    with suppress(KeyboardInterrupt):
        serve(app, port=0, on_start=started)


def fetch(address: str) -> None:
    """Look at the inbox as a browser would, then have the server end."""
    try:
        with build_opener(ProxyHandler({}), HTTPCookieProcessor()).open(address, timeout=10) as answer:
            listed = answer.read().decode().count('class="row"')
        print(f"It answered {answer.status}, and lists {listed} conversations.")
    finally:
        signal.raise_signal(signal.SIGTERM)


def main() -> None:
    for leftover in FILE.parent.glob(f"{FILE.name}*"):
        leftover.unlink()
    model = OpenAIResponses(id="gpt-5.2") if os.environ.get("OPENAI_API_KEY") else EchoModel()
    print(f"Model: {model.provider}:{model.id}\n")
    with Agent(
        model=model,
        name="Travel Desk",
        instructions="You help people travel. Be brief.",
        tools=[weather, note],
        db=SqliteDb(db_file=FILE),
    ) as agent:
        talk(agent)
        show(agent)
        inbox(agent)
    print(f"\nLook again: .venv/bin/recollect --db {FILE} serve --open")


if __name__ == "__main__":
    main()
