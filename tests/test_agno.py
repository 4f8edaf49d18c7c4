"""Rows of Agno's as sessions and runs of ours: what is rare, and what is odd. The usual is written by the real Agno."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from recollect.agno.rest import ROOM
from recollect.agno.runs import Session, turn_of
from recollect.agno.sessions import Found, facts_of, found_of, turns_of
from recollect.db.sqlite import SqliteDb
from recollect.run import RunOutput, RunStatus
from recollect.session import AgentSession

COLUMNS = (
    *("session_id", "session_type", "agent_id", "team_id", "workflow_id", "user_id", "created_at", "updated_at"),
    *("session_data", "agent_data", "team_data", "workflow_data", "metadata", "summary", "runs"),
)
HELLO = {"role": "user", "content": "Hello"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
PNG = b"\x89PNG\r\n\x1a\n123"


def run_of(*messages: dict[str, Any], **keys: Any) -> RunOutput:
    """The run that Agno's dictionary makes."""
    data = {"run_id": "r", "agent_id": "a", "status": "COMPLETED", "messages": [*messages], **keys}
    turn = turn_of(data, Session("s", {"n": 1}), "0")
    assert turn.problem == ""
    assert turn.run is not None
    return turn.run


def beside(run: RunOutput) -> dict[str, Any]:
    """What is kept of a run without a place."""
    kept: dict[str, Any] = run.metadata.get("agno", {})
    return kept


def found(*runs: Any, **columns: Any) -> Found:
    """The session that a row makes."""
    plain = (str, type(None))
    texts = {name: value if isinstance(value, plain) else json.dumps(value) for name, value in columns.items()}
    row = dict.fromkeys(COLUMNS) | {"session_id": "s", "session_type": "agent", "created_at": 1} | texts
    row |= {"runs": json.dumps(runs)}
    return found_of(row, turns_of(row, (), facts_of(row)))


def session_of(*runs: Any, **columns: Any) -> AgentSession:
    """The session that a row without a fault makes."""
    made = found(*runs, **columns)
    assert made.problems == ()
    assert made.session is not None
    return made.session


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("COMPLETED", RunStatus.completed),
        ("PAUSED", RunStatus.paused),
        ("CANCELLED", RunStatus.cancelled),
        ("ERROR", RunStatus.error),
        ("REGENERATED", RunStatus.regenerated),
        ("RUNNING", RunStatus.interrupted),
        ("PENDING", RunStatus.interrupted),
        ("completed", RunStatus.completed),
        (None, RunStatus.completed),
    ],
)
def test_a_status_is_agnos_and_what_was_under_way_is_interrupted(word: str | None, status: RunStatus) -> None:
    assert run_of(HELLO, status=word).status is status


def test_the_error_of_a_run_is_what_agno_says_in_the_place_of_an_answer() -> None:
    failed = run_of(HELLO, status="ERROR", content="It is broken.")
    assert (failed.error, failed.content, beside(failed)) == ("It is broken.", None, {})


def test_what_was_asked_is_there_also_where_a_run_has_no_messages() -> None:
    asked = run_of(input={"input_content": "Hello", "images": [{"url": "https://example.org/a.png"}]})
    assert asked.messages[0].text == "Hello"
    assert asked.messages[0].images[0].url == "https://example.org/a.png"
    assert run_of(input={"input_content": [HELLO, "You?"]}).messages[1].text == "You?"
    assert run_of(input={"input_content": HELLO}).input == "Hello"
    assert run_of(input=None).messages == ()


def test_history_is_not_part_of_a_run() -> None:
    run = run_of({"role": "system", "content": "S"}, HELLO | {"from_history": True}, HELLO | {"content": "Now"})
    assert [message.text for message in run.messages] == ["S", "Now"]
    assert run.prompt is not None


def test_messages_keep_their_ids_if_they_have_any() -> None:
    first, second, third = run_of(HELLO | {"id": "m1"}, HELLO, HELLO | {"id": "a\nb"}).messages
    assert (first.id, second.id, third.id) == ("m1", None, None)


