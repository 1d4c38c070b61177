"""Mistakes planted in LOCAL_QUORUM, which the simulator has to find.

If this fails, it is blind to data centres that lose what was written in them, and a clean run of clients that keep to
one says less than it seems to.
"""

from __future__ import annotations

import pytest
from tests.sim.planted.circumstances import with_stalling_stores
from tests.sim.planted.hunt import hunt
from tests.sim.planted.test_replication import quorum_off_by_one

from ourodb.errors import RequestError
from ourodb.replication.routes import Need, Route
from ourodb.sim.run import LOCAL_QUORUM


def foreign_acknowledgements_counted(patch: pytest.MonkeyPatch) -> None:
    """Any two replicas are taken for a quorum of the own data centre."""
    need_of = Route._need

    def of_anybody(self: Route, level: int) -> Need | RequestError:
        need = need_of(self, level)
        if isinstance(need, Need):
            need.counted = None
        return need

    patch.setattr(Route, "_need", of_anybody)


@pytest.mark.parametrize("workload", ["set", "deletion"])
def test_acknowledgements_of_the_other_data_centre_that_count(workload: str) -> None:
    hunt(
        foreign_acknowledgements_counted,
        ("an acknowledged element", "a deleted element"),
        workload,
        ("stall",),
        circumstances=with_stalling_stores,
        nodes=6,
        data_centers=2,
        level=LOCAL_QUORUM,
    )


@pytest.mark.parametrize(
    ("workload", "telling"), [("set", "an acknowledged element"), ("monotonic", "went back in time")]
)
def test_a_local_quorum_that_is_one_too_small(workload: str, telling: str) -> None:
    hunt(
        quorum_off_by_one,
        telling,
        workload,
        ("partition",),
        nodes=6,
        data_centers=2,
        level=LOCAL_QUORUM,
    )
