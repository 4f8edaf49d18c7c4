"""What the model is shown of the past: within every limit, the newest, and always what a provider takes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect import Message, RunStatus, SessionCache, SqliteDb
from recollect.history import CHARS_PER_TOKEN, UNKNOWN_OUTCOME, History, HistoryLimits, repair, select
from recollect.message import ToolCall
from recollect.models.openai.items import input_items
from recollect.store.begin import refresh_run
from recollect.testing import FrozenClock
from recollect.testing.items import Memory, check_input
from recollect.testing.seal import Seal

TAG = {"provider": "openai", "model": "gpt-5.2"}
SEAL = Seal("sk-test")
NUMBERS = itertools.count()

texts = st.sampled_from(["", "ok", "word " * 9, "x" * 90])


def thought(*follower: str) -> dict[str, Any]:
    """A reasoning item that must stand directly before what it led to."""
    name = f"rs_{next(NUMBERS)}"
    kind, *call_id = follower
    leads_to = {"type": kind, "call_id": call_id[0] if call_id else None}
    return {
        "type": "reasoning",
        "id": name,
        "summary": [],
        "encrypted_content": SEAL.close({"id": name, "follower": leads_to}),
    }


def spoken(text: str, *, thinks: bool) -> Message:
    if not thinks or not text:
        return Message("assistant", text)
    items = [thought("message"), {"type": "message", "chars": len(text)}]
    return Message("assistant", text, provider_data={**TAG, "items": items})


def calling(text: str, ids: Sequence[str], *, thinks: bool) -> Message:
    calls = [ToolCall(call_id, "look", '{"at": 1}').to_dict() for call_id in ids]
    marks: list[dict[str, Any]] = [{"type": "message", "chars": len(text)}] if text else []
    marks += [{"type": "function_call", "call_id": call_id} for call_id in ids]
    if not thinks:
        return Message("assistant", text or None, tool_calls=calls)
    follower = ("message",) if text else ("function_call", ids[0])
    data = {**TAG, "items": [thought(*follower), *marks]}
    return Message("assistant", text or None, tool_calls=calls, provider_data=data)


@st.composite
def steps(draw: st.DrawFn, *, ids: st.SearchStrategy[str] | None = None) -> list[Message]:
    """A call of one or several tools at once, with the results that came, in the order of their arrival."""
    count = draw(st.integers(1, 3))
    given_ids = [draw(ids) if ids is not None else f"call_{next(NUMBERS)}" for _ in range(count)]
    call = calling(draw(texts), given_ids, thinks=ids is None and draw(st.booleans()))
    came = draw(st.permutations(given_ids))[: draw(st.integers(0, count)) if draw(st.booleans()) else count]
    return [call, *(Message("tool", draw(texts), tool_call_id=call_id, name="look") for call_id in came)]


same_ids = st.sampled_from(["call_a", "call_b"])


@st.composite
def runs(draw: st.DrawFn) -> list[Message]:
    """What was said in a run: some have several users, some end in the midst, some begin with somebody's result."""
    said = [Message("user", draw(texts))]
    if draw(st.booleans()):
        said.insert(draw(st.integers(0, 1)), Message("tool", "late", tool_call_id=draw(same_ids)))
    for _ in range(draw(st.integers(0, 3))):
        said += draw(steps(ids=draw(st.sampled_from([None, same_ids]))))
    ending = draw(st.sampled_from(["answer", "answer", "thought", "nothing"]))
    if ending != "nothing":
        said.append(spoken(draw(texts), thinks=ending == "thought"))
    return said


limits = st.builds(
    HistoryLimits,
    runs=st.integers(0, 6),
    tokens=st.none() | st.integers(0, 600),
    messages=st.none() | st.integers(0, 12),
    tool_calls=st.none() | st.integers(0, 5),
)


def is_taken(past: Sequence[Message]) -> bool:
    """Whether the API takes it; it refuses orphans, of calls, results and thoughts."""
    check_input(input_items([*past, Message("user", "And?")], TAG), SEAL, Memory())
    return True


