"""A small program that is right, and can be made wrong: registers by consensus, one per key, in one file.

It has a node's surface (``sim.process.Program``), speaks the wire protocol and understands the statements of
the workloads, by their text. Every operation is a change to one register by CASPaxos: prepare at a majority,
apply the change to the newest value found, have a majority accept it. ``Bugs`` are mistakes that the checkers
have to find.

Source: Rystsov 2018, "CASPaxos: Replicated State Machines without logs".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ourodb.cql.wire import codes
from ourodb.cql.wire.columns import ColumnSpec, RowsMetadata, encode_row
from ourodb.cql.wire.connection import Request, ServerConnection
from ourodb.cql.wire.requests import decode_execute, decode_prepare, decode_query
from ourodb.cql.wire.responses import encode_prepared
from ourodb.errors import InvalidRequest, Overloaded, RequestError, WriteTimeout
from ourodb.ports import DATA, LATER, URGENT, Address, Link, Ports
from ourodb.sim.machine import Build, Machine
from ourodb.sim.workloads import counter, monotonic, register
from ourodb.sim.workloads import set as elements
from ourodb.sim.workloads.stage import bigint, from_bigint
from ourodb.sim.world import World
from ourodb.storage import families

BIGINT = b"\x00\x02"
BOOLEAN = b"\x00\x04"
TIMEOUT_MS = 2_000

WORKLOADS = ("counter", "monotonic", "register", "set")
"""Whose statements the toy understands."""

Ballot = tuple[int, int]
Value = int | None
Change = Callable[[Value], tuple[Value, Any]]
"""The value that was there -> (the value to be there, what to tell the client)."""

PREPARE, PROMISE, ACCEPT, ACCEPTED, REFUSED, LIST, LISTED = range(7)


@dataclass(slots=True)
class Bugs:
    """What the toy does wrong."""

    quorum_off_by_one: bool = False
    acknowledges_before_sync: bool = False
    forgets_promises: bool = False
    reads_locally: bool = False
    retries_unknown: bool = False


class Register(msgspec.Struct, array_like=True):
    """One acceptor's state of one register, as it is stored."""

    promised: tuple[int, int] = (0, 0)
    accepted: tuple[int, int] = (0, 0)
    value: int | None = None


@dataclass(slots=True)
class Round:
    """One operation that this node coordinates."""

    key: bytes
    change: Change
    done: Callable[[Any | RequestError], None]
    needed: int
    ballot: Ballot = (0, 0)
    is_accepting: bool = False
    answers: dict[Address, tuple[Ballot, Value]] = field(default_factory=dict)
    value: Value = None
    told: Any = None
    is_over: bool = False


