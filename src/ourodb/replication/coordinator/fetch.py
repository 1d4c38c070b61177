"""One chunk of a read, from as many replicas as the consistency level asks for.

The nearest replica gives its records, the others a digest of theirs. Where all mean the same, the chunk is
done. Where they don't, every one of them is asked for its records; what they say together is the chunk, and
each replica is sent what it lacks *before* the client hears of it. So once a quorum read has given a value,
no later one gives an older one.

A replica that doesn't answer soon enough (``speculative_retry`` of the table) is not waited for: one more is
asked for its records, and whichever answers first counts. One whose connection is lost, or that fails, is
replaced at once.

Whatever the order of replies, failures and time, ``done`` is called exactly once.

Source: Cassandra's ``AbstractReadExecutor``, ``DigestResolver``, ``BlockingReadRepair``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ourodb.errors import OuroError, ReadFailure, ReadTimeout, RequestError
from ourodb.peer.messages import FAILED, Verb
from ourodb.ports import DATA as DATA_LANE
from ourodb.ports import Clock, NodeId, Store
from ourodb.replication.messages import Reason, client_code, decode_failure, reason_of
from ourodb.replication.peers import Peers, RequestClass
from ourodb.replication.replica.reads import ReadCommand, digest_of
from ourodb.replication.replica.writes import Writes
from ourodb.replication.routes import Route
from ourodb.storage.chunk import Chunk, cut, decode_chunk, lacking, merge_partitions, shortest
from ourodb.storage.families import DATA
from ourodb.storage.mutation import Mutation
from ourodb.storage.record import CorruptRecord
from ourodb.storage.row import Wait

MICROS = 1_000_000

NEVER_MS = 1 << 40
"""A read that never asks one more replica."""


class FetchContext:
    """What all fetches of a node share.

    Attributes:
        repairs: replicas that were sent what they lacked, counted.
        mismatches: fetches whose digests differed, counted.
        speculations: replicas asked because others were slow, counted.
    """

    __slots__ = (
        "clock",
        "mismatches",
        "observe_us",
        "peers",
        "repairs",
        "speculate_after_ms",
        "speculations",
        "store",
        "writes",
    )

    def __init__(
        self,
        peers: Peers,
        store: Store,
        writes: Writes,
        clock: Clock,
        speculate_after_ms: Callable[[str], int],
        observe_us: Callable[[NodeId, int], None],
    ) -> None:
        """
        Args:
            speculate_after_ms: from a table's ``speculative_retry`` to how long one waits now.
            observe_us: told how long a node took to answer a read.
        """
        self.peers = peers
        self.store = store
        self.writes = writes
        self.clock = clock
        self.speculate_after_ms = speculate_after_ms
        self.observe_us = observe_us
        self.repairs = 0
        self.mismatches = 0
        self.speculations = 0


class Fetch:
    """One chunk in the making.

    Attributes:
        chunk: once done, unless it failed.
        error: why it failed.
        is_done: one of the two is set.
        wake: called when it is done; set by whoever waits.
    """

    __slots__ = (
        "_asked",
        "_begun_ns",
        "_chunks",
        "_context",
        "_data_present",
        "_digests",
        "_failures",
        "_level",
        "_message",
        "_received",
        "_reconciling",
        "_repair",
        "_request",
        "_required",
        "_route",
        "_spare",
        "_speculate_ms",
        "chunk",
        "command",
        "error",
        "is_done",
        "started_ms",
        "wake",
    )

    def __init__(
        self,
        context: FetchContext,
        command: ReadCommand,
        route: Route,
        level: int,
        nodes: Sequence[NodeId],
    ) -> None:
        """
        Args:
            nodes: whom to ask, the one that gives its records first (``Route.read_nodes``).
        """
        self.chunk: Chunk | None = None
        self.error: RequestError | None = None
        self.is_done = False
        self.wake: Callable[[], None] | None = None
        self.command = command
        self.started_ms = 0
        self._context = context
        self._route = route
        self._level = level
        self._required = len(nodes)
        self._asked: dict[NodeId, bool] = dict.fromkeys(nodes, False)
        """Nodes asked in this phase, and whether they answered or failed."""
        self._spare = [node for node in route.live_nodes() if node not in self._asked]
        self._chunks: dict[NodeId, Chunk] = {}
        self._digests: dict[NodeId, bytes] = {}
        self._failures: dict[NodeId, int] = {}
        self._message = ""
        self._received = 0
        self._data_present = False
        self._reconciling = False
        self._repair: _Repair | None = None
        self._request = 0
        self._speculate_ms = 0
        self._begun_ns = 0

    def start(self) -> Fetch:
        """Ask."""
        context = self._context
        peers = context.peers
        nodes = list(self._asked)
        if nodes != [peers.me]:
            options = self.command.rows.table.options
            self._speculate_ms = context.speculate_after_ms(options.speculative_retry)
            self._begun_ns = context.clock.monotonic_ns()
            self._request = peers.begin(self.command.kind, self)
            first = nodes[0]
            digest_message = None
            for node in nodes:
                if node == peers.me:
                    continue
                if node == first:
                    self._send(node, digest=False)
                    continue
                if digest_message is None:
                    digest_message = peers.message(
                        self.command.verb, self.command.body(digest=True), self._request
                    )
                link = peers.links.get(node)
                if link is None or not link.send(DATA_LANE, digest_message):
                    self._give_up(node)
        if peers.me in self._asked:
            self._read_here()
        return self

    # The operation

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        if self._asked.get(node) is not False or self._repair is not None:
            return self.is_done
        if flags & FAILED:
            reason, text = decode_failure(body)
            self._failed(node, reason, text)
            return self.is_done
        self._context.observe_us(node, (self._context.clock.monotonic_ns() - self._begun_ns) // 1000)
        self._asked[node] = True
        self._received += 1
        if not self._reconciling and node in self._digest_nodes():
            self._digests[node] = body
        else:
            try:
                self._chunks[node] = decode_chunk(body)
            except CorruptRecord as error:
                self._received -= 1
                self._failed(node, Reason.UNKNOWN, str(error))
                return self.is_done
            self._data_present = True
        self._look()
        return self.is_done

    def on_expired(self) -> None:
        if not self.is_done and self._repair is None:
            self._finish(None, ReadTimeout(self._level, self._received, self._required, self._data_present))

    def on_lost(self, node: NodeId) -> bool:
        if self._repair is None and self._asked.get(node) is False:
            self._failed(node, Reason.NODE_DOWN, "")
        return self.is_done

    def on_tick(self, waited_ms: int) -> bool:
        if waited_ms < self._speculate_ms:
            return False
        if self._spare and not self.is_done and self._repair is None:
            self._speculate_ms = NEVER_MS
            self._context.speculations += 1
            self._ask_spare()
        return True

    # Asking

    def _digest_nodes(self) -> list[NodeId]:
        """Who was asked for a digest: all of the first round but its first."""
        return list(self._asked)[1 : self._required]

    def _send(self, node: NodeId, *, digest: bool) -> None:
        peers = self._context.peers
        link = peers.links.get(node)
        message = peers.message(self.command.verb, self.command.body(digest=digest), self._request)
        if link is None or not link.send(DATA_LANE, message):
            self._give_up(node)

    def _give_up(self, node: NodeId) -> None:
        """A message couldn't even be sent: looked at once this pass is over."""
        self._context.peers.later(lambda: self._failed(node, Reason.NODE_DOWN, ""))

    def _read_here(self) -> None:
        me = self._context.peers.me
        try:
            chunk = self.command.run()
        except OuroError as error:
            self._failed(me, reason_of(error), str(error))
            return
        if isinstance(chunk, Wait):
            self._context.store.fetch(DATA, chunk.key, self._fetched)
            return
        self._asked[me] = True
        self._received += 1
        self._data_present = True
        self._chunks[me] = chunk
        self._look()

    def _fetched(self, value: bytes | None | Exception) -> None:
        if self.is_done:
            return
        if isinstance(value, Exception):
            self._failed(self._context.peers.me, reason_of(value), str(value))
        else:
            self._read_here()

    def _ask_spare(self) -> None:
        node = self._spare.pop(0)
        self._asked[node] = False
        if node == self._context.peers.me:
            self._read_here()
        else:
            self._send(node, digest=False)

    def _failed(self, node: NodeId, reason: int, text: str) -> None:
        """A replica won't answer."""
        if self.is_done or self._repair is not None or self._asked.get(node) is not False:
            return
        self._asked[node] = True
        self._failures[node] = reason
        self._message = self._message or text
        if self._spare:
            self._ask_spare()
            return
        if sum(not answered for answered in self._asked.values()) + self._received < self._required:
            self._finish(None, self._failure())

    def _failure(self) -> RequestError:
        peers = self._context.peers
        reasons = {
            peers.packed_address(node): client_code(reason)
            for node, reason in self._failures.items()
            if reason != Reason.NODE_DOWN
        }
        if not reasons:
            return ReadTimeout(self._level, self._received, self._required, self._data_present)
        table = self.command.rows.table
        text = f"Read on table {table.keyspace}.{table.name} failed: {self._message}"
        return ReadFailure(self._level, self._received, self._required, reasons, self._data_present, text)

    # Answers

    def _look(self) -> None:
        """Is that enough?"""
        if self.is_done or self._received < self._required or not self._chunks:
            return
        if self._required == 1:
            self._finish(next(iter(self._chunks.values())), None)
            return
        if self._reconciling:
            if len(self._chunks) >= self._required:
                self._merge()
            return
        expected = None
        for node, chunk in self._chunks.items():
            found = digest_of(self.command, chunk)
            if expected is None:
                expected = found
            elif found != expected:
                self._reconcile()
                return
            self._digests.setdefault(node, found)
        if all(found == expected for found in self._digests.values()):
            self._finish(next(iter(self._chunks.values())), None)
        else:
            self._reconcile()

    def _reconcile(self) -> None:
        """Ask those who gave a digest for their records."""
        self._context.mismatches += 1
        self._reconciling = True
        peers = self._context.peers
        self._received = len(self._chunks)
        asked = [node for node in self._digests if node not in self._chunks]
        self._digests = {}
        # A number of its own: replies of the first phase are late now.
        if self._request:
            peers.end(self._request)
        self._request = peers.begin(self.command.kind, self)
        self._speculate_ms = self._speculate_ms or NEVER_MS
        for node in list(self._asked):
            if node not in self._chunks and node not in asked:
                del self._asked[node]
        for node in asked:
            self._asked[node] = False
            self._send(node, digest=False)
        self._look()

    def _merge(self) -> None:
        """What the replicas say together; each is sent what it lacks."""
        command = self.command
        chunks = self._chunks
        end = shortest(list(chunks.values()), reverse=command.reverse)
        held: dict[bytes, dict[NodeId, Mutation]] = {}
        for node, chunk in chunks.items():
            for partition in cut(chunk, end, reverse=command.reverse):
                held.setdefault(partition.position, {})[node] = partition
        merged = [merge_partitions(list(held[position].values())) for position in sorted(held)]
        whole = Chunk(merged, end)
        table = command.rows.table
        repairs: list[tuple[NodeId, Mutation]] = []
        if table.options.read_repair != "NONE":
            for partition in merged:
                for node in chunks:
                    missing = lacking(
                        partition,
                        held[partition.position].get(node),
                        command.now_s,
                        table.options.gc_grace_seconds,
                    )
                    if missing is not None:
                        repairs.append((node, missing))
        if not repairs:
            self._finish(whole, None)
            return
        self._context.repairs += len(repairs)
        if self._request:
            self._context.peers.end(self._request)
        self._repair = _Repair(self._context, repairs, lambda whole_round: self._repaired(whole, whole_round))
        self._repair.start()

    def _repaired(self, whole: Chunk, complete: bool) -> None:
        if complete:
            self._finish(whole, None)
        else:
            self._finish(None, ReadTimeout(self._level, self._received, self._required, True))

    def _finish(self, chunk: Chunk | None, error: RequestError | None) -> None:
        if self.is_done:
            return
        self.is_done = True
        self.chunk = chunk
        self.error = error
        if self._request:
            self._context.peers.end(self._request)
        if self.wake is not None:
            self.wake()


