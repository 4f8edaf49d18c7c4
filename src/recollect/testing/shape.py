"""What a JSON object may hold, and the API's words for what it may not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from recollect.testing.answer import Refused

Rule = Callable[[Any, str], None]

_NAMES = {dict: "an object", list: "an array of objects", str: "a string", bool: "a boolean", type(None): "null"}


def check_object(value: Any, where: str, required: Mapping[str, Rule], optional: Mapping[str, Rule]) -> None:
    """Refuse unknown keys, missing ones, and values that break their rule."""
    if not isinstance(value, dict):
        raise wrong_type(where, "an object", value)
    for key in value:
        if key not in required and key not in optional:
            raise Refused(f"Unknown parameter: '{path(where, key)}'.", path(where, key), "unknown_parameter")
    for key in required:
        if key not in value:
            problem = f"Missing required parameter: '{path(where, key)}'."
            raise Refused(problem, path(where, key), "missing_required_parameter")
    for key, item in value.items():
        rule = required.get(key) or optional[key]
        if item is not None or key in required:
            rule(item, path(where, key))


def path(where: str, key: str | int) -> str:
    """Where a value stands, as the API writes it: ``input[0].content``."""
    if isinstance(key, int):
        return f"{where}[{key}]"
    return f"{where}.{key}" if where else key


def anything(value: Any, where: str) -> None:
    """Accept any value."""


def text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise wrong_type(where, "a string", value)


def boolean(value: Any, where: str) -> None:
    if not isinstance(value, bool):
        raise wrong_type(where, "a boolean", value)


def mapping(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise wrong_type(where, "an object", value)


def array(value: Any, where: str) -> None:
    if not isinstance(value, list):
        raise wrong_type(where, "an array", value)


def short(least: int, most: int) -> Rule:
    """Text of a length within bounds."""

    def rule(value: Any, where: str) -> None:
        text(value, where)
        if len(value) < least:
            problem = f"Invalid '{where}': empty string. Expected a string with minimum length {least}"
            raise Refused(f"{problem}, but got an empty string instead.", where, "empty_string")
        if len(value) > most:
            problem = f"Invalid '{where}': string too long. Expected a string with maximum length {most}"
            raise Refused(
                f"{problem}, but got a string with length {len(value)} instead.", where, "string_above_max_length"
            )

    return rule


def number(least: float, most: float) -> Rule:
    """A number within bounds."""

    def rule(value: Any, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(where, "a decimal", value)
        _bounds(value, where, "decimal", least, most)

    return rule


def whole(least: int, most: int = 1 << 31) -> Rule:
    """A whole number within bounds."""

    def rule(value: Any, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(where, "an integer", value)
        _bounds(value, where, "integer", least, most)

    return rule


def one_of(*allowed: str) -> Rule:
    """One of some words."""

    def rule(value: Any, where: str) -> None:
        text(value, where)
        if value not in allowed:
            raise wrong_value(where, value, *allowed)

    return rule


def matching(pattern: str, most: int = 64) -> Rule:
    """Text of some characters only."""

    def rule(value: Any, where: str) -> None:
        short(1, most)(value, where)
        if not re.fullmatch(pattern, value):
            problem = f"Invalid '{where}': string does not match pattern. Expected a string that matches '^{pattern}$'."
            raise Refused(problem, where, "invalid_value")

    return rule


def each(rule: Rule, *, least: int = 0) -> Rule:
    """An array whose elements follow a rule."""

    def check(value: Any, where: str) -> None:
        array(value, where)
        if len(value) < least:
            problem = f"Invalid '{where}': empty array. Expected an array with minimum length {least}"
            raise Refused(f"{problem}, but got an empty array instead.", where, "empty_array")
        for place, item in enumerate(value):
            rule(item, path(where, place))

    return check


def fields(required: Mapping[str, Rule], optional: Mapping[str, Rule] | None = None) -> Rule:
    """An object of known keys."""
    return lambda value, where: check_object(value, where, required, optional or {})


def metadata(value: Any, where: str) -> None:
    """At most 16 short texts."""
    mapping(value, where)
    if len(value) > 16:  # noqa: PLR2004 - as documented
        problem = f"Invalid '{where}': too many properties. Expected an object with at most 16 properties"
        raise Refused(f"{problem}, but got {len(value)} instead.", where, "object_above_max_properties")
    for key, item in value.items():
        short(1, 64)(key, where)
        short(0, 512)(item, path(where, key))


def strict_schema(schema: Any, problem: str, where: str, code: str, *, root: bool = True) -> None:
    """Refuse a schema that strict mode does not take: an object must be closed and all of its properties required."""
    if not isinstance(schema, dict):
        return
    if root and schema.get("type") != "object":
        kind = schema.get("type")
        raise Refused(
            f"{problem}: schema must be a JSON Schema of 'type: \"object\"', got 'type: {kind!r}'.", where, code
        )
    if schema.get("type") == "object" or "properties" in schema:
        names = list(schema.get("properties", {}))
        if schema.get("additionalProperties") is not False:
            said = "'additionalProperties' is required to be supplied and to be false."
            raise Refused(f"{problem}: In context=(), {said}", where, code)
        if missing := [name for name in names if name not in schema.get("required", ())]:
            said = "'required' is required to be supplied and to be an array including every key in properties."
            raise Refused(f"{problem}: In context=(), {said} Missing '{missing[0]}'.", where, code)
    if refused := schema.keys() & {"default", "oneOf", "allOf", "not", "patternProperties"}:
        raise Refused(f"{problem}: In context=(), '{min(refused)}' is not permitted.", where, code)
    if "$ref" in schema and len(schema) > 1 and not root:
        raise Refused(f"{problem}: In context=(), $ref cannot have keywords {sorted(schema)}.", where, code)
    nested = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", ())]
    for child in [*nested, schema.get("items")]:
        strict_schema(child, problem, where, code, root=False)


def wrong_type(where: str, expected: str, value: object) -> Refused:
    got = _NAMES.get(type(value), "a number")
    problem = f"Invalid type for '{where}': expected {expected}, but got {got} instead."
    return Refused(problem, where, "invalid_type")


def wrong_value(where: str, value: object, *allowed: str) -> Refused:
    listed = ", ".join(f"'{word}'" for word in allowed)
    return Refused(f"Invalid value: '{value}'. Supported values are: {listed}.", where, "invalid_value")


def _bounds(value: float, where: str, kind: str, least: float, most: float) -> None:
    if value < least:
        problem = (
            f"Invalid '{where}': {kind} below minimum value. Expected a value >= {least}, but got {value} instead."
        )
        raise Refused(problem, where, f"{kind}_below_min_value")
    if value > most:
        problem = f"Invalid '{where}': {kind} above maximum value. Expected a value <= {most}, but got {value} instead."
        raise Refused(problem, where, f"{kind}_above_max_value")
