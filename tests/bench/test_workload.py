"""Were these to fail, the load would not be the one that was asked for, or wrong data would pass as right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ourodb.bench.options import BenchError, Options
from ourodb.bench.workload import INSERT, READ, SLICE, Payloads, Workload, statements_of
from ourodb.cql.wire.primitives import Reader

KV = Options(keys=10, row_bytes=40)
WIDE = replace(KV, workload="wide", keys=1_000, rows_per_partition=100)
RANGE = replace(WIDE, workload="range", slice_rows=20)


def values_of(encoded: bytes) -> list[bytes]:
    reader = Reader(encoded)
    values = []
    while reader.remaining():
        values.append(reader.nullable_bytes() or b"")
    return values


def test_operations_bind_every_marker_of_their_statement() -> None:
    for options in (KV, WIDE, RANGE, replace(KV, columns=3), replace(WIDE, columns=7)):
        statements = statements_of(options).by_kind
        for kind, _, values in Workload(options, 0).draw(50):
            assert len(values_of(values)) == statements[kind].count("?")


def test_columns_together_are_the_payload_and_carry_its_key() -> None:
    workload = Workload(replace(KV, columns=3), 0)
    kind, key, values = workload.insert(7)
    key_value, *columns = values_of(values)
    assert (kind, key, key_value) == (INSERT, 7, (7).to_bytes(8, "big"))
    assert sorted(map(len, columns)) == [13, 13, 14]
    assert workload.payloads.is_right(7, b"".join(columns))


def test_preload_covers_every_key_once_over_all_processes() -> None:
    options = replace(KV, keys=101, processes=3)
    seen = []
    for process in range(3):
        source = Workload(options, process).preload()
        while operations := source.draw(7):
            seen += [key for _, key, _ in operations]
    assert sorted(seen) == list(range(101))


def test_the_ratio_of_reads_is_kept() -> None:
    kinds = [kind for kind, _, _ in Workload(replace(KV, reads=0.25), 0).draw(10_000)]
    assert 2_200 < kinds.count(READ) < 2_800
    assert {kind for kind, _, _ in Workload(replace(KV, reads=1.0), 0).draw(100)} == {READ}
    assert {kind for kind, _, _ in Workload(replace(KV, reads=0.0), 0).draw(100)} == {INSERT}


def test_slices_stay_inside_their_partition() -> None:
    for kind, key, values in Workload(replace(RANGE, reads=1.0), 0).draw(2_000):
        partition, row = (int.from_bytes(value, "big") for value in values_of(values))
        assert kind == SLICE
        assert key == partition * 100 + row
        assert row <= 80


def test_verification_finds_what_is_wrong() -> None:
    workload = Workload(RANGE, 0)
    make = workload.payloads.make
    rows: list[list[bytes | None]] = [[make(300 + index, 5)] for index in range(20)]
    assert workload.judge(SLICE, 300, rows) == (0, 0)
    assert workload.judge(SLICE, 300, rows[:18]) == (2, 0)
    assert workload.judge(SLICE, 300, [*rows[:3], rows[2], *rows[4:]]) == (0, 1), "a row twice"
    assert workload.judge(SLICE, 300, [*rows[:3], [make(999, 5)], *rows[4:]]) == (0, 1), "another row"
    assert workload.judge(SLICE, 300, [*rows[:3], [None], *rows[4:]]) == (0, 1), "a null"
    damaged = bytearray(make(303, 5))
    damaged[-1] ^= 1
    assert workload.judge(SLICE, 300, [*rows[:3], [bytes(damaged)], *rows[4:]]) == (0, 1), "a flipped bit"
    assert workload.judge(SLICE, 300, [*rows, rows[0]])[1] == 1, "a row too many"
    assert workload.judge(READ, 300, []) == (1, 0)


def test_payloads_depend_on_key_and_version() -> None:
    payloads = Payloads(40, 1)
    assert len({payloads.make(key, version) for key in range(5) for version in range(5)}) == 25
    assert Payloads(40, 1).make(3, 4) == payloads.make(3, 4)
    assert len(Payloads(5, 1).make(3, 4)) == 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"workload": "nonsense"}, "workload 'nonsense' is none of kv, wide, range"),
        ({"reads": 1.5}, "share of reads"),
        ({"keys": 0}, "keys must be at least 1"),
        ({"rate": float("nan")}, "rate must be at least 0, not nan"),
        ({"duration_s": float("inf")}, "duration must be at least 0, not inf"),
        ({"duration_s": 0.0}, "say when to stop"),
        ({"columns": 60}, "row size of at least 60"),
        ({"workload": "wide", "keys": 1_500}, "whole partitions"),
        ({"workload": "range", "keys": 1_000, "slice_rows": 2_000}, "slice can't have 2000"),
        ({"verify": True, "row_bytes": 8}, "at least 16 bytes"),
        ({"verify": True, "preload": False}, "needs the preload"),
        ({"in_flight": 40_000}, "32768 streams"),
        ({"consistency": "MOST"}, "consistency 'MOST' is none of ANY, ONE"),
        ({"keyspace": "a; DROP"}, "isn't a plain name"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(BenchError) as refusal:
        replace(KV, **changes).check()  # type: ignore[arg-type]
    assert said in str(refusal.value)