def test_a_message_without_an_id_that_can_be_stored_keeps_it_beside() -> None:
    assert beside(run_of(HELLO | {"id": "a\nb"})) == {"messages": {"0": {"id": "a\nb"}}}


def test_gemini_speaks_as_the_assistant() -> None:
    run = run_of(HELLO, {"role": "model", "content": "Hi"})
    assert run.messages[1].role == "assistant"
    assert beside(run)["messages"]["1"] == {"role": "model"}


def test_calls_and_results_say_once_what_agno_says_thrice() -> None:
    result = {"role": "tool", "content": "seen", "tool_call_id": "c1", "tool_name": "look", "tool_args": {"at": 1}}
    tool = {"tool_call_id": "c1", "tool_name": "look", "tool_args": {"at": 1}, "result": "seen", "created_at": 5}
    run = run_of(HELLO, {"role": "assistant", "tool_calls": [CALL]}, result, tools=[tool], content_type="str")
    assert [(tool.tool_name, tool.arguments, tool.result) for tool in run.tools] == [("look", '{"at": 1}', "seen")]
    assert run.messages[2].name == "look"
    assert beside(run) == {}


def test_calls_in_other_forms_are_kept_beside() -> None:
    odd = {"tool_call_id": "x", "content": "combined"}
    more = CALL | {"call_id": "call_7"}
    bare = {"call_id": "c3", "function": {"name": "look", "arguments": {"at": 3}}}
    run = run_of({"role": "assistant", "tool_calls": [odd, more, bare]})
    assert [(call.id, call.arguments) for call in run.messages[0].tool_calls] == [
        ("c1", '{"at": 1}'),
        ("c3", '{"at":3}'),
    ]
    kept = beside(run)["messages"]["0"]
    assert kept["tool_calls"] == [odd]
    assert kept["calls"]["c1"] == {"call_id": "call_7"}


def test_content_that_is_no_text_becomes_text_and_parts_stay_parts() -> None:
    parts = [{"type": "text", "text": "Hello"}]
    assert run_of({"role": "assistant", "content": {"a": [1, None]}}).messages[0].content == '{"a":[1,null]}'
    assert run_of({"role": "user", "content": parts}).messages[0].content == parts


def test_a_picture_that_was_encoded_again_and_again_is_itself() -> None:
    once = base64.b64encode(PNG)
    for content in (once, base64.b64encode(once), base64.b64encode(base64.b64encode(once))):
        [image] = run_of(HELLO | {"images": [{"content": content.decode(), "format": "png"}]}).messages[0].images
        assert image.url == f"data:image/png;base64,{once.decode()}"


def test_media_have_their_parts() -> None:
    text = {"content": "plain \u2600", "mime_type": "text/plain", "name": "a.txt"}
    sound = {"content": base64.b64encode(b"RIFF").decode(), "mime_type": "audio/mpeg"}
    by_url = {"url": "https://example.org/a.pdf", "filename": "a.pdf"}
    [message] = run_of({"role": "user", "files": [text, by_url], "audio": [sound], "content": None}).messages
    audio, plain, address = message.content
    assert audio == {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "mp3"}}
    assert base64.b64decode(plain["file"]["file_data"].split(",")[1]).decode() == "plain \u2600"
    assert address == {"type": "file", "file": {"filename": "a.pdf", "file_url": "https://example.org/a.pdf"}}


def test_media_without_a_part_are_kept_beside() -> None:
    path, video = {"filepath": "pictures/a.png"}, {"url": "https://example.org/a.mp4"}
    run = run_of(HELLO | {"images": [path], "videos": [video]}, {"role": "assistant", "images": [{"url": "x"}]})
    assert run.messages[0].content == "Hello"
    assert beside(run)["messages"] == {"0": {"images": [path], "videos": [video]}, "1": {"images": [{"url": "x"}]}}


