"""Which messages of the past the model sees. Pure: data in, data out.

The store hands over the newest whole runs that fit, cut by their stored size; here tool exchanges are made whole and
what an interruption left open is answered, so that every provider accepts the conversation.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument
from recollect.message import Message, ToolCall, chars_of

CHARS_PER_TOKEN: Final = 4
"""English text and JSON average about four characters a token; the estimate is used where no tokenizer is asked."""

Said = tuple[int, Message]
"""A message, and the place in its session of the run that it comes from."""

WIDE: Final = 2
"""How many times the characters of the estimate are read where tokens are counted: text is hardly ever that sparse."""

UNKNOWN_OUTCOME: Final = "interrupted; outcome unknown"

HISTORY_STATUSES: Final = ("completed", "cancelled", "interrupted")
"""Runs that are part of what the model is shown: never running, failed, paused or regenerated ones."""


class HistoryLimits(msgspec.Struct, frozen=True):
    """How much of the past the model may see: every limit holds, the newest runs win."""

    runs: int = 50
    tokens: int | None = 8000
    messages: int | None = None
    tool_calls: int | None = None

    @classmethod
    def checked(
        cls, runs: int | None, tokens: int | None, messages: int | None, tool_calls: int | None = None
    ) -> HistoryLimits:
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
            None if tool_calls is None else checks.count("max_tool_calls_from_history", tool_calls),
        )

    def wide(self) -> HistoryLimits:
        """Limits within which enough is read for those who then count tokens one by one."""
        return self if self.tokens is None else msgspec.structs.replace(self, tokens=self.tokens * WIDE)

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
    seqs: tuple[int, ...] = ()
    """The place in its session of the run that each message comes from."""
    tokens: int = 0
    """How many tokens it takes."""
    counted: bool = False
    """Whether these were counted, and not estimated."""

    def within(self, tokens: int, counts: Sequence[int]) -> History:
        """The newest whole runs of it that take no more tokens; ``counts`` says what each message takes."""
        first, left = 0, sum(counts)
        while left > tokens:
            after = _lead(self.messages, bisect_right(self.seqs, self.seqs[first]))
            left -= sum(counts[first:after])
            first = after
        kept = _from(first, self.messages, self.seqs, older=self.cut)
        return msgspec.structs.replace(kept, tokens=left, counted=True)


def estimate_tokens(messages: Iterable[Message]) -> int:
    """About how many tokens these messages take: characters of their JSON by four."""
    return chars_of(messages) // CHARS_PER_TOKEN


def select(
    messages: Sequence[Message],
    seqs: Sequence[int],
    limits: HistoryLimits,
    *,
    older: bool = False,
    tools: bool = True,
    chars: int | None = None,
) -> History:
    """The past as the model is shown it: tool exchanges whole, no more calls and no more messages than the limits.

    ``messages`` are those of the newest runs that fit the other limits, oldest first, without system messages, and
    ``seqs`` the run of each; ``older`` says that runs before these exist, ``tools`` that tools may have been called
    in them, ``chars`` how many characters they have, where that is known.
    """
    if tools:
        said = repair(zip(seqs, messages, strict=True))
        if limits.tool_calls is not None:
            said = _with_newest_calls(said, limits.tool_calls)
        seqs, messages = [seq for seq, _ in said], [message for _, message in said]
    first = 0 if limits.messages is None else max(0, len(messages) - limits.messages)
    past = _from(_lead(messages, first), messages, seqs, older=older)
    if chars is None or tools or first:
        chars = chars_of(past.messages)
    return msgspec.structs.replace(past, tokens=chars // CHARS_PER_TOKEN)


def _from(first: int, messages: Sequence[Message], seqs: Sequence[int], *, older: bool) -> History:
    """The past from this place on."""
    kept = tuple(seqs[first:])
    return History(tuple(messages[first:]), len(set(kept)), older or first > 0, kept)


def _lead(messages: Sequence[Message], first: int) -> int:
    """The first place from this one on that holds no result: the call of one that leads is left out before it."""
    while 0 < first < len(messages) and messages[first].role == "tool":
        first += 1
    return first


def repair(said: Iterable[Said]) -> list[Said]:
    """Make tool exchanges whole: answer calls that were left open, drop answers whose call is not there."""
    mended: list[Said] = []
    left_open: list[ToolCall] = []
    for seq, message in said:
        if message.role == "tool":
            call = next((call for call in left_open if call.id == message.tool_call_id), None)
            if call is not None:
                left_open.remove(call)
                mended.append((seq, message))
            continue
        mended += [(mended[-1][0], _unknown_outcome(call)) for call in left_open]
        left_open = list(_calls(message))
        mended.append((seq, message))
    return mended + [(mended[-1][0], _unknown_outcome(call)) for call in left_open]


def _calls(message: Message) -> Sequence[ToolCall]:
    return message.tool_calls if message.role == "assistant" else ()


def _unknown_outcome(call: ToolCall) -> Message:
    return Message("tool", UNKNOWN_OUTCOME, tool_call_id=call.id, name=call.name, tool_call_error=True)


def _with_newest_calls(said: list[Said], most: int) -> list[Said]:
    """The newest exchanges that have so many calls at most; of those before them, what was said beside the calls."""
    first = len(said)
    while first and (calls := len(_calls(said[first - 1][1]))) <= most:
        most -= calls
        first -= 1
    while 0 < first < len(said) and said[first][1].role == "tool":
        first += 1
    spoken = [(seq, message) for seq, message in said[:first] if message.role != "tool"]
    return [(seq, _plain(message)) for seq, message in spoken if message.text or not _calls(message)] + said[first:]


def _plain(message: Message) -> Message:
    """An assistant's words without the calls beside them, and without the thoughts that led to these."""
    if not _calls(message):
        return message
    kept = {key: value for key, value in message.to_dict().items() if key not in _OF_CALLS}
    return Message.stored(checks.encode(kept).decode(), message.id, message.role)


_OF_CALLS: Final = frozenset({"tool_calls", "provider_data", "reasoning_content"})
