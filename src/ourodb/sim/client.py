"""A CQL client that speaks the wire protocol, byte for byte, to one node of a simulated cluster at a time.

It behaves as a careful driver does. It connects to a node by chance, prepares a statement once for each
connection, and runs it once: what was sent is never sent again, except where the node says that it doesn't know
the prepared statement, which did nothing. When a connection is lost or an answer doesn't come in time it goes
to another node. Now and then it moves for no reason, so that all nodes coordinate.

It implements ``workloads.stage.Client``; what it gives are promises.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

from ourodb.cql.wire.client import ClientConnection
from ourodb.cql.wire.client_messages import (
    Prepared,
    Rows,
    decode_response,
    encode_execute,
    encode_prepare,
    encode_query,
)
from ourodb.cql.wire.codes import EVENT, EXECUTE, PREPARE, QUERY, READY, SUPPORTED, Consistency
from ourodb.cql.wire.connection import State
from ourodb.cql.wire.requests import QueryParameters
from ourodb.errors import RequestError, Unprepared
from ourodb.sim.chance import Chance
from ourodb.sim.machine import Machine
from ourodb.sim.stream import ClientEnd
from ourodb.sim.tasks import Promise, S, Task
from ourodb.sim.workloads.stage import NoAnswer, NotSent, Reply
from ourodb.sim.world import World

Script = Generator[Promise[Any], Any, Any]

STREAMS: Final = 1 << 15
HANDSHAKE_NS: Final = 1 * S
"""Until a connection must be ready for requests."""
AVOID_NS: Final = 5 * S
"""A node that failed its client is tried last for so long."""
ANY_EPOCH: Final = 1 << 62
"""No node has applied more of the metadata log."""
MOVE_ONE_IN: Final = 100
"""So seldom does a client go to another node for no reason."""

Answer = RequestError | NotSent | NoAnswer | Any
"""An error, or what ``decode_response`` made of the answer."""


class Wire:
    """One connection to one node.

    Attributes:
        machine: whose.
        opened: whether the handshake succeeded, once that is known.
        is_open: requests may be sent.
        prepared: statements that were prepared on it.
    """

    def __init__(self, world: World, place: int, machine: Machine, version: int, compression: str) -> None:
        self.machine = machine
        self.opened: Promise[bool] = Promise()
        self.is_open = False
        self.prepared: dict[str, Prepared] = {}
        self._loop = world.loop
        self._protocol = ClientConnection(version, compression)
        self._waiting: dict[int, Promise[Answer]] = {}
        self._given_up: dict[int, None] = {}
        self._stream = 0
        self._end = ClientEnd(world.network, place, machine, self._on_open, self._on_bytes, self._on_lost)
        self._loop.after(HANDSHAKE_NS, self._on_late)

    def ask(self, opcode: int, body: bytes, timeout_ns: int) -> Promise[Answer]:
        """Send a request; its answer, or ``NoAnswer``, or ``NotSent``."""
        promise: Promise[Answer] = Promise()
        if not self.is_open:
            promise.keep(NotSent("the connection is lost"))
            return promise
        stream = self._free_stream()
        self._waiting[stream] = promise
        self._protocol.send(stream, opcode, body)
        self._end.send(self._protocol.take_outgoing())
        self._loop.after(timeout_ns, self._on_timeout, (stream, promise))
        return promise

    def close(self) -> None:
        """Hang up; nothing may be waited for."""
        self._end.close()
        self._lose("hung up")

    @property
    def version(self) -> int:
        return self._protocol.version

    def _free_stream(self) -> int:
        while True:
            self._stream = (self._stream + 1) % STREAMS
            if self._stream not in self._waiting and self._stream not in self._given_up:
                return self._stream

    def _on_open(self) -> None:
        self._protocol.options(0)
        self._end.send(self._protocol.take_outgoing())

    def _on_bytes(self, data: bytes) -> None:
        protocol = self._protocol
        for stream, opcode, flags, body, _ in protocol.receive(data):
            if opcode == EVENT:
                continue
            message = decode_response(protocol.version, opcode, flags, body).message
            if not self.opened.is_kept:
                self._shake_hands(opcode, message)
                continue
            promise = self._waiting.pop(stream, None)
            if promise is None:
                # It has answered somebody who gave up.
                assert stream in self._given_up, f"an answer to nobody on stream {stream}"
                del self._given_up[stream]
            else:
                promise.keep(message)
        if protocol.error is not None:
            raise AssertionError(f"{self.machine.name} breaks the protocol: {protocol.error.message}")

    def _shake_hands(self, opcode: int, message: Any) -> None:
        if opcode == SUPPORTED:
            self._protocol.start(0, {"DRIVER_NAME": "simulator"})
            self._end.send(self._protocol.take_outgoing())
        elif opcode == READY:
            assert self._protocol.state is State.READY
            self.is_open = True
            self.opened.keep(True)
        else:
            self._end.close()
            self._lose(f"the handshake was answered with {message}")

    def _on_late(self, _: object) -> None:
        if not self.opened.is_kept:
            self._end.close()
            self._lose("the handshake took too long")

    def _on_lost(self) -> None:
        self._lose("the connection was lost")

    def _lose(self, why: str) -> None:
        self.is_open = False
        waiting, self._waiting = self._waiting, {}
        for promise in waiting.values():
            promise.keep(NoAnswer(why))
        if not self.opened.is_kept:
            self.opened.keep(False)

    def _on_timeout(self, request: tuple[int, Promise[Answer]]) -> None:
        stream, promise = request
        if not promise.is_kept:
            del self._waiting[stream]
            self._given_up[stream] = None
            promise.keep(NoAnswer("no answer in time"))


class CqlClient:
    """See the module.

    Attributes:
        place: in the network.
        wire: the connection that it uses now, or None.
        coordinator: the machine to which the last statement went, or None: no node could be reached.
        consistency: that of the last statement.
    """

    def __init__(
        self,
        world: World,
        machines: Sequence[Machine],
        *,
        version: int = 5,
        compression: str = "",
        moves: bool = True,
    ) -> None:
        """
        Args:
            machines: to which it connects, by chance.
            moves: whether it goes to another one for no reason now and then.
        """
        self.place = world.new_place()
        self.wire: Wire | None = None
        self.coordinator: Machine | None = None
        self.consistency: int = Consistency.QUORUM
        self._world = world
        self._machines = list(machines)
        self._version = version
        self._compression = compression
        self._moves = moves
        self._avoided_until_ns: dict[int, int] = {}
        self._chance: Chance = world.chance.child(f"client {self.place}")

    def execute(
        self,
        statement: str,
        values: Sequence[bytes | None] = (),
        *,
        consistency: int = Consistency.QUORUM,
        serial_consistency: int = Consistency.SERIAL,
        timeout_s: float = 5.0,
        page_size: int = 0,
        paging_state: bytes | None = None,
        is_prepared: bool = True,
    ) -> Promise[Reply]:
        """Run a statement; see ``workloads.stage.Client``."""
        self.consistency = consistency
        parameters = QueryParameters(
            consistency,
            False,
            list(values),
            page_size=page_size or -1,
            paging_state=paging_state,
            serial_consistency=serial_consistency,
        )
        return Task(self._execute(statement, parameters, round(timeout_s * S), is_prepared))

    def close(self) -> None:
        if self.wire is not None:
            self.wire.close()
            self.wire = None

    def _execute(
        self, statement: str, parameters: QueryParameters, timeout_ns: int, is_prepared: bool
    ) -> Generator[Promise[Any], Any, Reply]:
        wire = yield from self._connected()
        self.coordinator = None if wire is None else wire.machine
        if wire is None:
            return Reply(NotSent("no node can be reached"))
        least = _epoch(wire.machine, 0)
        answer = yield from self._run(wire, statement, parameters, timeout_ns, is_prepared)
        epochs = least, _epoch(wire.machine, ANY_EPOCH)
        if isinstance(answer, NoAnswer | NotSent) and self.wire is not None:
            self._avoid(self.wire.machine)
            self.close()
        if isinstance(answer, RequestError | NoAnswer | NotSent):
            return Reply(answer, epochs=epochs)
        if isinstance(answer, Rows):
            metadata = answer.metadata
            names = tuple(column.name for column in metadata.columns or ())
            return Reply(None, names, answer.rows, metadata.paging_state, epochs)
        return Reply(epochs=epochs)

    def _run(
        self, wire: Wire, statement: str, parameters: QueryParameters, timeout_ns: int, is_prepared: bool
    ) -> Script:
        if not is_prepared:
            body = encode_query(wire.version, statement, parameters)
            return (yield wire.ask(QUERY, body, timeout_ns))
        for _ in range(3):
            prepared = wire.prepared.get(statement)
            if prepared is None:
                prepared = yield wire.ask(PREPARE, encode_prepare(wire.version, statement), timeout_ns)
                if isinstance(prepared, NoAnswer):
                    return NotSent("it couldn't be prepared")
                if not isinstance(prepared, Prepared):
                    return prepared
                wire.prepared[statement] = prepared
            body = encode_execute(
                wire.version, prepared.statement_id, prepared.result_metadata_id, parameters
            )
            answer = yield wire.ask(EXECUTE, body, timeout_ns)
            if not isinstance(answer, Unprepared):
                return answer
            del wire.prepared[statement]
        return answer

    def _connected(self) -> Script:
        """A connection that is open, or None: after all nodes were tried."""
        if self._moves and self.wire is not None and self._chance.one_in(MOVE_ONE_IN):
            self.close()
        if self.wire is not None and self.wire.is_open:
            return self.wire
        self.close()
        now_ns = self._world.loop.now_ns
        machines = self._chance.shuffled(self._machines)
        machines.sort(key=lambda machine: self._avoided_until_ns.get(machine.index, 0) > now_ns)
        for machine in machines:
            wire = Wire(self._world, self.place, machine, self._version, self._compression)
            if (yield wire.opened):
                self.wire = wire
                return wire
            self._avoid(machine)
        return None

    def _avoid(self, machine: Machine) -> None:
        self._avoided_until_ns[machine.index] = self._world.loop.now_ns + AVOID_NS


def _epoch(machine: Machine, otherwise: int) -> int:
    """How much of the metadata log its program has applied, or this, if it has none or doesn't run any more."""
    return getattr(machine.program, "epoch", otherwise) if machine.is_ready else otherwise