def test_what_a_part_does_not_say_of_its_medium_is_kept_beside() -> None:
    picture = {"id": "i", "url": "https://example.org/a.png", "alt_text": "a cat"}
    run = run_of(HELLO | {"images": [picture, {"id": "j", "url": "https://example.org/b.png"}]})
    assert [image.url for image in run.messages[0].images] == ["https://example.org/a.png", "https://example.org/b.png"]
    assert beside(run)["messages"]["0"] == {"images": [{"id": "i", "alt_text": "a cat"}]}


def test_what_is_too_large_to_be_kept_is_told_with_its_size() -> None:
    run = run_of(HELLO, events=["x" * ROOM], citations={"raw": "short"})
    assert beside(run) == {"citations": {"raw": "short"}, "left_out": {"events": ROOM + 4}}


def test_somebodys_own_metadata_called_agno_stays() -> None:
    assert run_of(HELLO, metadata={"agno": 5, "plan": "pro"}).metadata == {
        "plan": "pro",
        "agno": {"metadata": {"agno": 5}},
    }


def test_metrics_that_we_do_not_count_are_kept_beside() -> None:
    given = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12, "duration": 1.5, "cost": 0.25, "timer": None}
    run = run_of(HELLO, {"role": "assistant", "content": "Hi"}, metrics=given, created_at=100)
    assert (run.metrics.input_tokens, run.metrics.output_tokens, run.metrics.duration, run.metrics.steps) == (
        7,
        5,
        1.5,
        1,
    )
    assert beside(run) == {"metrics": {"cost": 0.25}}
    assert run.created_at is not None
    assert run.finished_at is not None
    assert (run.finished_at - run.created_at).total_seconds() == 1.5
    assert run_of(HELLO, metrics=[1]).metrics == run_of(HELLO, metrics={"input_tokens": "7", "duration": -1}).metrics


def test_state_as_a_run_left_it_is_kept_where_it_differs_from_the_sessions() -> None:
    assert beside(run_of(HELLO, session_state={"n": 1})) == {}
    assert beside(run_of(HELLO, session_state={"n": 0})) == {"session_state": {"n": 0}}


def test_runs_within_their_leaders_run_are_runs_of_its_members() -> None:
    inner = {"run_id": "m2", "agent_id": "b", "messages": [HELLO]}
    member = {"run_id": "m1", "team_id": "t2", "parent_run_id": "r", "messages": [HELLO], "member_responses": [inner]}
    leader = {"run_id": "r", "team_id": "t", "messages": [HELLO], "member_responses": [member]}
    listed = session_of(leader, session_type="team").runs
    assert [(run.run_id, run.parent_run_id) for run in listed] == [("r", None), ("m1", "r"), ("m2", "m1")]
    twice = session_of(member | {"member_responses": []}, leader, session_type="team").runs
    assert sorted(run.run_id for run in twice) == ["m1", "m2", "r"]


def test_a_run_that_is_listed_twice_is_stored_once_and_told_where_the_two_differ() -> None:
    run = {"run_id": "r", "messages": [HELLO]}
    same, other = found(run, run), found(run, run | {"messages": [HELLO, HELLO]})
    assert (same.problems, same.runs) == ((), {"r": 1})
    assert (other.problems, other.runs) == (("run 'r': is there twice, and not the same",), {"r": 1})
    assert other.session is not None
    assert [run.run_id for run in other.session.runs] == ["r"]


def test_what_agno_says_of_a_tool_may_have_no_id_to_find_it_by() -> None:
    tools = [5, {"tool_call_id": [1]}, {"tool_call_id": None, "result": "seen"}]
    assert beside(run_of(HELLO, tools=tools)) == {"tools": tools}


def test_a_member_whose_leader_is_not_there_stands_alone() -> None:
    [run] = session_of({"run_id": "m", "agent_id": "a", "parent_run_id": "away", "messages": [HELLO]}).runs
    assert run.parent_run_id is None
    assert beside(run) == {"parent_run_id": "away"}


