"""Stands between ``ouro restore`` and a node's admin port, and does as the network and nodes do at their worst."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Forward = Callable[[], tuple[int, bytes]]
"""Hands the request on to the node; gives status and body of the answer."""
Meddle = Callable[[int, Forward], tuple[int, bytes] | None]
"""What is done with the nth (from 1) batch of rows; None: the connection is cut off without an answer."""


class Between:
    """A server on loopback; everything but rows passes through."""

    def __init__(self, admin: str, meddle: Meddle) -> None:
        """
        Args:
            admin: HOST:PORT of the node.
            meddle: called by several threads at a time.
        """
        outer = self
        self.batches = 0
        self._lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *arguments: Any) -> None: ...

            def do_GET(self) -> None:
                self._answer(self._forward(b""))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path != "/restore/rows":
                    self._answer(self._forward(body))
                    return
                with outer._lock:
                    outer.batches += 1
                    number = outer.batches
                answer = meddle(number, lambda: self._forward(body))
                if answer is None:
                    self.close_connection = True
                else:
                    self._answer(answer)

            def _forward(self, body: bytes) -> tuple[int, bytes]:
                host, _, port = admin.rpartition(":")
                connection = http.client.HTTPConnection(host, int(port), timeout=60)
                connection.request(
                    self.command, self.path, body, {"Content-Type": self.headers.get_content_type()}
                )
                reply = connection.getresponse()
                answer = reply.status, reply.read()
                connection.close()
                return answer

            def _answer(self, answer: tuple[int, bytes]) -> None:
                status, body = answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def admin(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Between:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
