"""The OpenAPI document: what the routes say of themselves, with the errors that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.responses import Response

from recollect.server.examples import EXAMPLES
from recollect.server.limits import Limits
from recollect.server.problem import MEDIA_TYPE
from recollect.server.route import Route
from recollect.server.stream import EVENTS

JSON: Final = "application/json"

ABOUT: Final = """\
Sessions of agents and teams, with the routes of Agno's AgentOS and, under `/v1`, what these lack.

Every error is a JSON object with a text `detail` and a `code` that programs may rely on. A session of somebody else
is answered as one that does not exist."""

PROBLEM: Final = {
    "type": "object",
    "title": "Problem",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:recollect:session_not_found"]},
        "title": {"type": "string", "examples": ["Not Found"]},
        "status": {"type": "integer", "examples": [404]},
        "detail": {"type": "string", "examples": ["there is no session 'trip'"]},
        "code": {"type": "string", "examples": ["session_not_found"]},
        "argument": {"type": "string", "description": "The argument that was refused."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "loc": {"type": "array", "items": {"type": "string"}},
                    "msg": {"type": "string"},
                },
            },
        },
        "run_id": {"type": "string", "description": "The stored run that failed."},
        "session_id": {"type": "string"},
    },
}

_SHARED: Final = {
    "401": "Who makes the request is not known",
    "403": "The caller may not do this",
    "404": "It does not exist, or is not the caller's",
    "422": "Something cannot be accepted",
    "429": "Too many requests; Retry-After says when to come again",
    "default": "Any other error",
}

_OF_BODIES: Final = {
    "409": "It is there already, or somebody else is at work on it just now",
    "413": "The body is too long",
}
_OF_TAGS: Final = {"412": "It is no longer what the caller knows"}

_OK: Final = {200: "The answer", 201: "It is made", 204: "It is gone"}

_EXAMPLE_OF: Final = {
    "Runs": 'event: RunStarted\ndata: {"event":"RunStarted","session_id":"s","run_id":"r","created_at":1788000000}\n\n'
    'event: RunContent\ndata: {"event":"RunContent","session_id":"s","run_id":"r","created_at":1788000000,'
    '"content":"Hello"}\n\n',
    "v1": 'id: WzEsMCwwXQ\n\nid: WzEsMSw3XQ\nevent: changed\ndata: {"session_id":"s","user_id":"ada","agent_id":"desk",'
    '"team_id":null,"version":4}\n\n',
}
"""Events as they go over the wire, by the tag of what they are of."""


def options(route: Route) -> dict[str, Any]:
    """What FastAPI is told of a route."""
    if route.is_page:
        return {"methods": [route.method], "include_in_schema": False, "response_model": None}
    doc = (route.endpoint.__doc__ or "").strip()
    summary, _, more = doc.partition(".")
    told: dict[int | str, Any] = {status: dict(said) for status, said in route.responses.items()}
    other = _other(route)
    if other:
        told.setdefault(200, {"description": _OK[200]})["content"] = other
        if route.shape is not None:
            told[200]["model"] = route.shape
    return _as(route) | {
        "methods": [route.method],
        "status_code": route.status,
        "response_model": None if other else route.shape,
        "response_description": _OK[route.status],
        "responses": told,
        "summary": " ".join(summary.split()),
        "description": " ".join(more.split()) or None,
        "operation_id": f"{route.tag.lower()}_{route.endpoint.__name__}",
        "tags": [route.tag],
    }


def _as(route: Route) -> dict[str, Any]:
    """What makes the answer where that is never JSON."""
    if route.status == HTTPStatus.NO_CONTENT:
        return {"response_class": Response}
    media_type = next(iter(_other(route)), JSON) if route.shape is None else JSON
    return {} if media_type == JSON else {"response_class": type("Told", (Response,), {"media_type": media_type})}


def _other(route: Route) -> dict[str, Any]:
    """What a route answers with that is not JSON, by media type."""
    if route.tells is not None:
        return {EVENTS: {"schema": _event(route.tells), "example": _EXAMPLE_OF[route.tag]}}
    return {} if route.media_type == JSON else {route.media_type: {"schema": {"type": "object"}}}


def _event(told: type[BaseModel]) -> dict[str, Any]:
    """One of the events, by its fields."""
    data = {"type": "string", "contentMediaType": JSON, "contentSchema": told.model_json_schema()}
    return {
        "type": "object",
        "description": "One of the events.",
        "properties": {"id": {"type": "string"}, "event": {"type": "string"}, "data": data},
    }


def documented(app: FastAPI, limits: Limits, unguarded: set[str]) -> Callable[[], dict[str, Any]]:
    """What makes the document of an application, once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, limits, unguarded)
        return app.openapi_schema

    return openapi


def _document(app: FastAPI, limits: Limits, unguarded: set[str]) -> dict[str, Any]:
    made = get_openapi(
        title=app.title, version=app.version, openapi_version="3.1.0", description=ABOUT, routes=app.routes
    )
    parts = made.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = PROBLEM
    for name, schema in schemas.items():
        schema["examples"] = [EXAMPLES[name]]
    parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operation in _operations(made):
        operation["responses"] |= {status: _problem(what) for status, what in _errors(operation)}
        if path in unguarded:
            del operation["responses"]["401"]
        else:
            operation["security"] = [{"token": []}]
        for parameter in operation.get("parameters", ()):
            _complete(parameter, limits)
    return made


def _operations(made: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in made["paths"].items():
        for operation in item.values():
            yield path, operation


def _errors(operation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """With which errors an operation may be answered, and what each means."""
    if "requestBody" in operation:
        yield from _OF_BODIES.items()
    if any(parameter["name"] == "if-match" for parameter in operation.get("parameters", ())):
        yield from _OF_TAGS.items()
    yield from _SHARED.items()


def _problem(what: str) -> dict[str, Any]:
    return {"description": what, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _complete(parameter: dict[str, Any], limits: Limits) -> None:
    """Say what this server's limits are."""
    if parameter["name"] == "limit":
        bounded = next(one for one in parameter["schema"]["anyOf"] if one["type"] == "integer")
        bounded["maximum"] = min(bounded["maximum"], limits.page)
