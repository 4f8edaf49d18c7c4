"""The past in tokens: counted by a real tiktoken with a vocabulary of the tests, and never waited for."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tiktoken.registry
from agent_kit import ScriptedModel, calls

from recollect import Message
from recollect.faces import LOOPS, THREADS
from recollect.history import HistoryLimits, select
from recollect.models.openai import OpenAIResponses
from recollect.port import drive
from recollect.testing import ResponsesServer
from recollect.tokens import AT_ONCE, PIECE, TOKENIZERS, Counter, TokenBudget

pytestmark = pytest.mark.anyio

PLUGIN = """
import threading

may_go_on, asked = threading.Event(), threading.Event()
problem = None


def words():
    asked.set()
    may_go_on.wait(10)
    if problem is not None:
        raise problem
    letters = {bytes([number]): number for number in range(256)}
    return {"name": "words", "pat_str": r"\\w+|\\W", "mergeable_ranks": letters | {b"to": 256, b"ke": 257, b"ken": 258},
            "special_tokens": {"<|end|>": 259}}


ENCODING_CONSTRUCTORS = {"words": words}
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An encoding as a plugin of tiktoken, for the model `ScriptedModel`; made when its ``may_go_on`` is set."""
    package = tmp_path / "plugins" / "tiktoken_ext"
    package.mkdir(parents=True)
    (package / "words_of_the_tests.py").write_text(textwrap.dedent(PLUGIN))
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr(tiktoken.registry, "ENCODING_CONSTRUCTORS", None)
    tiktoken.registry._available_plugin_modules.cache_clear()
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    monkeypatch.setitem(tiktoken.model.MODEL_TO_ENCODING, "scripted", "words")
    monkeypatch.setitem(tiktoken.model.MODEL_TO_ENCODING, "gpt-5.2", "words")
    monkeypatch.delenv("RECOLLECT_TIKTOKEN")
    for name, value in (("_by_model", {}), ("_by_encoding", {}), ("_not_before", 0.0)):
        monkeypatch.setattr(TOKENIZERS, name, value)
    import tiktoken_ext.words_of_the_tests as module  # type: ignore[import-not-found]

    yield module
    module.may_go_on.set()
    settled()
    sys.modules.pop("tiktoken_ext.words_of_the_tests")
    tiktoken.registry._available_plugin_modules.cache_clear()


def settled() -> None:
    """Wait until nothing is being loaded."""
    until = time.monotonic() + 10
    while TOKENIZERS._is_loading and time.monotonic() < until:
        time.sleep(0.005)
    assert not TOKENIZERS._is_loading


@functools.cache
def letters() -> tiktoken.Encoding:
    """An encoding made in place: each letter is a token."""
    ranks = {bytes([number]): number for number in range(256)}
    return tiktoken.Encoding("letters", pat_str=r"\w+|\W", mergeable_ranks=ranks, special_tokens={"<|end|>": 256})


async def test_the_past_is_estimated_until_the_vocabulary_is_there_and_counted_from_then_on(
    bound: Any, plugin: Any
) -> None:
    agent = bound(ScriptedModel("token to", "to", "to", "to"), history_tokens=1000)
    first = await agent.run("token", session_id="s")
    assert not plugin.asked.is_set(), "nothing is loaded before there is a past to count"
    second = await agent.run("token", session_id="s")
    assert plugin.asked.wait(10)
    third = await agent.run("token", session_id="s")
    plugin.may_go_on.set()
    settled()
    fourth = await agent.run("token", session_id="s")
    told = [(run.metrics.history_tokens, run.metrics.history_counted) for run in (first, second, third, fourth)]
    estimated = [sum(message.chars for message in run.messages) for run in (first, second)]
    assert told[:3] == [(0, False), (estimated[0] // 4, False), (sum(estimated) // 4, False)]
    # Four a message; "token" is two, "token to" four, "to" one.
    assert told[3] == (4 * 6 + 3 * 2 + 4 + 1 + 1, True)
    assert (await agent.get_run_output(fourth.run_id, "s")).metrics == fourth.metrics


async def test_a_vocabulary_that_cannot_be_loaded_is_no_matter(bound: Any, plugin: Any) -> None:
    plugin.problem = OSError("no network")
    plugin.may_go_on.set()
    agent = bound(ScriptedModel(*["ok"] * 3))
    await agent.run("Hi", session_id="s")
    await agent.run("Hi", session_id="s")
    settled()
    plugin.asked.clear()
    run = await agent.run("Hi", session_id="s")
    assert (run.metrics.history_runs, run.metrics.history_counted) == (2, False)
    assert not plugin.asked.is_set(), "it is not asked for again with each run"


async def test_whoever_wants_no_tokens_counted_loads_nothing(bound: Any, plugin: Any) -> None:
    agent = bound(ScriptedModel("ok", "ok"), history_tokens=None, num_history_runs=3)
    await agent.run("Hi", session_id="s")
    assert (await agent.run("Hi", session_id="s")).metrics.history_tokens > 0
    assert not TOKENIZERS._is_loading


def test_nothing_of_tiktoken_is_imported_before_there_is_a_past_to_count() -> None:
    program = """
