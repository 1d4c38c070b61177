"""A write: to every replica of its partition, acknowledged at its consistency level.

The mutation is encoded once; every live replica gets the same message, this node applies it, and for each
replica that is down a hint is left at once. The client hears of it as soon as enough have acknowledged. The
operation lives on until all have answered or the time is up: whoever hasn't acknowledged by then has a hint, so that
every replica has the write in the end whatever level it was made at.

The client is told the truth of a write that failed: WriteFailure names who refused it, WriteTimeout says that nobody
knows; it may be on some replicas all the same, and reach the others by hints. OVERLOADED is kept for what certainly
hasn't happened and won't: every replica has refused it for want of room, and no hint was left. Drivers repeat such a
request on another node without asking whether it may be repeated.

Replicas whose range changes hands refuse a coordinator that doesn't know of it. It catches up, and sends the same write
to those who hold the range now; it has its timestamp, so wherever it arrives twice it does no harm.

A write of several partitions (a batch) is several such operations and one count.

Source: Cassandra's ``StorageProxy.mutate``, ``AbstractWriteResponseHandler``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ourodb import limits
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import UNDONE, Overloaded, RequestError, WriteFailure, WriteTimeout
from ourodb.peer.messages import FAILED, Verb
from ourodb.ports import DATA, Clock, NodeId
from ourodb.replication.hints import Hints
from ourodb.replication.messages import Reason, client_code, decode_failure, reason_of
from ourodb.replication.peers import Peers, RequestClass
from ourodb.replication.replica.writes import Done, Writes
from ourodb.replication.routes import Need, Route, Routing
from ourodb.storage.apply import UnknownIncarnation
from ourodb.storage.mutation import Mutation

MICROS = 1_000_000


class WriteContext:
    """What all writes of a node share."""

    __slots__ = ("clock", "hints", "peers", "routing", "writes")

    def __init__(self, peers: Peers, routing: Routing, writes: Writes, hints: Hints, clock: Clock) -> None:
        self.peers = peers
        self.routing = routing
        self.writes = writes
        self.hints = hints
        self.clock = clock
        hints.follow(writes)


_REFUSALS: Final = (Reason.OVERLOADED, Reason.READ_ONLY)
"""A replica that fails for these has done nothing, and can't take more now."""

Over = Callable[[bool], None]
"""Told once, when nothing is waited for any more: whether each replica has the write, or has a hint of it."""


