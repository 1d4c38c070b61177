"""One process's load: its connections, and the loop that keeps them busy.

Each connection has a *slot* per stream. A slot is free, or holds one request: when it was due, its kind and its row's
number. At full speed a free slot is filled at once, and its request is due when the answer before it arrived. At a
fixed rate the n-th request of the process is due n / rate after the start of the phase; while all slots are taken it
waits, and the wait counts.

An answer that isn't a result is an error, counted by its name. UNPREPARED isn't: the statement is prepared again on the
same stream and the request is sent once more, its moment unchanged. When a connection breaks, its requests count as
``ConnectionLost`` and the others go on. A phase ends when its last request is answered, or when nothing has been
answered for ``timeout_s``; what is open then counts as ``NoAnswer``, and what was due and never sent as ``NotSent``.
"""

from __future__ import annotations

import math
import select
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from ourodb.bench.client import RECEIVE_BYTES, Client
from ourodb.bench.histogram import Histogram, Sparse
from ourodb.bench.options import BenchError, Options
from ourodb.bench.workload import INSERT, KIND_NAMES, Operation, Source, Statements, Workload
from ourodb.cql.wire.client_messages import (
    ExecuteTemplate,
    Prepared,
    Rows,
    decode_response,
    encode_prepare,
)
from ourodb.cql.wire.codes import EXECUTE, PREPARE, RESULT
from ourodb.cql.wire.frames import HEADER_BYTES
from ourodb.cql.wire.requests import QueryParameters
from ourodb.errors import RequestError, Unprepared

SECOND_NS: Final = 1_000_000_000
_PRECISE_WAIT_NS: Final = 5_000_000
"""Waits shorter than this are too short for epoll, which counts in milliseconds."""
EXAMPLES_MAX: Final = 5
"""Wrong answers of one process and second that are described."""
_PREPARING: Final = -1
"""Kind of a slot whose statement is being prepared again."""

clock = time.monotonic_ns
"""The same in all processes of a machine, so the parent can tell them when to start."""


class Phase(NamedTuple):
    """What all processes do next.

    Attributes:
        start_ns: by ``clock``.
        duration_ns: 0: until ``operations`` are done, or the source is empty.
        operations: of this process; 0: until the duration is over.
        rate: of this process, operations a second; 0: full speed.
    """

    name: str
    start_ns: int
    duration_ns: int = 0
    operations: int = 0
    rate: float = 0.0


class Interval(NamedTuple):
    """What one process counted in one second of a phase.

    Attributes:
        second: from 0; what is answered after the end counts to the last one.
        latencies: by kind of operation.
        errors: by name.
        missing: rows that reads didn't find.
        verified: answers that were checked.
        examples: some of those that were wrong.
    """

    phase: str
    second: int
    latencies: dict[int, Sparse]
    errors: dict[str, int]
    missing: int
    verified: int
    examples: list[str]


