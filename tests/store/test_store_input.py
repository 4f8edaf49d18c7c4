"""Law 8: what cannot be stored is refused by name before anything is written; the rest comes back as it was."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from store_kit import TWO, Face, answer, dump, system, turn, user

from recollect.errors import InvalidArgument
from recollect.message import Message
from recollect.run import RunOutput
from recollect.session import AgentSession
from recollect.store import OpenRun

pytestmark = pytest.mark.anyio

Call = Callable[[Face, Any], Awaitable[Any]]

CONTROL = ["a\x00b", "a\nb", "\x7f", "\x85", "\ud800", "a\udfffb"]
BAD_IDS = ["", "x" * 256, 5, b"x", ["x"], True, *CONTROL]
NO_ID = [None, *BAD_IDS]
BAD_NAMES = ["", "   ", "\x00\t\u200b", "x" * 201, 5, b"x", None, "Plan \ud800"]
NOT_TEXT = [5, b"x", ["x"], "broken \ud800"]
NOT_JSON = [
    *(math.nan, math.inf, -math.inf, {1: 2}, {"a": {None: 1}}, {"a", "b"}, b"x", object(), 1j),
    *(datetime(2026, 1, 1, tzinfo=UTC), "\ud800", {"\udfff": 1}, ["ok", ["\ud800"]], math),
]
DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]
BAD_OBJECTS = [5, "ab", [1], *({"k": value} for value in [*NOT_JSON, DEEP]), {5: "x"}, {"\ud800": 1}, {"\x00": 1}]
NOT_MESSAGES = ["", [], "hi", 5, None, ["hi"], [{"role": "user", "content": "hi"}], [user(), None]]


def _run(**fields: Any) -> AgentSession:
    return AgentSession("new", runs=[RunOutput(**({"run_id": "r", "session_id": "new"} | fields))])


def _named(name: Any) -> AgentSession:
    session = AgentSession("new")
    session.name = name
    return session


def _valued(**values: Any) -> AgentSession:
    session = AgentSession("new")
    for kind, value in values.items():
        setattr(session, kind, value)
    return session


REFUSED: dict[str, tuple[Call, list[Any]]] = {
    "session_id of create_session": (lambda db, bad: db.create_session(bad), BAD_IDS),
    "session_id of get_session": (lambda db, bad: db.get_session(bad), NO_ID),
    "session_id of get_header": (lambda db, bad: db.get_header(bad), NO_ID),
    "session_id of get_messages": (lambda db, bad: db.get_messages(bad), NO_ID),
    "session_id of get_run": (lambda db, bad: db.get_run("r", bad), NO_ID),
    "session_id of get_last_run": (lambda db, bad: db.get_last_run(bad), NO_ID),
    "session_id of get_values": (lambda db, bad: db.get_values(bad, "state"), NO_ID),
    "session_id of get_metrics": (lambda db, bad: db.get_metrics(bad), NO_ID),
    "session_id of update_values": (lambda db, bad: db.update_values(bad, "state", {"k": 1}), NO_ID),
    "session_id of set_session_name": (lambda db, bad: db.set_session_name(bad, "Name"), NO_ID),
    "session_id of claim_session": (lambda db, bad: db.claim_session(bad, "u"), NO_ID),
    "session_id of delete_session": (lambda db, bad: db.delete_session(bad), NO_ID),
    "session_ids of delete_sessions": (lambda db, bad: db.delete_sessions(["s", bad]), NO_ID),
    "session_id of begin_run": (lambda db, bad: db.begin_run(bad, [user()]), NO_ID),
    "user_id of create_session": (lambda db, bad: db.create_session("new", user_id=bad), BAD_IDS),
    "user_id of get_session": (lambda db, bad: db.get_session("s", bad), BAD_IDS),
    "user_id of get_messages": (lambda db, bad: db.get_messages("s", None, bad), BAD_IDS),
    "user_id of get_run": (lambda db, bad: db.get_run("r", "s", bad), BAD_IDS),
    "user_id of update_values": (lambda db, bad: db.update_values("s", "state", {"k": 1}, bad), BAD_IDS),
    "user_id of set_session_name": (lambda db, bad: db.set_session_name("s", "Name", bad), BAD_IDS),
    "user_id of claim_session": (lambda db, bad: db.claim_session("s", bad), NO_ID),
    "user_id of delete_session": (lambda db, bad: db.delete_session("s", bad), BAD_IDS),
    "user_id of delete_sessions": (lambda db, bad: db.delete_sessions(["s"], bad), BAD_IDS),
    "user_id of delete_user": (lambda db, bad: db.delete_user(bad), NO_ID),
    "user_id of get_sessions": (lambda db, bad: db.get_sessions(bad), BAD_IDS),
    "user_id of begin_run": (lambda db, bad: db.begin_run("s", [user()], user_id=bad), BAD_IDS),
    "run_id of begin_run": (lambda db, bad: db.begin_run("s", [user()], run_id=bad), BAD_IDS),
    "parent_run_id of begin_run": (lambda db, bad: db.begin_run("s", [user()], parent_run_id=bad), BAD_IDS),
    "agent_id of begin_run": (lambda db, bad: db.begin_run("s", [user()], agent_id=bad), BAD_IDS),
    "team_id of begin_run": (lambda db, bad: db.begin_run("s", [user()], team_id=bad), BAD_IDS),
    "run_id of get_run": (lambda db, bad: db.get_run(bad, "s"), NO_ID),
    "agent_id of create_session": (lambda db, bad: db.create_session("new", agent_id=bad), BAD_IDS),
    "team_id of create_session": (lambda db, bad: db.create_session("new", team_id=bad), BAD_IDS),
    "agent_id of get_sessions": (lambda db, bad: db.get_sessions(agent_id=bad), BAD_IDS),
    "team_id of get_sessions": (lambda db, bad: db.get_sessions(team_id=bad), BAD_IDS),
    "run_id of upsert_session": (lambda db, bad: db.upsert_session(_run(run_id=bad)), NO_ID),
    "parent_run_id of upsert_session": (lambda db, bad: db.upsert_session(_run(parent_run_id=bad)), BAD_IDS),
    "kind of create_session": (lambda db, bad: db.create_session("new", kind=bad), ["robot", "", 5, None, ["agent"]]),
    "kind of begin_run": (lambda db, bad: db.begin_run("new", [user()], kind=bad), ["robot", "", 5, None, ["agent"]]),
    "kind of update_values": (lambda db, bad: db.update_values("s", bad, {"k": 1}), ["robot", "", 5, None]),
    "kind of get_values": (lambda db, bad: db.get_values("s", bad), ["robot", "", 5, None]),
    "kind of get_sessions": (lambda db, bad: db.get_sessions(kind=bad), ["robot", "", 5]),
    "name of create_session": (
        lambda db, bad: db.create_session("new", name=bad),
        [n for n in BAD_NAMES if n is not None],
    ),
    "session_name of set_session_name": (lambda db, bad: db.set_session_name("s", bad), BAD_NAMES),
    "session_name of save_session": (lambda db, bad: db.save_session(_named(bad)), ["  ", "x" * 201, 5, "\ud800"]),
    "agent_name of begin_run": (lambda db, bad: db.begin_run("s", [user()], agent_name=bad), NOT_TEXT),
    "model of begin_run": (lambda db, bad: db.begin_run("s", [user()], model=bad), NOT_TEXT),
    "metadata of create_session": (lambda db, bad: db.create_session("new", metadata=bad), BAD_OBJECTS),
    "session_state of create_session": (lambda db, bad: db.create_session("new", session_state=bad), BAD_OBJECTS),
    "metadata of begin_run": (lambda db, bad: db.begin_run("s", [user()], metadata=bad), BAD_OBJECTS),
    "state of begin_run": (lambda db, bad: db.begin_run("s", [user()], state=bad), BAD_OBJECTS),
    "session_state of update_values": (lambda db, bad: db.update_values("s", "state", bad), BAD_OBJECTS),
    "metadata of update_values": (lambda db, bad: db.update_values("s", "metadata", bad), BAD_OBJECTS),
    "metadata of save_session": (lambda db, bad: db.save_session(_valued(metadata=bad)), BAD_OBJECTS),
    "session_state of upsert_session": (lambda db, bad: db.upsert_session(_valued(session_state=bad)), BAD_OBJECTS),
    "metadata of get_sessions": (lambda db, bad: db.get_sessions(metadata=bad), [*BAD_OBJECTS, {"k": "x" * 256}]),
    "input of begin_run": (lambda db, bad: db.begin_run("s", bad), [*NOT_MESSAGES, [system(), user()]]),
    "prompt of begin_run": (
        lambda db, bad: db.begin_run("s", [user()], prompt=bad),
        ["Be brief.", 5, user(), answer()],
    ),
    "session of save_session": (lambda db, bad: db.save_session(bad), [None, 5, "s", {}]),
    "session of upsert_session": (lambda db, bad: db.upsert_session(bad), [None, 5, "s", {}]),
    "status of upsert_session": (lambda db, bad: db.upsert_session(_run(status=bad)), ["done", 5, None]),
    "messages of upsert_session": (
        lambda db, bad: db.upsert_session(_run(messages=bad)),
        [("hi",), (5,), (user(), {})],
    ),
    "name of get_sessions": (lambda db, bad: db.get_sessions(name=bad), NOT_TEXT),
    "tags of get_sessions": (lambda db, bad: db.get_sessions(tags=bad), [[5], ["\ud800"], 5]),
    "sort of get_sessions": (lambda db, bad: db.get_sessions(sort=bad), ["name", "", None, 5]),
    "limit of get_sessions": (lambda db, bad: db.get_sessions(limit=bad), [0, -1, 1001, "5", None, True, 2.0]),
    "archived of get_sessions": (lambda db, bad: db.get_sessions(archived=bad), ["yes", 2, []]),
    "pinned of get_sessions": (lambda db, bad: db.get_sessions(pinned=bad), ["yes", 2, []]),
    "since of get_sessions": (lambda db, bad: db.get_sessions(since=bad), [datetime(2026, 1, 1), 5, "2026-01-01"]),  # noqa: DTZ001
    "until of get_sessions": (lambda db, bad: db.get_sessions(until=bad), [datetime(2026, 1, 1), 5, "2026-01-01"]),  # noqa: DTZ001
}

STEPS: dict[str, tuple[Callable[[Face, OpenRun, Any], Awaitable[Any]], list[Any]]] = {
    "run of append_messages": (lambda db, _, bad: db.append_messages(bad, [answer()]), [None, 5, "r"]),
    "run of finish_run": (lambda db, _, bad: db.finish_run(bad, [answer()]), [None, 5, "r"]),
    "messages of append_messages": (
        lambda db, run, bad: db.append_messages(run, bad),
        ["hi", 5, ["hi"], [answer(), None]],
    ),
    "messages of finish_run": (lambda db, run, bad: db.finish_run(run, bad), ["hi", 5, ["hi"], [answer(), None]]),
    "at of append_messages": (lambda db, run, bad: db.append_messages(run, [answer()], at=bad), [-1, "1", 1.5]),
    "state of append_messages": (
        lambda db, run, bad: db.append_messages(run, state=bad),
        [5, {5: "1"}, {"k": 5}, {"k": "not json"}, {"\ud800": "1"}, {"k": '"\ud800"'}],
    ),
    "status of finish_run": (lambda db, run, bad: db.finish_run(run, status=bad), ["done", "", None, 5]),
    "metrics of finish_run": (lambda db, run, bad: db.finish_run(run, metrics=bad), [5, {"input_tokens": 1}]),
    "model of finish_run": (lambda db, run, bad: db.finish_run(run, model=bad), NOT_TEXT),
    "error of finish_run": (lambda db, run, bad: db.finish_run(run, error=bad), [5, b"x"]),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("db", TWO, indirect=True, ids="-".join)
async def test_what_cannot_be_stored_is_refused_by_name_and_nothing_is_written(db: Face, what: str) -> None:
    await turn(db, run_id="r")
    call, bad = REFUSED[what]
    await _check(db, what, bad, lambda value: call(db, value))


@pytest.mark.parametrize("what", STEPS)
@pytest.mark.parametrize("db", TWO, indirect=True, ids="-".join)
async def test_a_bad_step_is_refused_by_name_and_the_run_goes_on(db: Face, what: str) -> None:
    run = await db.begin_run("s", [user()])
    call, bad = STEPS[what]
    await _check(db, what, bad, lambda value: call(db, run, value))
    await db.finish_run(run, [answer()])


async def _check(db: Face, what: str, bad: list[Any], call: Callable[[Any], Awaitable[Any]]) -> None:
    wrong: list[str] = []
    before = dump(db)
    for value in bad:
        try:
            done = await call(value)
        except InvalidArgument as error:
            if what.split(maxsplit=1)[0] not in str(error).partition(":")[0]:
                wrong.append(f"{value!r:.60}: the error names another argument: {error}")
        except Exception as error:  # noqa: BLE001 - the test tells of every value at once
            wrong.append(f"{value!r:.60}: raised {error!r}")
        else:
            wrong.append(f"{value!r:.60}: was accepted: {done!r}")
        if (after := dump(db)) != before:
            before = after
            wrong.append(f"{value!r:.60}: something was written")
    assert not wrong, "\n".join([what, *wrong])


NOT_A_MESSAGE: dict[str, tuple[Callable[[Any], Message], list[Any]]] = {
    "role": (lambda bad: Message(bad, "x"), ["robot", "", None, 5, "User"]),
    "content": (lambda bad: Message("user", bad), [5, {"a": 1}, True, *NOT_JSON]),
    "other keys": (lambda bad: Message("user", "x", extra=bad), NOT_JSON),
    "id": (lambda bad: Message("user", "x", id=bad), BAD_IDS),
    "name": (lambda bad: Message("user", "x", name=bad), [5, ["x"], "\ud800"]),
    "tool_call_id": (lambda bad: Message("tool", "x", tool_call_id=bad), [5, ["x"], "\ud800"]),
    "tool_calls": (lambda bad: Message("assistant", None, tool_calls=bad), [[{"id": 5}], "none", [5], {}]),
    "JSON": (
        Message.from_json,
        [
            *("", "{", "[]", "null", '"user"', "{}", '{"role": null}', '{"role": "user"} x', b"\xff"),
            *('{"role":"user","content":NaN}', '{"role":"user","content":"\\ud800"}', '{"role":"user","k":"\\udfff"}'),
            *('{"role":"user","content":"\ud800"}', '{"role":"user","k":1e999}', "{'role':'user'}"),
        ],
    ),
    "type of JSON": (Message.from_json, [5, None, ["x"]]),
    "dictionary": (Message.from_dict, [{}, {"role": 5}, {1: 2, "role": "user"}]),
    "type of dictionary": (Message.from_dict, [5, "ab", None]),
}


@pytest.mark.parametrize("what", NOT_A_MESSAGE)
def test_what_is_no_message_is_refused_where_it_is_made(what: str) -> None:
    make, bad = NOT_A_MESSAGE[what]
    wrong = []
    for value in bad:
        try:
            made = make(value)
        except InvalidArgument as error:
            if not str(error).startswith("message"):
                wrong.append(f"{value!r:.60}: the error names another argument: {error}")
        except Exception as error:  # noqa: BLE001 - the test tells of every value at once
            wrong.append(f"{value!r:.60}: raised {error!r}")
        else:
            wrong.append(f"{value!r:.60}: was accepted: {made.to_json()}")
    assert not wrong, "\n".join([what, *wrong])


def test_numbers_and_text_of_other_libraries_are_refused_or_stored_as_json() -> None:
    """In numpy, float64 is a float, and str_ a str."""

    class Number(float):
        pass

    class Text(str):
        __slots__ = ()

    for value in (Number(1.5), Text("x")):
        try:
            message = Message("user", "x", extra=value)
        except InvalidArgument:
            continue
        assert message.to_dict()["extra"] == value


# Text that survives only if nobody decodes and encodes it again.
TEXTS = ["", "a\u0000b", "\u2028", "é", "e\u0301", "😀", "\ufeff", "\uffff", '"\\/', "\x7f\x85", "İ", " \t\n"]
NUMBERS = ["0", "-0", "-0.0", "1E5", "1e-7", "1.10", "3.0000", "9007199254740993", str(10**30), str(-(2**63)), "1e22"]
BLANKS = ["", "", " ", "\n", "\t ", "\r\n"]
KEYS = ["extra", "a b", "", "\u0000", "é", "id", "session_id", "cache_control", "_x", "0"]


def _text(rng: random.Random) -> str:
    value = "".join(rng.choice(TEXTS) for _ in range(rng.randrange(3)))
    if rng.random() < 0.5:
        return json.dumps(value, ensure_ascii=rng.random() < 0.5)
    return '"' + "".join(f"\\u{unit:04X}" for unit in memoryview(value.encode("utf-16-le")).cast("H")) + '"'


def _value(rng: random.Random, depth: int = 0) -> str:
    kind = rng.randrange(8 if depth < 3 else 6)
    if kind < 2:
        return _text(rng)
    if kind < 4:
        return rng.choice(NUMBERS)
    if kind < 6:
        return rng.choice(["null", "true", "false"])
    items = (_value(rng, depth + 1) for _ in range(rng.randrange(4)))
    if kind == 6:
        return _joined(rng, "[]", items)
    return _joined(rng, "{}", (f"{_text(rng)}{rng.choice(BLANKS)}:{item}" for item in items))


def _joined(rng: random.Random, brackets: str, items: Iterator[str]) -> str:
    spaced = ",".join(rng.choice(BLANKS) + item + rng.choice(BLANKS) for item in items)
    return brackets[0] + (spaced or rng.choice(BLANKS)) + brackets[1]


def _random_message(rng: random.Random) -> str:
    role = rng.choice(["user", "assistant", "tool", "system", "developer", "function"])
    fields = [f'"role":{rng.choice(BLANKS)}"{role}"']
    if rng.random() < 0.9:
        parts = _joined(rng, "[]", (f'{{"type":"text","text":{_text(rng)}}}' for _ in range(rng.randrange(3))))
        fields.append('"content":' + rng.choice([_text(rng), "null", parts]))
    if role == "assistant" and rng.random() < 0.5:
        arguments = json.dumps(_value(rng))
        call = f'{{"id":{_text(rng)},"type":"function","function":{{"name":"f","arguments":{arguments}}}}}'
        fields.append(f'"tool_calls":{rng.choice(["null", "[]", f"[{call}]", f"[{call} , {call}]"])}')
    if role == "tool":
        fields.append(f'"tool_call_id" : {rng.choice(["null", _text(rng)])}')
    fields += [f"{json.dumps(key)}:{_value(rng)}" for key in rng.sample(KEYS, rng.randrange(3))]
    rng.shuffle(fields)
    return rng.choice(BLANKS) + _joined(rng, "{}", iter(fields)) + rng.choice(BLANKS)


@pytest.mark.parametrize("db", [*TWO, ("normal", "sync")], indirect=True, ids="-".join)
async def test_ten_thousand_messages_come_back_byte_for_byte(db: Face) -> None:
    rng = random.Random(2026)
    written = [_random_message(rng) for _ in range(10_000)]
    run = await db.begin_run("s", [user()])
    for start in range(0, len(written), 500):
        await db.append_messages(run, [Message.from_json(text) for text in written[start : start + 500]])
    await db.finish_run(run)
    stored = (await db.get_session("s")).runs[0].messages[1:]
    assert [message.to_json() for message in stored] == written
    assert [message.to_dict() for message in stored] == [json.loads(text) for text in written]
    assert [message.role for message in stored] == [json.loads(text)["role"] for text in written]


async def test_values_come_back_as_they_were(db: Face) -> None:
    values = {
        **{f"number {number}": json.loads(number) for number in NUMBERS},
        **{f"text {place}": text for place, text in enumerate(TEXTS)},
        "": None,
        "NUL": "\x00",
        "nested": {"a": [None, True, {"": []}]},
        "long": "x" * 300_000,
    }
    await db.create_session("s", metadata=values, session_state=values)
    run = await db.begin_run("s", [user()], metadata=values)
    session = await db.get_session("s")
    assert session.metadata == session.session_state == session.runs[0].metadata == values
    assert (await db.get_values("s", "metadata")) == values
    assert [type(value) for value in session.metadata.values()] == [type(values[key]) for key in session.metadata]
    await db.finish_run(run)


@pytest.mark.parametrize(
    "id", ["x" * 255, "é" * 255, "😀", " ", "a/b?c=d&e", "'; drop table recollect_sessions; --", "%_*"]
)
async def test_any_other_text_is_an_id(db: Face, id: str) -> None:
    await turn(db, id, user_id=id, run_id=id, agent_id=id)
    assert (await db.get_run(id, id, id)).agent_id == id
    assert [header.session_id for header in await db.get_sessions(id, agent_id=id)] == [id]
    await db.delete_session(id, id)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("  Plan \n for\tyou ", "Plan for you"), ("Cafe\u0301", "Café"), ("a\x00b", "a b"), ("😀" * 200, "😀" * 200)],
)
async def test_a_name_is_cleaned(db: Face, given: str, kept: str) -> None:
    await db.create_session("s")
    assert (await db.set_session_name("s", given)).name == kept
    assert (await db.create_session("t", name=given)).name == kept
    header = await db.get_header("s")
    assert (header.name, header.name_source, header.title) == (kept, "manual", kept)


async def test_a_preview_holds_what_a_plain_column_can(db: Face) -> None:
    await db.begin_run("s", [user("a\x00b\n" + "é" * 500)])
    assert (await db.get_header("s")).preview == "a b " + "é" * 116
