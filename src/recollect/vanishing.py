"""What vanishes from a database is told to the caches over it, whichever way the deletion came.

A cache is right without this, for it compares before it answers. But what was deleted must not stay in memory until
somebody asks for it. Caches over the same data in another process, or through another database object, find out when
they next ask for the session, or need the room.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

Marked = TypeVar("Marked", bound=Callable[..., Any])


class Forgetful(Protocol):
    """A cache that lets go of sessions."""

    def forget(self, key: tuple[int, str]) -> None:
        """Let go of what is held of a session, by the number that its database has here, and its id."""
        ...


_CACHES: Final[weakref.WeakKeyDictionary[Any, weakref.WeakKeyDictionary[Forgetful, int]]] = weakref.WeakKeyDictionary()


def vanishing(operation: Marked) -> Marked:
    """Mark a store operation after which something of its ``session_id`` is gone, unless it gives False."""
    operation.vanishing = True  # type: ignore[attr-defined]
    return operation


def have_told(home: object, cache: Forgetful, number: int) -> None:
    """Have a cache told of what vanishes from a database, which it knows by a number."""
    _CACHES.setdefault(home, weakref.WeakKeyDictionary())[cache] = number


def tell(database: Any, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], value: object) -> None:
    """Tell what an operation has done in a database, or in a cache over it, where something is gone after it."""
    if value is False or not getattr(operation, "vanishing", False):
        return
    session_id = inspect.signature(operation).bind(None, *args, **kwargs).arguments["session_id"]
    for cache, number in [*_CACHES.get(database.home, {}).items()]:
        cache.forget((number, session_id))
