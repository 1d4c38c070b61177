"""Hints: mutations that a replica missed, kept on disk by the coordinator until it is back.

A hint is kept in the HINTS family under ``node (u32) | sequence (u64)``, so that each node's hints are one
run in the order in which they were made; its value is ``made at (u64, us) | mutation``. While a node is up
its hints are sent in batches on the BULK lane, a few at a time, oldest first, and each batch is deleted when
the node has acknowledged it. Hints carry the timestamps of their mutations, so one that arrives late or twice
does no harm.

Bounds: bytes in all (``limits.HINT_BYTES_MAX``) and age (``limits.HINT_AGE_MS_MAX``). Age counts from when a
hint was made, by the wall clock, so that a restart doesn't make it young again: a hint older than a tombstone
may live must not bring back what was deleted. What is dropped is counted. Hints of a table that is gone die
with it on arrival; those of a node that left the cluster are deleted.

Source: Cassandra's hinted handoff; CASSANDRA-14309 (hint windows across restarts).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import structlog

from ourodb import limits
from ourodb.errors import OuroError
from ourodb.peer.messages import FAILED, Verb
from ourodb.ports import BULK, Clock, NodeId, Store, Write
from ourodb.replication.peers import Peers, RequestClass
from ourodb.storage.families import HINTS
from ourodb.storage.mutation import Mutation

log = structlog.get_logger()

_KEY = struct.Struct(">IQ")
_NODE = struct.Struct(">I")
_MADE_AT = struct.Struct(">Q")

_US_PER_MS: Final = 1000


class Hints:
    """The hints of one node for all others.

    Attributes:
        dropped: for want of room or for their age, counted since the start.
        delivered: acknowledged, counted since the start.
        bytes: kept now.
    """

    def __init__(self, store: Store, peers: Peers, clock: Clock, arm: Callable[[], None]) -> None:
        self.dropped = 0
        self.delivered = 0
        self.bytes = 0
        self._store = store
        self._peers = peers
        self._clock = clock
        self._arm = arm
        self._waiting: dict[NodeId, int] = {}
        """Hints kept for each node."""
        self._deliveries: dict[NodeId, _Delivery] = {}
        self._sequence = 0

    def recover(self) -> None:
        """Count what is kept."""
        for key, value in self._store.scan(HINTS, b"", b"\xff" * 13):
            node, sequence = _KEY.unpack(key)
            self._waiting[NodeId(node)] = self._waiting.get(NodeId(node), 0) + 1
            self._sequence = max(self._sequence, sequence)
            self.bytes += len(value)

    def waiting(self, node: NodeId) -> int:
        """Hints kept for a node."""
        return self._waiting.get(node, 0)

    @property
    def total(self) -> int:
        return sum(self._waiting.values())

    def add(self, node: NodeId, mutation: Mutation) -> bool:
        """Keep a hint; it is on disk with the writes of this pass. False: there is no room."""
        value = _MADE_AT.pack(self._clock.wall_us()) + mutation.encode()
        if self.bytes + len(value) > limits.HINT_BYTES_MAX:
            self.dropped += 1
            return False
        self._sequence += 1
        try:
            self._store.apply(((HINTS, _KEY.pack(node, self._sequence), value),))
        except OuroError as error:
            self.dropped += 1
            log.warning("a hint can't be kept", node=node, reason=str(error))
            return False
        self.bytes += len(value)
        self._waiting[node] = self._waiting.get(node, 0) + 1
        self._arm()
        return True

    def deliver(self) -> None:
        """Send what waits for nodes that are up; called now and then."""
        for node in sorted(self._waiting):
            if self._peers.up.get(node) and node in self._peers.links and node not in self._deliveries:
                delivery = self._deliveries[node] = _Delivery(self, node)
                delivery.go_on()

    def forget(self, node: NodeId) -> None:
        """The node is no member any more."""
        self._store.delete_range(HINTS, _NODE.pack(node), _NODE.pack(node + 1))
        self._waiting.pop(node, None)
        self._recount()

    # For _Delivery

    def batch(self, node: NodeId, after: int) -> tuple[list[tuple[int, int]], bytes, int]:
        """The next hints of a node: ((sequence, bytes) of each, mutations, the last sequence looked at)."""
        oldest_us = self._clock.wall_us() - limits.HINT_AGE_MS_MAX * _US_PER_MS
        keys: list[tuple[int, int]] = []
        outdated: list[tuple[int, int]] = []
        parts: list[bytes] = []
        size = 0
        last = after
        for key, value in self._store.scan(HINTS, _KEY.pack(node, after + 1), _NODE.pack(node + 1)):
            _, last = _KEY.unpack(key)
            if _MADE_AT.unpack_from(value)[0] < oldest_us:
                outdated.append((last, len(value)))
                self.dropped += 1
            else:
                keys.append((last, len(value)))
                parts.append(value[8:])
            size += len(value)
            if size >= limits.HINT_BATCH_BYTES:
                break
        if outdated:
            self.delete(node, outdated)
        return keys, b"".join(parts), last

    def delete(self, node: NodeId, keys: list[tuple[int, int]]) -> None:
        writes: list[Write] = [(HINTS, _KEY.pack(node, sequence), None) for sequence, _ in keys]
        try:
            self._store.apply(writes)
        except OuroError:
            # A disk that takes no writes: they are sent again, which does no harm.
            return
        self._arm()
        self.bytes -= sum(size for _, size in keys)
        left = self._waiting.get(node, 0) - len(keys)
        if left > 0:
            self._waiting[node] = left
        else:
            self._waiting.pop(node, None)

    def ended(self, node: NodeId) -> None:
        self._deliveries.pop(node, None)

    def _recount(self) -> None:
        self.bytes = sum(len(value) for _, value in self._store.scan(HINTS, b"", b"\xff" * 13))

    @property
    def peers(self) -> Peers:
        return self._peers


class _Delivery:
    """A run through the hints of one node."""

    __slots__ = ("_after", "_batches", "_complete", "_failed", "_hints", "_node")

    def __init__(self, hints: Hints, node: NodeId) -> None:
        self._hints = hints
        self._node = node
        self._after = 0
        self._batches = 0
        self._complete = False
        self._failed = False

    def go_on(self) -> None:
        """Send batches while few are on their way."""
        hints = self._hints
        while not self._complete and not self._failed and self._batches < limits.HINTS_IN_FLIGHT_MAX:
            keys, body, last = hints.batch(self._node, self._after)
            if last == self._after:
                self._complete = True
                break
            self._after = last
            if not keys:
                continue
            self._batches += 1
            operation = _Batch(self, keys)
            peers = hints.peers
            request = peers.begin(RequestClass.COUNTER, operation)
            link = peers.links.get(self._node)
            if link is None or not link.send(BULK, peers.message(Verb.HINT, body, request)):
                peers.end(request)
                self._batches -= 1
                self._failed = True
        if not self._batches and (self._complete or self._failed):
            hints.ended(self._node)

    def answered(self, keys: list[tuple[int, int]], *, delivered: bool) -> None:
        hints = self._hints
        self._batches -= 1
        if delivered:
            hints.delete(self._node, keys)
            hints.delivered += len(keys)
        else:
            self._failed = True
        self.go_on()

    @property
    def node(self) -> NodeId:
        return self._node


class _Batch:
    """One message of hints that waits for its acknowledgement."""

    __slots__ = ("_delivery", "_keys", "started_ms")

    def __init__(self, delivery: _Delivery, keys: list[tuple[int, int]]) -> None:
        self.started_ms = 0
        self._delivery = delivery
        self._keys = keys

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        self._delivery.answered(self._keys, delivered=not flags & FAILED)
        return True

    def on_expired(self) -> None:
        self._delivery.answered(self._keys, delivered=False)

    def on_lost(self, node: NodeId) -> bool:
        if node != self._delivery.node:
            return False
        self._delivery.answered(self._keys, delivered=False)
        return True

    def on_tick(self, waited_ms: int) -> bool:
        return False
