"""HTTP on 127.0.0.1: a socket, the thread that accepts, and a thread for each connection."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from recollect.testing.answer import Failure, HangUp, Refused
from recollect.testing.desk import Desk


class Listener(HTTPServer):
    """The socket, the thread that accepts, and a thread for each connection."""

    # A port that was just used may be used again; many clients may come at once.
    request_queue_size = 128

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self._accepting = threading.Thread(target=self._accept, name="test-server", daemon=True)
        self._accepting.start()

    def server_bind(self) -> None:
        """Bind without asking a name server for the name of this machine."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def _accept(self) -> None:
        while True:
            request, client_address = self.get_request()
            if self.desk.stopping.is_set():
                request.close()
                return
            self._begin(request, client_address)

    def _begin(self, request: socket.socket, client_address: Any) -> None:
        self._connections.add(request)
        thread = threading.Thread(target=self._serve, args=(request, client_address), name="test-server", daemon=True)
        self._threads = [*(other for other in self._threads if other.is_alive()), thread]
        thread.start()

    def stop(self) -> None:
        self.desk.stopping.set()
        socket.create_connection(self.socket.getsockname()).close()  # wakes who accepts
        self._accepting.join()
        for connection in list(self._connections):
            _cut(connection)
        for thread in self._threads:
            thread.join()
        self.server_close()

    def _serve(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except ConnectionError:
            return  # the client went away between two requests
        finally:
            self._connections.discard(request)
            self.shutdown_request(request)


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was first


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.desk.serving():
            self._serve(raw)

    def _serve(self, raw: bytes) -> None:
        desk = self.server.desk
        try:
            api = desk.api(self.path, self.headers.get("Authorization"))
            body = _parse(raw)
            answer = desk.answer(api, body)
        except Refused as refused:
            self._refuse(refused)
            return
        desk.wait_for(answer)
        try:
            if isinstance(answer, Failure):
                self._fail(answer)
            elif body.get("stream"):
                self._stream(api.events(body, answer))
            else:
                self._send(200, api.whole(body, answer), cut=None if answer.broken_after is None else 10)
        except ConnectionError:
            desk.left()
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _refuse(self, refused: Refused) -> None:
        error = {"message": str(refused), "type": "invalid_request_error", "param": refused.param, "code": refused.code}
        self._send(refused.status, {"error": error})

    def _fail(self, failure: Failure) -> None:
        kind = "server_error" if failure.status >= 500 else "requests"  # noqa: PLR2004 - the servers' own errors
        error = {"message": failure.message, "type": kind, "param": None, "code": failure.code}
        headers = {} if failure.retry_after is None else {"retry-after": f"{failure.retry_after:g}"}
        self._send(failure.status, {"error": error}, headers)

    def _send(
        self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None, cut: int | None = None
    ) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw[:cut])
        if cut is not None:
            self._hang_up()

    def _stream(self, events: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for event in events:
                self.server.desk.wait()
                self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            self.wfile.write(b"0\r\n\r\n")
        except HangUp:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        _cut(self.connection)


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        problem = "We could not parse the JSON body of your request. The OpenAI API expects a JSON payload."
        raise Refused(problem)
    return body
