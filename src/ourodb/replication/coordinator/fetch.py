"""One chunk of a read, from as many replicas as the consistency level asks for.

The nearest replica gives its records; the others may give a digest of theirs, and give the records themselves where
these are no longer than what a digest saves. Where all mean the same, the chunk is done. Where they don't, those that
gave digests are asked for their records; what they say together is the chunk, and each replica is sent what it lacks
*before* the client hears of it. So once a quorum read has given a value, no later one gives an older one.

A replica that doesn't answer soon enough (``speculative_retry`` of the table) is not waited for: one more is
asked for its records, and whichever answers first counts. One whose connection is lost, or that fails, is
replaced at once. The same holds for repairs: what one replica can't be given in time is given to another one instead,
so that as many as were asked have it.

Whatever the order of replies, failures and time, ``done`` is called exactly once.

Source: Cassandra's ``AbstractReadExecutor``, ``DigestResolver``, ``BlockingReadRepair``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ourodb import limits
from ourodb.errors import OuroError, ReadFailure, ReadTimeout, RequestError
from ourodb.peer.messages import FAILED
from ourodb.ports import DATA as DATA_LANE
from ourodb.ports import Clock, NodeId, Store
from ourodb.replication.consistency import LOCAL_LEVELS
from ourodb.replication.coordinator.read_repair import ReadRepair
from ourodb.replication.messages import Reason, client_code, decode_failure, reason_of
from ourodb.replication.peers import Peers, RequestClass
from ourodb.replication.replica.reads import RangeCommand, ReadCommand, true_digest
from ourodb.replication.replica.writes import Writes
from ourodb.replication.routes import Route, Routing
from ourodb.storage.chunk import Chunk, cut, decode_chunk, merge_partitions, shortest
from ourodb.storage.families import DATA
from ourodb.storage.meaning import DIGEST_BYTES, dropped_from, lacking
from ourodb.storage.mutation import Mutation
from ourodb.storage.record import CorruptRecord
from ourodb.storage.row import Wait

RANGE_PATIENCE: Final = 20
"""A chunk of a range takes so many times as long as a row, by the measure of which one waits."""


class FetchContext:
    """What all fetches of a node share.

    Attributes:
        repairs: replicas that were sent what they lacked, counted.
        mismatches: fetches whose replicas differed, counted.
        speculations: replicas asked because others were slow, counted.
    """

    __slots__ = (
        "clock",
        "mismatches",
        "observe_us",
        "peers",
        "repairs",
        "routing",
        "speculate_after_ms",
        "speculations",
        "store",
        "writes",
    )

    def __init__(
        self,
        peers: Peers,
        routing: Routing,
        store: Store,
        writes: Writes,
        clock: Clock,
        speculate_after_ms: Callable[[str], int],
        observe_us: Callable[[NodeId, int, bool], None],
    ) -> None:
        """
        Args:
            speculate_after_ms: from a table's ``speculative_retry`` to how long one waits now.
            observe_us: told how long a node took to answer a read, or (False) has taken so far.
        """
        self.peers = peers
        self.routing = routing
        self.store = store
        self.writes = writes
        self.clock = clock
        self.speculate_after_ms = speculate_after_ms
        self.observe_us = observe_us
        self.repairs = 0
        self.mismatches = 0
        self.speculations = 0

    def patience_ms(self, command: ReadCommand) -> int:
        """How long to wait for a replica before another one is asked."""
        wait_ms = self.speculate_after_ms(command.rows.table.options.speculative_retry)
        return wait_ms if command.kind == RequestClass.READ else wait_ms * RANGE_PATIENCE


Answered = bytes | Chunk
"""An answer as it came: a chunk, still encoded or not, or a digest, which no encoded chunk is as short as."""


class Fetch:
    """One chunk in the making.

    Attributes:
        chunk: once done, unless it failed.
        error: why it failed.
        has_moved: it failed because its range has other replicas now.
        is_done: one of the two is set.
        wake: called when it is done; set by whoever waits.
    """

    __slots__ = (
        "_answers",
        "_context",
        "_epoch",
        "_failures",
        "_has_speculated",
        "_is_behind",
        "_level",
        "_message",
        "_nodes",
        "_pending",
        "_reconciling",
        "_repair",
        "_request",
        "_required",
        "_route",
        "_spares",
        "_tries",
        "chunk",
        "command",
        "error",
        "has_moved",
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
        self.has_moved = False
        self.is_done = False
        self.wake: Callable[[], None] | None = None
        self.command = command
        self.started_ms = 0
        self._context = context
        self._route = route
        self._level = level
        self._nodes = nodes
        self._required = len(nodes)
        self._pending: dict[NodeId, int] = {}
        """Nodes that were asked and haven't answered; when they were, monotonic nanoseconds."""
        self._answers: dict[NodeId, Answered] = {}
        self._failures: dict[NodeId, int] | None = None
        self._message = ""
        self._spares: list[NodeId] | None = None
        """Live replicas that weren't asked, nearest first; None: not looked up yet."""
        self._reconciling = False
        self._repair: ReadRepair | None = None
        self._request = 0
        self._has_speculated = False
        self._is_behind = False
        """A replica said that the range has moved; the fetch starts over."""
        self._tries = 1
        self._epoch = 0
        """Of its route."""

    def start(self) -> Fetch:
        """Ask."""
        context = self._context
        peers = context.peers
        epoch = self._epoch = self._route.epoch
        me = peers.me
        nodes = self._nodes
        now_ns = context.clock.monotonic_ns()
        self._pending = dict.fromkeys(nodes, now_ns)
        first = nodes[0]
        if len(nodes) > 1 or first != me:
            command = self.command
            request = self._request = peers.begin(command.kind, self)
            links = peers.links
            message = None
            for node in nodes:
                if node == me:
                    continue
                if node == first:
                    self._send(node)
                    continue
                if message is None:
                    message = peers.message(command.verb, command.body(digest=True), request, epoch=epoch)
                link = links.get(node)
                if link is None or not link.send(DATA_LANE, message):
                    self._give_up(node)
        if me in self._pending:
            self._read_here()
        if not self.is_done and self.command.rows.table.options.speculative_retry.upper() == "ALWAYS":
            self._speculate()
        return self

    # The operation

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        pending = self._pending
        asked_ns = pending.get(node)
        if asked_ns is None or self._repair is not None:
            return self.is_done
        if flags & FAILED:
            self._failed(node, *decode_failure(body))
            return self.is_done
        context = self._context
        if self.command.kind == RequestClass.READ:
            context.observe_us(node, (context.clock.monotonic_ns() - asked_ns) // 1000, True)
        del pending[node]
        answers = self._answers
        answers[node] = body
        if len(answers) >= self._required:
            self._look()
        return self.is_done

    def on_expired(self) -> None:
        if self._repair is None:
            self._finish(None, self._timeout())

    def on_lost(self, node: NodeId) -> bool:
        self._failed(node, Reason.NODE_DOWN, "")
        return self.is_done

    def on_tick(self, waited_ms: int) -> bool:
        if waited_ms < limits.SPECULATE_MS_MIN:
            return False
        if not self._has_speculated and not self.is_done and self._repair is None:
            if waited_ms >= self._context.patience_ms(self.command):
                self._slow()
        return True

    # Asking

    def _send(self, node: NodeId) -> None:
        """Ask for records."""
        peers = self._context.peers
        link = peers.links.get(node)
        body = self.command.body(digest=False)
        message = peers.message(self.command.verb, body, self._request, epoch=self._epoch)
        if link is None or not link.send(DATA_LANE, message):
            self._give_up(node)

    def _give_up(self, node: NodeId) -> None:
        """A message couldn't even be sent: looked at once this pass is over."""
        request = self._request

        def gone() -> None:
            if self._request == request:
                self._failed(node, Reason.NODE_DOWN, "")

        self._context.peers.later(gone)

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
        del self._pending[me]
        self._answers[me] = chunk
        self._look()

    def _fetched(self, value: bytes | None | Exception) -> None:
        me = self._context.peers.me
        if self.is_done or self._repair is not None or me not in self._pending:
            return
        if isinstance(value, Exception):
            self._failed(me, reason_of(value), str(value))
        else:
            self._read_here()

    def _others(self) -> list[NodeId]:
        """Who may be asked in place of another."""
        if self._spares is None:
            live = self._route.live_nodes(local_only=self._level in LOCAL_LEVELS)
            self._spares = [node for node in live if node not in self._nodes]
        return self._spares

    def _ask_spare(self) -> None:
        context = self._context
        node = self._others().pop(0)
        self._pending[node] = context.clock.monotonic_ns()
        if node == context.peers.me:
            self._read_here()
            return
        if not self._request:
            # So far this node alone was asked.
            self._request = context.peers.begin(self.command.kind, self)
        self._send(node)

    def _slow(self) -> None:
        """Somebody takes long: whoever that is will be asked less, and another one now."""
        context = self._context
        now_ns = context.clock.monotonic_ns()
        for node, asked_ns in self._pending.items():
            context.observe_us(node, (now_ns - asked_ns) // 1000, False)
        self._speculate()

    def _speculate(self) -> None:
        """Ask one more, once."""
        self._has_speculated = True
        if self._others():
            self._context.speculations += 1
            self._ask_spare()

    def _failed(self, node: NodeId, reason: int, text: str) -> None:
        """A replica won't answer."""
        if self.is_done or self._repair is not None or self._pending.pop(node, None) is None:
            return
        if self._failures is None:
            self._failures = {}
        self._failures[node] = reason
        self._message = self._message or text
        if reason == Reason.COORDINATOR_BEHIND and self._tries < limits.BEHIND_TRIES_MAX:
            if not self._is_behind:
                self._is_behind = True
                self._context.peers.when_caught_up(self._epoch, self._start_over)
            return
        if self._is_behind:
            return
        if self._others():
            self._ask_spare()
        elif len(self._pending) + len(self._answers) < self._required:
            self._finish(None, self._failure())

    def _start_over(self) -> None:
        """This node didn't know that the range has moved, and has caught up: ask those who hold it now."""
        command, context = self.command, self._context
        if self.is_done or self._repair is not None:
            return
        if isinstance(command, RangeCommand):
            # What was one range may be several now.
            self.has_moved = True
            self._finish(None, self._timeout())
            return
        try:
            self._route = context.routing.find(command.rows.table.keyspace, command.position)
            self._nodes = self._route.read_nodes(self._level)
        except RequestError as error:
            self._finish(None, error)
            return
        if self._request:
            context.peers.end(self._request)
            self._request = 0
        self._tries += 1
        self._required = len(self._nodes)
        self._answers.clear()
        self._failures = None
        self._spares = None
        self._reconciling = self._has_speculated = self._is_behind = False
        self.start()

    def _failure(self) -> RequestError:
        peers = self._context.peers
        reasons = {
            peers.packed_address(node): client_code(reason)
            for node, reason in (self._failures or {}).items()
            if reason not in (Reason.NODE_DOWN, Reason.COORDINATOR_BEHIND)
        }
        if not reasons:
            return self._timeout()
        table = self.command.rows.table
        text = f"Read on table {table.keyspace}.{table.name} failed: {self._message}"
        received, has_data = len(self._answers), self._has_data()
        return ReadFailure(self._level, received, self._required, reasons, has_data, text)

    def _timeout(self) -> ReadTimeout:
        return ReadTimeout(self._level, len(self._answers), self._required, self._has_data())

    # Answers

    def _has_data(self) -> bool:
        return any(not is_digest(answer) for answer in self._answers.values())

    def _look(self) -> None:
        """Is that enough?"""
        if len(self._answers) < self._required or self.is_done or self._repair is not None:
            return
        if self._is_behind:
            # A replica that isn't behind knows better who is to be asked.
            return
        try:
            self._weigh()
        except OuroError as error:
            # Some record can't be read: this node's are as likely damaged as others'.
            self._message = str(error)
            self._failures = {**(self._failures or {}), self._context.peers.me: reason_of(error)}
            self._finish(None, self._failure())

    def _weigh(self) -> None:
        """Enough have answered: what do they say together?"""
        if self._reconciling:
            self._merge()
        elif self._required == 1:
            self._finish_with_first()
        elif self._has_data():
            agree = self._agree()
            if agree is not None:
                if agree:
                    self._finish_with_first()
                else:
                    self._reconcile()

    def _agree(self) -> bool | None:
        """Whether all mean the same; None: one of the answers was none."""
        answers = self._answers
        encoded: bytes | None = None
        for answer in answers.values():
            found = answer if isinstance(answer, bytes) else answer.encode()
            if encoded is None:
                encoded = found
            elif encoded != found:
                break
        else:
            return True
        digests = []
        for node in list(answers):
            answer = answers[node]
            if is_digest(answer):
                digests.append(answer)
                continue
            chunk = self._chunk_of(node)
            if chunk is None:
                return None
            digests.append(true_digest(self.command, chunk))
        return all(found == digests[0] for found in digests)

    def _chunk_of(self, node: NodeId) -> Chunk | None:
        """A node's answer, read; None: it can't be, and counts as a failure."""
        answer = self._answers[node]
        if not isinstance(answer, bytes):
            return answer
        try:
            chunk = self._answers[node] = decode_chunk(answer)
        except CorruptRecord as error:
            del self._answers[node]
            self._pending[node] = 0
            self._failed(node, Reason.UNKNOWN, str(error))
            return None
        return chunk

    def _finish_with_first(self) -> None:
        """All say the same: what one of them said is the chunk."""
        answers = self._answers
        chosen = None
        for node, answer in answers.items():
            if isinstance(answer, Chunk):
                chosen = node
                break
            if chosen is None and not is_digest(answer):
                chosen = node
        assert chosen is not None
        chunk = self._chunk_of(chosen)
        if chunk is not None:
            self._finish(chunk, None)

    def _reconcile(self) -> None:
        """Ask those who gave a digest for their records."""
        context = self._context
        peers, answers, pending = context.peers, self._answers, self._pending
        context.mismatches += 1
        self._reconciling = True
        asked = [node for node, answer in answers.items() if is_digest(answer)]
        # Who hasn't answered so far isn't waited for any more, but may stand in for another one.
        late = [node for node in pending if node != peers.me]
        self._others().extend(late)
        for node in late:
            del pending[node]
        # A number of its own: replies of the first phase are late now.
        peers.end(self._request)
        self._request = peers.begin(self.command.kind, self)
        self._has_speculated = False
        now_ns = context.clock.monotonic_ns()
        for node in asked:
            del answers[node]
            pending[node] = now_ns
        for node in asked:
            self._send(node)
        self._look()

    def _merge(self) -> None:
        """What the replicas say together; each is sent what it lacks."""
        command = self.command
        chunks: dict[NodeId, Chunk] = {}
        for node in list(self._answers):
            chunk = self._chunk_of(node)
            if chunk is None:
                return
            chunks[node] = chunk
        end = shortest(list(chunks.values()), reverse=command.reverse)
        held: dict[bytes, dict[NodeId, Mutation]] = {}
        for node, chunk in chunks.items():
            for partition in cut(chunk, end, reverse=command.reverse):
                held.setdefault(partition.position, {})[node] = partition
        merged = [merge_partitions(list(held[position].values())) for position in sorted(held)]
        whole = Chunk(merged, end)
        table = command.rows.table
        missing: dict[NodeId, list[Mutation]] = {}
        torn: list[Mutation] = []
        if table.options.read_repair != "NONE":
            gc_grace_s, dropped = table.options.gc_grace_seconds, dropped_from(command.rows.keys)
            for partition in merged:
                holders = held[partition.position]
                is_torn = False
                for node in chunks:
                    found = lacking(partition, holders.get(node), command.now_s, gc_grace_s, dropped)
                    if found is not None:
                        missing.setdefault(node, []).append(found)
                        is_torn = True
                if is_torn:
                    found = lacking(partition, None, command.now_s, gc_grace_s, dropped)
                    assert found is not None
                    torn.append(found)
        if not missing:
            self._finish(whole, None)
        elif self._has_moved():
            self._start_over()
        else:
            self._mend(whole, missing, torn)

    def _has_moved(self) -> bool:
        """Whether rows have begun to move since this fetch was begun."""
        routing, command = self._context.routing, self.command
        if isinstance(command, RangeCommand):
            # What was one range may be several now.
            return routing.is_outdated(self._route)
        return routing.has_moved(self._route, command.position)

    def _mend(self, whole: Chunk, missing: dict[NodeId, list[Mutation]], torn: list[Mutation]) -> None:
        """Give replicas what they lack. While the range changes hands it may be on too few of those that will be read
        from then; these are given it before: as soon as those that are read from agree, nobody mends any more.

        Args:
            torn: all there is of the partitions of which some replica lacks something.
        """
        context, command = self._context, self.command
        context.repairs += len(missing)
        if self._request:
            context.peers.end(self._request)
        try:
            next_ones = self._route.next_without(list(self._answers), self._level)
        except RequestError as error:
            self._finish(None, error)
            return
        others = [node for node in self._others() if node not in (*self._answers, *next_ones)]

        def mend(is_carried_over: bool) -> None:
            if not is_carried_over:
                self._repaired(whole, False)
                return
            self._repair = ReadRepair(
                context, command, missing, others, self._epoch, lambda done: self._repaired(whole, done)
            )
            self._repair.start()

        if not next_ones:
            mend(True)
            return
        carried = {node: list(torn) for node in next_ones}
        self._repair = ReadRepair(context, command, carried, [], self._epoch, mend)
        self._repair.start()

    def _repaired(self, whole: Chunk, is_done: bool) -> None:
        if is_done:
            self._finish(whole, None)
        else:
            # As Cassandra counts: somebody of those who were needed is missing.
            self._finish(None, ReadTimeout(self._level, self._required - 1, self._required, True))

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


def is_digest(answer: Answered) -> bool:
    """Whether a replica gave no records."""
    return isinstance(answer, bytes) and len(answer) == DIGEST_BYTES
