"""A write: to every replica of its partition, acknowledged at its consistency level.

The mutation is encoded once; every live replica gets the same message, this node applies it, and for each
replica that is down a hint is left at once. The client hears of it as soon as enough have acknowledged. The
operation lives on until all have answered or the time is up: whoever hasn't by then gets a hint too, so that
every replica has the write in the end whatever level it was made at.

A write of several partitions (a batch) is several such operations and one count.

Source: Cassandra's ``StorageProxy.mutate``, ``AbstractWriteResponseHandler``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ourodb.cql.wire.codes import Consistency
from ourodb.errors import Overloaded, RequestError, WriteFailure, WriteTimeout
from ourodb.peer.messages import FAILED, Verb
from ourodb.ports import DATA, Clock, NodeId
from ourodb.replication.hints import Hints
from ourodb.replication.messages import Reason, client_code, decode_failure, reason_of
from ourodb.replication.peers import Peers, RequestClass
from ourodb.replication.replica.writes import Done, Writes
from ourodb.replication.routes import Need, Route
from ourodb.storage.mutation import Mutation

MICROS = 1_000_000


class WriteContext:
    """What all writes of a node share."""

    __slots__ = ("clock", "hints", "peers", "writes")

    def __init__(self, peers: Peers, writes: Writes, hints: Hints, clock: Clock) -> None:
        self.peers = peers
        self.writes = writes
        self.hints = hints
        self.clock = clock


class WriteOperation:
    """One mutation on its way to its replicas."""

    __slots__ = (
        "_acks",
        "_context",
        "_done",
        "_each",
        "_failures",
        "_hinted",
        "_mutation",
        "_need",
        "_pending",
        "_request",
        "_route",
        "_write_type",
        "is_answered",
        "started_ms",
    )

    def __init__(
        self,
        context: WriteContext,
        mutation: Mutation,
        route: Route,
        need: Need,
        write_type: str,
        done: Done,
    ) -> None:
        self.started_ms = 0
        self.is_answered = False
        self._context = context
        self._mutation = mutation
        self._route = route
        self._need = need
        self._write_type = write_type
        self._done = done
        self._acks = 0
        self._pending: dict[NodeId, None] = {}
        self._failures: dict[NodeId, int] | None = None
        self._each = None if need.each is None else dict(need.each)
        self._hinted = True
        self._request = 0

    def start(self, now_s: int) -> None:
        """Send it.

        Args:
            now_s: this node's time, seconds.
        """
        writes, mutation = self._context.writes, self._mutation
        body = mutation.encode() if self._route.remote else b""
        self.send_as(Verb.WRITE, body, lambda done: writes.write(mutation, now_s, done))

    def send_as(self, verb: Verb, body: bytes, write_here: Callable[[Done], None]) -> None:
        """Send it in a message of another kind, which writes the same.

        Args:
            write_here: does on this node what the message does on others.
        """
        context = self._context
        peers = context.peers
        route = self._route
        pending = self._pending
        unsent: list[NodeId] | None = None
        if route.remote:
            self._request = peers.begin(RequestClass.WRITE, self)
            message = peers.message(verb, body, self._request)
            for node, link in route.remote:
                pending[node] = None
                if not link.send(DATA, message):
                    unsent = [node] if unsent is None else [*unsent, node]
        if route.local:
            pending[peers.me] = None
            write_here(self._written_here)
        if route.down:
            for node in route.down:
                self._hint(node)
        if unsent is not None:
            lost = unsent
            peers.later(lambda: self._unsent(lost))
        if not pending or (self._need.level == Consistency.ANY and not route.alive):
            peers.later(self._only_hints)

    # The operation

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        if node in self._pending:
            del self._pending[node]
            if flags & FAILED:
                self._failed(node, decode_failure(body)[0])
            else:
                self._acknowledged(node)
        return not self._pending

    def on_expired(self) -> None:
        for node in self._pending:
            if node != self._context.peers.me:
                self._hint(node)
        if not self.is_answered:
            self._answer(WriteTimeout(self._need.level, self._acks, self._need.required, self._write_type))

    def on_lost(self, node: NodeId) -> bool:
        if node in self._pending:
            del self._pending[node]
            self._failed(node, Reason.NODE_DOWN)
        return not self._pending

    def on_tick(self, waited_ms: int) -> bool:
        return False

    # Counting

    def _written_here(self, error: RequestError | None) -> None:
        me = self._context.peers.me
        if me not in self._pending:
            return
        del self._pending[me]
        if not self._pending:
            self._context.peers.end(self._request)
        if error is None:
            self._acknowledged(me)
        elif self._route.alone and not self.is_answered:
            self._answer(error)
        else:
            self._failed(me, reason_of(error))

    def _acknowledged(self, node: NodeId) -> None:
        need = self._need
        if need.counted is not None and node not in need.counted:
            return
        self._acks += 1
        if self.is_answered:
            return
        each = self._each
        if each is None:
            if self._acks == need.required:
                self._answer(None)
            return
        data_center = self._route.data_centers[node]
        left = each.get(data_center, 0) - 1
        if left > 0:
            each[data_center] = left
        else:
            each.pop(data_center, None)
            if not each:
                self._answer(None)

    def _failed(self, node: NodeId, reason: int) -> None:
        if self._failures is None:
            self._failures = {}
        self._failures[node] = reason
        if node != self._context.peers.me and reason != Reason.INCOMPATIBLE_SCHEMA:
            self._hint(node)
        if self.is_answered or self._is_possible():
            return
        if self._need.level == Consistency.ANY:
            self._only_hints()
            return
        peers = self._context.peers
        reasons = {
            peers.packed_address(failed): client_code(why)
            for failed, why in self._failures.items()
            if why != Reason.NODE_DOWN
        }
        need = self._need
        if not reasons:
            # Nobody refused it: it may be on disk where the connection was lost.
            self._answer(WriteTimeout(need.level, self._acks, need.required, self._write_type))
        elif all(why in (Reason.OVERLOADED, Reason.READ_ONLY) for why in self._failures.values()):
            self._answer(Overloaded("too few replicas take writes now"))
        else:
            self._answer(WriteFailure(need.level, self._acks, need.required, reasons, self._write_type))

    def _is_possible(self) -> bool:
        need = self._need
        counted = need.counted
        if self._each is not None:
            centers = self._route.data_centers
            return all(
                sum(centers[node] == name for node in self._pending) >= left
                for name, left in self._each.items()
            )
        waiting = len(self._pending)
        if counted is not None:
            waiting = sum(node in counted for node in self._pending)
        return self._acks + waiting >= need.required

    def _unsent(self, nodes: Sequence[NodeId]) -> None:
        for node in nodes:
            self.on_lost(node)

    def _hint(self, node: NodeId) -> None:
        self._hinted = self._context.hints.add(node, self._mutation) and self._hinted

    def _only_hints(self) -> None:
        """ANY is content with a hint that is on disk."""
        if self.is_answered:
            return
        need = self._need
        if need.level != Consistency.ANY or not self._hinted:
            self._answer(WriteTimeout(need.level, self._acks, need.required, self._write_type))
            return
        self.is_answered = True
        self._context.writes.run(lambda: None, self._done, sync=True)

    def _answer(self, error: RequestError | None) -> None:
        self.is_answered = True
        self._done(error)


class Together:
    """The callback of several writes: calls ``done`` once, when all are acknowledged or the first one fails."""

    __slots__ = ("_done", "_left")

    def __init__(self, count: int, done: Done) -> None:
        self._left = count
        self._done: Done | None = done

    def __call__(self, error: RequestError | None) -> None:
        done = self._done
        if done is None:
            return
        self._left -= 1
        if error is not None or not self._left:
            self._done = None
            done(error)


FindRoute = Callable[[Mutation], Route]
"""The route of a mutation's partition."""


def write_all(
    context: WriteContext,
    mutations: Sequence[Mutation],
    routes: Sequence[Route],
    level: int,
    write_type: str,
    now_s: int,
    done: Done,
) -> None:
    """Write several partitions.

    Args:
        routes: one for each.
    Raises:
        Unavailable, InvalidRequest: the level can't be had for one of them; nothing was written.
    """
    needs = [route.write_need(level) for route in routes]
    if not mutations:
        context.peers.later(lambda: done(None))
        return
    if all(route.alone for route in routes):
        context.writes.write_all(mutations, now_s, done)
        return
    together = done if len(mutations) == 1 else Together(len(mutations), done)
    for mutation, route, need in zip(mutations, routes, needs, strict=True):
        WriteOperation(context, mutation, route, need, write_type, together).start(now_s)
