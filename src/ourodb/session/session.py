"""One client's session: its keyspace, the events that it asked for, and the dispatch of its requests.

``handle`` never raises. An error that is the client's goes back as its ERROR; anything else is a bug of ours:
it is logged with its traceback, answered with SERVER_ERROR, and costs nobody else anything.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from ourodb.cql.wire import codes
from ourodb.cql.wire.connection import Request, ServerConnection
from ourodb.cql.wire.requests import (
    decode_auth_response,
    decode_batch,
    decode_execute,
    decode_prepare,
    decode_query,
    decode_register,
)
from ourodb.cql.wire.responses import encode_prepared
from ourodb.errors import OuroError, ProtocolError, RequestError, ServerError, internal_error
from ourodb.session.answer import Answer
from ourodb.session.processor import QueryProcessor, SchemaMismatch
from ourodb.session.tracing import Trace

log = structlog.get_logger()

EVENT_TYPES = ("TOPOLOGY_CHANGE", "STATUS_CHANGE", "SCHEMA_CHANGE")


class Session:
    """What the node knows of one connection beyond its protocol.

    Attributes:
        connection: where answers go.
        is_open: somebody waits for them.
        peer: the client's (address, port).
        keyspace: set by USE, or None.
        in_flight: requests whose answer is still to come.
        wake: says that there is something to write outside a pass that this client started.
        events: types of events that the client registered for.
        requests: counted since it connected.
    """

    __slots__ = (
        "_processor",
        "connection",
        "events",
        "in_flight",
        "is_open",
        "keyspace",
        "peer",
        "requests",
        "wake",
    )

    def __init__(
        self,
        connection: ServerConnection,
        peer: tuple[str, int],
        processor: QueryProcessor,
        wake: Callable[[], None],
    ) -> None:
        self.connection = connection
        self.is_open = True
        self.peer = peer
        self.keyspace: str | None = None
        self.in_flight = 0
        self.wake = wake
        self.events: tuple[str, ...] = ()
        self.requests = 0
        self._processor = processor

    def handle(self, request: Request) -> None:
        """Run one request; its answer goes to ``connection``, now or later."""
        self.requests += 1
        self._carry_out(request, Answer(self, request[0]), is_new=True)

    def _carry_out(self, request: Request, answer: Answer, *, is_new: bool) -> None:
        """
        Args:
            is_new: it may be tried once more, when this node has made sure that it knows the newest schema.
        """
        _, opcode, flags, body, _ = request
        try:
            if flags & codes.FLAG_TRACING:
                answer.trace = Trace(self._processor, codes.OPCODE_NAMES[opcode], self.peer[0])
            if opcode == codes.EXECUTE:
                self._processor.execute_prepared(self, decode_execute(self.connection.version, body), answer)
            else:
                _HANDLERS[opcode](self, body, answer)
        except SchemaMismatch as mismatch:
            if is_new and self._processor.inquire(lambda: self._carry_out(request, answer, is_new=False)):
                answer.will_come()
            else:
                answer.error(mismatch.error)
        except RequestError as error:
            answer.error(error)
        except OuroError as error:
            # The store's, which has logged it: damage on disk above all. The client is told what it is.
            answer.error(ServerError(str(error)))
        except RecursionError:
            answer.error(ServerError("The statement is nested too deeply"))
        except Exception as error:
            log.exception("internal error", opcode=codes.OPCODE_NAMES.get(opcode), client=self.peer)
            answer.error(internal_error(error))

    def close(self) -> None:
        """The connection is gone."""
        self.is_open = False
        self.events = ()
        self.connection.close()
        self._processor.forget_listener(self)

    def _query(self, body: bytes, answer: Answer) -> None:
        self._processor.query(self, decode_query(self.connection.version, body), answer)

    def _prepare(self, body: bytes, answer: Answer) -> None:
        version = self.connection.version
        request = decode_prepare(version, body)
        statement = self._processor.prepare(request.statement, request.keyspace or self.keyspace)
        plan = statement.plan
        answer.warnings = plan.warnings
        answer.result(
            encode_prepared(
                version,
                statement.id,
                [variable.wire() for variable in plan.variables],
                plan.partition_key_indexes,
                plan.metadata(version),
            )
        )

    def _batch(self, body: bytes, answer: Answer) -> None:
        self._processor.batch(self, decode_batch(self.connection.version, body), answer)

    def _register(self, body: bytes, answer: Answer) -> None:
        events = decode_register(body)
        for event in events:
            if event not in EVENT_TYPES:
                raise ProtocolError(f"Invalid value '{event}' for Type")
        self.events = tuple(dict.fromkeys(self.events + tuple(events)))
        self._processor.add_listener(self)
        answer.ready()

    def _auth_response(self, body: bytes, answer: Answer) -> None:
        decode_auth_response(body)
        raise ProtocolError("Unexpected message AUTH_RESPONSE: this node asks for no authentication")


_HANDLERS: dict[int, Callable[[Session, bytes, Answer], None]] = {
    codes.QUERY: Session._query,
    codes.PREPARE: Session._prepare,
    codes.BATCH: Session._batch,
    codes.REGISTER: Session._register,
    codes.AUTH_RESPONSE: Session._auth_response,
}
