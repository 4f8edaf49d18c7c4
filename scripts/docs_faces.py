"""What static analysis does not see of Recollect's classes, told to griffe for the reference.

A method that is made of an operation (``get_session = blocking(calls.get_session)``) gets the operation's parameters
and docstring; an async twin is named beside its method instead of being told again; the keys of an options dictionary
stand among a method's parameters; and `a name` in a docstring becomes a link where the reference has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

SYNC, ASYNC = {"blocking", "iterating"}, {"waiting", "aiterating"}
TOLD_ELSEWHERE = {"RunnerOptions"}
"""Keys that are the parameters of another class."""
NAME = re.compile(r"(?<![`\[])`(\w+(?:\.\w+)?)(?:\(\))?`(?![`\]])")


class Faces(griffe.Extension):
    """Completes the package once all of it is read."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        del loader
        kinds = [item for item in items(pkg) if isinstance(item, griffe.Class)]
        for kind in kinds:
            for name, member in list(kind.members.items()):
                if isinstance(member, griffe.Attribute) and (operation := operation_of(pkg, member)):
                    kind.set_member(name, method_of(operation, name, member))
        public = {str(name).strip("'") for name in pkg.exports or ()}
        for kind in kinds:
            fold_twins(kind)
            drop_greeting(kind)
            tell_code(kind)
        for item in items(pkg):
            if isinstance(item, griffe.Function):
                spell_out(pkg, item)
            tidy(pkg, item, public)
        tidy(pkg, pkg["errors"], public)


def items(home: griffe.Module | griffe.Class) -> Iterator[griffe.Class | griffe.Function]:
    """Every class, function and method of a package."""
    for member in home.members.values():
        if isinstance(member, griffe.Class | griffe.Function):
            yield member
        if isinstance(member, griffe.Module | griffe.Class):
            yield from items(member)


def operation_of(package: griffe.Module, attribute: griffe.Attribute) -> griffe.Function | None:
    """What ``blocking(...)`` and its like were given, where the attribute is made by one of them."""
    value = attribute.value
    if not isinstance(value, griffe.ExprCall) or str(value.function) not in SYNC | ASYNC:
        return None
    operation = value.arguments[0]
    path = operation if isinstance(operation, str) else operation.canonical_path
    found = package[path.removeprefix(f"{package.name}.")]
    found = found.final_target if isinstance(found, griffe.Alias) else found
    return found if isinstance(found, griffe.Function) else None


def method_of(operation: griffe.Function, name: str, made: griffe.Attribute) -> griffe.Function:
    """The method: the operation without its first parameter, which stands for the object."""
    itself = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
    returns: Any = operation.returns
    if str(made.value).startswith("iterating"):
        returns = str(returns).removeprefix("Async")
    method = griffe.Function(
        name,
        lineno=made.lineno,
        endlineno=made.endlineno,
        parameters=griffe.Parameters(itself, *list(operation.parameters)[1:]),
        returns=returns,
    )
    if operation.docstring is not None:
        method.docstring = griffe.Docstring(
            operation.docstring.value,
            parent=method,
            parser=operation.docstring.parser,
            parser_options=operation.docstring.parser_options,
        )
    return method


def spell_out(package: griffe.Module, function: griffe.Function) -> None:
    """Let the keys of ``**options: Unpack[...]`` stand among the parameters, with what is said of them."""
    last = next((one for one in function.parameters if one.kind is griffe.ParameterKind.var_keyword), None)
    annotation = last.annotation if last is not None else None
    if last is None or not isinstance(annotation, griffe.ExprSubscript) or isinstance(annotation.slice, str):
        return
    if str(annotation.left) != "Unpack" or str(annotation.slice) in TOLD_ELSEWHERE:
        return
    keys = package[annotation.slice.canonical_path.removeprefix(f"{package.name}.")]
    wanted = [key for key in keys.all_members.values() if key.is_attribute]
    del function.parameters[last.name]
    for key in wanted:
        default = "None" if str(key.annotation).endswith("None") else "..."
        kind = griffe.ParameterKind.keyword_only
        function.parameters.add(griffe.Parameter(key.name, annotation=key.annotation, kind=kind, default=default))
    if function.docstring is not None:
        told = [f"    {key.name}: {' '.join(key.docstring.value.split())}\n" for key in wanted if key.docstring]
        text, raises, errors = function.docstring.value.partition("Raises:\n")
        function.docstring.value = "".join([f"{text}\n\nArgs:\n", *told, "\n", raises, errors])


def fold_twins(kind: griffe.Class) -> None:
    """Name an async twin beside its method, instead of telling it again."""
    for name, member in list(kind.members.items()):
        if f"a{name}" in kind.members and isinstance(member, griffe.Function):
            member.labels.add(f"async: a{name}")
            kind.del_member(f"a{name}")


def drop_greeting(kind: griffe.Class) -> None:
    """The first line of a constructor's docstring says nothing where the class is told with it."""
    init = kind.members.get("__init__")
    if isinstance(init, griffe.Function) and init.docstring is not None:
        init.docstring.value = init.docstring.value.removeprefix("Set up.").lstrip()


def tell_code(kind: griffe.Class) -> None:
    """Let an error's description say its code."""
    code = kind.members.get("code")
    if isinstance(code, griffe.Attribute) and kind.docstring is not None and kind.module.name == "errors":
        kind.docstring.value += f"\n\nCode: ``{str(code.value).strip(chr(34))}``"


def tidy(package: griffe.Module, item: griffe.Module | griffe.Class | griffe.Function, public: set[str]) -> None:
    """Make links of the names that a docstring puts into single backticks, and drop what Markdown does not know."""
    if item.docstring is None:
        return
    kind = item if not isinstance(item, griffe.Function) else item.parent
    home = kind.name if isinstance(kind, griffe.Class) and kind.name in public else "Agent"

    def link(found: re.Match[str]) -> str:
        name = found[1]
        for path in (name, f"{home}.{name}"):
            first, _, second = path.partition(".")
            if first in public and (not second or second in package[first].all_members):
                return f"[`{name}`][recollect.{path}]"
        return found[0]

    item.docstring.value = NAME.sub(link, re.sub(r"^::\n\n", "", item.docstring.value, flags=re.MULTILINE))
