"""Which messages of the past the model sees. Pure: data in, data out.

The store hands over the newest whole runs that fit, cut by their stored size; here tool exchanges are made whole and
what an interruption left open is answered, so that every provider accepts the conversation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument
from recollect.message import Message

CHARS_PER_TOKEN: Final = 4
"""English text and JSON average about four characters a token; the estimate is used where no tokenizer is asked."""

UNKNOWN_OUTCOME: Final = "interrupted; outcome unknown"

HISTORY_STATUSES: Final = ("completed", "cancelled", "interrupted")
"""Runs that are part of what the model is shown: never running, failed, paused or regenerated ones."""


class HistoryLimits(msgspec.Struct, frozen=True):
    """How much of the past the model may see: every limit holds, the newest runs win."""

    runs: int = 50
    tokens: int | None = 8000
    messages: int | None = None

    @classmethod
    def checked(cls, runs: int | None, tokens: int | None, messages: int | None) -> HistoryLimits:
        """Limits as an agent is given them; without a token limit, at least one other must be set.

        Raises:
            InvalidArgument: a limit is negative, or nothing bounds the past.
        """
        if tokens is None and runs is None and messages is None:
            raise InvalidArgument(
                "history_tokens",
                "None leaves the past without a bound; also set num_history_runs or num_history_messages",
            )
        return cls(
            50 if runs is None else checks.count("num_history_runs", runs),
            None if tokens is None else checks.count("history_tokens", tokens),
            None if messages is None else checks.count("num_history_messages", messages),
        )

    @property
    def chars(self) -> int:
        """The token limit in characters of stored JSON."""
        return (1 << 62) if self.tokens is None else self.tokens * CHARS_PER_TOKEN


class History(msgspec.Struct, frozen=True):
    """The part of the past that the model is shown."""

    messages: tuple[Message, ...] = ()
    runs: int = 0
    """How many runs it comes from."""
    cut: bool = False
    """Whether older runs were left out."""


def estimate_tokens(messages: Iterable[Message]) -> int:
    """About how many tokens these messages take: characters of their JSON by four."""
    return sum(message.chars for message in messages) // CHARS_PER_TOKEN


def select(
    messages: Sequence[Message], runs: int, limits: HistoryLimits, *, older: bool = False, tools: bool = True
) -> History:
    """The past as the model is shown it: tool exchanges whole, and no more messages than the limit.

    ``messages`` are those of the newest ``runs`` runs that fit the other limits, oldest first, without system
    messages; ``older`` says that runs before these exist, ``tools`` that tools may have been called in them.
    """
    if tools:
        messages = repair(messages)
    if limits.messages is None or len(messages) <= limits.messages:
        return History(tuple(messages), runs, older)
    return History(tuple(_newest(messages, limits.messages)), runs, cut=True)


def repair(messages: Sequence[Message]) -> list[Message]:
    """Make tool exchanges whole: answer calls that were left open, drop answers whose call is not there."""
    mended: list[Message] = []
    open_calls: dict[str, str] = {}
    for message in messages:
        if message.role == "tool":
            if open_calls.pop(message.tool_call_id or "", None) is not None:
                mended.append(message)
            continue
        if open_calls:
            mended += _unknown_outcomes(open_calls)
        open_calls = {call.id: call.name for call in message.tool_calls} if message.role == "assistant" else {}
        mended.append(message)
    return mended + _unknown_outcomes(open_calls)


def _unknown_outcomes(open_calls: dict[str, str]) -> list[Message]:
    return [
        Message("tool", UNKNOWN_OUTCOME, tool_call_id=call_id, name=name, tool_call_error=True)
        for call_id, name in open_calls.items()
    ]


def _newest(messages: Sequence[Message], count: int) -> Sequence[Message]:
    newest = messages[-count:] if count else ()
    lead = next((place for place, message in enumerate(newest) if message.role != "tool"), len(newest))
    return newest[lead:]
