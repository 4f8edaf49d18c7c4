"""Listening: the application behind uvicorn, and its end within a bound."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from recollect.server.app import GRACE
from recollect.server.service import FLUSH, Service
from recollect.server.underway import LAST

BACKLOG: Final = 2048


def serve(
    app: FastAPI,
    *,
    host: str = "127.0.0.1",
    port: int = 7777,
    grace: float = GRACE,
    on_start: Callable[[str], None] | None = None,
) -> None:
    """Serve an application of `create_app` until SIGTERM or Ctrl-C.

    Then no new request is taken, streams of events end, and runs under way have ``grace`` seconds; those that are not
    done by then are cancelled, and what was said in them is stored.

    Args:
        app: the application.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        grace: seconds that runs have to end by themselves.
        on_start: is given the server's address when it listens.

    Raises:
        OSError: it cannot listen there.
    """
    with listener_at(host, port) as listener, _quiet_sigterm():
        server = Server(app, grace)
        if on_start is not None:
            shown = f"[{host}]" if ":" in host else host
            on_start(f"http://{shown}:{listener.getsockname()[1]}")
        server.run(sockets=[listener])


def listener_at(host: str, port: int) -> socket.socket:
    """A socket that listens. It says which protocol it speaks, or asyncio would let small packets wait (Nagle).

    Raises:
        OSError: it cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":  # there, others could take the same port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host}, port {port}: {error.strerror}") from error
    return listener


class Server(uvicorn.Server):
    """A uvicorn server that tells its application of the end before it waits for its requests."""

    def __init__(self, app: FastAPI, grace: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,  # it would write down queries
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=int(grace + 2 * LAST + FLUSH) + 1,
                ws="none",
            )
        )
        self._service: Service = app.state.recollect
        self._grace = grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ending = asyncio.ensure_future(self._service.end(self._grace))
        await super().shutdown(sockets)
        await ending


@contextmanager
def _quiet_sigterm() -> Iterator[None]:
    """After its end uvicorn raises the signal that brought it once more; the process shall end as it wants to."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _ignore)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _ignore(number: int, frame: Any) -> None:
    """Do nothing."""