def test_a_run_without_an_id_has_the_same_one_each_time() -> None:
    ids = [[run.run_id for run in session_of({"messages": [HELLO]}, {"messages": [HELLO]}).runs] for _ in range(2)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


def test_a_run_that_cannot_be_read_leaves_the_others() -> None:
    made = found({"run_id": "a", "messages": [{"role": "ghost"}]}, "no run", {"run_id": "b", "messages": [HELLO]})
    assert made.problems[0].startswith("run 'a': messages[0].role: 'ghost' is not one of")
    assert made.problems[1] == "run '1': a run must be an object, not str"
    assert made.session is not None
    assert [run.run_id for run in made.session.runs] == ["b"]
    assert made.runs == {"b": 1}


@pytest.mark.parametrize(
    ("run", "problem"),
    [
        ({"run_id": 5}, "run_id: must be text"),
        ({"run_id": "x" * 300}, "run_id: must have 1 to 255"),
        ({"messages": [5]}, "messages[0]: must be an object, not int"),
        ({"messages": "said"}, "messages[0]: must be an object, not str"),
        ({"messages": [{"content": "x"}]}, "messages[0].role: '' is not one of"),
        ({"messages": [{"role": 5}]}, "messages[0].role: must be text, not int"),
        ({"status": "ODD"}, "status: 'ODD' is none that is known"),
        ({"created_at": "soon"}, "created_at: must be a number of seconds, not 'soon'"),
        ({"metadata": [1]}, "metadata: must be an object, not list"),
        ({"agent_id": "a\nb"}, "agent_id: character 1"),
    ],
)
def test_what_is_wrong_with_a_run_is_said(run: dict[str, Any], problem: str) -> None:
    assert turn_of({"run_id": "r", **run}, Session("s"), "0").problem.startswith(problem)


def test_a_name_that_is_too_long_is_cut_and_kept_whole_beside() -> None:
    session = session_of(session_data={"session_name": "word " * 100})
    assert len(session.name) <= 200
    assert session.name.startswith("word word")
    assert session.metadata["agno"]["session_name"] == "word " * 100
    assert session_of(session_data={"session_name": " \n"}).name == ""


def test_a_summary_keeps_topics_and_time() -> None:
    given = {"summary": "Of Porto", "topics": ["Porto"], "updated_at": "2026-01-02T03:04:05", "odd": 1}
    session = session_of(summary=given)
    assert session.summary is not None
    assert (session.summary.summary, session.summary.topics) == ("Of Porto", ("Porto",))
    assert str(session.summary.updated_at) == "2026-01-02 03:04:05+00:00"
    assert session.metadata["agno"]["summary"] == {"odd": 1}
    assert session_of(summary="null").summary is None
    assert session_of(summary={"summary": 5}).metadata["agno"]["summary"] == {"summary": 5}


def test_json_that_was_encoded_twice_is_read() -> None:
    state = {"session_state": {"a": "\u2600"}}
    assert session_of(session_data=json.dumps(json.dumps(state))).session_state == {"a": "\u2600"}


def test_whose_session_it_is_follows_from_its_ids_where_it_has_no_type() -> None:
    assert found(session_type=None, team_id="t").kind == "team"
    assert found(session_type=None, workflow_id="w").kind == "workflow"
    assert found(session_type=None).kind == "agent"


def test_odd_sessions_are_stored_as_they_were_made() -> None:
    runs = [{"run_id": f"r{number}", "agent_id": "a", "messages": [HELLO], "status": "PAUSED"} for number in range(3)]
    session = session_of(*runs, session_data={"session_state": {"a": None}}, metadata={"k": [1.5]}, agent_id="a")
    with SqliteDb() as db:
        version = db.upsert_session(session).version
        assert db.upsert_session(session_of(*runs, agent_id="a")).version == version
        stored = db.get_session("s")
    assert stored is not None
    assert [run.status for run in stored.runs] == [RunStatus.paused] * 3
    assert (stored.session_state, stored.metadata, stored.agent_id) == ({"a": None}, {"k": [1.5]}, "a")
