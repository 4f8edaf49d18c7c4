"""The models that the local server offers, and the parameters that each family takes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from recollect.testing.answer import Refused

_REASONING = re.compile(r"(?:ft:)?(?:o[134]\b|gpt-(?:[5-9]|\d\d)|codex-)")
_KNOWN = re.compile(r"(?:ft:)?(?:o[134]|gpt-[3-9]|gpt-\d\d|chatgpt-|codex-|computer-use-)[\w.:-]*")


_EFFORTS: Final = (
    (r"o1-(?:mini|preview)", ()),
    (r"o\d.*-deep-research", ("medium",)),
    (r"gpt-5-pro", ("high",)),
    (r"gpt-5\.\d+-pro", ("medium", "high", "xhigh")),
    (r"gpt-5\.1-codex-max|gpt-5\.[2-9]-codex", ("low", "medium", "high", "xhigh")),
    (r"o\d|codex-|gpt-5[.\d]*-codex", ("low", "medium", "high")),
    (r"gpt-5(?!\.)", ("minimal", "low", "medium", "high")),
    (r"gpt-5\.1", ("none", "low", "medium", "high")),
    (r"gpt-5\.[2-5]", ("none", "low", "medium", "high", "xhigh")),
)
"""How much each family can be told to think; the first pattern that fits. A model that is not here takes any."""


class Catalog:
    """Which models there are: OpenAI's families, and those a test adds."""

    def __init__(self, further: Collection[str] = ()) -> None:
        self._further = frozenset(further)

    def check(self, model: object) -> str:
        """Refuse a model that does not exist."""
        if not isinstance(model, str) or not model:
            raise Refused("Missing required parameter: 'model'.", "model", "missing_required_parameter")
        if model not in self._further and not _KNOWN.fullmatch(model):
            raise Refused(f"The requested model '{model}' does not exist.", "model", "model_not_found", 404)
        return model

    def thinks(self, model: str) -> bool:
        """Whether the model may think before it speaks: OpenAI's reasoning ones, and those a test added."""
        return reasoning(model) or model in self._further


def reasoning(model: str) -> bool:
    """Whether the model thinks before it speaks."""
    return bool(_REASONING.match(model)) and "-chat" not in model


def check_parameters(
    body: Mapping[str, Any], effort: object, plain: Collection[str], thinking: Collection[str]
) -> None:
    """Refuse what the model does not take: ``plain`` parameters a reasoning model, ``thinking`` ones any other.

    A model since gpt-5.1 takes sampling parameters when its reasoning is off; here it must be said to be off.
    """
    model = body["model"]
    given = [name for name in body if body[name] is not None]
    if not reasoning(model):
        refused = [name for name in given if name in thinking]
    elif effort == "none" and not re.match(r"gpt-5(?:$|-)|o\d", model):
        refused = []
    else:
        refused = [name for name in given if name in plain]
    if refused:
        raise unsupported(refused[0])


def check_effort(model: str, effort: str | None, where: str) -> None:
    """Refuse to think as much, or as little, as this model cannot be told to."""
    name = model.removeprefix("ft:")
    taken = next((efforts for pattern, efforts in _EFFORTS if re.match(pattern, name)), None)
    if effort is None or taken is None or effort in taken:
        return
    if not taken:
        raise unsupported(where)
    *most, last = [f"'{word}'" for word in taken]
    listed = f"{', '.join(most)}, and {last}" if most else last
    problem = f"Unsupported value: '{effort}' is not supported with the '{model}' model."
    raise Refused(f"{problem} Supported values are: {listed}.", where, "unsupported_value")


def unsupported(name: str) -> Refused:
    problem = f"Unsupported parameter: '{name}' is not supported with this model."
    return Refused(problem, name, "unsupported_parameter")
