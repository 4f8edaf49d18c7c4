"""Models: one adapter a file, chosen by class or by name."""

from __future__ import annotations

from recollect.errors import InvalidArgument
from recollect.port import Model


def open_model(name: str) -> Model:
    """The model that a text such as ``"openai:gpt-5.2"`` names.

    Raises:
        InvalidArgument: the provider is not known.
    """
    provider, _, model = name.partition(":")
    if provider == "echo":
        from recollect.models.echo import EchoModel

        return EchoModel()
    if provider in ("openai", "openai-chat") and model:
        from recollect.models.openai import OpenAIChat, OpenAIResponses

        return OpenAIResponses(id=model) if provider == "openai" else OpenAIChat(id=model)
    raise InvalidArgument("model", f"{name!r} is not 'echo', 'openai:<id>' or 'openai-chat:<id>'")
