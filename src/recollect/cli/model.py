"""Which model answers: what was asked for, else what the environment offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import typer

from recollect.errors import InvalidArgument
from recollect.models import open_model
from recollect.port import Model

ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="echo, openai:<id> or openai-chat:<id>; with --base-url, any id.",
        show_default="RECOLLECT_MODEL, else openai:gpt-5.2 with OPENAI_API_KEY, else echo",
    ),
]
BaseUrl = Annotated[
    str | None, typer.Option("--base-url", metavar="URL", help="A server that speaks OpenAI's Chat Completions.")
]

DEFAULT: Final = "gpt-5.2"
_PROVIDERS: Final = ("openai", "openai-chat")


class Choice(msgspec.Struct, frozen=True):
    """A model, by provider and id, and where it is asked."""

    provider: str
    id: str = ""
    base_url: str | None = None
    key: str | None = None
    """An API key in place of the one in the environment."""
    notice: str = ""
    """What the user should know of how it was chosen."""

    @property
    def name(self) -> str:
        return f"{self.provider}:{self.id}" if self.id else self.provider


def choose(model: str | None, base_url: str | None, environment: Mapping[str, str]) -> Choice:
    """The model that is meant by the options, within this environment.

    Raises:
        InvalidArgument: they do not say which model.
    """
    name = model or environment.get("RECOLLECT_MODEL")
    if base_url is not None:
        # Servers of one's own mostly ask for no key, but the SDK wants one.
        return _at(base_url, name or "", None if environment.get("OPENAI_API_KEY") else "none")
    if name is not None:
        provider, _, model_id = name.partition(":")
        return Choice(provider, model_id)
    if environment.get("OPENAI_API_KEY"):
        return Choice("openai", DEFAULT)
    return Choice("echo", notice="no OPENAI_API_KEY is set, so the echo model answers; see --model and --base-url")


def _at(base_url: str, name: str, key: str | None) -> Choice:
    if name in ("", "echo"):
        raise InvalidArgument("--model", f"say which model of {base_url} is meant")
    provider, _, model_id = name.partition(":")
    if provider in _PROVIDERS:
        return Choice(provider, model_id, base_url, key)
    return Choice("openai-chat", name, base_url, key)  # the ids of such servers may hold a colon: llama3:8b


def open_choice(choice: Choice, context: typer.Context) -> Model:
    """The model itself, closed when the command ends.

    Raises:
        InvalidArgument: its name is not known.
        ExtraMissing: what it needs is not installed.
    """
    model = _opened(choice)
    context.call_on_close(getattr(model, "close", lambda: None))
    return model


def _opened(choice: Choice) -> Model:
    if choice.base_url is None:
        return open_model(choice.name)
    from recollect.models.openai import OpenAIChat, OpenAIResponses

    where: dict[str, Any] = {"base_url": choice.base_url}
    if choice.key is not None:
        where["api_key"] = choice.key
    return (OpenAIResponses if choice.provider == "openai" else OpenAIChat)(choice.id, **where)
