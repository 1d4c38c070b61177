"""Giving replicas what a read has found them to lack, before the client hears of what was read.

A quorum of replicas was read, and some of them lack something of what they say together. Each is written its part.
Where one refuses, is lost or takes too long, a replica that wasn't read from is given that part instead: then as many
replicas as were asked have each piece, and a later quorum meets one of them. So a replica with a full disk doesn't
stop quorum reads of what it lacks.

Source: Cassandra's ``BlockingReadRepair``, ``BlockingPartitionRepair``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from ourodb import limits
from ourodb.errors import RequestError
from ourodb.peer.messages import FAILED, Verb
from ourodb.ports import DATA, NodeId
from ourodb.replication.replica.reads import ReadCommand
from ourodb.storage.mutation import Mutation

if TYPE_CHECKING:
    from ourodb.replication.coordinator.fetch import FetchContext

MICROS: Final = 1_000_000


class ReadRepair:
    """One round of repairs.

    Attributes:
        started_ms: see ``Operation``.
    """

    __slots__ = (
        "_command",
        "_context",
        "_done",
        "_epoch",
        "_has_speculated",
        "_missing",
        "_others",
        "_over",
        "_request",
        "_waiting",
        "started_ms",
    )

    def __init__(
        self,
        context: FetchContext,
        command: ReadCommand,
        missing: Mapping[NodeId, list[Mutation]],
        others: list[NodeId],
        epoch: int,
        done: Callable[[bool], None],
    ) -> None:
        """
        Args:
            command: of the read.
            missing: what each replica lacks.
            others: who may be given it in place of one of them, each once; they weren't read from.
            epoch: as of which these are the replicas.
            done: told whether all of it was acknowledged.
        """
        self.started_ms = 0
        self._context = context
        self._command = command
        self._missing = missing
        self._others = others
        self._epoch = epoch
        self._done = done
        self._waiting: dict[NodeId, list[Mutation]] = {}
        """Who was sent what and hasn't answered."""
        self._over = False
        self._request = 0
        self._has_speculated = False

    def start(self) -> None:
        """Send all of it; ``done`` is called once, perhaps before this returns."""
        self._request = self._context.peers.begin(self._command.kind, self)
        self._waiting.update(self._missing)
        for node, mutations in self._missing.items():
            self._send(node, mutations)

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        if flags & FAILED:
            self._failed(node)
        else:
            self._acknowledged(node)
        return self._over

    def on_expired(self) -> None:
        self._end(False)

    def on_lost(self, node: NodeId) -> bool:
        self._failed(node)
        return self._over

    def on_tick(self, waited_ms: int) -> bool:
        if waited_ms < limits.SPECULATE_MS_MIN:
            return False
        if not self._has_speculated and waited_ms >= self._context.patience_ms(self._command):
            self._has_speculated = True
            for mutations in list(self._waiting.values()):
                if self._others:
                    self._context.speculations += 1
                    self._give_to_another(mutations)
        return True

    def _send(self, node: NodeId, mutations: list[Mutation]) -> None:
        context = self._context
        peers = context.peers
        if node == peers.me:
            now_s = context.clock.wall_us() // MICROS
            for mutation in mutations:
                mutation.stamped_at = now_s
            pieces = context.writes.in_pieces(mutations)
            context.writes.write_pieces(pieces, now_s, self._written_here)
            return
        link = peers.links.get(node)
        body = b"".join([mutation.encode() for mutation in mutations])
        message = peers.message(Verb.REPAIR, body, self._request, epoch=self._epoch)
        if link is None or not link.send(DATA, message):
            peers.later(lambda: self._failed(node))

    def _written_here(self, error: RequestError | None) -> None:
        me = self._context.peers.me
        if error is None:
            self._acknowledged(me)
        else:
            self._failed(me)

    def _give_to_another(self, mutations: list[Mutation]) -> None:
        node = self._others.pop(0)
        self._waiting[node] = mutations
        self._send(node, mutations)

    def _failed(self, node: NodeId) -> None:
        mutations = self._waiting.pop(node, None)
        if mutations is None or self._over or any(other is mutations for other in self._waiting.values()):
            return
        if self._others:
            self._give_to_another(mutations)
        else:
            self._end(False)

    def _acknowledged(self, node: NodeId) -> None:
        mutations = self._waiting.pop(node, None)
        if mutations is None:
            return
        for other in [other for other, theirs in self._waiting.items() if theirs is mutations]:
            del self._waiting[other]
        if not self._waiting:
            self._end(True)

    def _end(self, complete: bool) -> None:
        if not self._over:
            self._over = True
            self._context.peers.end(self._request)
            self._done(complete)
