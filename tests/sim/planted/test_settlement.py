"""A mistake planted in failed conditions and serial reads, which the simulator has to find.

If this fails, it is blind to updates in doubt that come into force after a serial read has shown that they weren't.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim.planted.circumstances import with_short_isolation
from tests.sim.planted.hunt import hunt

from ourodb import limits
from ourodb.replication.paxos.proposer import Phase, Proposer
from ourodb.replication.peers import TIMEOUTS_MS, RequestClass
from ourodb.sim import network
from ourodb.sim.network import Latency


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


def impatient_and_cut_off(patch: pytest.MonkeyPatch) -> None:
    """Messages take long, and each node is cut off for a while, in which it gives up what it alone has accepted."""
    with_short_isolation(patch)
    patch.setattr(network, "RACK", Latency(20_000, 20_000))
    patch.setattr(limits, "CAS_TIMEOUT_MS", 400)
    patch.setitem(TIMEOUTS_MS, RequestClass.PAXOS, 400)


def test_a_failed_condition_that_is_not_proposed() -> None:
    hunt(
        failed_condition_not_proposed,
        "what was settled is changed",
        "settlement",
        ("partition",),
        circumstances=impatient_and_cut_off,
        clients=12,
        seconds=20,
        gap_ms_max=300,
    )