import sys
from recollect import Agent, EchoModel
agent = Agent(EchoModel())
agent.run("Hi", session_id="s")
agent.run("Hi", session_id="t")
print("tiktoken" in sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if name != "RECOLLECT_TIKTOKEN"}
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout == "False\n"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Counter]:
    """Has the tokens of a model counted, each letter being one."""
    counter = Counter(letters())

    def count_for(model: str) -> Counter:
        monkeypatch.setattr(TOKENIZERS, "_by_model", {model: counter})
        return counter

    return count_for


@pytest.mark.parametrize("budget", [0, 13, 14, 27, 28, 42, 1000])
async def test_whole_runs_fit_the_budget_to_the_token(
    bound: Any, counted: Callable[[str], Counter], budget: int
) -> None:
    counted("scripted")
    model = ScriptedModel(*["abc"] * 4)
    agent = bound(model, history_tokens=budget)
    for _ in range(3):
        await agent.run("abc", session_id="s")
    run = await agent.run("abc", session_id="s")
    fitting = min(3, budget // 14)  # two messages of three letters, and four tokens for each
    assert (run.metrics.history_runs, run.metrics.history_tokens) == (fitting, 14 * fitting)
    assert (run.metrics.history_cut, run.metrics.history_counted) == (fitting < 3, True)
    assert len(model.seen()) == 2 * fitting + 1


async def test_all_limits_hold_together_and_the_api_takes_what_is_left(
    bound: Any, real: OpenAIResponses, server: ResponsesServer, counted: Callable[[str], Counter]
) -> None:
    def look(at: int) -> str:
        """Look."""
        return f"seen {at}"

    counted("gpt-5.2")
    agent = bound(real, tools=[look])
    for number in range(4):
        server.reply("I look.", tool_calls=[("look", {"at": 1}), ("look", {"at": 2})], reasoning="Where?")
        server.reply(f"Answer {number}", reasoning="Hm.")
        await agent.run(f"Question {number}", session_id="s")
    for options in (
        {"max_tool_calls_from_history": 2},
        {"max_tool_calls_from_history": 3, "num_history_messages": 5},
        {"history_tokens": 200, "max_tool_calls_from_history": 4},
        {"history_tokens": 60, "num_history_runs": 3},
        {"num_history_messages": 2},
        {"max_tool_calls_from_history": 0, "num_history_runs": 2},
    ):
        limited = bound(real, **options)
        run = await limited.run("And?", session_id="s")
        sent = server.requests[-1]["input"]
        kinds = [item.get("type", "message") for item in sent]
        assert kinds.count("function_call") == kinds.count("function_call_output")
        assert kinds.count("function_call") <= options.get("max_tool_calls_from_history", 8)
        assert run.metrics.history_tokens <= options.get("history_tokens", 8000)
        assert run.metrics.history_counted
        assert run.metrics.history_runs <= options.get("num_history_runs", 50)


async def test_a_long_past_is_counted_beside_the_event_loop(counted: Callable[[str], Counter]) -> None:
    here = threading.get_ident()
    seen: list[int] = []

    class Noting(Counter):
        def _count(self, message: Message) -> int:
            seen.append(threading.get_ident())
            return super()._count(message)

    for length, elsewhere in ((10, False), (AT_ONCE, True)):
        past = select([Message("user", "x" * length)], [1], HistoryLimits())
        budget = TokenBudget(1_000_000, Noting(letters()))
        fitting = await budget.fit(past, LOOPS)
        assert fitting.tokens == length + 4
        assert (seen.pop() != here) == elsewhere
        assert await budget.fit(past, LOOPS) == fitting
        assert not seen, "what was counted is remembered"
        assert drive(TokenBudget(1_000_000, Noting(letters())).fit(past, THREADS)) == fitting
        assert seen.pop() == here


def test_what_is_sent_is_counted() -> None:
    count = Counter(letters())
    call = calls(("look", '{"at":1}'), ("see", "{}"))
    messages = [
        Message("user", "Hallo"),
        Message("user", "Hi", name="ada"),
        Message("user", [{"type": "text", "text": "ab"}, {"type": "image_url", "image_url": {"url": "https://x"}}]),
        call,
        Message("tool", "<|end|>", tool_call_id="call_0", provider_data={"much": "x" * 99}),
        Message("assistant", None),
        Message("user", "é"),
    ]
    assert count(messages) == [9, 4 + 2 + 1 + 3, 6, 4 + 4 + 8 + 3 + 2, 11, 4, 6]


def test_very_long_texts_are_counted_by_pieces_and_what_fails_is_estimated() -> None:
    count = Counter(letters())
    assert count([Message("user", " " * (3 * PIECE + 1))]) == [3 * PIECE + 5]

    class PanicException(BaseException):
        """What tiktoken raises where its Rust panics."""

    class Broken:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def encode_ordinary(self, text: str) -> list[int]:
            raise self.error

    for error in (ValueError(), PanicException()):
        assert Counter(Broken(error))([Message("user", "x" * 40)]) == [4 + 10]
    with pytest.raises(KeyboardInterrupt):
        Counter(Broken(KeyboardInterrupt()))([Message("user", "x" * 40)])


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recollect.tokens.REMEMBERED", 3)
    count = Counter(letters())
    for number in range(10):
        assert count([Message("user", str(number))]) == [5]
        assert len(count._known) <= 3


def test_a_child_process_does_not_wait_for_what_its_parent_was_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TOKENIZERS, "_is_loading", True)
    if (child := os.fork()) == 0:
        os._exit(int(TOKENIZERS._is_loading))
    assert os.waitpid(child, 0)[1] == 0
    assert TOKENIZERS._is_loading