class Channel:
    """One connection under load."""

    __slots__ = (
        "client", "compressed", "due", "fileno", "free", "keys", "kinds", "lost", "prepared", "resend", "socket",
        "templates", "unsent", "wire",
    )  # fmt: skip

    def __init__(self, client: Client, options: Options, statements: Statements) -> None:
        self.client = client
        self.socket = client.socket
        self.wire = client.wire
        self.fileno = client.socket.fileno()
        self.prepared = statements.by_kind
        self.templates = {
            kind: _template(client.wire.version, client.prepare(text), options)
            for kind, text in statements.by_kind.items()
        }
        self.compressed = options.protocol < 5 and options.wire_compression != ""
        slots = options.in_flight
        self.free = list(range(slots - 1, -1, -1))
        self.due = [0] * slots
        self.kinds = [0] * slots
        self.keys = [0] * slots
        self.resend: list[bytes] = [b""] * slots
        """The values of each slot's request."""
        self.unsent = b""
        self.lost = False

    def put(self, operations: list[Operation], due_ns: list[int]) -> None:
        """Fill free slots; there are at least as many."""
        free, due, kinds, keys, resend, templates = (
            self.free, self.due, self.kinds, self.keys, self.resend, self.templates,
        )  # fmt: skip
        send = self.send_compressed if self.compressed else self.wire.send_envelope
        for (kind, key, values), due_at in zip(operations, due_ns, strict=False):
            slot = free.pop()
            due[slot] = due_at
            kinds[slot] = kind
            keys[slot] = key
            resend[slot] = values
            send(templates[kind].envelope(slot, values))

    def send_compressed(self, envelope: bytes) -> None:
        """Where each body is compressed by itself, a whole envelope can't be made beforehand."""
        self.wire.send(int.from_bytes(envelope[2:4], "big"), EXECUTE, envelope[HEADER_BYTES:])

    def flush(self) -> bool:
        """Write what is outgoing; whether all of it went. Raises OSError when the connection is lost."""
        data = self.wire.take_outgoing()
        if self.unsent:
            data = self.unsent + data
        if not data:
            return True
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        self.unsent = data[sent:] if sent < len(data) else b""
        return not self.unsent


def _template(version: int, prepared: Prepared, options: Options) -> ExecuteTemplate:
    parameters = QueryParameters(options.consistency_code, True, [])
    return ExecuteTemplate(
        version,
        prepared.statement_id,
        prepared.result_metadata_id,
        len(prepared.markers),
        parameters,
    )


