"""Whether a coordinator knows who holds a range now.

Each request carries its coordinator's epoch. When rows change hands, a coordinator that hasn't heard of it would write
to replicas that are about to lose a range, or read from some that have lost it. So a replica that has applied a stage
of a move refuses what concerns a range of that move, if its sender hasn't: he catches up, and tries again where the
range is now. Other ranges go on undisturbed, and a replica that is itself behind refuses nothing.

The stages of the last moves are remembered by their ranges; before those, and before this process began, only the epoch
of the last one is known, and whoever hasn't heard of that one is refused altogether.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from ourodb import limits
from ourodb.cluster.metadata.view import ClusterView
from ourodb.cluster.ring.moves import MovedRange
from ourodb.replication.messages import CoordinatorBehind

Ranges = Mapping[str, Sequence[MovedRange]]
"""By keyspace."""


class Fence:
    """Attributes:
    epoch: of the last stage; whoever has applied it is refused nothing.
    """

    __slots__ = ("_base", "_move", "_ranges", "_stages", "epoch")

    def __init__(self, view: ClusterView) -> None:
        self._base = view.moved
        self._move: tuple[int, int] | None = None
        self._ranges: Ranges = {}
        self._stages: deque[tuple[int, Ranges]] = deque()
        self.epoch = self._base
        self.view_changed(view)

    def view_changed(self, view: ClusterView) -> None:
        """The metadata log moved."""
        move = view.move
        if move is not None:
            self._ranges = {
                name: view.moved_ranges(keyspace) for name, keyspace in view.schema.keyspaces.items()
            }
            if self._move != (move.id, move.since):
                self._move = move.id, move.since
                self._remember(move.since)
        elif self._move is not None:
            self._move = None
            self._remember(view.moved)
            self._ranges = {}
        elif view.moved > self.epoch:
            # A whole move was jumped over.
            self._base = self.epoch = view.moved

    def check(self, epoch: int, keyspace: str, start: bytes, end: bytes | None = None) -> None:
        """Of a request of a coordinator that has applied ``epoch``, and so less than ``self.epoch``.

        Args:
            start, end: the positions that it is about; end None: one position.
        Raises:
            CoordinatorBehind: they have other replicas than it knows.
        """
        if epoch < self._base:
            raise CoordinatorBehind("the coordinator has missed that rows have moved")
        for since, ranges in self._stages:
            if epoch < since and any(_overlap(one, start, end) for one in ranges.get(keyspace, ())):
                raise CoordinatorBehind("the coordinator has missed that these rows move")

    def _remember(self, epoch: int) -> None:
        self._stages.append((epoch, self._ranges))
        self.epoch = epoch
        if len(self._stages) > limits.FENCED_STAGES_MAX:
            self._base = self._stages.popleft()[0]


def _overlap(moved: MovedRange, start: bytes, end: bytes | None) -> bool:
    if moved.end is not None and start >= moved.end:
        return False
    return moved.start <= start or (end is not None and moved.start < end)