def called(messages: Sequence[Message]) -> int:
    return sum(len(message.tool_calls) for message in messages)


def exchanges(messages: Sequence[Message]) -> list[Message]:
    """The messages that call tools."""
    return [message for message in messages if message.tool_calls]


def shown(past: Sequence[list[Message]], wanted: HistoryLimits) -> History:
    messages = [message for run in past for message in run]
    seqs = [seq for seq, run in enumerate(past, 1) for _ in run]
    return select(messages, seqs, wanted)


@given(past=st.lists(runs(), max_size=6), wanted=limits)
@settings(max_examples=300)
def test_no_limit_is_passed_and_nothing_is_torn(past: list[list[Message]], wanted: HistoryLimits) -> None:
    seen = shown(past, wanted)
    whole = shown(past, HistoryLimits())
    assert is_taken(seen.messages)
    assert wanted.tool_calls is None or called(seen.messages) <= wanted.tool_calls
    assert wanted.messages is None or len(seen.messages) <= wanted.messages
    assert (len(seen.seqs), seen.runs) == (len(seen.messages), len(set(seen.seqs)))
    assert list(seen.seqs) == sorted(seen.seqs)
    kept = exchanges(seen.messages)
    assert kept == exchanges(whole.messages)[len(exchanges(whole.messages)) - len(kept) :], "the newest"
    if wanted.messages is None:
        left_out = exchanges(whole.messages)[: len(exchanges(whole.messages)) - len(kept)]
        assert not left_out or called(kept) + called(left_out[-1:]) > (wanted.tool_calls or 0)
        words = [message.text for message in whole.messages if message.role != "tool"]
        assert [text for text in words if text] == [
            message.text for message in seen.messages if message.role != "tool" and message.text
        ], "what was said beside a call stays"


@given(past=st.lists(runs(), max_size=6), wanted=limits, data=st.data())
@settings(max_examples=300)
def test_tokens_are_cut_by_whole_runs_and_the_newest_win(
    past: list[list[Message]], wanted: HistoryLimits, data: st.DataObject
) -> None:
    seen = shown(past, wanted)
    counts = [data.draw(st.integers(0, 9)) for _ in seen.messages]
    budget = data.draw(st.integers(0, sum(counts) + 2))
    fitting = seen.within(budget, counts)
    assert is_taken(fitting.messages)
    assert fitting.tokens <= budget
    assert fitting.counted
    starts = [without_lead(seen.messages, seen.seqs.index(seq)) for seq in dict.fromkeys(seen.seqs)]
    start = next((start for start in starts if sum(counts[start:]) <= budget), len(counts))
    assert (fitting.messages, fitting.tokens) == (seen.messages[start:], sum(counts[start:]))
    assert (fitting.runs, fitting.cut) == (len(set(fitting.seqs)), seen.cut or start > 0)


def without_lead(messages: Sequence[Message], first: int) -> int:
    """The place from which a run can be shown without those before it."""
    after = (at for at in range(first, len(messages)) if messages[at].role != "tool")
    return next(after, len(messages)) if first else 0


@given(st.lists(runs(), max_size=5))
def test_calls_and_results_are_matched_one_to_one_though_ids_repeat(past: list[list[Message]]) -> None:
    said = [message for _, message in repair((0, message) for run in past for message in run)]
    left: list[str] = []
    for message in said:
        if message.role == "tool":
            left.remove(message.tool_call_id or "")
        else:
            assert not left
            left = [call.id for call in message.tool_calls]
    assert not left


def test_two_calls_of_one_id_each_get_a_result() -> None:
    said = [calling("", ["c", "c"], thinks=False), Message("tool", "one", tool_call_id="c")]
    assert [message.text for _, message in repair((0, message) for message in said)] == ["", "one", UNKNOWN_OUTCOME]
    both = [*said, Message("tool", "two", tool_call_id="c")]
    assert [message for _, message in repair((0, message) for message in both)] == both


