"""A mistake planted in failed conditions and serial reads, which the simulator has to find.

If this fails, it is blind to updates in doubt that come into force after a serial read has shown that they weren't.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim.planted.hunt import hunt

from ourodb.replication.paxos.proposer import Phase, Proposer


def failed_condition_not_proposed(patch: pytest.MonkeyPatch) -> None:
    """A failed condition, or a serial read, is answered from what a quorum promised, and proposes nothing."""
    propose = Proposer._propose

    def only_what_changes(self: Proposer, proposal: bytes, origin: Any, phase: Phase) -> None:
        if proposal or self._decision is None:
            propose(self, proposal, origin, phase)
            return
        self._proposal = proposal
        self._chosen()

    patch.setattr(Proposer, "_propose", only_what_changes)


def test_a_failed_condition_that_is_not_proposed() -> None:
    """Stores that refuse some writes leave many proposals with a minority."""
    hunt(
        failed_condition_not_proposed,
        "what was settled is changed",
        "settlement",
        ("stall",),
        gap_ms_max=500,
    )
