"""Mistakes planted in scans, pages, deletions and batches, which the simulator has to find.

If this fails, it is blind to rows that a read leaves out, to deleted rows that come back, or to batches of which a part
is missing, and a clean run of tables, sets, deletions and batches says less than it seems to.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim.planted.circumstances import with_coordinators_that_die_in_a_part, with_stalling_stores
from tests.sim.planted.hunt import hunt

from ourodb import limits
from ourodb.errors import RequestError
from ourodb.replication.batches import ID_BYTES, Batches, _Keeping
from ourodb.replication.coordinator.fetch import Fetch
from ourodb.replication.coordinator.paging import PagingSeal, PagingState
from ourodb.replication.replica import reads
from ourodb.replication.replica.writes import Done
from ourodb.sim.workloads import batch
from ourodb.sim.workloads.batch import BatchWorkload
from ourodb.sim.workloads.stage import Stage
from ourodb.storage import expiry, purge, upkeep
from ourodb.storage.chunk import Chunk

# --- Scans -----------------------------------------------------------------------------------------------------


def last_key_of_a_range_skipped(patch: pytest.MonkeyPatch) -> None:
    read_range = reads.read_range

    def without_the_last(*arguments: Any, **options: Any) -> Chunk:
        chunk = read_range(*arguments, **options)
        return Chunk(chunk.partitions[:-1], chunk.end)

    patch.setattr(reads, "read_range", without_the_last)


def test_a_scan_that_skips_a_ranges_last_key() -> None:
    hunt(last_key_of_a_range_skipped, "is missing from the final read", "set", seconds=1)


def small_chunks(patch: pytest.MonkeyPatch) -> None:
    """A page takes several chunks of each replica."""
    patch.setattr(limits, "CHUNK_ROWS_MAX", 20)


def short_read_not_continued(patch: pytest.MonkeyPatch) -> None:
    """A chunk says up to where it covers the read; the coordinator takes it for all of it.

    Chunks that say so are what the product has in place of short-read protection.
    """
    finish = Fetch._finish

    def as_if_whole(self: Fetch, chunk: Chunk | None, error: RequestError | None) -> None:
        finish(self, None if chunk is None else Chunk(chunk.partitions), error)

    patch.setattr(Fetch, "_finish", as_if_whole)


def test_a_short_read_that_is_not_continued() -> None:
    hunt(
        short_read_not_continued,
        "is missing from the final read",
        "set",
        circumstances=small_chunks,
        seconds=2,
    )


def row_limit_lost_between_pages(patch: pytest.MonkeyPatch) -> None:
    seal = PagingSeal.seal

    def unlimited(self: PagingSeal, state: PagingState, statement: bytes) -> bytes:
        return seal(self, state._replace(remaining=(1 << 31) - 1), statement)

    patch.setattr(PagingSeal, "seal", unlimited)


def test_a_paging_state_that_loses_the_row_limit() -> None:
    hunt(row_limit_lost_between_pages, "unexpected", "table", seconds=2, clients=2)


# --- Deletions -------------------------------------------------------------------------------------------------


def much_missed_and_often_purged(patch: pytest.MonkeyPatch) -> None:
    """Replicas miss deletions for a while; what is due is purged in the next second, not in the next hour."""
    with_stalling_stores(patch)
    patch.setattr(upkeep, "PURGE_EVERY_MS", 100)
    patch.setattr(expiry, "HOUR_S", 1)


def tombstone_purged_early(patch: pytest.MonkeyPatch) -> None:
    """Tombstones go as soon as they are looked at."""
    patch.setattr(purge._Visit, "_stays", lambda self, local_time: False)


def test_a_tombstone_that_is_purged_early() -> None:
    hunt(
        tombstone_purged_early,
        "a deleted element",
        "deletion",
        ("stall",),
        circumstances=much_missed_and_often_purged,
    )


# --- Batches ---------------------------------------------------------------------------------------------------


def batch_log_deleted_early(patch: pytest.MonkeyPatch) -> None:
    """Those who keep a batch forget it before its mutations are sent."""
    start = _Keeping.start

    def forgotten(self: _Keeping, body: bytes, keep_here: Any, stored: Done) -> None:
        batches: Batches = keep_here.__self__

        def stored_and_removed(error: RequestError | None) -> None:
            batches._remove(body[:ID_BYTES], self.asked)
            stored(error)

        start(self, body, keep_here, stored_and_removed)

    patch.setattr(_Keeping, "start", forgotten)


class OneCopyBatchWorkload(BatchWorkload):
    """Each row has one replica: whoever can't reach it has nobody to give it to."""

    name = "batch, one copy"

    def __init__(self, stage: Stage) -> None:
        stage.replication_factor = 1
        super().__init__(stage)


def much_cut_and_soon_judged(patch: pytest.MonkeyPatch) -> None:
    with_coordinators_that_die_in_a_part(patch)
    patch.setattr(batch, "REPLAY_SECONDS_MAX", 20)


def test_a_batch_log_that_is_deleted_before_the_batch_is_applied() -> None:
    hunt(
        batch_log_deleted_early,
        "a batch is there in part",
        OneCopyBatchWorkload,
        ("kill",),
        circumstances=much_cut_and_soon_judged,
        nodes=5,
    )
