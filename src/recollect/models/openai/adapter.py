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
from recollect.models.openai.failure import failure, said_so, shown, transport_errors
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
    LIMITS: ClassVar[frozenset[str]]
    """Names of the limit of an answer, of which only one may be sent."""
    SHORT: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Options that stand for a key of a parameter that is an object."""

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

    def _check(self, create: Any, options: Mapping[str, Any]) -> None:
        """See to it that the installed SDK knows what ``request_params`` and the request's options name."""
        if not self._extra and not options:
            return
        known = inspect.signature(create).parameters.keys()
        what = f"{type(self).__name__} with this version of the openai package"
        for name in sorted(self._extra.keys() - known):
            raise InvalidArgument(f"request_params[{name!r}]", _unknown(name, what, known))
        built_with = ClientOptions.__annotations__.keys()
        for name in sorted(options, key=str):
            if name in self.OURS:
                problem = f"{type(self).__name__} sets this itself, for each request"
            elif name in built_with:
                problem = f"this is what {type(self).__name__} is made with, no parameter of a request"
            elif name not in known | self.TAKES:
                problem = _unknown(name, what, (known | self.TAKES) - self.OURS - built_with)
            else:
                continue
            raise InvalidArgument(f"model_options[{name!r}]", problem)

    def _configured(self, request: ModelRequest) -> dict[str, Any]:
        """The adapter's own parameters, as far as they are for this kind of request."""
        unwanted = frozenset[str]() if request.purpose == "answer" else self.ANSWERS_ONLY
        mine = self._spelled(self._params | self._extra)
        return {name: value for name, value in mine.items() if name not in unwanted}

    def _given(self, request: ModelRequest, configured: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters: the adapter's own, over them what the request asks for, over these its options."""
        given = self._over(self._over(configured, asked), self._spelled(request.options))
        return given if request.timeout is None else given | {"timeout": request.timeout}

    def _spelled(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters without short forms."""
        spelled = {name: value for name, value in params.items() if name not in self.SHORT}
        for word in params.keys() & self.SHORT.keys():
            name, key = self.SHORT[word]
            spelled[name] = {**(spelled.get(name) or {}), key: params[word]}
        return spelled

    def _over(self, under: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters over others; key by key in the objects that have short forms."""
        given = dict(under)
        for name in self.LIMITS if self.LIMITS & params.keys() else ():
            given.pop(name, None)
        nested = {name for name, _ in self.SHORT.values()}
        for name, value in params.items():
            below = given.get(name)
            if name in nested and isinstance(value, Mapping) and isinstance(below, Mapping):
                given[name] = {**below, **value}
            else:
                given[name] = value
        return given

    def _failed(self, problem: object, code: object = None, *, transient: bool = False) -> ModelError:
        """The error for an answer that says itself that it failed."""
        return said_so(self.id, problem, code, transient=transient)

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


def filled(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """An object without what is not given; None where nothing is."""
    return {name: item for name, item in (value or {}).items() if item is not None} or None


def _unknown(name: str, what: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), 1)
    hint = f"did you mean {near[0]!r}?" if near else "what only the API knows goes into request_params= or extra_body="
    return f"{what} takes no such parameter; {hint}"