class WriteOperation:
    """One mutation on its way to its replicas.

    Attributes:
        started_ms: see ``Operation``.
        is_answered: the client knows.
        tries: how often it was sent, as its range moved.
    """

    __slots__ = (
        "_acked",
        "_acks",
        "_context",
        "_done",
        "_each",
        "_epoch",
        "_failures",
        "_is_behind",
        "_is_complete",
        "_is_given_up",
        "_is_hinted",
        "_mutation",
        "_need",
        "_over",
        "_pending",
        "_request",
        "_route",
        "_sent_as",
        "_write_type",
        "_written_at_us",
        "is_answered",
        "started_ms",
        "tries",
    )

    def __init__(
        self,
        context: WriteContext,
        mutation: Mutation,
        route: Route,
        need: Need,
        write_type: str,
        done: Done,
        over: Over | None = None,
        written_at_us: int = 0,
    ) -> None:
        """
        Args:
            over: told when the operation is over.
            written_at_us: when the mutation was first written, for the age of its hints; 0: now.
        """
        self.started_ms = 0
        self.is_answered = False
        self.tries = 1
        self._context = context
        self._mutation = mutation
        self._route = route
        self._need = need
        self._write_type = write_type
        self._done = done
        self._over = over
        self._written_at_us = written_at_us
        self._acks = 0
        self._sent_as: tuple[Verb, bytes, Callable[[Done], None]] | None = None
        self._is_behind = False
        """A replica said that its range has moved; it is sent again."""
        self._acked: tuple[NodeId, ...] = ()
        """Who has acknowledged; kept only where the range changes hands."""
        self._pending: dict[NodeId, None] = {}
        self._failures: dict[NodeId, int] | None = None
        self._each = None if need.each is None else dict(need.each)
        self._is_hinted = False
        """Some replica has a hint."""
        self._is_complete = True
        """No replica has gone without both the write and a hint."""
        self._is_given_up = False
        """It was refused by all, and the client knows."""
        self._request = 0
        self._epoch = 0
        """Of its route."""

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
        self._sent_as = verb, body, write_here
        peers = self._context.peers
        route = self._route
        self._epoch = route.epoch
        pending = self._pending
        unsent: list[NodeId] | None = None
        if route.down:
            for node in route.down:
                self._hint(node)
        if not route.alive:
            peers.later(self.on_expired)
            return
        self._request = peers.begin(RequestClass.WRITE, self)
        if route.remote:
            message = peers.message(verb, body, self._request, epoch=self._epoch)
            for node, link in route.remote:
                pending[node] = None
                if not link.send(DATA, message):
                    unsent = [node] if unsent is None else [*unsent, node]
        if unsent is not None:
            lost = unsent
            peers.later(lambda: self._unsent(lost))
        if route.local:
            pending[peers.me] = None
            write_here(self._written_here)

    # The operation

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        pending = self._pending
        if node in pending:
            del pending[node]
            if flags & FAILED:
                self._failed(node, decode_failure(body)[0])
            else:
                self._acknowledged(node)
            if not pending:
                self._end()
        return not pending

    def on_expired(self) -> None:
        pending, self._pending = self._pending, {}
        for node in pending:
            if node == self._context.peers.me:
                self._is_complete = False
            else:
                self._hint(node)
        if not self.is_answered and self._need.level != Consistency.ANY:
            self._answer(self._timeout())
        self._end()

    def on_lost(self, node: NodeId) -> bool:
        pending = self._pending
        if node in pending:
            del pending[node]
            self._failed(node, Reason.NODE_DOWN)
            if not pending:
                self._end()
        return not pending

    def on_tick(self, waited_ms: int) -> bool:
        return False

    # Counting

    def _written_here(self, error: RequestError | None) -> None:
        me = self._context.peers.me
        pending = self._pending
        if me not in pending:
            return
        del pending[me]
        if error is None:
            context = self._context
            moved = context.peers.epoch != self._epoch
            if moved and context.routing.has_moved(self._route, self._mutation.position):
                # It may have waited, and come after what was copied.
                self._failed(me, Reason.COORDINATOR_BEHIND)
            else:
                self._acknowledged(me)
        elif self._route.alone and not self.is_answered:
            self._is_complete = False
            self._answer(error)
        else:
            self._failed(me, reason_of(error))
        if not pending:
            self._context.peers.end(self._request)
            self._end()

    def _acknowledged(self, node: NodeId) -> None:
        need = self._need
        if need.both is not None:
            self._acknowledged_in_both(node, need.both)
            return
        if need.counted is None or node in need.counted:
            self._acks += 1
            if self.is_answered:
                return
            each = self._each
            if each is None:
                if self._acks == need.required:
                    self._answer(None)
                    return
            else:
                data_center = self._route.data_centers[node]
                left = each.get(data_center, 0) - 1
                if left > 0:
                    each[data_center] = left
                else:
                    each.pop(data_center, None)
                    if not each:
                        self._answer(None)
                        return
        if self._failures is not None:
            self._judge()

    def _acknowledged_in_both(self, node: NodeId, both: tuple[Need, Need]) -> None:
        """The range changes hands: the level is met when it is in each of its two sets."""
        self._acked = (*self._acked, node)
        self._acks = min(sum(one.counts(acked) for acked in self._acked) for one in both)
        if self.is_answered:
            return
        if all(one.is_met(self._acked, self._route.data_centers) for one in both):
            self._answer(None)
        elif self._failures is not None:
            self._judge()

    def _failed(self, node: NodeId, reason: int) -> None:
        if self._failures is None:
            self._failures = {}
        self._failures[node] = reason
        if reason == Reason.COORDINATOR_BEHIND and self.tries < limits.BEHIND_TRIES_MAX:
            if not self._is_behind:
                self._is_behind = True
                self._context.peers.when_caught_up(self._epoch, self._send_again)
            return
        if node == self._context.peers.me:
            self._is_complete = False
        elif reason not in _REFUSALS and reason != Reason.INCOMPATIBLE_SCHEMA:
            self._hint(node)
        self._judge()

    def _judge(self) -> None:
        """Tell the client if what it asked for can't be had any more."""
        need = self._need
        if self.is_answered or need.level == Consistency.ANY or self._is_behind or self._is_possible():
            return
        assert self._failures is not None
        if self._is_refused():
            # As long as somebody may take it, it isn't said that nobody has.
            if not self._pending:
                self._is_given_up = True
                self._answer(Overloaded("the replicas take no writes now"))
            return
        peers = self._context.peers
        reasons = {
            peers.packed_address(failed): client_code(why)
            for failed, why in self._failures.items()
            if why not in (Reason.NODE_DOWN, Reason.COORDINATOR_BEHIND)
        }
        if reasons:
            self._answer(WriteFailure(need.level, self._received(), need.required, reasons, self._write_type))
        else:
            # Nobody refused it: it may be on disk where the connection was lost.
            self._answer(self._timeout())

    def _send_again(self) -> None:
        """This node has caught up: the same write, to those who hold the range now."""
        context, mutation = self._context, self._mutation
        assert self._sent_as is not None

        def done(error: RequestError | None) -> None:
            if self.is_answered:
                return
            if isinstance(error, UNDONE) and self._may_be_somewhere():
                # That nothing was done is true of the second time only.
                error = self._timeout()
            self._answer(error)

        try:
            table = context.writes.rows.known(mutation.incarnation).table
            route = context.routing.find(table.keyspace, mutation.position)
            level = self._need.level if not self.is_answered else Consistency.ANY
            need = route.write_need(level)
        except RequestError as error:
            done(error)
        except UnknownIncarnation:
            # Its table is gone.
            done(self._timeout())
        else:
            again = WriteOperation(
                context, mutation, route, need, self._write_type, done, None, self._written_at_us
            )
            again.tries = self.tries + 1
            again.send_as(*self._sent_as)

    def _may_be_somewhere(self) -> bool:
        """Whether some replica has written it, may have, or will by a hint: not all have said that it has moved."""
        refused = [why for why in (self._failures or {}).values() if why == Reason.COORDINATOR_BEHIND]
        return len(refused) < self._route.alive or bool(self._route.down)

    def _is_refused(self) -> bool:
        """Whether all that was heard so far is that there is no room; it must be all that the request was about."""
        failures = self._failures or {}
        return (
            self._route.alive == len(self._pending) + len(failures)
            and not self._route.down
            and self._write_type == "SIMPLE"
            and all(why in _REFUSALS for why in failures.values())
        )

    def _is_possible(self) -> bool:
        need = self._need
        if need.both is not None:
            possible = (*self._acked, *self._pending)
            return all(one.is_met(possible, self._route.data_centers) for one in need.both)
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

    def _received(self) -> int:
        """Acknowledgements that count."""
        return self._acks if self._each is None else self._need.required - sum(self._each.values())

    def _timeout(self) -> WriteTimeout:
        need = self._need
        return WriteTimeout(need.level, self._received(), need.required, self._write_type)

    # Whoever goes without

    def _unsent(self, nodes: Sequence[NodeId]) -> None:
        for node in nodes:
            if self.on_lost(node):
                self._context.peers.end(self._request)

    def _hint(self, node: NodeId) -> None:
        if self._context.hints.add(node, self._mutation, self._written_at_us):
            self._is_hinted = True
        else:
            self._is_complete = False

    def _end(self) -> None:
        """Nothing is waited for any more."""
        if self._failures is not None and not self._is_given_up:
            for node, why in self._failures.items():
                if why in _REFUSALS and node != self._context.peers.me:
                    self._hint(node)
        if not self.is_answered and not self._is_behind:
            self._answer_hinted()
        if self._is_behind:
            self._is_complete = False
        over, self._over = self._over, None
        if over is not None:
            over(self._is_complete and not self._is_given_up)

    def _answer_hinted(self) -> None:
        """ANY is content with a hint that is on disk."""
        if self._need.level != Consistency.ANY or not self._is_hinted:
            self._answer(self._timeout())
            return
        self.is_answered = True
        self._context.writes.run(lambda: None, self._done, sync=True)

    def _answer(self, error: RequestError | None) -> None:
        self.is_answered = True
        self._done(error)


class Together:
    """The callback of several writes: calls ``done`` once, when all are acknowledged or the first one fails."""

    __slots__ = ("_count", "_done", "_left", "_unknown")

    def __init__(self, count: int, done: Done, unknown: RequestError) -> None:
        """
        Args:
            unknown: told where there are others, instead of what says that nothing was done: of them something may be.
        """
        self._count = count
        self._left = count
        self._done: Done | None = done
        self._unknown = unknown

    def __call__(self, error: RequestError | None) -> None:
        done = self._done
        if done is None:
            return
        self._left -= 1
        if error is not None or not self._left:
            self._done = None
            done(self._unknown if self._count > 1 and isinstance(error, UNDONE) else error)


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

        def again() -> None:
            now = context.routing.all_present(routes, mutations)
            write_all(context, mutations, now, level, write_type, now_s, done)

        context.writes.write_all(mutations, now_s, done, again)
        return
    unknown = WriteTimeout(level, 0, needs[0].required, write_type)
    together = done if len(mutations) == 1 else Together(len(mutations), done, unknown)
    for mutation, route, need in zip(mutations, routes, needs, strict=True):
        WriteOperation(context, mutation, route, need, write_type, together).start(now_s)
