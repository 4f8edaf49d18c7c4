"""The JSON schema of an answer, in the provider's strict form where there is one. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

# https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
STRICT_KEYS: Final = frozenset(
    {
        *("$defs", "$ref", "additionalProperties", "anyOf", "const", "description", "enum", "exclusiveMaximum"),
        *("exclusiveMinimum", "format", "items", "maxItems", "maximum", "minItems", "minimum", "multipleOf"),
        *("pattern", "properties", "required", "title", "type"),
    }
)
STRICT_FORMATS: Final = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"}
)


def answer_format(schema: dict[str, Any]) -> dict[str, Any]:
    """Name, schema and strictness of the form that an answer must have."""
    name = re.sub(r"[^a-zA-Z0-9_-]+", "_", str(schema.get("title") or "")).strip("_")[:64] or "answer"
    plain = _rooted(schema)
    try:
        return {"name": name, "schema": _closed(plain), "strict": True}
    except Open:
        return {"name": name, "schema": plain, "strict": False}


class Open(Exception):
    """The schema allows what the strict form cannot say."""


def _rooted(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with an object at its root, where the provider wants one, and not a reference to it."""
    reference = str(schema.get("$ref", ""))
    target = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"))
    if not isinstance(target, dict):
        return schema
    return {key: value for key, value in schema.items() if key != "$ref"} | target


def _closed(schema: Any) -> dict[str, Any]:
    """The schema with every property required, and no others allowed.

    An answer that follows it follows the given one too: a key that may be left out may also be there.

    Raises:
        Open: there is no such schema.
    """
    if not isinstance(schema, dict):
        raise Open
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    closed = {key: value for key, value in schema.items() if key != "default"}
    if not closed.keys() <= STRICT_KEYS or str(closed.get("format", "uuid")) not in STRICT_FORMATS:
        raise Open
    if closed.get("type") == "object" or "properties" in closed:
        if closed.get("additionalProperties", False) is not False or not closed.get("properties"):
            raise Open
        closed |= {"additionalProperties": False, "required": list(closed["properties"])}
    for key in closed.keys() & {"properties", "$defs"}:
        closed[key] = {name: _closed(value) for name, value in closed[key].items()}
    if "items" in closed:
        closed["items"] = _closed(closed["items"])
    if "anyOf" in closed:
        closed["anyOf"] = [_closed(value) for value in closed["anyOf"]]
    return closed
