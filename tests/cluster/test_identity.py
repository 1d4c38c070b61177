"""Who a node is, from one start to the next.

If this fails, increments that were acknowledged vanish when a node is restored from a snapshot.
"""

from __future__ import annotations

import pytest

from ourodb.cluster.identity import load_identity, mark_clean_stop, renew_counter_incarnation
from ourodb.storage.counter import increment, merge_shards, total
from ourodb.storage.families import METADATA
from ourodb.storage.memory import MemoryStore


class Draws:
    """Random bytes that aren't."""

    def bytes(self, count: int) -> bytes:
        return bytes(range(count))

    def below(self, bound: int) -> int:
        return bound // 2


def copy_of(store: MemoryStore) -> MemoryStore:
    return MemoryStore.of(METADATA, store.scan(METADATA, b"", b"\xff" * 40))


@pytest.mark.parametrize("renews", [False, True])
def test_who_was_restored_counts_in_a_shard_of_its_own(renews: bool) -> None:
    """The snapshot doesn't know which incarnations its node had after it."""
    store = MemoryStore()
    host = load_identity(store, Draws(), 100).host_id.bytes
    snapshot = copy_of(store)
    later = load_identity(store, Draws(), 200).counter_incarnation
    if renews:
        later = renew_counter_incarnation(store, 250)
    elsewhere = increment(None, host, later, 1_000, 100)
    restored = load_identity(snapshot, Draws(), 300).counter_incarnation
    if renews:
        restored = renew_counter_incarnation(snapshot, 300)
    here = increment(None, host, restored, 2_000, 1)
    assert int.from_bytes(total(merge_shards(elsewhere, here)), "big") == 101


def test_an_incarnation_lasts_from_one_orderly_stop_to_the_next_start_and_never_comes_again() -> None:
    store = MemoryStore()
    load_identity(store, Draws(), 100)
    second = load_identity(store, Draws(), 200)
    assert not second.was_clean
    mark_clean_stop(store)
    third = load_identity(store, Draws(), 300)
    assert third.was_clean
    assert third.counter_incarnation == second.counter_incarnation
    # The clock has gone back.
    assert load_identity(store, Draws(), 50).counter_incarnation > third.counter_incarnation
