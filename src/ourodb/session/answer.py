"""One request's reply in the making.

An ``Answer`` is made when a request arrives and used up by exactly one of its methods, now or in a later pass
of the loop. It knows the stream to answer on and carries what goes before a body: trace id, warnings, custom
payload. It is
itself the callback that a write is given: called with None it acknowledges, called with an error it tells it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ourodb.cql.wire import codes
from ourodb.cql.wire.responses import SchemaChange, encode_schema_change, encode_set_keyspace, response_prefix
from ourodb.errors import RequestError

if TYPE_CHECKING:
    from ourodb.session.session import Session
    from ourodb.session.tracing import Trace


class Answer:
    """The one reply to the request on ``stream``.

    Attributes:
        trace: set when the client asked for tracing.
        warnings: for the client, in order.
    """

    __slots__ = ("_session", "_stream", "_waits", "trace", "warnings")

    def __init__(self, session: Session, stream: int) -> None:
        self._session = session
        self._stream = stream
        self._waits = 0
        self.trace: Trace | None = None
        self.warnings: Sequence[str] = ()

    @property
    def is_wanted(self) -> bool:
        """Whether the client is still there; long work for one that is gone may stop."""
        return self._session.is_open

    def will_come(self, weight: int = 1) -> None:
        """The reply won't come before ``handle`` returns: it counts as ``weight`` in flight until it does."""
        if not self._waits:
            self._waits = weight
            self._session.in_flight += weight

    def __call__(self, error: RequestError | None) -> None:
        """The write has been carried out, or hasn't."""
        if error is not None:
            self.error(error)
        elif self.trace is None and not self.warnings:
            self._session.connection.send_void(self._stream)
            if self._waits:
                self._sent()
        else:
            self.result(b"\x00\x00\x00\x01")

    def result(self, body: bytes) -> None:
        """A RESULT of any kind."""
        if self.trace is None and not self.warnings:
            self._session.connection.send_result(self._stream, body)
        else:
            self._send_with_prefix(codes.RESULT, body)
        if self._waits:
            self._sent()

    def ready(self) -> None:
        """READY, to a REGISTER."""
        self._send_with_prefix(codes.READY, b"")

    def set_keyspace(self, keyspace: str) -> None:
        self.result(encode_set_keyspace(keyspace))

    def schema_change(self, change: SchemaChange) -> None:
        self.result(encode_schema_change(change))

    def error(self, error: RequestError) -> None:
        flags, prefix = self._prefix() if self.trace is not None or self.warnings else (0, b"")
        self._session.connection.send_error(self._stream, error, flags, prefix)
        if self._waits:
            self._sent()

    def _send_with_prefix(self, opcode: int, body: bytes) -> None:
        flags, prefix = self._prefix()
        self._session.connection.send(self._stream, opcode, prefix + body, flags)

    def _prefix(self) -> tuple[int, bytes]:
        trace = self.trace
        if trace is not None:
            trace.finish()
        version = self._session.connection.version
        return response_prefix(version, trace.id if trace is not None else None, self.warnings)

    def _sent(self) -> None:
        self._session.in_flight -= self._waits
        self._session.wake()
