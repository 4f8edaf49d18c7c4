"""The SDK's clients of one configuration: one for plain calls, one for each event loop."""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from recollect.port import World


class Clients:
    """Clients made when they are first needed.

    An async client belongs to the loop in which it opened its connections, so one is kept per loop, as long as the loop
    and this object live. It stands in a suspended async generator: a loop that ends under `asyncio.run` ends its
    generators first, which closes the connections while that can still be done. The one for plain calls is closed when
    this object is let go of, or the program ends.
    """

    __slots__ = ("__weakref__", "_async_http_client", "_http_client", "_options", "_plain")

    def __init__(self, http_client: Any, async_http_client: Any, options: Mapping[str, Any]) -> None:
        self._http_client = http_client
        self._async_http_client = async_http_client
        self._options = dict(options)
        self._plain: dict[int, Any] = {}  # by process: what a fork brought along stays there, for it is the parent's

    async def of(self, world: World) -> Any:
        """The client for this world, here and now."""
        return await self._here() if world.waits else self._blocking()

    def close(self) -> None:
        client = self._plain.pop(os.getpid(), None)
        if client is not None and self._http_client is None:
            client.close()

    async def aclose(self) -> None:
        self.close()
        kept = _of_loop().get({}).pop(self, None)
        if kept is not None:
            await kept.holder.aclose()

    def _blocking(self) -> Any:
        client = self._plain.get(os.getpid())
        if client is None:
            import openai

            made = openai.OpenAI(http_client=self._http_client, **self._options)
            client = self._plain.setdefault(os.getpid(), made)  # of two threads that come first, one wins
            if client is made and self._http_client is None:
                weakref.finalize(self, _close, made, os.getpid())
        return client

    async def _here(self) -> Any:
        kept_here = _of_loop().get(None)
        if kept_here is None:
            kept_here = weakref.WeakKeyDictionary()
            _of_loop().set(kept_here)
        kept = kept_here.get(self)
        if kept is None or kept.client.is_closed():
            kept = kept_here[self] = self._make()
            await anext(kept.holder)
        return kept.client

    def _make(self) -> Kept:
        import openai

        client = openai.AsyncOpenAI(http_client=self._async_http_client, **self._options)
        return Kept(client, _hold(client, close=self._async_http_client is None))


class Kept:
    """A client, and the generator that closes it when its loop ends."""

    __slots__ = ("client", "holder")

    def __init__(self, client: Any, holder: AsyncGenerator[None, None]) -> None:
        self.client = client
        self.holder = holder


def _close(client: Any, process: int) -> None:
    """Close a client in the process that it belongs to; a child has only the look of it."""
    if os.getpid() == process:
        client.close()


async def _hold(client: Any, *, close: bool) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        if close:
            await client.close()


@functools.cache
def _of_loop() -> Any:
    """What is kept for the running event loop, as long as it lives."""
    from anyio.lowlevel import RunVar  # the SDK itself stands on anyio

    return RunVar("recollect.models.openai")
