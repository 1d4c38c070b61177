"""Hints: mutations that a replica missed, kept on disk by the coordinator until it is back.

A hint is kept in the HINTS family under ``node (u32) | sequence (u64)``, so that each node's hints are one
run in the order in which they were made; its value is ``written at (u64, us) | mutation``. While a node is up
its hints are sent in batches on the BULK lane, a few at a time, oldest first, and each batch is deleted when
the node has acknowledged it. Hints carry the timestamps of their mutations, so one that arrives late or twice
does no harm. What a node missed that has left the cluster goes to the present owners of its ranges, as a write; so
does what is about a range that changes hands. Whoever doesn't acknowledge it gets a hint of his own, but one only: of
what is handed on it is known who has a hint of it, and if that is the one that is being handed on, it stays.

One run at a time goes through the hints of a node, and what is under way belongs to it: nobody else sends or deletes
it. So each hint is counted off once. A run that fails, be it that the store can't be read for the moment, ends when
nothing of it is under way any more, and the next round of gossip begins another one.

Bounds: bytes in all (``limits.HINT_BYTES_MAX``) and age. A hint may be no older than ``limits.HINT_AGE_MS_MAX``, nor
than its table's ``gc_grace_seconds``: one that outlives tombstones would bring back what was deleted. Age counts by
the wall clock from when the mutation was written; neither a restart nor being handed on makes it young again. What is
dropped is counted. Hints of a table that is gone die with it on arrival.

What the store doesn't take, for the moment or because the disk is full, waits in memory, bounded, and is tried again
with each round of gossip.

Source: Cassandra's hinted handoff, ``Hint.isLive``; CASSANDRA-14309 (hint windows across restarts).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import structlog

from ourodb import limits
from ourodb.errors import OuroError, RequestError
from ourodb.peer.messages import FAILED, Verb
from ourodb.ports import BULK, Clock, NodeId, Store
from ourodb.replication.peers import Peers, RequestClass
from ourodb.replication.replica.writes import Writes
from ourodb.storage.apply import UnknownIncarnation
from ourodb.storage.families import HINTS
from ourodb.storage.mutation import Mutation, decode_mutation

log = structlog.get_logger()

_KEY = struct.Struct(">IQ")
_NODE = struct.Struct(">I")
_WRITTEN_AT = struct.Struct(">Q")
_INCARNATION = struct.Struct(">I")

_US_PER_MS: Final = 1_000
_US_PER_S: Final = 1_000_000


class Hint(NamedTuple):
    """A hint as it is kept.

    Attributes:
        value: ``written at | mutation``.
    """

    sequence: int
    value: bytes

    @property
    def mutation(self) -> bytes:
        return self.value[_WRITTEN_AT.size :]

    @property
    def written_at_us(self) -> int:
        return int(_WRITTEN_AT.unpack_from(self.value)[0])


class Tally:
    """What is kept for one node."""

    __slots__ = ("bytes", "hints")

    def __init__(self) -> None:
        self.hints = 0
        self.bytes = 0


HandOn = Callable[[Mutation, int, Callable[[bool], None]], None]
"""(mutation, when it was written in us, told whether its present owners have it or a hint of it). May raise
OuroError."""


class Hints:
    """The hints of one node for all others.

    Attributes:
        dropped: for want of room or for their age, counted since the start.
        delivered: acknowledged, or handed on, counted since the start.
        bytes: kept on disk now.
        hand_on: writes what a node missed to those who hold it now; set by the coordinator.
        is_for: whether a hint's node alone is to have it: the node holds its partition, which isn't about to change
            hands; set by the coordinator. May raise OuroError.
    """

    def __init__(self, store: Store, peers: Peers, clock: Clock, arm: Callable[[], None]) -> None:
        self.dropped = 0
        self.delivered = 0
        self.bytes = 0
        self.hand_on: HandOn | None = None
        self.is_for: Callable[[NodeId, Mutation], bool] | None = None
        self.peers = peers
        self._store = store
        self._clock = clock
        self._arm = arm
        self._writes: Writes | None = None
        self._kept: dict[NodeId, Tally] = {}
        self._runs: dict[NodeId, _Delivery | _HandingOn] = {}
        self._sequence = 0
        self._unkept: list[tuple[NodeId, bytes]] = []
        """(for whom, value) of those that the store didn't take."""
        self._unkept_bytes = 0
        self._copies: dict[bytes, dict[NodeId, bool]] = {}
        """Of what is handed on, by its digest: who has a hint of it, and whether that one is on its way now."""

    def follow(self, writes: Writes) -> None:
        """Learn from now on what becomes of what is written, and how long the tombstones of each table live."""
        self._writes = writes

    def recover(self) -> None:
        """Count what is kept."""
        for key, value in self._store.scan(HINTS, b"", b"\xff" * 13):
            node, sequence = _KEY.unpack(key)
            self._sequence = max(self._sequence, sequence)
            self._count(NodeId(node), 1, len(value))

    def waiting(self, node: NodeId) -> int:
        """Hints kept for a node."""
        tally = self._kept.get(node)
        return 0 if tally is None else tally.hints

    @property
    def total(self) -> int:
        return sum(tally.hints for tally in self._kept.values()) + len(self._unkept)

    def add(self, node: NodeId, mutation: Mutation, written_at_us: int = 0) -> bool:
        """Keep a hint.

        Args:
            written_at_us: when the mutation was written; 0: now.
        Returns:
            True: it is on disk with the writes of this pass, if these are. False: there is no room for it now, it
            must not be kept, or it is the very hint that is being handed on.
        """
        now_us = self._clock.wall_us()
        encoded = mutation.encode()
        value = _WRITTEN_AT.pack(written_at_us or now_us) + encoded
        if (written_at_us or now_us) <= now_us - self._age_us_max(encoded):
            return False
        copies = self._copies.get(_digest(value)) if self._copies else None
        if copies is None:
            return self._keep(node, value)
        if node in copies:
            return not copies[node]
        is_kept = self._keep(node, value)
        if is_kept:
            copies[node] = False
        return is_kept

    def deliver(self) -> None:
        """Send what waits for nodes that are up, hand on what waits for those that left; called every round."""
        unkept, self._unkept = self._unkept, []
        self._unkept_bytes = 0
        for node, value in unkept:
            self._keep(node, value)
        peers = self.peers
        for node in sorted(self._kept):
            if node in self._runs:
                continue
            if node not in peers.links:
                self._runs[node] = _HandingOn(self, node)
            elif peers.up.get(node):
                self._runs[node] = _Delivery(self, node)
            else:
                self._drop_outdated(node)
                continue
            self._runs[node].go_on()

    def forget(self, node: NodeId) -> None:
        """The node is no member any more; what it missed is handed on as soon as nothing is on its way to it."""
        run = self._runs.get(node)
        if isinstance(run, _Delivery):
            run.stop()

    # Keeping

    def _keep(self, node: NodeId, value: bytes) -> bool:
        size = len(value)
        if self.bytes + size > limits.HINT_BYTES_MAX:
            for other in sorted(self._kept):
                self._drop_outdated(other)
            if self.bytes + size > limits.HINT_BYTES_MAX:
                self.dropped += 1
                return False
        self._sequence += 1
        key = _KEY.pack(node, self._sequence)
        is_taken = True

        def step() -> None:
            self._store.apply(((HINTS, key, value),))

        def settled(error: RequestError | None) -> None:
            nonlocal is_taken
            if error is not None:
                is_taken = False
                self._count(node, -1, -size)
                self._forget_copy(node, value)
                self._put_aside(node, value, error)

        self._count(node, 1, size)
        if self._writes is None:
            step()
            self._arm()
        else:
            self._writes.run(step, settled)
        return is_taken

    def _put_aside(self, node: NodeId, value: bytes, error: RequestError) -> None:
        """The store didn't take it."""
        if self._unkept_bytes + len(value) > limits.HINT_UNKEPT_BYTES_MAX:
            self.dropped += 1
            return
        if not self._unkept:
            log.warning("hints can't be kept for the moment", reason=str(error))
        self._unkept.append((node, value))
        self._unkept_bytes += len(value)

    def _count(self, node: NodeId, hints: int, size: int) -> None:
        tally = self._kept.get(node)
        if tally is None:
            tally = self._kept[node] = Tally()
        # What was counted off because a sync failed may turn up on disk all the same.
        hints, size = max(hints, -tally.hints), max(size, -tally.bytes)
        tally.hints += hints
        tally.bytes += size
        self.bytes += size
        if not tally.hints:
            self.bytes -= tally.bytes
            del self._kept[node]

    def _age_us_max(self, mutation: bytes) -> int:
        """How old a mutation may become as a hint."""
        age_us = limits.HINT_AGE_MS_MAX * _US_PER_MS
        if self._writes is None:
            return age_us
        try:
            use = self._writes.rows.known(_INCARNATION.unpack_from(mutation)[0]).use
        except UnknownIncarnation:
            # It isn't known here yet, or any more: the receiver knows.
            return age_us
        return min(age_us, use.gc_grace_s * _US_PER_S)

    def _drop_outdated(self, node: NodeId) -> None:
        """Drop the oldest hints of a node as far as they are too old, a bounded number. A run does so by itself."""
        if node in self._runs:
            return
        now_us = self._clock.wall_us()
        outdated: list[Hint] = []
        try:
            for key, value in self._store.scan(HINTS, _NODE.pack(node), _NODE.pack(node + 1)):
                hint = Hint(_KEY.unpack(key)[1], value)
                if not self._is_outdated(hint, now_us) or len(outdated) == limits.HINTS_DROPPED_AT_ONCE_MAX:
                    break
                outdated.append(hint)
        except OuroError as error:
            _log_unreadable(node, error)
            return
        self._drop(node, outdated)

    def _drop(self, node: NodeId, outdated: Sequence[Hint]) -> None:
        if outdated and self.delete(node, outdated):
            self.dropped += len(outdated)

    def _is_outdated(self, hint: Hint, now_us: int) -> bool:
        return hint.written_at_us <= now_us - self._age_us_max(hint.mutation)

    def _forget_copy(self, node: NodeId, value: bytes) -> None:
        """This hint isn't kept any more."""
        if not self._copies:
            return
        digest = _digest(value)
        copies = self._copies.get(digest)
        if copies is not None:
            copies.pop(node, None)
            if not copies:
                del self._copies[digest]

    # For those who run through them

    @property
    def last(self) -> int:
        """The sequence of the newest hint. A run ends there: what is kept meanwhile, perhaps by this very run, is for
        the next.
        """
        return self._sequence

    def next(self, node: NodeId, after: int, last: int) -> tuple[list[Hint], int] | None:
        """The next hints of a node, and the last sequence looked at; those that are too old are dropped.

        Args:
            after: a sequence.
            last: no hint behind this sequence.
        Returns:
            None: the store can't be read for the moment.
        """
        now_us = self._clock.wall_us()
        hints: list[Hint] = []
        outdated: list[Hint] = []
        size = 0
        looked_at = after
        try:
            for key, value in self._store.scan(HINTS, _KEY.pack(node, after + 1), _KEY.pack(node, last + 1)):
                _, looked_at = _KEY.unpack(key)
                hint = Hint(looked_at, value)
                (outdated if self._is_outdated(hint, now_us) else hints).append(hint)
                size += len(value)
                if (
                    size >= limits.HINT_BATCH_BYTES
                    or len(hints) + len(outdated) >= limits.HINT_BATCH_MUTATIONS_MAX
                ):
                    break
        except OuroError as error:
            # Before it is read, what is pending is written, which the engine refuses while it stalls.
            _log_unreadable(node, error)
            return None
        if not after and not looked_at and node in self._kept:
            # They were deleted, though the store said that it had failed.
            tally = self._kept[node]
            self._count(node, -tally.hints, -tally.bytes)
        self._drop(node, outdated)
        return hints, looked_at

    def delete(self, node: NodeId, hints: Sequence[Hint]) -> bool:
        """Delete hints that nobody else has in hand. False: they stay, and are sent again, which does no harm."""
        size = sum(len(hint.value) for hint in hints)

        def settled(error: RequestError | None) -> None:
            if error is not None:
                # They are on disk still.
                self._count(node, len(hints), size)

        try:
            self._store.apply([(HINTS, _KEY.pack(node, hint.sequence), None) for hint in hints])
        except OuroError:
            return False
        self._count(node, -len(hints), -size)
        for hint in hints:
            self._forget_copy(node, hint.value)
        if self._writes is None:
            self._arm()
        else:
            self._writes.run(lambda: None, settled)
        return True

    def handing_on(self, node: NodeId, hint: Hint) -> None:
        """A hint is about to be handed on: if that fails for this node, it is kept, and nobody gets a second one."""
        self._copies.setdefault(_digest(hint.value), {})[node] = True
        if len(self._copies) > limits.HINTS_HANDED_ON_MAX:
            # Whoever goes without it gets one more hint, which does no harm.
            del self._copies[next(iter(self._copies))]

    def handed_on(self, node: NodeId, hint: Hint, is_over: bool) -> None:
        """
        Args:
            is_over: each of the present owners has it, or has a hint of its own.
        """
        if is_over and self.delete(node, [hint]):
            self.delivered += 1
            return
        copies = self._copies.get(_digest(hint.value))
        if copies is not None and node in copies:
            copies[node] = False

    def ended(self, node: NodeId, run: _Delivery | _HandingOn) -> None:
        if self._runs.get(node) is run:
            del self._runs[node]


