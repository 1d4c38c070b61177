"""A server that answers everything at once and keeps nothing: how fast is the generator itself?

It speaks the protocol through ``ServerConnection``. What the generator prepares is told by its first word: an INSERT is
answered Void, a SELECT with one row of zeros, or as many as its LIMIT says. With it on one core and the generator on
another, what is measured is the generator's own cost; tests make it stall, forget its statements, or refuse.
"""

from __future__ import annotations

import hashlib
import re
import selectors
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection

from ourodb.cql.wire.codes import EXECUTE, PREPARE, QUERY, RESULT
from ourodb.cql.wire.connection import Request, ServerConnection
from ourodb.cql.wire.primitives import Reader, pack_int, write_bytes, write_short_bytes
from ourodb.errors import RequestError, Unprepared

_RECEIVE_BYTES = 1 << 18
_VOID = pack_int(1)
_NO_METADATA = 4
_LIMIT = re.compile(r"LIMIT (\d+)")

Interfere = Callable[["Responder", Request], RequestError | None]
"""Asked before each EXECUTE: the error to answer, or None. May change the responder, or sleep."""


class Responder:
    """A listening socket and its connections, served by ``serve`` on the caller's thread.

    Attributes:
        executed: EXECUTEs that were answered.
        prepared: text by statement id; a test may clear it.
    """

    def __init__(self, row_bytes: int, interfere: Interfere | None = None) -> None:
        self.executed = 0
        self.prepared: dict[bytes, str] = {}
        self._answers: dict[bytes, bytes] = {}
        self._row_bytes = row_bytes
        self._interfere = interfere
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self.port = int(self._socket.getsockname()[1])
        self.stopping = False

    def serve(self) -> None:
        """Answer until ``stopping`` is set."""
        while not self.stopping:
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._socket:
                    accepted, _ = self._socket.accept()
                    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._selector.register(accepted, selectors.EVENT_READ, ServerConnection())
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._read(key.fileobj, key.data)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def _read(self, connected: socket.socket, connection: ServerConnection) -> None:
        try:
            data = connected.recv(_RECEIVE_BYTES)
        except OSError:
            data = b""
        if not data:
            self.drop(connected)
            return
        for request in connection.receive(data):
            self._answer(connection, request)
        if outgoing := connection.take_outgoing():
            connected.sendall(outgoing)

    def drop(self, connected: socket.socket) -> None:
        """Close a connection."""
        self._selector.unregister(connected)
        connected.close()

    def _answer(self, connection: ServerConnection, request: Request) -> None:
        stream, opcode, _, body, _ = request
        if opcode == EXECUTE:
            error = self._interfere(self, request) if self._interfere is not None else None
            id_bytes = body[2 : 2 + int.from_bytes(body[:2], "big")]
            answer = self._answers.get(id_bytes)
            if error is None and (answer is None or id_bytes not in self.prepared):
                error = Unprepared(id_bytes)
            if error is not None:
                connection.send_error(stream, error)
                return
            assert answer is not None
            self.executed += 1
            connection.send_result(stream, answer)
        elif opcode == PREPARE:
            connection.send(stream, RESULT, self._prepare(connection.version, Reader(body).long_string()))
        elif opcode == QUERY:
            connection.send(stream, RESULT, _VOID)

    def _prepare(self, version: int, statement: str) -> bytes:
        statement_id = hashlib.md5(statement.encode()).digest()
        self.prepared[statement_id] = statement
        answer = _VOID
        if statement.startswith("SELECT"):
            limit = _LIMIT.search(statement)
            rows = int(limit[1]) if limit else 1
            row = write_bytes(bytes(self._row_bytes))
            answer = pack_int(2) + pack_int(_NO_METADATA) + pack_int(1) + pack_int(rows) + row * rows
        self._answers[statement_id] = answer
        markers = statement.count("?")
        specs = b"\0\1k\0\1t" + b"\0\1c\0\2" * markers
        metadata_id = write_short_bytes(statement_id) if version >= 5 else b""
        key_indexes = pack_int(0) if version >= 4 else b""
        head = pack_int(4) + write_short_bytes(statement_id) + metadata_id
        return (
            head
            + pack_int(1)
            + pack_int(markers)
            + key_indexes
            + specs
            + pack_int(_NO_METADATA)
            + pack_int(0)
        )


def respond(row_bytes: int, pipe: Connection) -> None:
    """The life of a process that answers: sends its port through the pipe, serves until it is ended."""
    responder = Responder(row_bytes)
    pipe.send(responder.port)
    responder.serve()
