"""What a run is asked to do: parsed and checked once, immutable, sent to every process as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ourodb.cql.wire.codes import Consistency

WORKLOADS = ("kv", "wide", "range")
DISTRIBUTIONS = ("uniform", "zipf")
COMPRESSIONS = ("none", "lz4")
STAMP_BYTES = 16
"""Key and version at the start of a value: what ``verify`` needs."""


class BenchError(Exception):
    """The run can't be done as asked; one line for whoever asked."""


@dataclass(frozen=True, slots=True)
class Options:
    """A run.

    Attributes:
        hosts: (address, port); connections go to them in turn.
        keys: rows that the table holds.
        rows_per_partition: of the wide table.
        slice_rows: rows that one range read returns.
        row_bytes: of all value columns of a row together.
        reads: share of requests that read, 0 to 1.
        rate: requests a second of all processes together; 0: as fast as possible.
        duration_s: of the measurement; 0: until ``operations`` are done.
        operations: requests of the measurement; 0: until ``duration_s`` has passed.
        in_flight: requests of one connection that wait for an answer.
        replication: the map of CREATE KEYSPACE.
        timeout_s: a server that answers nothing for so long is given up.
    """

    workload: str = "kv"
    hosts: tuple[tuple[str, int], ...] = (("127.0.0.1", 9042),)
    keys: int = 100_000
    distribution: str = "uniform"
    zipf_exponent: float = 0.99
    rows_per_partition: int = 1_000
    slice_rows: int = 100
    row_bytes: int = 128
    columns: int = 1
    reads: float = 0.5
    rate: float = 0.0
    duration_s: float = 30.0
    operations: int = 0
    warm_up_s: float = 5.0
    preload: bool = True
    processes: int = 1
    connections: int = 4
    in_flight: int = 128
    protocol: int = 5
    compression: str = "none"
    consistency: str = "ONE"
    keyspace: str = "ouro_bench"
    replication: str = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    drop: bool = False
    verify: bool = False
    user: str = ""
    password: str = ""
    seed: int = 1
    timeout_s: float = 10.0

    @property
    def consistency_code(self) -> int:
        return int(Consistency[self.consistency])

    @property
    def wire_compression(self) -> str:
        return "" if self.compression == "none" else self.compression

    def check(self) -> None:
        """Raises BenchError for what doesn't go together."""
        for what, value, choices in (
            ("workload", self.workload, WORKLOADS),
            ("distribution", self.distribution, DISTRIBUTIONS),
            ("compression", self.compression, COMPRESSIONS),
            ("consistency", self.consistency, tuple(Consistency.__members__)),
            ("protocol", self.protocol, (3, 4, 5)),
        ):
            if value not in choices:
                raise BenchError(f"{what} {value!r} is none of {', '.join(map(str, choices))}")
        for what, number, least in (
            ("keys", self.keys, 1),
            ("rows per partition", self.rows_per_partition, 1),
            ("slice", self.slice_rows, 1),
            ("row size", self.row_bytes, 1),
            ("columns", self.columns, 1),
            ("processes", self.processes, 1),
            ("connections", self.connections, 1),
            ("in flight", self.in_flight, 1),
            ("rate", self.rate, 0),
            ("duration", self.duration_s, 0),
            ("operations", self.operations, 0),
            ("warm-up", self.warm_up_s, 0),
        ):
            if not least <= number < math.inf:
                raise BenchError(f"{what} must be at least {least}, not {number}")
        if not 0 <= self.reads <= 1:
            raise BenchError(f"the share of reads must be between 0 and 1, not {self.reads}")
        if self.distribution == "zipf" and not 0 < self.zipf_exponent < math.inf:
            raise BenchError(f"Zipf's exponent must be above 0, not {self.zipf_exponent}")
        if self.in_flight > 32_768:
            raise BenchError("a connection has 32768 streams, so no more requests can be in flight on it")
        if self.columns > self.row_bytes:
            raise BenchError(f"{self.columns} columns need a row size of at least {self.columns} bytes")
        if self.verify and self.row_bytes < STAMP_BYTES:
            raise BenchError(f"verifying needs a row size of at least {STAMP_BYTES} bytes")
        if self.verify and not self.preload and self.reads:
            raise BenchError(
                "verifying needs the preload: without it a missing row can't be told from a lost one"
            )
        if not self.duration_s and not self.operations:
            raise BenchError("say when to stop: a duration or a number of operations")
        if self.workload != "kv" and self.keys % self.rows_per_partition:
            raise BenchError(
                f"{self.keys} keys don't make whole partitions of {self.rows_per_partition} rows"
            )
        if self.workload == "range" and self.slice_rows > self.rows_per_partition:
            raise BenchError(
                f"a partition has {self.rows_per_partition} rows, so a slice can't have {self.slice_rows}"
            )
        if not self.keyspace.replace("_", "a").isalnum() or not self.keyspace.isascii():
            raise BenchError(f"keyspace {self.keyspace!r} isn't a plain name")
