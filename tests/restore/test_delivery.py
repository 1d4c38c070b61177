"""Rows on their way into a cluster, when what sends or reads them ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.restore.between import Between

from ourodb.cli import restore
from ourodb.cli.admin import AdminError
from ourodb.cli.delivery import Batch, Delivery
from ourodb.cli.restore import Asked, RestoreError
from ourodb.errors import StoreDamaged

SECONDS_MAX = 60
BATCH = Batch(b"", "app.t:7", 1, 1, 1)


@pytest.fixture
def taker() -> Iterator[str]:
    """The address of what takes all batches."""
    with Between("nowhere", lambda number, forward: (200, b"{}")) as between:
        yield between.admin


def test_a_bug_in_a_sender_is_told(taker: str) -> None:
    """Broken, a restore whose senders have ended waits for them for ever."""

    def fail(batch: Batch) -> None:
        raise RuntimeError("the bar is broken")

    delivery = Delivery([taker], "/restore/rows", fail, patience_s=SECONDS_MAX)
    with pytest.raises(AdminError, match="RuntimeError: the bar is broken"):
        while True:
            delivery.put(BATCH)


@pytest.mark.parametrize("end", [KeyboardInterrupt(), StoreDamaged("a bad block")])
def test_a_reader_that_ends_says_where_to_go_on(
    taker: str, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    """Broken, an hour's work is to be done again, since all that was put in had arrived just then."""
    arrived = threading.Event()

    def one_then_end(work: object, level: int) -> Iterator[Batch]:
        yield BATCH
        assert arrived.wait(SECONDS_MAX)
        raise end

    monkeypatch.setattr(restore, "batches", one_then_end)
    monkeypatch.setattr(restore._Figures, "add", lambda self, batch: arrived.set())
    run = restore._Restore(Asked([], [taker]), ExitStack())
    with restore._progress() as bar, pytest.raises(RestoreError, match=r"--resume-at app.t:7$"):
        run._send(bar, [taker], 4, [])
