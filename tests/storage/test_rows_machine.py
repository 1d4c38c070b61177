"""If this fails, rows read back differ from what CQL says they are: the store in memory against the model."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from tests.storage.machine import RowsMachine

TestRowsInMemory = RowsMachine.TestCase
TestRowsInMemory.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
