"""What the adapters of both APIs have in common: configuration, asking, and finding mistakes early."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, NoReturn

from recollect import checks
from recollect.errors import ExtraMissing, InvalidArgument, ModelError
from recollect.models.openai.clients import Clients
from recollect.models.openai.failure import failure, shown, transport_errors
from recollect.models.openai.options import ClientOptions
from recollect.port import Delta, ModelRequest, Reply, ToolSpec, World


class Adapter:
    """A model behind one of the APIs: frozen configuration that threads and tasks may share."""

    __slots__ = ("__weakref__", "_clients", "_extra", "_params", "id", "provider")

    TAKES: ClassVar[frozenset[str]]
    """Names of the options."""
    OURS: ClassVar[frozenset[str]]
    """Parameters of the API that this library sets in each request."""

    ANSWERS_ONLY: ClassVar[frozenset[str]]
    """Parameters that are for answers in a conversation, and left out of side tasks."""

    id: str
    provider: str
    _clients: Clients
    _params: dict[str, Any]
    _extra: dict[str, Any]

    def _configure(self, id: str, options: Mapping[str, Any]) -> None:
        what = type(self).__name__
        if importlib.util.find_spec("openai") is None:
            raise ExtraMissing("openai", what)
        for name in sorted(options.keys() - self.TAKES):
            raise InvalidArgument(name, _unknown(name, what, self.TAKES))
        given = {name: value for name, value in options.items() if value is not None}
        provider, extra = given.pop("provider", "openai"), given.pop("request_params", {})
        if not isinstance(extra, Mapping):
            raise InvalidArgument("request_params", f"must be a dictionary, not {type(extra).__name__}")
        for name in sorted(extra.keys() & self.OURS):
            raise InvalidArgument(f"request_params[{name!r}]", f"{what} sets this itself, for each request")
        client = {name: given.pop(name) for name in ClientOptions.__annotations__ if name in given}
        self._set("id", checks.identifier("id", id))
        self._set("provider", checks.identifier("provider", provider))
        self._set("_clients", Clients(client.pop("http_client", None), client.pop("async_http_client", None), client))
        self._set("_params", given)
        self._set("_extra", dict(extra))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        msg = f"{type(self).__name__} is frozen, so that threads and tasks may share it; make another one"
        raise AttributeError(msg)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r})"

    def close(self) -> None:
        """Close the connections of plain calls; those of an event loop close with it. A later call opens new ones."""
        self._clients.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop and those of plain calls. A later call opens new ones."""
        await self._clients.aclose()

    async def ask(self, request: ModelRequest, world: World) -> AsyncGenerator[Delta | Reply, None]:
        """Ask once; give pieces as they come, then one `Reply`, last.

        Raises:
            ModelError: the model failed to answer; with ``status`` and ``retry_after`` where the provider gave them.
        """
        client = await self._client(world)
        if request.max_retries is not None:
            client = client.with_options(max_retries=request.max_retries)
        try:
            async with aclosing(self._answer(client, request, world)) as pieces:
                async for piece in pieces:
                    yield piece
        except transport_errors() as error:
            raise failure(self.id, client, error) from shown(client, error)

    async def _client(self, world: World) -> Any:
        import openai

        try:
            return await self._clients.of(world)
        except openai.OpenAIError as error:
            msg = f"Model {self.id!r} has no API key: pass api_key=... or set OPENAI_API_KEY"
            raise ModelError(msg) from error

    def _answer(self, client: Any, request: ModelRequest, world: World) -> AsyncGenerator[Delta | Reply, None]:
        raise NotImplementedError

    def _check_extra(self, create: Any, request: ModelRequest) -> None:
        """See to it that the installed SDK knows what ``request_params`` and the request's options name."""
        what = type(self).__name__
        given = {f"request_params[{name!r}]": name for name in sorted(self._extra)}
        for name in sorted(request.options):
            if name in self.OURS | ClientOptions.__annotations__.keys():
                raise InvalidArgument(f"model_options[{name!r}]", f"{what} sets this itself, for each request")
            if name not in self.TAKES:
                given[f"model_options[{name!r}]"] = name
        if not given:
            return
        known = inspect.signature(create).parameters.keys()
        for argument, name in given.items():
            if name not in known:
                raise InvalidArgument(
                    argument, _unknown(name, f"{what} with this version of the openai package", known)
                )

    def _given(self, request: ModelRequest) -> tuple[dict[str, Any], dict[str, Any]]:
        """The parameters of this request: the named ones, and what only the API knows."""
        params, extra = dict(self._params), dict(self._extra)
        if request.purpose != "answer":
            for kept in (params, extra):
                for name in self.ANSWERS_ONLY & kept.keys():
                    del kept[name]
        for name, value in request.options.items():
            (params if name in self.TAKES else extra)[name] = value
        if request.timeout is not None:
            params["timeout"] = request.timeout
        return {name: value for name, value in params.items() if value is not None}, extra

    def _failed(self, problem: object, code: object = None, *, transient: bool = False) -> ModelError:
        """The error for an answer that says itself that it failed."""
        status = {"rate_limit_exceeded": 429, "server_error": 500}.get(str(code))
        said = checks.preview(str(problem or "no reason given"), 600)
        text = f"Model {self.id!r} failed: {said}" + (f" ({code})" if code else "")
        return ModelError(text, status=status, transient=transient or status is not None)

    def _broken_off(self) -> ModelError:
        return self._failed("the connection ended in the middle of the answer. Try again.", transient=True)


def reasons(model: str) -> bool:
    """Whether this is a model of OpenAI that thinks before it speaks; others refuse to hand over what they thought."""
    return bool(re.search(r"(?:^|[/:])(?:o\d|gpt-(?:[5-9]|\d\d)|codex-)", model)) and "-chat" not in model


def function_of(tool: ToolSpec) -> dict[str, Any]:
    """A tool as both APIs are told of it. Without ``strict`` the Responses API would take it as strict."""
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }


def _unknown(name: str, what: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), 1)
    hint = f"did you mean {near[0]!r}?" if near else "what only the API knows goes into request_params= or extra_body="
    return f"{what} takes no such parameter; {hint}"
