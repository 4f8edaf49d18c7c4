"""Conversations come in from JSON lines, and go out as they came."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Command, rows, tool_turn, turn
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.cli import transfer as cli_transfer
from recollect.cli.intake import Tally
from recollect.db.sqlite import SqliteDb
from recollect.errors import Conflict, InvalidArgument
from recollect.message import Message
from recollect.run import RunOutput, RunStatus, TeamRunOutput
from recollect.session import AgentSession, SessionSummary, TeamSession
from recollect.transfer import fit, read_line, read_lines, runs_of, write_line

SHARED = Path(os.environ.get("RECOLLECT_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
AIRLINE = SHARED / "airline_conversations.jsonl"

# Every line is as another program may write it: unknown keys, nulls, odd numbers, several system messages.
LINES = Path(__file__).with_name("odd_conversations.jsonl").read_text(encoding="utf-8").splitlines()


def written(path: Path, lines: Iterable[str]) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def conversation(id: str, *said: str) -> str:
    """A line in which user and assistant take turns."""
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(said)]
    return json.dumps({"conversation_id": id, "messages": messages})


def raw_messages(lines: Iterable[str]) -> dict[str, list[str]]:
    """The text of each message by conversation."""
    sessions = [line.session for line in read_lines(line.encode() for line in lines)]
    assert None not in sessions
    return {
        session.session_id: [message.to_json() for run in session.runs for message in run.messages]
        for session in sessions
        if session is not None
    }


@pytest.fixture
def file(tmp_path: Path) -> str:
    return written(tmp_path / "in.jsonl", LINES)


def test_everything_in_a_line_comes_back(recollect: Command, file: str) -> None:
    assert recollect("sessions", "import", file).stdout == "8 sessions new (9 runs added)\n"
    lines = recollect("sessions", "export").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(line) for line in LINES]
    assert raw_messages(lines) == raw_messages(LINES)
    for line, original in zip(lines, LINES, strict=True):
        assert all(text in original for texts in raw_messages([line]).values() for text in texts)


@pytest.mark.skipif(not AIRLINE.exists(), reason=f"{AIRLINE} is not there; RECOLLECT_SHARED_DATA names its folder")
def test_real_conversations_come_back_as_they_went_in(recollect: Command, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert recollect("sessions", "import", str(AIRLINE)).stdout == "100 sessions new (860 runs added)\n"
    assert recollect("sessions", "export", "-o", str(out)).stderr == f"100 sessions written to {out}\n"
    before, after = (path.read_text(encoding="utf-8").splitlines() for path in (AIRLINE, out))
    assert {line["conversation_id"]: line["messages"] for line in map(json.loads, after)} == {
        line["conversation_id"]: line["messages"] for line in map(json.loads, before)
    }
    assert raw_messages(after) == raw_messages(before)
    assert after == before


def test_importing_again_changes_no_row(recollect: Command, file: str) -> None:
    recollect("sessions", "import", file)
    stored = rows(recollect)
    assert recollect("sessions", "import", file).stdout == "0 sessions new, 8 stored already (0 runs added)\n"
    assert rows(recollect) == stored


def test_importing_what_was_exported_changes_no_row(recollect: Command, file: str, tmp_path: Path) -> None:
    recollect("sessions", "import", file)
    with recollect.store() as db:
        for name in ("keys", "tools", "repeated"):
            tool_turn(db, name, user="alice" if name == "keys" else None)
        tool_turn(db, "agent", status=RunStatus.error, error="The model is away")
        tool_turn(db, "agent")
        db.update_values("agent", "state", {"step": 2})
    stored, out = rows(recollect), str(tmp_path / "out.jsonl")
    recollect("sessions", "export", "--output", out)
    assert recollect("sessions", "import", out).stdout == "0 sessions new, 9 stored already (0 runs added)\n"
    assert rows(recollect) == stored


def test_a_session_of_an_agent_is_the_same_in_another_database(recollect: Command, tmp_path: Path) -> None:
    with recollect.store() as db:
        for status in (RunStatus.error, RunStatus.cancelled, RunStatus.completed):
            tool_turn(db, "s", status=status, error="away" if status is RunStatus.error else None, model="m")
        db.update_values("s", "state", {"step": 2})
        db.update_values("s", "metadata", {"plan": "pro"})
        db.tag_session("s", ["vip", "billing"])
        db.archive_session("s")
        db.pin_session("s")
        db.set_session_expiry("s", timedelta(days=90))
        shell = db.get_session("s")
        assert shell is not None
        shell.summary = SessionSummary(summary="A plan.", topics=("plans",))
        db.save_session(shell)
        before = db.get_session("s")
    out, other = str(tmp_path / "out.jsonl"), tmp_path / "other.db"
    recollect("sessions", "export", "-o", out)
    recollect("--db", str(other), "sessions", "import", out)
    with SqliteDb(other) as db:
        after = db.get_session("s")
    assert before is not None
    assert after is not None
    assert list(after.runs) == list(before.runs)
    assert [message.id for message in after.runs[0].messages] == [message.id for message in before.runs[0].messages]
    assert after.to_dict() == before.to_dict()
    assert (after.tags, after.header.archived, after.header.pinned) == (("billing", "vip"), True, True)
    assert after.header.expire_after == timedelta(days=90)
    assert after.header.expires_at is not None
    assert after.summary == SessionSummary(summary="A plan.", topics=("plans",))
    assert Path(out).read_text(encoding="utf-8").count("Be brief.") == 1


def test_an_import_that_was_stopped_goes_on(
    recollect: Command, file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, stopped_after = Tally.add, 3

    def stops(self: Any, *args: Any) -> None:
        if self.new == stopped_after:
            raise KeyboardInterrupt
        store(self, *args)

    monkeypatch.setattr(Tally, "add", stops)
    assert "stopped: 3 sessions new" in recollect("sessions", "import", file, code=130).stderr
    monkeypatch.undo()
    assert recollect("sessions", "import", file).stdout.startswith("5 sessions new, 3 stored already")
    assert [json.loads(line) for line in recollect("sessions", "export").stdout.splitlines()] == [
        json.loads(line) for line in LINES
    ]


@pytest.mark.of_a_file
def test_ctrl_c_ends_an_import_between_two_conversations(recollect: Command, tmp_path: Path) -> None:
    lines = [conversation(f"c{number}", "question " * 50, "answer " * 50) for number in range(2_000)]
    file = written(tmp_path / "many.jsonl", lines)
    with recollect.process("sessions", "import", file) as process:
        while not recollect.db_file.exists() or not recollect("sessions", "list", "--json").stdout.startswith("[\n"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.startswith("stopped: ")
    recollect("doctor")


def test_a_conversation_that_grew_gets_its_new_runs(recollect: Command, tmp_path: Path) -> None:
    recollect("sessions", "import", written(tmp_path / "1", [conversation("c", "1", "I")]))
    with recollect.store() as db:
        first = db.get_session("c")
    grown = [conversation("c", "1", "I", "2", "II", "3"), conversation("d", "1")]
    said = recollect("sessions", "import", written(tmp_path / "2", grown)).stdout
    assert said == "1 session new, 1 grown (3 runs added)\n"
    with recollect.store() as db:
        session = db.get_session("c")
    assert first is not None
    assert session is not None
    assert session.runs[0] == first.runs[0]
    assert [message.text for run in session.runs for message in run.messages] == ["1", "I", "2", "II", "3"]


def test_a_stored_run_that_got_more_messages_is_not_replaced(recollect: Command, tmp_path: Path) -> None:
    recollect("sessions", "import", written(tmp_path / "1", [conversation("c", "1")]))
    stored = rows(recollect)
    file = written(tmp_path / "2", [conversation("c", "1", "I"), conversation("d", "1")])
    refused = recollect("sessions", "import", file, code=4).stderr
    assert refused.startswith("line 1: conversation 'c' does not continue what is stored of it")
    assert rows(recollect) == stored
    result = recollect("sessions", "import", file, "--skip-bad")
    assert result.stdout == "1 session new (1 run added)\n"
    assert "line 1: conversation 'c' does not continue" in result.stderr


@pytest.mark.of_a_file
def test_a_bad_line_stops_before_anything_is_written(recollect: Command, tmp_path: Path) -> None:
    bad = '{"conversation_id": "bad", "messages": [{"role": "user", "content": "x"}, {"role": "usr", "content": "x"}]}'
    file = written(tmp_path / "in", [LINES[0], "", bad, conversation("c", "1"), conversation("c", "1")])
    result = recollect("sessions", "import", file, code=1)
    assert "line 3: messages[1].role: 'usr' is not one of assistant" in result.stderr
    assert "line 5: conversation 'c' is on line 4 already" in result.stderr
    assert "nothing was stored" in result.stderr
    assert not recollect.db_file.exists()


def test_bad_lines_are_passed_over_and_listed_when_asked(recollect: Command, tmp_path: Path) -> None:
    lines = [conversation("a", "1"), *["not json"] * 30, conversation("b", "1"), conversation("a", "2")]
    result = recollect("sessions", "import", written(tmp_path / "in", lines), "--skip-bad")
    assert result.stdout == "2 sessions new (2 runs added)\n"
    assert "line 2: not valid JSON" in result.stderr
    assert "... and 11 more bad lines" in result.stderr
    with recollect.store() as db:
        assert [message.text for message in db.get_messages("a")] == ["1"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nothing", "line: not valid JSON"),
        ("[1]", "line: not a JSON object"),
        ('{"messages": []}', "conversation_id: is missing"),
        ('{"conversation_id": 5, "messages": []}', "conversation_id: must be text, not int"),
        ('{"conversation_id": "a\\nb", "messages": []}', "conversation_id: character 1"),
        ('{"conversation_id": "c"}', "messages: is missing"),
        ('{"conversation_id": "c", "messages": {}}', "messages: must be a list"),
        ('{"conversation_id": "c", "messages": [5]}', r"messages\[0\]: Expected object"),
        ('{"conversation_id": "c", "messages": [{"content": "x"}]}', r"messages\[0\]: .*role"),
        ('{"conversation_id": "c", "messages": [{"role": "user", "content": 1}]}', r"messages\[0\].content: must be"),
        ('{"conversation_id": "c", "messages": [{"role": "user", "content": "\\ud800"}]}', "half of a surrogate pair"),
        ('{"conversation_id": "c", "messages": [{"role": "user", "content": NaN}]}', "not valid JSON"),
        ('{"conversation_id": "c", "messages": [], "x": 1e999}', "out of range"),
        ('{"conversation_id": "c", "messages": [], "user_id": 1}', "user_id: must be text"),
        ('{"conversation_id": "c", "messages": [], "name": "' + "x" * 300 + '"}', "name: must have 1 to 200"),
        ('{"conversation_id": "c", "messages": [], "metadata": [1]}', "metadata: must be an object"),
        ('{"conversation_id": "c", "messages": [], "metadata": {"imported": {}}}', "metadata.imported: is where"),
        ('{"conversation_id": "c", "messages": [], "recollect": 1}', "recollect: was not written by this program"),
        ('{"conversation_id": "c", "messages": [], "recollect": {"runs": [{}]}}', r"recollect.runs\[0\]"),
        (
            '{"conversation_id": "c", "messages": [{"role": "user", "content": "x"}], "recollect": {"runs": []}}',
            "recollect.runs: tell nothing of the last 1 messages",
        ),
    ],
)
def test_what_is_wrong_with_a_line_is_said(line: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        read_line(line.encode())


def test_a_deeply_nested_line_is_refused_not_fatal() -> None:
    with pytest.raises(InvalidArgument):
        read_line(b'{"conversation_id": "c", "messages": [' + b"[" * 100_000)


@pytest.mark.parametrize(
    ("roles", "runs"),
    [
        ("", []),
        ("a", ["a"]),
        ("ua", ["ua"]),
        ("suau", ["sua", "u"]),
        ("uu", ["u", "u"]),
        ("uasua", ["ua", "sua"]),
        ("uassua", ["ua", "ssua"]),
        ("uasa", ["uasa"]),
        ("asua", ["asua"]),
        ("sauatau", ["saua" + "ta", "u"]),
        ("ssuus", ["ssu", "us"]),
    ],
)
def test_each_user_message_begins_a_run_with_the_system_messages_before_it(roles: str, runs: list[str]) -> None:
    names = {"u": "user", "a": "assistant", "s": "system", "t": "tool"}
    made = runs_of("c", [Message(names[role], "x") for role in roles])
    assert ["".join(message.role[0] for message in run.messages) for run in made] == runs


def test_the_input_of_a_run_is_all_up_to_the_user_message() -> None:
    greeting, question, reply = Message("assistant", "Welcome"), Message("user", "1"), Message("assistant", "I")
    assert runs_of("c", [greeting, question, reply])[0].input == (greeting, question)
    assert runs_of("c", [Message("system", "S"), question, reply])[0].input == "1"


def test_run_ids_follow_from_conversation_and_place() -> None:
    said = [Message("user", "1"), Message("user", "2")]
    ids = [run.run_id for run in runs_of("c", said)]
    assert ids == [run.run_id for run in runs_of("c", [*said, Message("user", "3")])][:2]
    assert len({*ids, *(run.run_id for run in runs_of("d", said))}) == 4


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
messages = st.builds(
    lambda role, content, more: more | {"role": role, "content": content},
    st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
    st.none() | texts,
    st.dictionaries(texts.map(lambda key: f"x{key}"), values, max_size=2),
)
lines = st.builds(
    lambda said, rest: {"conversation_id": "c", "messages": said} | {f"x{k}": v for k, v in rest.items()},
    st.lists(messages, max_size=12),
    st.dictionaries(texts, values, max_size=3),
)


@settings(max_examples=30)
@given(line=lines, ascii_only=st.booleans())
def test_any_line_is_written_as_it_was_read(line: dict[str, Any], ascii_only: bool) -> None:  # noqa: FBT001
    text = json.dumps(line, ensure_ascii=ascii_only)
    with SqliteDb() as db:
        db.upsert_session(read_line(text.encode()))
        stored = db.get_session("c")
        assert stored is not None
        made = write_line(stored)
        version = db.upsert_session(read_line(made.encode())).version
    assert json.loads(made) == line
    assert raw_messages([made]) == raw_messages([text])
    assert version == stored.version


def test_a_name_given_meanwhile_and_an_owner_stay(recollect: Command, tmp_path: Path) -> None:
    line = json.loads(conversation("c", "1")) | {"name": "From the file"}
    file = written(tmp_path / "in", [json.dumps(line)])
    recollect("sessions", "import", file)
    recollect("sessions", "rename", "c", "By hand")
    with recollect.store() as db:
        db.claim_session("c", "alice")
    stored = rows(recollect)
    recollect("sessions", "import", file)
    assert rows(recollect) == stored


def test_imports_belong_to_the_user_that_is_named(recollect: Command, tmp_path: Path) -> None:
    own = json.dumps(json.loads(conversation("own", "1")) | {"user_id": "bob"})
    file = written(tmp_path / "in", [conversation("c", "1"), own])
    recollect("sessions", "import", file, "--user", "alice")
    with recollect.store() as db:
        assert {header.session_id: header.user_id for header in db.get_sessions()} == {"c": "alice", "own": "bob"}
    assert json.loads(recollect("sessions", "export", "--user", "alice").stdout)["conversation_id"] == "c"


def test_a_conversation_of_another_user_is_a_conflict(recollect: Command, tmp_path: Path) -> None:
    file = written(tmp_path / "in", [conversation("c", "1")])
    recollect("sessions", "import", file, "--user", "alice")
    refused = recollect("sessions", "import", file, "--user", "bob", code=4).stderr
    assert "session 'c' is stored already and belongs to user 'alice', not to 'bob'" in refused


def test_an_owner_is_not_given_to_what_is_stored_without_one() -> None:
    with SqliteDb() as db:
        turn(db, "c")
        with pytest.raises(Conflict, match="belongs to nobody"):
            fit(read_line(conversation("c", "1").encode(), "alice"), db.get_header("c"))


def test_members_and_replaced_runs_are_left_out() -> None:
    def run(run_id: str, **more: Any) -> RunOutput:
        kind = TeamRunOutput if "team_id" in more else RunOutput
        return kind(run_id=run_id, session_id="c", messages=(Message("user", run_id),), **more)

    runs = [
        run("leader", team_id="t"),
        run("member", parent_run_id="leader"),
        run("old", status=RunStatus.regenerated),
        run("candidate", status=RunStatus.cancelled, replaces="leader"),
        run("live", status=RunStatus.running),
    ]
    made = read_line(write_line(TeamSession("c", team_id="t", runs=runs)).encode())
    assert isinstance(made, TeamSession)
    assert [(run.run_id, run.status) for run in made.runs] == [("leader", "completed"), ("live", "interrupted")]
    assert isinstance(made.runs[0], TeamRunOutput)


def test_a_key_called_imported_that_somebody_set_is_kept() -> None:
    session = AgentSession("c", metadata={"imported": "yes", "a": 1})
    assert read_line(write_line(session).encode()).metadata == session.metadata


def test_lines_come_through_a_pipe_too(recollect: Command) -> None:
    text = "\ufeff" + "\r\n".join([LINES[0], "", conversation("c", "1")])
    assert recollect("sessions", "import", "-", said=text.encode()).stdout == "2 sessions new (2 runs added)\n"


def test_a_file_is_replaced_only_by_a_whole_export(
    recollect: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recollect.store() as db:
        turn(db, "a")
    (tmp_path / "exports").mkdir()
    out = tmp_path / "exports" / "out"
    out.write_text("before")

    def fails(session: AgentSession) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli_transfer, "write_line", fails)
    assert "No space left on device" in recollect("sessions", "export", "-o", str(out), code=1).stderr
    assert out.read_text() == "before"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_export_names_its_sessions_by_id_or_their_beginning(recollect: Command) -> None:
    with recollect.store() as db:
        for name in ("one", "two", "three"):
            turn(db, name)
    told = [json.loads(line)["conversation_id"] for line in recollect("sessions", "export").stdout.splitlines()]
    assert told == ["one", "two", "three"]
    told = recollect("sessions", "export", "th", "one").stdout.splitlines()
    assert [json.loads(line)["conversation_id"] for line in told] == ["three", "one"]
    recollect("sessions", "export", "four", code=3)


@pytest.mark.parametrize("target", ["nowhere/out", "."])
def test_an_export_that_cannot_be_written_says_so(recollect: Command, tmp_path: Path, target: str) -> None:
    recollect("chat", "hi")
    result = recollect("sessions", "export", "-o", str(tmp_path / target), code=2 if target != "." else 1)
    assert result.stderr.startswith("error: ")


def test_a_file_that_is_not_there_is_one_line(recollect: Command) -> None:
    assert recollect("sessions", "import", "nofile", code=1).stderr == "error: nofile: No such file or directory\n"