class Toy:
    """One node."""

    def __init__(self, machine: Machine, ports: Ports, everybody: Sequence[Address], bugs: Bugs) -> None:
        self.is_ready = False
        self.failures = 0
        self._ports = ports
        self._me = machine.address
        self._index = machine.index
        self._everybody = list(everybody)
        self._bugs = bugs
        self._rounds: dict[int, Round] = {}
        self._next = ports.random.below(1 << 40)
        self._newest = 0
        self._unsynced: list[Callable[[], None]] = []
        self._refused: list[Callable[[], None]] = []

    def start(self) -> None:
        for address in self._everybody:
            if address != self._me:
                self._ports.transport.link(address).send(URGENT, msgspec.msgpack.encode((99,)))
        self.is_ready = True

    def stop(self) -> None:
        self.is_ready = False

    def peer_connected(self, address: Address) -> None:
        pass

    def peer_disconnected(self, address: Address, refused: bool) -> None:
        self.failures += 1

    def peer_lane_lost(self, address: Address, lane: int) -> None:
        self.failures += 1

    def peer_refused(self, reason: str) -> None:
        self.failures += 1

    def open_session(
        self, connection: ServerConnection, peer: tuple[str, int], wake: Callable[[], None]
    ) -> ToySession:
        return ToySession(self, connection, wake)

    def settle(self) -> None:
        waiting, self._unsynced = self._unsynced, []
        if not waiting:
            return
        try:
            self._ports.store.settle()
        except Overloaded:
            return
        if self._bugs.acknowledges_before_sync:
            for acknowledge in waiting:
                acknowledge()
        else:
            self._ports.store.sync(lambda error: error or [acknowledge() for acknowledge in waiting])

    # Coordinating

    def propose(self, key: bytes, change: Change, done: Callable[[Any], None]) -> None:
        quorum = len(self._everybody) // 2 + 1 - self._bugs.quorum_off_by_one
        round = Round(key, change, done, quorum)
        self._ports.scheduler.after(TIMEOUT_MS, lambda: self._time_out(round))
        self._prepare(round)

    def list_keys(self, prefix: bytes, everybody: bool, done: Callable[[Any], None]) -> None:
        needed = len(self._everybody) if everybody else len(self._everybody) // 2 + 1
        round = Round(prefix, lambda value: (value, None), done, needed)
        self._ports.scheduler.after(TIMEOUT_MS, lambda: self._time_out(round))
        self._broadcast(round, (LIST, self._number(round), prefix))

    def read_locally(self, key: bytes) -> Value:
        return self._load(key).value

    def _number(self, round: Round) -> int:
        self._next += 1
        self._rounds[self._next] = round
        return self._next

    def _prepare(self, round: Round) -> None:
        self._newest += 1
        round.ballot = (self._newest, self._index)
        round.answers = {}
        self._broadcast(round, (PREPARE, self._number(round), round.key, round.ballot))

    def _broadcast(self, round: Round, message: tuple[Any, ...]) -> None:
        encoded = msgspec.msgpack.encode(message)
        for address in self._everybody:
            if address == self._me:
                self._ports.scheduler.soon(lambda: self._handle(self._me, message))
            else:
                self._ports.transport.link(address).send(DATA, encoded)

    def _time_out(self, round: Round) -> None:
        if not round.is_over:
            self._finish(round, WriteTimeout(codes.Consistency.QUORUM, 0, round.needed, "CAS"))

    def _finish(self, round: Round, told: Any) -> None:
        if not round.is_over:
            round.is_over = True
            round.done(told)

    # Messages

    def receive(self, link: Link, message: bytes) -> None:
        decoded = msgspec.msgpack.decode(message)
        if decoded[0] != 99:
            self._handle(link.address, decoded)

    def _handle(self, sender: Address, message: Sequence[Any]) -> None:
        with suppress(Overloaded):
            # A scan writes what was applied before. If it can't, the message might as well have been lost.
            self._carry_out(sender, message)

    def _carry_out(self, sender: Address, message: Sequence[Any]) -> None:
        kind, number, *rest = message
        if kind in (PREPARE, ACCEPT):
            self._vote(sender, kind, number, *rest)
        elif kind == LIST:
            prefix = rest[0]
            pairs = self._ports.store.scan(families.DATA, prefix, prefix + b"\xff")
            keys = [
                key for key, value in pairs if msgspec.msgpack.decode(value, type=Register).value is not None
            ]
            self._reply(sender, (LISTED, number, keys))
        else:
            round = self._rounds.get(number)
            if round is not None and not round.is_over:
                self._count(round, number, sender, kind, *rest)

    def _count(self, round: Round, number: int, sender: Address, kind: int, *rest: Any) -> None:
        if kind == REFUSED:
            self._newest = max(self._newest, rest[0][0])
            del self._rounds[number]
            if round.is_accepting and not self._bugs.retries_unknown:
                self._finish(round, WriteTimeout(codes.Consistency.QUORUM, 0, round.needed, "CAS"))
            else:
                round.is_accepting = False
                self._ports.scheduler.after(self._ports.random.below(50), lambda: self._again(round))
            return
        round.answers[sender] = tuple(rest)  # type: ignore[assignment]
        if len(round.answers) < round.needed:
            return
        del self._rounds[number]
        if kind == PROMISE:
            _, value = max(
                ((tuple(accepted), value) for accepted, value in round.answers.values()),
                key=lambda one: one[0],
            )
            round.value, round.told = round.change(value)
            round.is_accepting = True
            round.answers = {}
            self._broadcast(round, (ACCEPT, self._number(round), round.key, round.ballot, round.value))
        elif kind == ACCEPTED:
            self._finish(round, round.told)
        else:
            keys: set[bytes] = set()
            for answer in round.answers.values():
                keys.update(answer[0])  # type: ignore[call-overload]
            self._finish(round, sorted(keys))

    def _again(self, round: Round) -> None:
        if not round.is_over:
            self._prepare(round)

    # Accepting

    def _vote(
        self, sender: Address, kind: int, number: int, key: bytes, ballot: Any, value: Value = None
    ) -> None:
        if self._ports.store.get(families.DATA, key) is LATER:
            self._ports.store.fetch(
                families.DATA, key, lambda _: self._vote(sender, kind, number, key, ballot, value)
            )
            return
        register = self._load(key)
        ballot = tuple(ballot)
        if ballot < register.promised and not self._bugs.forgets_promises:
            self._reply(sender, (REFUSED, number, register.promised))
            return
        if kind == PREPARE:
            answer: tuple[Any, ...] = (PROMISE, number, register.accepted, register.value)
            register.promised = ballot
        else:
            answer = (ACCEPTED, number)
            register.promised = register.accepted = ballot
            register.value = value
        try:
            self._ports.store.apply([(families.DATA, key, msgspec.msgpack.encode(register))])
        except Overloaded:
            return
        self._unsynced.append(lambda: self._reply(sender, answer))
        self._ports.arm()

    def _load(self, key: bytes) -> Register:
        encoded = next((value for _, value in self._ports.store.scan(families.DATA, key, key + b"\0")), None)
        return Register() if encoded is None else msgspec.msgpack.decode(encoded, type=Register)

    def _reply(self, sender: Address, message: tuple[Any, ...]) -> None:
        if sender == self._me:
            self._ports.scheduler.soon(lambda: self._handle(sender, message))
        else:
            self._ports.transport.link(sender).send(DATA, msgspec.msgpack.encode(message))


