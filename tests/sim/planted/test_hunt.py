"""The hunt itself. If this fails, a planted mistake that does nothing but raise passes for one that is found."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim.planted.hunt import hunt

from ourodb.replication.coordinator.coordinator import Coordinator
from ourodb.replication.replica.writes import Writes


def raising(patch: pytest.MonkeyPatch) -> None:
    def write(self: Writes, *arguments: Any) -> None:
        raise KeyError("what the code has no more")

    patch.setattr(Writes, "write", write)


def called_otherwise(patch: pytest.MonkeyPatch) -> None:
    def write(self: Writes) -> None:
        raise AssertionError("nobody gets here")

    patch.setattr(Writes, "write", write)


def raising_at_clients(patch: pytest.MonkeyPatch) -> None:
    def write(self: Coordinator, *arguments: Any) -> None:
        raise KeyError("what the code has no more")

    patch.setattr(Coordinator, "write", write)


@pytest.mark.parametrize("mistake", [raising, raising_at_clients, called_otherwise])
def test_a_mistake_that_only_raises_fails_at_once(mistake: Any) -> None:
    with pytest.raises(pytest.fail.Exception, match="the mistake itself raises"):
        hunt(mistake, "Error", "set", seconds=1)
