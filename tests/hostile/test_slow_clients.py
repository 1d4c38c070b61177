"""A client that takes its time holds memory and a socket for a bounded time only; ten thousand idle ones are fine."""

from __future__ import annotations

import pytest
from tests.hostile.idle import IDLE_CONNECTIONS, IdleClients
from tests.hostile.raw import Raw
from tests.hostile.slow_clients import NAMES, SlowClients


def test_ten_thousand_idle_connections(address: tuple[str, int]) -> None:
    """All shake hands and then say nothing: they stay, and others are still served."""
    idle = IdleClients(address)
    try:
        with Raw(address) as client:
            assert client.lives()
        idle.check()
    finally:
        idle.close()
    if idle.count < IDLE_CONNECTIONS:
        pytest.skip(f"only {idle.count} connections: this machine allows a process no more open files")


@pytest.mark.parametrize("name", NAMES)
def test_cut_off(slow_clients: SlowClients, name: str) -> None:
    assert slow_clients.outcome(name) == "cut off"