def _cas(value: Value, holds: Callable[[Value], bool]) -> Change:
    def change(held: Value) -> tuple[Value, Any]:
        if holds(held):
            return value, [(BOOLEAN, "[applied]", b"\x01")]
        return held, [(BOOLEAN, "[applied]", b"\x00"), (BIGINT, "value", _cell(held))]

    return change


def _cell(value: Value) -> bytes | None:
    return None if value is None else bigint(value)


def _read(column: str) -> Callable[[list[Value]], Change]:
    return lambda values: lambda held: (held, [(BIGINT, column, _cell(held))])


Prepare = Callable[[list[Value]], Change]

STATEMENTS: dict[str, tuple[bytes, int, Prepare]] = {
    elements.INSERT: (b"e", 0, lambda values: lambda held: (values[1], None)),
    elements.LOOK_UP: (
        b"e",
        0,
        lambda values: lambda held: (held, [] if held is None else [(BIGINT, "id", _cell(values[0]))]),
    ),
    register.READ: (b"r", 0, _read("value")),
    register.WRITE: (b"r", 1, lambda values: _cas(values[0], lambda held: held != values[2])),
    register.COMPARE_AND_SET: (b"r", 1, lambda values: _cas(values[0], lambda held: held == values[2])),
    monotonic.READ: (b"v", 0, _read("version")),
    monotonic.WRITE: (b"v", 2, lambda values: lambda held: (max(held or 0, values[1] or 0), None)),
    counter.READ: (b"c", 0, _read("total")),
    counter.ADD: (b"c", 1, lambda values: lambda held: ((held or 0) + (values[0] or 0), None)),
}
"""By text: (whose registers, which of the values is the key, how the values change it)."""


class ToySession:
    """One client of a toy."""

    def __init__(self, toy: Toy, connection: ServerConnection, wake: Callable[[], None]) -> None:
        self.is_closed = False
        self._toy = toy
        self._connection = connection
        self._wake = wake
        self._prepared: dict[bytes, str] = {}

    def handle(self, request: Request) -> None:
        stream, opcode, _, body, _ = request
        version = self._connection.version
        if opcode == codes.QUERY:
            assert decode_query(version, body).statement.startswith("CREATE")
            self._connection.send_void(stream)
        elif opcode == codes.PREPARE:
            statement = decode_prepare(version, body).statement
            id = hashlib.md5(statement.encode()).digest()
            self._prepared[id] = statement
            self._connection.send_result(stream, encode_prepared(version, id, [], (), None))
        else:
            assert opcode == codes.EXECUTE
            execute = decode_execute(version, body)
            values = [from_bigint(value) for value in execute.parameters.values]  # type: ignore[arg-type]
            statement = self._prepared[execute.statement_id]
            self._execute(stream, statement, values, execute.parameters.consistency)

    def close(self) -> None:
        self.is_closed = True

    def _execute(self, stream: int, statement: str, values: list[Value], consistency: int) -> None:
        def done(told: Any) -> None:
            self._answer(stream, told)

        if statement == elements.READ_ALL:
            self._toy.list_keys(
                b"e", consistency == codes.Consistency.ALL, lambda told: self._list(stream, told)
            )
            return
        if statement not in STATEMENTS:
            self._connection.send_error(stream, InvalidRequest(f"I don't know: {statement}"))
            return
        family, place, prepare = STATEMENTS[statement]
        key = family + bigint(values[place] or 0)
        if self._toy._bugs.reads_locally and statement.startswith("SELECT"):
            done(prepare(values)(self._toy.read_locally(key))[1])
        else:
            self._toy.propose(key, prepare(values), done)

    def _answer(self, stream: int, told: Any) -> None:
        if self.is_closed:
            return
        if isinstance(told, RequestError):
            self._connection.send_error(stream, told)
        elif told is None:
            self._connection.send_void(stream)
        else:
            columns = [ColumnSpec("sim", "toy", name, option) for option, name, _ in told]
            rows = [encode_row([cell for _, _, cell in told])] if told else []
            metadata = RowsMetadata(columns, self._connection.version)
            self._connection.send_result(stream, metadata.rows(len(rows), rows))
        self._wake()

    def _list(self, stream: int, told: Any) -> None:
        if isinstance(told, RequestError) or self.is_closed:
            self._answer(stream, told)
            return
        metadata = RowsMetadata([ColumnSpec("sim", "toy", "id", BIGINT)], self._connection.version)
        rows = [encode_row([key[1:]]) for key in told]
        self._connection.send_result(stream, metadata.rows(len(rows), rows))
        self._wake()


def build_toy(nodes: int, bugs: Bugs | None = None) -> Build:
    """Toys for a world with so many machines."""

    def build(machine: Machine, ports: Ports) -> Toy:
        everybody = [one.address for one in machine.world.machines[:nodes]]
        return Toy(machine, ports, everybody, bugs or Bugs())

    return build


def toy_world(seed: int, nodes: int = 3, bugs: Bugs | None = None) -> World:
    """A world with toys, all started."""
    world = World(seed)
    world.start(world.add_machines(nodes, build_toy(nodes, bugs)))
    return world
