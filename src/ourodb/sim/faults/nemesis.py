"""When faults strike, and which."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from ourodb.sim.chance import Chance
from ourodb.sim.faults.hand import Hand, Script
from ourodb.sim.faults.kinds import FAULTS
from ourodb.sim.tasks import Task, gather, sleep
from ourodb.sim.world import World

GAP_MS_MIN: Final = 100
GAP_MS_MAX: Final = 4_000
"""Between the moments of two strikes; the second is what a plan may change."""

UNDER_WAY_MAX: Final = 2
"""Strikes at a time."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault that struck.

    Attributes:
        number: counted from 0 on, those that were left out included.
        at_ns: when.
        kind: of ``FAULTS``.
    """

    number: int
    at_ns: int
    kind: str

    def __str__(self) -> str:
        return f"strike {self.number}: {self.kind} at {self.at_ns / 1e9:.3f} s"


class Nemesis(Hand):
    """Brings faults over a world until its time is up.

    Attributes:
        strikes: those that struck, in order.
    """

    def __init__(
        self,
        world: World,
        kinds: Sequence[str],
        *,
        only: Collection[int] | None = None,
        gap_ms_max: int = GAP_MS_MAX,
    ) -> None:
        """
        Args:
            kinds: of ``FAULTS``.
            only: numbers of the strikes that may strike; None: all.
            gap_ms_max: between the moments of two strikes.
        """
        super().__init__(world)
        self.strikes: list[Strike] = []
        self._kinds = list(kinds)
        self._only = only
        self._gap_ms_max = max(GAP_MS_MIN, gap_ms_max)

    @property
    def struck(self) -> dict[str, int]:
        """How many faults of each kind there were."""
        counts: dict[str, int] = {}
        for strike in self.strikes:
            counts[strike.kind] = counts.get(strike.kind, 0) + 1
        return counts

    def run(self, until_ns: int) -> Script:
        """Strike until then; ends when everything is healed."""
        under_way: list[Task[None]] = []
        loop, moments = self.world.loop, self.world.chance.child("moments of faults")
        number = 0
        while self._kinds:
            yield sleep(loop, moments.between(GAP_MS_MIN, self._gap_ms_max) * 1_000_000)
            if loop.now_ns >= until_ns:
                break
            under_way = [task for task in under_way if not task.is_kept]
            if len(under_way) < UNDER_WAY_MAX and (self._only is None or number in self._only):
                task = self._strike(number)
                if not task.is_kept:
                    under_way.append(task)
            number += 1
        yield gather(under_way)

    def _strike(self, number: int) -> Task[None]:
        chance = self.world.chance.child(f"strike {number}")
        kind = chance.bid(self._kinds)
        at_ns = self.world.loop.now_ns
        self.world.tell("nemesis", f"strike {number}: {kind}")
        task = Task(self._carried_out(FAULTS[kind](self), chance))
        if task.is_kept:
            self.world.tell("nemesis", f"strike {number} finds nothing to strike")
        else:
            self.strikes.append(Strike(number, at_ns, kind))
            self.disturb()
            task.then(self.disturb)
        return task

    def _carried_out(self, script: Script, chance: Chance) -> Script:
        """The script, which draws from this stream wherever others are in between."""
        value = None
        while True:
            self.chance = chance
            try:
                promise = script.send(value)
            except StopIteration:
                return
            value = yield promise
