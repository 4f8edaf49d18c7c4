"""A Python function as a tool: the schema the model is told, reading its arguments, calling it.

Signature and docstring say everything. A parameter named ``run_context`` or ``session_state``, or of type `RunContext`
under whatever name, is filled in by the run and hidden from the model.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final, get_args, get_type_hints

import msgspec

from recollect import checks
from recollect.errors import InvalidArgument
from recollect.message import Message, ToolCall
from recollect.port import Access, Stop, ToolSpec, World
from recollect.run import RunOutputEvent

GIVEN: Final = frozenset({"run_context", "session_state"})
"""Parameters that the run fills in."""


class RunContext(msgspec.Struct, kw_only=True, eq=False):
    """What a tool may know of the run it works for. Changing ``session_state`` changes the session's state."""

    run_id: str
    session_id: str
    user_id: str | None = None
    agent_id: str | None = None
    team_id: str | None = None
    session_state: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class ToolResult(msgspec.Struct, frozen=True):
    """What came of a call, as text for the model."""

    text: str
    error: bool = False
    repaired: bool = False
    """Whether characters had to be replaced that cannot be stored."""


class Work(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One call of a tool, and the run that it is made in."""

    call: ToolCall
    place: int
    """The place in the run that is kept for its result."""
    context: RunContext
    access: Access
    stop: Stop
    """Where somebody says that the run is to end."""
    input: Sequence[Message]
    """What the run was asked."""
    said: Sequence[Message]
    """What was said in the run until now, its input included."""
    beside: tuple[int, int] | None
    """Where the run is to replace another: the place that it is meant for, and the one that it has meanwhile."""
    past: Sequence[Message]
    """What the model was shown of the session's past."""
    again: bool
    """Whether the call may have been made before the run was broken off, so that nobody knows what came of it."""
    stream: bool
    """Whether pieces of answers are wanted as they come."""


class Tool:
    """A function that a model may call.

    ``repeatable=False`` says that a call whose outcome is unknown, because its run was broken off, must not be made
    again when the run is continued; the model is told that the outcome is unknown.

    Raises:
        InvalidArgument: the function cannot be told to a model: open parameters, unknown types, names out of the rules.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        repeatable: bool = True,
    ) -> None:
        self.function = function
        self.repeatable = checks.flag("repeatable", repeatable)
        self.name = _name(name or str(getattr(function, "__name__", type(function).__name__)))
        self.waits = inspect.iscoroutinefunction(function)
        """Whether the function must be awaited."""
        signature = _signature(function, self.name)
        self.is_last_word = False
        """Whether its result is the run's answer, without asking the model once more."""
        self.shares_state = False
        """Whether it may have changed the session's state by itself."""
        self.tells = True
        """Whether what happens in it is told to whoever asked."""
        self.given = _given_by_run(signature)
        """What the run fills in, by the name of the parameter."""
        summary, explained = parse_docstring(inspect.getdoc(function) or "")
        asked = {parameter: kind for parameter, kind in signature.items() if parameter not in self.given}
        self._arguments = _arguments(self.name, asked, explained)
        self.spec = ToolSpec(self.name, description or summary, _schema(self.name, self._arguments))

    @property
    def waiting(self) -> Sequence[str]:
        """What must be awaited in it, by name; such a tool works in an async run only."""
        return [self.name] if self.waits else []

    async def work(self, work: Work) -> AsyncGenerator[RunOutputEvent | ToolResult, None]:
        """Do what a model asked for: tell what happens meanwhile, and last the result."""
        yield await self.call(work.access.world, work.call.arguments, work.context)

    async def call(self, world: World, arguments: str, context: RunContext) -> ToolResult:
        """Call the function with a model's arguments. Whatever fails is a result that tells the model so."""
        keywords = self.read(arguments)
        if isinstance(keywords, ToolResult):
            return keywords
        given = {"run_context": context, "session_state": context.session_state}
        try:
            value = await world.call(
                self.function, **keywords, **{name: given[what] for name, what in self.given.items()}
            )
        except Exception as error:  # noqa: BLE001 - a tool may fail in any way; the model is told, the run goes on
            return result_of(f"{type(error).__name__}: {error}", error=True)
        return result_of(value)

    def read(self, arguments: str) -> dict[str, Any] | ToolResult:
        """A model's arguments by name; or, where they cannot be read, what the model is told of that."""
        try:
            read = msgspec.json.decode(arguments or "{}", type=self._arguments, strict=False, dec_hook=_decode_other)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return ToolResult(f"invalid arguments for {self.name}: {error}", error=True)
        return {name: getattr(read, name) for name in self._arguments.__struct_fields__}

    def __repr__(self) -> str:
        return f"Tool({self.name})"


def result_of(value: object, *, error: bool = False) -> ToolResult:
    """What a function returned, as text: text as it is, anything else as JSON where that is possible."""
    if not isinstance(value, str):
        try:
            value = checks.encode(value).decode()
        except (TypeError, ValueError, msgspec.MsgspecError, RecursionError):
            value = str(value)
    text, repaired = checks.clean_text(value)
    return ToolResult(text, error, repaired)


def toolbox(tools: Sequence[Tool | Callable[..., Any]]) -> dict[str, Tool]:
    """Tools by name.

    Raises:
        InvalidArgument: one is no function, or two have the same name.
    """
    box: dict[str, Tool] = {}
    for given in tools:
        if not callable(given) and not isinstance(given, Tool):
            raise InvalidArgument("tools", f"{given!r} is not a function")
        tool = given if isinstance(given, Tool) else Tool(given)
        if tool.name in box:
            raise InvalidArgument("tools", f"two tools are named {tool.name!r}; use Tool(function, name=...)")
        box[tool.name] = tool
    return box


def parse_docstring(text: str) -> tuple[str, dict[str, str]]:
    """What a docstring says in all, and of each parameter (Google's ``Args:`` or Sphinx's ``:param x:``)."""
    summary, *rest = _SECTION.split(text, maxsplit=1)
    explained = dict(re.findall(r"^\s*:param\s+(?:[\w\[\]., |]+\s)?(\w+):\s*(.+)$", summary, re.MULTILINE))
    section = re.split(r"^\S", rest[0], maxsplit=1, flags=re.MULTILINE)[0] if rest else ""
    explained |= {name: _one_line(said) for name, said in _ARGUMENT.findall(section)}
    said = re.split(r"^\s*(?::\w+|Returns:|Raises:|Yields:)", summary, maxsplit=1, flags=re.MULTILINE)[0]
    return said.strip(), explained


_SECTION: Final = re.compile(r"^\s*(?:Args|Arguments|Parameters):[ \t]*\n", re.MULTILINE)
_ARGUMENT: Final = re.compile(r"^ {2,}(\w+)(?:\s*\([^)]*\))?:\s*(.+(?:\n {6,}\S.*)*)", re.MULTILINE)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise InvalidArgument(
            "tools", f"{name!r} is no name for a tool: 1-64 letters, digits, _ and -; use Tool(name=...)"
        )
    return name


def _signature(function: Callable[..., Any], name: str) -> dict[str, tuple[Any, Any]]:
    """Type and default of each parameter."""
    try:
        parameters = inspect.signature(function).parameters.values()
        hinted = function if inspect.isroutine(function) else type(function).__call__
        hints = get_type_hints(getattr(hinted, "__func__", hinted), include_extras=True)
    except (TypeError, ValueError, NameError) as error:
        raise InvalidArgument("tools", f"the signature of {name} cannot be read: {error}") from error
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise InvalidArgument("tools", f"{name} has the parameter {parameter}, which a model cannot fill in")
    return {parameter.name: (hints.get(parameter.name, Any), parameter.default) for parameter in parameters}


def _given_by_run(signature: Mapping[str, tuple[Any, Any]]) -> dict[str, str]:
    of_type = {name: "run_context" for name, (kind, _) in signature.items() if RunContext in (kind, *get_args(kind))}
    return of_type | {name: name for name in GIVEN & signature.keys()}


def _arguments(
    name: str, signature: Mapping[str, tuple[Any, Any]], explained: Mapping[str, str]
) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for parameter, (kind, default) in signature.items():
        typed = Annotated[kind, msgspec.Meta(description=explained[parameter])] if parameter in explained else kind
        if default is inspect.Parameter.empty:
            fields.append((parameter, typed))
        else:
            fields.append((parameter, typed, msgspec.field(default_factory=partial(_given, default))))
    return msgspec.defstruct(name.replace("-", "_"), fields, kw_only=True)


def _given(value: Any) -> Any:
    return value


def _schema(name: str, arguments: type[msgspec.Struct]) -> dict[str, Any]:
    try:
        return schema_of(arguments)
    except TypeError as error:
        raise InvalidArgument(
            "tools", f"a parameter of {name} has a type that a model cannot fill in: {error}"
        ) from error


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON schema of a type, an object at the top."""
    schema = msgspec.json.schema(kind, schema_hook=_schema_of_other)
    reference = schema.pop("$ref", None)
    if reference is None:
        return schema
    shared = schema.pop("$defs")
    own: dict[str, Any] = shared.pop(reference.removeprefix("#/$defs/"))
    return own | {"$defs": shared} if shared else own


def _schema_of_other(kind: Any) -> dict[str, Any]:
    if hasattr(kind, "model_json_schema"):
        schema: dict[str, Any] = kind.model_json_schema()
        return schema
    msg = f"{kind!r}"
    raise NotImplementedError(msg)


def _decode_other(kind: Any, value: Any) -> Any:
    if hasattr(kind, "model_validate"):
        return kind.model_validate(value)
    msg = f"{kind!r}"
    raise NotImplementedError(msg)
