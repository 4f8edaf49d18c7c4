"""Side tasks: names and summaries, small questions that want a short answer and little thought. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from recollect.models.openai.adapter import reasons
from recollect.port import ModelRequest

THINKING: Final = 1024
"""Tokens that a model is given to think, beside those of its answer."""

_SPEAKS_AT_ONCE = re.compile(r"(?:^|[/:])(?:gpt-3\.5|gpt-4|chatgpt-|gpt-5-chat)")
_TAKES_NO_LOW = re.compile(r"-pro\b|deep-research|o1-(?:mini|preview)")
_LESS: Final = ("none", "minimal")
_SAMPLING: Final = ("temperature", "top_p")
_EFFORTS: Final = frozenset({"reasoning", "reasoning_effort"})


def answer_limit(model: str, request: ModelRequest) -> int | None:
    """The limit of output tokens; on a side task it leaves room to whatever model may think before it speaks."""
    limit = request.max_output_tokens
    if limit is None or request.purpose == "answer" or _SPEAKS_AT_ONCE.search(model):
        return limit
    return limit + THINKING


def side_effort(model: str, configured: Any, params: Mapping[str, Any]) -> Any:
    """How much to think on a side task: little where the model is known to take that, else as configured.

    OpenAI's models that think take ``low``, but for a few that know nothing less than ``medium`` or ``high``. None of
    them takes sampling parameters while it thinks: where ``params`` have these, its thinking is off.
    https://platform.openai.com/docs/guides/reasoning
    """
    sampled = any(params.get(name) is not None for name in _SAMPLING)
    elsewhere = _EFFORTS & (params.get("extra_body") or {}).keys()
    known = reasons(model) and not _TAKES_NO_LOW.search(model)
    return "low" if known and not sampled and not elsewhere and configured not in _LESS else configured