class _Repair:
    """Sends replicas what they lack, and waits for all of them.

    Attributes:
        started_ms: see ``Operation``.
    """

    __slots__ = ("_context", "_done", "_over", "_repairs", "_waiting", "started_ms")

    def __init__(
        self,
        context: FetchContext,
        repairs: Sequence[tuple[NodeId, Mutation]],
        done: Callable[[bool], None],
    ) -> None:
        """
        Args:
            done: told whether all acknowledged.
        """
        self.started_ms = 0
        self._context = context
        self._repairs = repairs
        self._done = done
        self._waiting: dict[NodeId, int] = {}
        self._over = False

    def start(self) -> None:
        context = self._context
        peers = context.peers
        for node, _ in self._repairs:
            self._waiting[node] = self._waiting.get(node, 0) + 1
        request = peers.begin(RequestClass.WRITE, self)
        now_s = context.clock.wall_us() // MICROS
        for node, mutation in self._repairs:
            if node == peers.me:
                context.writes.write(mutation, now_s, self._written_here)
                continue
            link = peers.links.get(node)
            if link is None or not link.send(
                DATA_LANE, peers.message(Verb.WRITE, mutation.encode(), request)
            ):
                peers.end(request)
                peers.later(self.on_expired)
                return

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        if flags & FAILED:
            self._end(False)
            return True
        return self._answered(node)

    def on_expired(self) -> None:
        self._end(False)

    def on_lost(self, node: NodeId) -> bool:
        if node in self._waiting:
            self._end(False)
        return self._over

    def on_tick(self, waited_ms: int) -> bool:
        return False

    def _written_here(self, error: RequestError | None) -> None:
        if error is not None:
            self._end(False)
        else:
            self._answered(self._context.peers.me)

    def _answered(self, node: NodeId) -> bool:
        left = self._waiting.get(node, 0) - 1
        if left > 0:
            self._waiting[node] = left
        else:
            self._waiting.pop(node, None)
        if not self._waiting:
            self._end(True)
        return self._over

    def _end(self, complete: bool) -> None:
        if not self._over:
            self._over = True
            self._done(complete)