class Generator:
    """The load of one process.

    Attributes:
        stopped: no new request is made; set from outside through the ``interrupt`` descriptor.
        failure: why the last phase ended early, or "".
    """

    def __init__(
        self,
        options: Options,
        process: int,
        statements: Statements,
        report: Callable[[Interval], None],
        interrupt: int = -1,
    ) -> None:
        """Connect and prepare.

        Args:
            report: called once a second of each phase, and at its end.
            interrupt: a descriptor that becomes readable when the run is to stop; -1: none.
        Raises:
            BenchError, RequestError: it can't.
        """
        self.workload = Workload(options, process)
        self.stopped = False
        self.failure = ""
        self._options = options
        self._report = report
        self._interrupt = interrupt
        self._timeout_ns = int(options.timeout_s * SECOND_NS)
        hosts, credentials = options.hosts, (options.user, options.password)
        self._channels: list[Channel] = []
        self._poll = select.epoll()
        self._by_fileno: dict[int, Channel] = {}
        for index in range(options.connections):
            # The processes start at different hosts.
            address = hosts[(index + process) % len(hosts)]
            client = Client(
                address, options.protocol, options.wire_compression, credentials, options.timeout_s
            )
            channel = Channel(client, options, statements)
            client.socket.setblocking(False)
            self._channels.append(channel)
            self._by_fileno[channel.fileno] = channel
            self._poll.register(channel.fileno, select.EPOLLIN)
        if interrupt >= 0:
            self._poll.register(interrupt, select.EPOLLIN)
        self._histograms = [Histogram() for _ in KIND_NAMES]
        self._errors: Counter[str] = Counter()
        self._missing = self._verified = 0
        self._examples: list[str] = []
        self._answer_bytes_min = [self.workload.answer_bytes_min(kind) for kind in range(len(KIND_NAMES))]
        self._begin(Phase("", clock()), self.workload)

    def close(self) -> None:
        self._poll.close()
        for channel in self._channels:
            channel.client.close()

    def run(self, phase: Phase, source: Source) -> None:
        """Run a phase to its end; ``failure`` says whether that was the intended one."""
        self._begin(phase, source)
        self._wait_for_start()
        end_ns = phase.start_ns + phase.duration_ns if phase.duration_ns else 1 << 63
        next_report = phase.start_ns + SECOND_NS
        self._last_answer = clock()
        if not phase.rate:
            for channel in self._channels:
                if not channel.lost:
                    self._fill(channel, self._last_answer)
        while True:
            now = clock()
            wake = next_report
            if now >= end_ns or self.stopped:
                self._exhausted = True
            if phase.rate:
                wake = min(wake, self._send_due(min(now, end_ns - 1), end_ns))
            if self._exhausted and not self._in_flight and (self.stopped or not self._backlog):
                break
            if all(channel.lost for channel in self._channels):
                self.failure = "all connections are lost"
                break
            if self._in_flight == 0:
                self._last_answer = now
            elif now - self._last_answer > self._timeout_ns:
                self.failure = f"nothing was answered for {self._options.timeout_s:g} s"
                break
            if now >= next_report:
                self._send_report()
                next_report += SECOND_NS
            self._receive(min(wake, end_ns if end_ns > now else wake) - now)
        self._count_open()
        self._send_report()

    # The phase

    def _begin(self, phase: Phase, source: Source) -> None:
        self._phase = phase
        self._source = source
        self._left = phase.operations or 1 << 62
        self._issued = 0
        self._backlog = 0
        self._in_flight = 0
        self._exhausted = False
        self._second = 0
        self._last_answer = phase.start_ns
        self.failure = ""

    def _wait_for_start(self) -> None:
        while (left := self._phase.start_ns - clock()) > 0:
            time.sleep(left / SECOND_NS)

    def _send_report(self) -> None:
        latencies = {
            kind: histogram.take() for kind, histogram in enumerate(self._histograms) if histogram.total
        }
        self._report(
            Interval(
                self._phase.name,
                self._second,
                latencies,
                dict(self._errors),
                self._missing,
                self._verified,
                self._examples,
            )
        )
        self._examples = []
        self._errors.clear()
        self._missing = self._verified = 0
        self._second += 1

    def _count_open(self) -> None:
        """Requests without an answer, and those that were due and are without a request."""
        self._errors["NoAnswer"] += self._in_flight
        if not self.stopped:
            self._errors["NotSent"] += self._backlog
        self._errors += Counter()  # leaves out those that are 0

    # Requests

    def _fill(self, channel: Channel, now: int) -> None:
        """Give every free slot a request; at full speed."""
        if not self._exhausted:
            count = min(len(channel.free), self._left)
            operations = self._source.draw(count)
            if len(operations) < count or count == self._left:
                self._exhausted = True
            self._left -= len(operations)
            self._in_flight += len(operations)
            channel.put(operations, [now] * len(operations))
        self._flush(channel)

    def _send_due(self, now: int, end_ns: int) -> int:
        """Send what is due, as far as slots are free; returns when the next request is due."""
        phase = self._phase
        interval_ns = SECOND_NS / phase.rate
        due = int((now - phase.start_ns) / interval_ns) + 1
        if phase.operations:
            due = min(due, phase.operations)
        if self.stopped:
            due = self._issued
        channels = [channel for channel in self._channels if channel.free and not channel.lost]
        # A different connection goes first each time.
        first = self._issued % len(channels) if channels else 0
        for index in range(len(channels)):
            waiting = due - self._issued
            if not waiting:
                break
            channel = channels[(first + index) % len(channels)]
            count = min(math.ceil(waiting / (len(channels) - index)), len(channel.free))
            operations = self._source.draw(count)
            start = self._issued
            self._issued += count
            self._in_flight += count
            channel.put(
                operations,
                [phase.start_ns + int(number * interval_ns) for number in range(start, start + count)],
            )
            self._flush(channel)
        self._backlog = due - self._issued
        if phase.operations and due == phase.operations:
            self._exhausted = True
        next_due = phase.start_ns + math.ceil(due * interval_ns)
        return 1 << 63 if self._exhausted or next_due >= end_ns else next_due

    def _flush(self, channel: Channel) -> None:
        try:
            had_unsent = bool(channel.unsent)
            all_sent = channel.flush()
            if all_sent == had_unsent:
                events = select.EPOLLIN if all_sent else select.EPOLLIN | select.EPOLLOUT
                self._poll.modify(channel.fileno, events)
        except OSError:
            self._lose(channel)

    def _lose(self, channel: Channel) -> None:
        if channel.lost:
            return
        channel.lost = True
        self._poll.unregister(channel.fileno)
        open_count = self._options.in_flight - len(channel.free)
        self._in_flight -= open_count
        self._errors["ConnectionLost"] += open_count
        channel.client.close()

    # Answers

    def _receive(self, wait_ns: int) -> None:
        """Wait until something arrives or the time is over, and take in what is there."""
        wait_ns = max(wait_ns, 0)
        if 0 < wait_ns < _PRECISE_WAIT_NS:
            select.select((self._poll,), (), (), wait_ns / SECOND_NS)
            wait_ns = 0
        for fileno, events in self._poll.poll(wait_ns / SECOND_NS):
            channel = self._by_fileno.get(fileno)
            if channel is None:
                self.stopped = True
                self._poll.unregister(self._interrupt)
                continue
            if events & ~select.EPOLLOUT:
                try:
                    data = channel.socket.recv(RECEIVE_BYTES)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                now = clock()
                if data:
                    self._take(channel, data, now)
                if not data or channel.wire.error is not None:
                    self._lose(channel)
                    continue
                if not self._phase.rate:
                    self._fill(channel, now)
                    continue
            self._flush(channel)

    def _take(self, channel: Channel, data: bytes, now: int) -> None:
        """Count the answers in ``data`` and free their slots."""
        histograms, answer_bytes_min, verify = self._histograms, self._answer_bytes_min, self._options.verify
        kinds, due, free = channel.kinds, channel.due, channel.free
        done = 0
        for stream, opcode, flags, body, _ in channel.wire.receive(data):
            kind = kinds[stream]
            if opcode != RESULT or kind < 0:
                if not self._take_other(channel, stream, opcode, flags, body):
                    continue
            else:
                histograms[kind].record(now - due[stream])
                if kind != INSERT:
                    if verify:
                        self._verify(channel, stream, flags, body)
                    elif len(body) < answer_bytes_min[kind]:
                        self._missing += 1
            free.append(stream)
            done += 1
        self._in_flight -= done
        self._last_answer = now

    def _take_other(self, channel: Channel, slot: int, opcode: int, flags: int, body: bytes) -> bool:
        """An error, or the answer to PREPARE; whether the slot's request is done with."""
        version = channel.wire.version
        message = decode_response(version, opcode, flags, body).message
        kind = channel.kinds[slot]
        if isinstance(message, Prepared):
            kind = channel.kinds[slot] = _PREPARING - kind
            channel.templates[kind] = _template(version, message, self._options)
            envelope = channel.templates[kind].envelope(slot, channel.resend[slot])
            (channel.send_compressed if channel.compressed else channel.wire.send_envelope)(envelope)
            return False
        if isinstance(message, Unprepared) and kind >= 0:
            channel.kinds[slot] = _PREPARING - kind
            channel.wire.send(slot, PREPARE, encode_prepare(version, channel.prepared[kind]))
            return False
        name = type(message).__name__ if isinstance(message, RequestError) else f"Opcode{opcode:02X}"
        self._errors[name] += 1
        return True

    def _verify(self, channel: Channel, slot: int, flags: int, body: bytes) -> None:
        message = decode_response(channel.wire.version, RESULT, flags, body).message
        if not isinstance(message, Rows):
            raise BenchError("the server answered a SELECT with a result that isn't rows")
        key = channel.keys[slot]
        missing, wrong = self.workload.judge(channel.kinds[slot], key, message.rows)
        self._verified += 1
        self._missing += missing
        for name, count in (("MissingRow", missing), ("WrongRow", wrong)):
            if count:
                self._errors[name] += count
                if len(self._examples) < EXAMPLES_MAX:
                    self._examples.append(f"{name}: {self.workload.found_rows(key, message.rows)}")