class _Delivery:
    """A run through the hints of one node that is up."""

    __slots__ = (
        "_after",
        "_batches",
        "_failed",
        "_hints",
        "_is_complete",
        "_is_handing_on",
        "_last",
        "node",
    )

    def __init__(self, hints: Hints, node: NodeId) -> None:
        self.node = node
        self._hints = hints
        self._after = 0
        self._last = hints.last
        self._batches = 0
        self._is_handing_on = False
        """Some are on their way to others; no more are looked at before all these are over."""
        self._is_complete = False
        self._failed = False

    def go_on(self) -> None:
        """Send batches while few are on their way."""
        hints = self._hints
        peers = hints.peers
        while self._may_look():
            following = hints.next(self.node, self._after, self._last)
            if following is None:
                self._failed = True
                break
            found, last = following
            if last == self._after:
                self._is_complete = True
                break
            self._after = last
            found = self._still_for_it(found)
            if not found:
                if not self._is_handing_on:
                    # All were too old; others wait for the loop, too.
                    peers.later(self.go_on)
                return
            self._batches += 1
            request = peers.begin(RequestClass.HINT, _Batch(self, found))
            body = b"".join([hint.mutation for hint in found])
            link = peers.links.get(self.node)
            if link is None or not link.send(BULK, peers.message(Verb.HINT, body, request)):
                peers.end(request)
                self._batches -= 1
                self._failed = True
        self._end_if_over()

    def stop(self) -> None:
        """Send no more."""
        self._failed = True
        self._end_if_over()

    def _may_look(self) -> bool:
        """Whether more hints may be taken in hand."""
        return not (
            self._is_complete
            or self._failed
            or self._is_handing_on
            or self._batches >= limits.HINTS_IN_FLIGHT_MAX
        )

    def _end_if_over(self) -> None:
        is_idle = not self._batches and not self._is_handing_on
        if is_idle and (self._is_complete or self._failed):
            self._hints.ended(self.node, self)

    def _still_for_it(self, found: list[Hint]) -> list[Hint]:
        """Those whose partitions the node holds, and will hold; the others are handed on to all who do."""
        hints = self._hints
        if hints.is_for is None or hints.hand_on is None:
            return found
        kept: list[Hint] = []
        others: list[Hint] = []
        for hint in found:
            try:
                mutation, _ = decode_mutation(hint.mutation)
                (kept if hints.is_for(self.node, mutation) else others).append(hint)
            except UnknownIncarnation:
                # The receiver knows whether its table is gone.
                kept.append(hint)
            except OuroError as error:
                log.warning("a hint can't be handed on", node=self.node, reason=str(error))
        if others:
            self._is_handing_on = True
            _hand_on(hints, hints.hand_on, self.node, others, self._handed_on)
        return kept

    def _handed_on(self) -> None:
        self._is_handing_on = False
        self.go_on()

    def answered(self, batch: Sequence[Hint], *, delivered: bool) -> None:
        hints = self._hints
        self._batches -= 1
        if delivered:
            hints.delete(self.node, batch)
            hints.delivered += len(batch)
        else:
            self._failed = True
        self.go_on()


