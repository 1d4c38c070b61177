"""Paging states are refused unless they are this cluster's, of this statement, untouched; and reads keep their bounds.

If this fails, a client can read where it shouldn't, or make the node run out of memory.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cql.plan.selecting import SEAL, Bench, int_bytes, ints, options
from tests.storage.tables import PLAIN, table

from ourodb import limits
from ourodb.cql.types.native import INT, TEXT
from ourodb.errors import ProtocolError, ReadFailure
from ourodb.replication.coordinator.paging import INVALID, PagingSeal, PagingState
from ourodb.replication.coordinator.read import Read

BLOBS = table([("p", INT)], [("c", INT, False)], [], [("v", TEXT)], 1700)
STATEMENT = b"statement"[:8]

states = st.builds(
    PagingState,
    st.binary(max_size=60),
    st.none() | st.binary(max_size=40),
    st.booleans(),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**31 - 1),
)


@given(states)
def test_what_is_sealed_can_be_opened(state: PagingState) -> None:
    assert SEAL.open(SEAL.seal(state, STATEMENT), STATEMENT) == state


@given(states, st.data())
def test_a_changed_byte_is_seen(state: PagingState, data: st.DataObject) -> None:
    sealed = bytearray(SEAL.seal(state, STATEMENT))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ProtocolError, match=INVALID):
        SEAL.open(bytes(sealed), STATEMENT)


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(ProtocolError, match=INVALID):
        SEAL.open(noise, STATEMENT)


def test_other_statements_and_other_keys_are_refused() -> None:
    state = PagingState(b"position", b"row", False, 5, 5)
    with pytest.raises(ProtocolError, match=INVALID):
        SEAL.open(SEAL.seal(state, STATEMENT), b"another!")
    with pytest.raises(ProtocolError, match=INVALID):
        SEAL.open(PagingSeal(b"another key").seal(state, STATEMENT), STATEMENT)
    with pytest.raises(ProtocolError, match=INVALID):
        SEAL.open(b"x" * (limits.PAGING_STATE_BYTES_MAX + 1), STATEMENT)


def filled(rows: int = 10) -> Bench:
    bench = Bench(PLAIN)
    for c in range(rows):
        bench.put([int_bytes(1)], [int_bytes(c)], {"v": int_bytes(c)})
    return bench


def test_a_state_of_another_partition_is_refused() -> None:
    """The statement is the same, its bound value isn't."""
    bench = filled()
    plan = bench.plan("SELECT c FROM t WHERE p = ?")
    _, state = bench.page(plan, [int_bytes(1)], 3)
    assert state is not None
    with pytest.raises(ProtocolError, match=INVALID):
        bench.page(plan, [int_bytes(2)], 3, state)


def test_pages_may_change_their_size() -> None:
    bench = filled()
    plan = bench.plan("SELECT c FROM t WHERE p = 1 LIMIT 8")
    first, state = bench.page(plan, [], 3)
    second, state = bench.page(plan, [], 1, state)
    rest, state = bench.page(plan, [], 100, state)
    assert [ints(row) for row in first + second + rest] == [(c,) for c in range(8)]
    assert state is None


def test_a_full_last_page_is_the_last() -> None:
    bench = filled(6)
    plan = bench.plan("SELECT c FROM t WHERE p = 1")
    _, state = bench.page(plan, [], 3)
    rows, state = bench.page(plan, [], 3, state)
    assert len(rows) == 3
    assert state is None


def test_a_long_scan_lets_others_go_on() -> None:
    bench = filled(limits.ROWS_PER_STEP * 3)
    plan = bench.plan("SELECT count(*) FROM t WHERE v = -1 ALLOW FILTERING")
    read = Read(plan, [], options(), lambda command: bench.rows, SEAL)
    pauses = 0
    while read.step() is not None:
        pauses += 1
    assert pauses >= 2


def test_a_page_ends_before_its_bytes_run_over() -> None:
    bench = Bench(BLOBS)
    megabyte = b"x" * limits.MIB
    for c in range(12):
        bench.put([int_bytes(1)], [int_bytes(c)], {"v": megabyte})
    plan = bench.plan("SELECT c, v FROM t WHERE p = 1")
    found, state, pages = [], None, 0
    while True:
        rows, state = bench.page(plan, [], 5000, state)
        found += [row[0] for row in rows]
        assert sum(len(row[1] or b"") for row in rows) <= limits.PAGE_BYTES_MAX + limits.MIB
        pages += 1
        if state is None:
            break
    assert found == [int_bytes(c) for c in range(12)]
    assert pages >= 3


@pytest.mark.parametrize(
    "text", ["SELECT v FROM t WHERE p = 1", "SELECT v FROM t WHERE p IN (1, 2) ORDER BY c"]
)
def test_a_result_that_is_not_paged_has_a_bound(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESULT_BYTES_MAX", 1000)
    bench = Bench(BLOBS)
    for c in range(12):
        bench.put([int_bytes(1)], [int_bytes(c)], {"v": b"x" * 100})
    with pytest.raises(ReadFailure, match="isn't paged") as caught:
        bench.select(text)
    assert list(caught.value.reasons.values()) == [5]
