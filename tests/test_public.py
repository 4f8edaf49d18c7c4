"""What is public, and how light it is to have it."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import recollect
import recollect.server
from recollect import Agent, AgentSession, Conversation, PostgresDb, RecollectError, SqliteDb, Store, Team, TeamSession
from recollect.runner import RunOptions

HERE = Path(__file__).parent
OPTIONAL = {"openai", "pydantic", "typer", "rich", "psycopg", "fastapi", "uvicorn", "jinja2", "nh3", "jwt", "tiktoken"}


def python(program: str) -> str:
    """What a program prints in a process of its own."""
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_the_public_names_are_those_that_were_decided_on() -> None:
    decided = (HERE / "public_names.txt").read_text(encoding="utf-8").split()
    assert recollect.__all__ == decided == sorted(decided)
    assert all(getattr(recollect, name).__name__ == name for name in decided)
    assert set(decided) <= set(dir(recollect))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = recollect.nothing_of_the_kind


def test_the_public_names_of_the_server_are_those_that_were_decided_on() -> None:
    decided = ["Caller", "JwtVerifier", "Limits", "create_app", "serve"]
    assert recollect.server.__all__ == decided
    assert all(hasattr(recollect.server, name) for name in decided)


def test_importing_recollect_and_opening_a_database_pulls_in_no_extra() -> None:
    loaded = python(
        "import sys, recollect\n"
        "from recollect import Agent, EchoModel, SqliteDb\n"
        "Agent(EchoModel(), db=SqliteDb()).run('Hi')\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    assert not OPTIONAL & set(loaded.split())


def test_a_database_opens_where_no_extra_is_installed() -> None:
    assert python(
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({OPTIONAL!r}))\n"
        "from recollect.db.sqlite import SqliteDb\n"
        "from recollect import ExtraMissing, Message, open_db\n"
        "with SqliteDb() as db:\n"
        "    db.finish_run(db.begin_run('s', [Message('user', 'Hi')]), [Message('assistant', 'Hello')])\n"
        "    print(len(db.get_messages('s')))\n"
        "from recollect.models.openai import OpenAIResponses\n"
        "try:\n"
        "    OpenAIResponses(id='gpt-5.2')\n"
        "except ExtraMissing as error:\n"
        "    print(error)\n"
        "try:\n"
        "    open_db('postgresql://localhost/db')\n"
        "except ExtraMissing as error:\n"
        "    print(error)\n"
        "try:\n"
        "    import recollect.server\n"
        "except ExtraMissing as error:\n"
        "    print(error)\n"
    ).splitlines() == [
        "2",
        "OpenAIResponses needs an extra that is not installed. Run: pip install 'recollect[openai]'",
        "PostgresDb needs an extra that is not installed. Run: pip install 'recollect[postgres]'",
        "recollect.server needs an extra that is not installed. Run: pip install 'recollect[server]'",
    ]


def test_every_error_has_a_code_of_its_own_and_a_default_message() -> None:
    def tree(kind: type[RecollectError]) -> list[type[RecollectError]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in tree(child))]

    kinds = [kind for kind in tree(RecollectError) if kind.__module__ == "recollect.errors"]
    codes = [kind.code for kind in kinds]
    assert len(set(codes)) == len(codes)
    drawn = (sys.modules["recollect.errors"].__doc__ or "").split()
    assert all(kind.__name__ in drawn for kind in kinds)
    assert str(recollect.SessionConflict()).startswith("The session was changed by somebody else")


# Methods without a twin, with the reason.
ALONE = {
    "replace": "waits for nothing",
    "conversation": "waits for nothing",
    "transact": "its parameters are those of the operation",
    "address": "waits for nothing",
    "before_fork": "for whoever forks, who has no loop",
    "after_fork": "as before_fork",
    "migrate": "for those who deploy, once, before anything else runs",
    "schema_version": "as migrate",
    "facts": "for doctor, which is a command",
    "ask": "as facts",
}


@pytest.mark.parametrize("kind", [Agent, Team, Store, SqliteDb, PostgresDb])
def test_every_method_with_a_twin_has_the_same_parameters_in_both_faces(kind: type[Any]) -> None:
    public = {name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))}
    alone = ALONE.keys() | {name for name in public if name.startswith("a") and name[1:] in public}
    for name in public - alone:
        twin = inspect.signature(getattr(kind, f"a{name}"))
        assert list(twin.parameters.values()) == list(inspect.signature(getattr(kind, name)).parameters.values()), name


# Parameters of Agno's methods that are not ours, with the reason.
MISSING = {
    "workflow_id": "there are no workflows",
    "run_context": "made by the run; tools and instructions ask for it",
    "audio": "sound and moving pictures are not stored yet",
    "videos": "as audio",
    "knowledge_filters": "there is no knowledge base",
    "dependencies": "a tool's own closure carries them",
    "add_dependencies_to_context": "as dependencies",
    "add_history_to_context": "said once, of the agent; agent.replace(add_history_to_context=...)",
    "add_session_state_to_context": "as add_history_to_context",
    "output_schema": "as add_history_to_context",
    "yield_run_output": "RunCompleted carries the run; a stream has it as .run",
    "debug_mode": "logging is the standard library's",
    "markdown": "print_response shows plain text",
    "show_message": "as markdown",
    "show_reasoning": "as markdown",
    "show_full_reasoning": "as markdown",
    "console": "file= takes any text stream",
    "tags_to_include_in_markdown": "as markdown",
    "show_member_responses": "as markdown; stream_events tells of members' runs",
    "delete_media": "media live in the messages, and go with them",
    "kwargs": "an unknown argument is an error",
}
# Parameters that are ours alone, with the reason.
ADDED = {
    "user_id": "law 4: every method can be scoped to a user",
    "fallback": "what the name is where the model makes none; there is nothing of the kind there",
    "file": "where print_response prints",
    "agent_id": "the filters of AgentSession.get_messages, pushed down",
    "team_id": "as agent_id",
    "agent_data": "of AgentSession; a team's session may hold what an agent's did",
    "member_ids": "as agent_id; of TeamSession there",
    "tags": "what a session is marked with, which has no counterpart there",
    "archived": "as tags",
    "pinned": "as tags",
    "expire_after": "as tags",
    "skip_member_messages": "as member_ids",
}


@pytest.mark.parametrize(
    ("kind", "of"),
    [(Agent, "Agent"), (Team, "Team"), (AgentSession, "AgentSession"), (TeamSession, "TeamSession")],
)
def test_signatures_follow_agno(kind: type[Any], of: str) -> None:
    table = json.loads((HERE / "agno_signatures.json").read_text(encoding="utf-8"))[of]
    for method, theirs in table.items():
        ours = parameters(getattr(kind, method))
        kept = [name for name in theirs if name in ours]
        assert set(theirs) - set(ours) <= MISSING.keys(), method
        assert set(ours) - set(theirs) <= ADDED.keys(), method
        if method not in {"run", "print_response"}:  # theirs are by keyword only
            assert [name for name in ours if name in theirs] == kept, method


def parameters(method: Any) -> list[str]:
    """Names in order, the options of a run among them."""
    names = [name for name in inspect.signature(method).parameters if name not in {"self", "cls", "at"}]
    return [*[name for name in names if name != "options"], *(RunOptions.__annotations__ if "options" in names else ())]


def test_a_conversation_offers_the_faces_of_its_agent() -> None:
    assert isinstance(Agent(recollect.EchoModel()).conversation(), Conversation)