def test_what_was_said_beside_calls_that_are_left_out_is_a_plain_message() -> None:
    said = [
        Message("user", "Look"),
        calling("I look.", ["a", "b"], thinks=True),
        *(Message("tool", "seen", tool_call_id=call_id) for call_id in "ab"),
        calling("", ["c"], thinks=True),
        Message("tool", "seen too", tool_call_id="c"),
        Message("assistant", "Done."),
    ]
    for most, expected in ((3, said), (2, [said[0], Message("assistant", "I look."), *said[4:]]), (1, None), (0, 3)):
        seen = select(said, [1] * len(said), HistoryLimits(tool_calls=most)).messages
        if most:
            assert list(seen) == (expected or [said[0], Message("assistant", "I look."), *said[4:]])
        else:
            assert [message.to_dict() for message in seen] == [
                {"role": "user", "content": "Look"},
                {"role": "assistant", "content": "I look."},
                {"role": "assistant", "content": "Done."},
            ]


def test_a_result_goes_with_its_call_into_the_run_before() -> None:
    """A run may begin with the result of a call that the run before it made."""
    first = [Message("user", "Ask"), calling("", ["c"], thinks=False)]
    second = [Message("tool", "said yes", tool_call_id="c"), Message("user", "So?"), Message("assistant", "Yes.")]
    seen = shown([first, second], HistoryLimits())
    assert seen.within(4, [1] * 5).messages == tuple(second[1:])
    assert seen.within(5, [1] * 5).messages == (*first, *second)


turns = st.lists(
    st.tuples(
        runs(),
        st.sampled_from([RunStatus.completed] * 6 + [RunStatus.cancelled, RunStatus.error, RunStatus.paused, None]),
        st.sampled_from([0, 0, 0, 1]),
        st.sampled_from(["cached"] * 4 + ["plain"]),
    ),
    max_size=10,
)


@given(turns, st.tuples(limits, limits))
@settings(max_examples=100)
def test_a_turn_is_shown_the_same_past_with_a_cache_and_without(
    turns: list[tuple[list[Message], RunStatus | None, int, str]], choice: tuple[HistoryLimits, HistoryLimits]
) -> None:
    with SqliteDb(clock=(clock := FrozenClock())) as db:
        stores = {"cached": SessionCache().over(db), "plain": db}
        for said, status, which, way in turns:
            store, wanted = stores[way], choice[which]
            asked = [message for message in said[:1] if message.role == "user"] or [Message("user", "x")]
            run = store.begin_run("s", asked, history=wanted)
            expected = db.transact(refresh_run, run, history=wanted).history
            assert run.history == expected
            assert is_taken(run.history.messages)
            assert run.history.runs <= wanted.runs
            assert wanted.tokens is None or sum(m.chars for m in run.history.messages) <= _room(run.history, wanted)
            store.append_messages(run, said[1:])
            if status is None:
                del run
                clock.tick(60)
            else:
                store.finish_run(run, status=status)


def _room(past: History, wanted: HistoryLimits) -> int:
    """Characters that may be shown: results that were made up for calls left open come on top of what was stored."""
    made_up = [message for message in past.messages if message.text == UNKNOWN_OUTCOME]
    return wanted.chars + sum(message.chars for message in made_up)


def test_the_estimate_is_told() -> None:
    said = [Message("user", "x" * 40), calling("", ["c"], thinks=True), Message("tool", "y", tool_call_id="c")]
    seen = select(said, [1] * 3, HistoryLimits())
    assert (seen.tokens, seen.counted) == (sum(message.chars for message in said) // CHARS_PER_TOKEN, False)
    assert seen.tokens < sum(len(message.to_json()) for message in said) // CHARS_PER_TOKEN


@pytest.mark.parametrize("most", [0, 1])
def test_messages_are_counted_after_calls_were_left_out(most: int) -> None:
    said = [Message("user", "1"), calling("", ["c"], thinks=False), Message("tool", "r", tool_call_id="c")]
    said += [Message("assistant", "2"), Message("user", "3"), Message("assistant", "4")]
    seen = select(said, [1] * 4 + [2] * 2, HistoryLimits(messages=4, tool_calls=most))
    assert [message.text for message in seen.messages] == (["1", "2", "3", "4"] if most == 0 else ["2", "3", "4"])