class _Batch:
    """One message of hints that waits for its acknowledgement."""

    __slots__ = ("_batch", "_delivery", "started_ms")

    def __init__(self, delivery: _Delivery, batch: Sequence[Hint]) -> None:
        self.started_ms = 0
        self._delivery = delivery
        self._batch = batch

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        self._delivery.answered(self._batch, delivered=not flags & FAILED)
        return True

    def on_expired(self) -> None:
        self._delivery.answered(self._batch, delivered=False)

    def on_lost(self, node: NodeId) -> bool:
        if node != self._delivery.node:
            return False
        self._delivery.answered(self._batch, delivered=False)
        return True

    def on_tick(self, waited_ms: int) -> bool:
        return False


class _HandingOn:
    """A run through the hints of a node that has left: each goes to those who own its partition now."""

    __slots__ = ("_after", "_hints", "_last", "node")

    def __init__(self, hints: Hints, node: NodeId) -> None:
        self.node = node
        self._hints = hints
        self._after = 0
        self._last = hints.last

    def go_on(self) -> None:
        """Write the next ones, and go on when all of them are written."""
        hints = self._hints
        following = hints.next(self.node, self._after, self._last)
        if following is None or following[1] == self._after or hints.hand_on is None:
            hints.ended(self.node, self)
            return
        found, self._after = following
        _hand_on(hints, hints.hand_on, self.node, found, self.go_on)


def _hand_on(
    hints: Hints, write: HandOn, node: NodeId, batch: Sequence[Hint], done: Callable[[], None]
) -> None:
    """Write what a node missed to those who own the partitions now.

    Args:
        done: called, in a later pass, when nothing is waited for any more.
    """
    waiting = len(batch)
    if not waiting:
        # All were too old.
        hints.peers.later(done)

    def over(hint: Hint, is_over: bool) -> None:
        nonlocal waiting
        hints.handed_on(node, hint, is_over)
        waiting -= 1
        if not waiting:
            hints.peers.later(done)

    for hint in batch:
        hints.handing_on(node, hint)
        try:
            mutation, _ = decode_mutation(hint.mutation)
            write(mutation, hint.written_at_us, partial(over, hint))
        except UnknownIncarnation:
            # Its table is gone.
            hints.delete(node, [hint])
            over(hint, False)
        except OuroError as error:
            log.warning("a hint can't be handed on", node=node, reason=str(error))
            over(hint, False)


def _digest(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=16).digest()


def _log_unreadable(node: NodeId, error: OuroError) -> None:
    log.warning("hints can't be read for the moment", node=node, reason=str(error))
