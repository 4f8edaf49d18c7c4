"""A title without a model, from what the user typed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from recollect.naming.clean import cut, head, plain, settled
from recollect.run import RunOutput
from recollect.selection import is_own
from recollect.session import AgentSession

MAX_WORDS: Final = 9
MAX_CHARS: Final = 60
TEXTS: Final = 20
"""How many messages are looked at, at most."""
RUNS: Final = 8
"""How many of a session's runs are looked at, at most."""


def title_from_first_message(session: AgentSession) -> str:
    """A title from what the user said first; "" only where nothing was said in text.

    Looks at the first few top-level runs that were not regenerated.
    """
    return title(message.text for run in _first_runs(session) for message in run.said if message.role == "user")


def _first_runs(session: AgentSession) -> Iterator[RunOutput]:
    own = (run for run in session.runs if is_own(run))
    return islice(own, RUNS)


def title(texts: Iterable[str], *, max_words: int = MAX_WORDS, max_chars: int = MAX_CHARS) -> str:
    """A title from a user's texts in order: of the first that says something; "" only where there is nothing to see.

    Of each text the first few thousand characters are looked at.
    """
    from recollect.naming.request import request_title  # its patterns take a while to make, and few need them

    spare = ""
    for text in islice(texts, TEXTS):
        start = head(text)
        if found := request_title(start, max_words, max_chars):
            return found
        spare = spare or _visible(start, max_words, max_chars)
    return spare


def _visible(text: str, max_words: int, max_chars: int) -> str:
    shown = " ".join(text.split())
    short = cut(shown, max_words, max_chars)
    return settled(short) or plain(short).strip()
