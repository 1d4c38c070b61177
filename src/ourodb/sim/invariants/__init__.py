"""What must hold after every step of every node, however the run goes on.

Checkers judge what clients saw, at the end of a run. Invariants look into the nodes while they run, after each step,
and end the run in the step that broke one: so the story ends where the mistake was made, not where somebody noticed.

``raft``   at most one leader a term, logs that match, nothing committed is lost, one state at each index, votes that
           are given once, epochs and terms that never go back, across restarts too
``ring``   every position has an owner, and its replicas are as many and as far apart as can be

An invariant looks at the production objects from outside and changes nothing; runs with and without it have the same
trace. What one node shows is compared with what any node has ever shown, kept in ``Books``. It costs nothing to speak
of: a step that changed nothing is told by a few comparisons, and of a change only what is new is looked at.
"""

from __future__ import annotations

from collections.abc import Callable

from ourodb.node import Node
from ourodb.sim.disk import Conditions
from ourodb.sim.invariants.raft import Books, RaftWatch
from ourodb.sim.invariants.ring import RingWatch
from ourodb.sim.machine import InvariantBroken, Machine
from ourodb.sim.workloads.stage import Script

__all__ = ["InvariantBroken", "Invariants"]


class Invariants:
    """Implements ``machine.Witness`` for a world of production nodes.

    Attributes:
        books: what all nodes have shown.
        has_seen_refusals: some store refused writes while a node took a step.
    """

    def __init__(self, converge: Callable[[], Script[list[str]]]) -> None:
        """
        Args:
            converge: what is wrong with the replicas once all is healed.
        """
        self._converge = converge
        self.books = Books()
        self.has_seen_refusals = False
        self._rafts: dict[int, RaftWatch] = {}
        self._rings: dict[int, RingWatch] = {}
        self._conditions: dict[int, Conditions] = {}

    def begin(self, machine: Machine, node: Node) -> None:
        """A machine has a new process, whose node isn't started yet."""
        index, name = machine.index, machine.name
        self._rafts[index] = RaftWatch(self.books, name, node.metadata)
        self._rings[index] = RingWatch(name)
        self._conditions[index] = machine.disk.conditions

    def on_healed(self) -> Script[list[str]]:
        """What is wrong once all is healed and quiet time has passed."""
        return self._converge()

    def after_step(self, index: int) -> None:
        """
        Raises:
            InvariantBroken: one doesn't hold.
        """
        conditions = self._conditions[index]
        if conditions.is_full or conditions.refuses_settle_one_in:
            self.has_seen_refusals = True
        view = self._rafts[index].look()
        if view is not None:
            self._rings[index].look(view)
