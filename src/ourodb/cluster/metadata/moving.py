"""The leader's eye on moves: it begins them, takes them from stage to stage, and undoes those that get nowhere.

Nothing of this is remembered but in the log, so whoever leads next goes on where the last one was.

A stage ends when its work is done *and* everybody lives by it: all live members have applied its entry, of each range
that moves a quorum of those before and of those after is among them, and MOVE_DRAIN_MS has passed since, in which the
requests from before have come to their end. (Who is down then is fenced off by the replicas when it returns.)
Of those that are given up nothing is expected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from ourodb import limits
from ourodb.cluster.metadata.commands import AbortMove, AdvanceMove, BeginMove, Command
from ourodb.cluster.metadata.consensus import Consensus
from ourodb.cluster.metadata.healing import whole_domains
from ourodb.cluster.metadata.peers import Peers
from ourodb.cluster.metadata.submissions import Applied, Submissions
from ourodb.cluster.metadata.view import ClusterView
from ourodb.cluster.ring.moves import HEAL, LEAVE, REMOVE, REPLACE, Move, Stage, gone_for_good
from ourodb.cluster.ring.placement import ReplicaSet
from ourodb.errors import OuroError
from ourodb.ports import NodeId
from ourodb.schema.names import is_system_keyspace

log = structlog.get_logger()


class MoveUpkeep:
    """Attributes:
    applied_epoch: the last entry that a member is known to have applied; set by the node.
    hints_of: how many hints a member keeps for others; set by the node.
    voters_are_at_rest: whether those who vote are those who should; set by whoever looks after them, too.
    """

    __slots__ = (
        "_consensus",
        "_down_since_ms",
        "_is_submitting",
        "_known_since_ms",
        "_missing_since_ms",
        "_move",
        "_peers",
        "_submissions",
        "_wishes",
        "_wishes_since_ms",
        "applied_epoch",
        "hints_of",
        "voters_are_at_rest",
    )

    def __init__(self, consensus: Consensus, peers: Peers, submissions: Submissions) -> None:
        self.applied_epoch: Callable[[NodeId], int] = lambda node: 0
        self.hints_of: Callable[[NodeId], int] = lambda node: 0
        self.voters_are_at_rest: Callable[[], bool] = lambda: True
        self._consensus = consensus
        self._peers = peers
        self._submissions = submissions
        self._is_submitting = False
        self._wishes: object = ()
        self._wishes_since_ms = 0
        self._known_since_ms: tuple[int, int] | None = None
        """(entry that began the stage, since when all live by it)."""
        self._down_since_ms: dict[NodeId, int] = {}
        self._missing_since_ms: int | None = None
        self._move = 0
        """Whose times these are."""

    @property
    def is_needed(self) -> bool:
        """Whether this node leads, and there is something to do."""
        view = self._consensus.view
        return self._consensus.is_leader and (view.move is not None or bool(view.wishes))

    def on_leader(self) -> None:
        """Whoever begins to lead gives everybody the whole time."""
        self._down_since_ms.clear()
        self._missing_since_ms = None
        self._known_since_ms = None

    def tick(self, now_ms: int) -> None:
        """Do what is due."""
        view = self._consensus.view
        if not self.is_needed or self._is_submitting:
            return
        if view.move is None:
            if view.wishes != self._wishes:
                self._wishes, self._wishes_since_ms = view.wishes, now_ms
            elif now_ms - self._wishes_since_ms >= limits.MOVE_GATHER_MS:
                self._submit(BeginMove(self._consensus.wall_ms))
            return
        self._look_after(view, view.move, now_ms)

    def _look_after(self, view: ClusterView, move: Move, now_ms: int) -> None:
        if move.id != self._move:
            self._move = move.id
            self._down_since_ms.clear()
            self._missing_since_ms = None
        gone = self._gone(view, move, now_ms)
        if gone is not None:
            blamed, reason = gone
            self._submit(AbortMove(move.id, reason, self._consensus.wall_ms, blamed))
            return
        if move.stage is Stage.COPYING and any(
            node not in move.copied or not self._is_live(node) for node in view.copying
        ):
            # Nothing is read from one that isn't there.
            self._known_since_ms = None
            return
        if not self._is_known(view, move):
            self._known_since_ms = None
        elif self._known_since_ms is None or self._known_since_ms[0] != move.since:
            self._known_since_ms = move.since, now_ms
        elif now_ms - self._known_since_ms[1] >= self._drain_ms(move) and (
            self.voters_are_at_rest()
            or move.kind != LEAVE
            or now_ms - self._known_since_ms[1] >= limits.MOVE_VOTERS_MS
        ):
            self._submit(AdvanceMove(move.id, int(move.stage), self._consensus.wall_ms))

    def _drain_ms(self, move: Move) -> int:
        """How long all have to live by a stage before it ends: longer if who leaves has hints to deliver."""
        if move.kind == LEAVE and move.stage is Stage.SWITCHED and any(map(self.hints_of, move.tokens)):
            return limits.MOVE_HINTS_MS
        return limits.MOVE_DRAIN_MS

    def _gone(self, view: ClusterView, move: Move, now_ms: int) -> tuple[NodeId, str] | None:
        """Because of whom, and why, the move is to be undone."""
        if move.stage is not Stage.COPYING:
            return None
        back = [node for node in gone_for_good(move) if move.kind == HEAL and self._is_live(node)]
        if back:
            return back[0], f"node {back[0]} is back"
        down = [node for node in view.copying if not self._is_live(node)]
        self._down_since_ms = {node: self._down_since_ms.get(node, now_ms) for node in down}
        for node in down:
            if now_ms - self._down_since_ms[node] >= limits.MOVE_DOWN_MS:
                return node, f"node {node} has been down for {limits.MOVE_DOWN_MS // 1000} seconds"
        missing = self._missing(view, move)
        if missing is None:
            self._missing_since_ms = None
        elif self._missing_since_ms is None:
            self._missing_since_ms = now_ms
        elif now_ms - self._missing_since_ms >= limits.MOVE_DOWN_MS:
            return missing, f"node {missing} is down, and too few others have what is to be copied"
        return None

    def _missing(self, view: ClusterView, move: Move) -> NodeId | None:
        """A member that is down, and without which some range can't be copied."""
        live = [node for node in view.members if self._is_live(node)]
        if len(live) == len(view.members):
            return None
        gone = gone_for_good(move)
        for keyspace in view.schema.keyspaces.values():
            if not keyspace.tables or is_system_keyspace(keyspace.name):
                continue
            for one in view.moved_ranges(keyspace):
                copying = [node for node in (*one.gaining, *one.merging) if node not in move.copied]
                if one.is_lost(gone) or all(one.sources(node, live, gone) is not None for node in copying):
                    continue
                return next(node for node in one.before.nodes if node not in live)
        return None

    def _is_known(self, view: ClusterView, move: Move) -> bool:
        """Whether everybody who lives, and enough of those whom it concerns, have applied the stage.

        Once reads go to those after a range, whoever of them is down is missed as any replica is: the move goes on.
        """
        known = [
            node
            for node in view.members
            if self._is_live(node) and (node == self._consensus.me or self.applied_epoch(node) >= move.since)
        ]
        if any(self._is_live(node) and node not in known for node in view.members):
            return False
        gone = self._given_up(view, move)
        return all(
            _has_quorum(replicas, known, gone)
            for keyspace in view.schema.keyspaces.values()
            if keyspace.tables and not is_system_keyspace(keyspace.name)
            for one in view.moved_ranges(keyspace)
            for replicas in ((one.before, one.after) if move.stage is Stage.COPYING else (one.before,))
        )

    def _given_up(self, view: ClusterView, move: Move) -> list[NodeId]:
        """Those that are down and for which nobody waits: this move, or the next one, is about their being dead.

        What has to wait for them would never end, nor would the move come that is to make do without them.
        """
        next_to_go = [wish.node for wish in view.wishes if wish.kind in (REMOVE, HEAL)]
        replaced = [wish.replaces for wish in view.wishes if wish.kind == REPLACE]
        down = [node for node in view.members if not self._is_live(node)]
        cut_off = whole_domains(view, down)
        suspected = [node for node in view.suspects if view.is_taken_for_dead(node) and node not in cut_off]
        given_up = {*gone_for_good(move), *next_to_go, *replaced, *suspected}
        return [node for node in down if node in given_up]

    def _is_live(self, node: NodeId) -> bool:
        return node == self._consensus.me or self._peers.is_up(node)

    def _submit(self, command: Command) -> None:
        self._is_submitting = True

        def done(outcome: Applied | OuroError) -> None:
            self._is_submitting = False
            if isinstance(outcome, OuroError):
                log.info("a move doesn't get on yet", reason=str(outcome))

        self._submissions.submit_command(command, done, spreads=False)


def _has_quorum(replicas: ReplicaSet, known: Sequence[NodeId], gone: Sequence[NodeId]) -> bool:
    """Whether a quorum in each data centre is known; where too few remain for one, all that aren't gone for good."""
    return all(
        sum(node in known for node in nodes)
        >= min(len(nodes) // 2 + 1, sum(node not in gone for node in nodes))
        for nodes in replicas.by_dc.values()
    )
