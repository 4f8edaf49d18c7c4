"""How many tokens the past takes: counted by tiktoken, where it is installed and has its vocabulary, else estimated.

tiktoken loads its vocabulary from the network when it is first asked, without a limit of time. So it is loaded in a
thread that nobody waits for, once somebody has a past to count; until then, and where it cannot be loaded, there is the
estimate. ``RECOLLECT_TIKTOKEN=off`` in the environment keeps it from being loaded at all.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from recollect.background import aside
from recollect.forking import let_go_at_fork
from recollect.history import CHARS_PER_TOKEN, History, HistoryLimits
from recollect.message import Message, chars_of
from recollect.port import World

log = logging.getLogger("recollect")

USUAL: Final = "o200k_base"
"""The encoding for models that tiktoken does not know."""

PER_MESSAGE: Final = 4
PER_NAME: Final = 1
"""Tokens beside the text, as OpenAI's cookbook has them: three and the role for each message, and one for a name."""

REMEMBERED: Final = 50_000
"""Messages whose count is remembered, about a hundred bytes each."""

PIECE: Final = 100_000
"""Characters that are counted at once: in one that is much longer, tiktoken may fail on white space."""

AT_ONCE: Final = 20_000
"""Characters that are counted here and now; more would hold up an event loop, and go to a thread."""

RETRY: Final = 600.0
"""Seconds after which a vocabulary that could not be loaded is asked for again."""


class Counter:
    """Counts the tokens of messages in one encoding, and remembers what it counted."""

    def __init__(self, encoding: Any) -> None:
        self._encode: Callable[[str], Sequence[int]] = encoding.encode_ordinary
        self._known: dict[int, int] = {}

    def __call__(self, messages: Sequence[Message]) -> list[int]:
        """For each the text, names and arguments that are sent, and what a message takes besides."""
        counts = [*map(self._known.get, map(hash, map(Message.to_json, messages)))]
        return [
            self._learned(message) if count is None else count for message, count in zip(messages, counts, strict=True)
        ]

    def unknown(self, messages: Sequence[Message]) -> int:
        """Characters of those that were not counted yet."""
        new = [message for message in messages if hash(message.to_json()) not in self._known]
        return chars_of(new)

    def _learned(self, message: Message) -> int:
        count = self._count(message)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[hash(message.to_json())] = count
        return count

    def _count(self, message: Message) -> int:
        words = [message.text, *(part for call in message.tool_calls for part in (call.name, call.arguments))]
        count = PER_MESSAGE + sum(map(self._tokens, words))
        return count if message.name is None else count + PER_NAME + self._tokens(message.name)

    def _tokens(self, text: str) -> int:
        try:
            return sum(len(self._encode(text[start : start + PIECE])) for start in range(0, len(text), PIECE))
        except BaseException as error:  # an encoding may fail in any way; a run does not for that
            if not _is_failure(error):
                raise
            log.warning("tiktoken could not count a message, which is estimated: %s", type(error).__name__)
            return len(text) // CHARS_PER_TOKEN


def _is_failure(error: BaseException) -> bool:
    """Whether tiktoken failed: what panics in its Rust is told as no `Exception`."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


class TokenBudget(msgspec.Struct, frozen=True):
    """So many tokens for the past, counted."""

    tokens: int
    count: Counter

    @classmethod
    def of(cls, limits: HistoryLimits, model: str) -> TokenBudget | None:
        """The budget within these limits; None where there is none, or nothing that counts for this model."""
        counter = None if limits.tokens is None else TOKENIZERS.get(model)
        return None if counter is None or limits.tokens is None else cls(limits.tokens, counter)

    async def fit(self, past: History, world: World) -> History:
        """The newest whole runs of the past that fit."""
        if world.waits and self.count.unknown(past.messages) > AT_ONCE:
            fitting: History = await world.call(self._fit, past)
            return fitting
        return self._fit(past)

    def _fit(self, past: History) -> History:
        return past.within(self.tokens, self.count(past.messages))


class Tokenizers:
    """What counts for which model; loaded off to the side, one at a time."""

    def __init__(self) -> None:
        self._by_model: dict[str, Counter] = {}
        self._by_encoding: dict[str, Counter] = {}
        self._is_loading = False
        self._not_before = 0.0
        let_go_at_fork(self)

    def get(self, model: str) -> Counter | None:
        """What counts for this model; None while nothing does."""
        return self._by_model.get(model)

    def ask(self, model: str) -> None:
        """Have what counts for this model loaded, unless that is under way, has just failed, or is not wanted."""
        if self._is_loading or model in self._by_model or time.monotonic() < self._not_before:
            return
        if os.environ.get("RECOLLECT_TIKTOKEN") == "off" or importlib.util.find_spec("tiktoken") is None:
            self._not_before = time.monotonic() + RETRY
            return
        self._is_loading = True
        if not aside("recollect-tokens", partial(self._load, model)):
            self._is_loading = False

    def _load(self, model: str) -> None:
        try:
            self._by_model[model] = self._made(model)
        except BaseException as error:  # network, files, plugins: tokens are estimated all the same
            if not _is_failure(error):
                raise
            self._not_before = time.monotonic() + RETRY
            log.info("tokens are estimated, for tiktoken could not load its vocabulary: %s", error)
        finally:
            self._is_loading = False

    def _made(self, model: str) -> Counter:
        import tiktoken

        try:
            name = tiktoken.encoding_name_for_model(model)
        except KeyError:
            name = USUAL
        known = self._by_encoding.get(name)
        return known or self._by_encoding.setdefault(name, Counter(tiktoken.get_encoding(name)))

    def before_fork(self) -> None:
        """Nothing is held here."""

    def after_fork(self, *, child: bool) -> None:
        """In a child nobody is loading: threads stay with the parent."""
        if child:
            self._is_loading = False


TOKENIZERS: Final = Tokenizers()
