"""The tables, the statements, and the stream of operations.

==========  ================================================  ==============================  =======================
workload    table                                             writes                          reads
==========  ================================================  ==============================  =======================
``kv``      ``kv (key, c0, ...)``                             one row by key                  one row by key
``wide``    ``wide (partition, row, c0, ...)``                one row of a partition          one row of a partition
``range``   ``wide``                                          one row of a partition          a slice of N rows
==========  ================================================  ==============================  =======================

Rows are numbered 0 to ``keys`` - 1; row n of the wide table is row n % R of partition n // R. So a skewed choice of
keys makes hot partitions.

The value columns of a row, joined, are a *payload*: the row's number and a version (8 bytes each), then a slice of a
pool of random bytes at a place that depends on both. Whoever reads a payload can tell whether it is what was written,
whoever wrote it, and the version tells which process did. Rows shorter than that are just a slice of the pool.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import islice
from random import Random
from typing import Final, NamedTuple, Protocol

from ourodb.bench.keys import Keys, UniformKeys, ZipfKeys
from ourodb.bench.options import STAMP_BYTES, Options

INSERT: Final = 0
READ: Final = 1
SLICE: Final = 2
KIND_NAMES: Final = ("insert", "read", "slice")

_POOL_BYTES: Final = 1 << 16
_POOL_MASK: Final = _POOL_BYTES - 1
_SPREAD_KEY: Final = 0x9E3779B1
_SPREAD_VERSION: Final = 0x85EBCA6B
_VERSION_SHIFT: Final = 40

_pack_key = struct.Struct(">iq").pack
_pack_two_keys = struct.Struct(">iqiq").pack
_pack_stamp = struct.Struct(">qq").pack
_unpack_stamp = struct.Struct(">qq").unpack_from

Operation = tuple[int, int, bytes]
"""(kind, number of the row, or of the first of a slice, [value]s of the EXECUTE)."""


class Source(Protocol):
    """Where a phase's operations come from."""

    def draw(self, count: int) -> list[Operation]:
        """The next operations; fewer than ``count`` when there are no more."""
        ...


class Payloads:
    """The payloads of rows, and whether one is right."""

    def __init__(self, row_bytes: int, seed: int) -> None:
        self._row_bytes = row_bytes
        self._stamped = row_bytes >= STAMP_BYTES
        self._pool_bytes = row_bytes - STAMP_BYTES if self._stamped else row_bytes
        self._pool = Random(seed).randbytes(_POOL_BYTES + self._pool_bytes)

    def make(self, key: int, version: int) -> bytes:
        """What a row holds."""
        place = key * _SPREAD_KEY + version * _SPREAD_VERSION & _POOL_MASK
        filling = self._pool[place : place + self._pool_bytes]
        return _pack_stamp(key, version) + filling if self._stamped else filling

    def key_of(self, payload: bytes) -> int:
        """The row's number in a payload; -1 when it is too short to hold one."""
        return int(_unpack_stamp(payload)[0]) if len(payload) >= STAMP_BYTES else -1

    def is_right(self, key: int, payload: bytes) -> bool:
        """Whether this is what some version of the row holds; only for rows of at least ``STAMP_BYTES``."""
        if len(payload) != self._row_bytes:
            return False
        found_key, version = _unpack_stamp(payload)
        return bool(found_key == key) and payload == self.make(key, version)


class Statements(NamedTuple):
    """The text of the schema and of what is prepared.

    Attributes:
        by_kind: what to prepare, by kind of operation; only those that the run needs.
    """

    keyspace: str
    table: str
    by_kind: dict[int, str]
    drop: str


def statements_of(options: Options) -> Statements:
    """What the run says to the server."""
    columns = [f"c{index}" for index in range(options.columns)]
    key_columns = ["key"] if options.workload == "kv" else ["partition", "row"]
    name = f"{options.keyspace}.{'kv' if options.workload == 'kv' else 'wide'}"
    defined = ", ".join([f"{key} bigint" for key in key_columns] + [f"{column} blob" for column in columns])
    values = ", ".join(columns)
    where = " AND ".join(f"{key} = ?" for key in key_columns)
    by_kind = {}
    if options.reads < 1 or options.preload:
        markers = ", ".join("?" * (len(key_columns) + len(columns)))
        by_kind[INSERT] = f"INSERT INTO {name} ({', '.join(key_columns)}, {values}) VALUES ({markers})"
    if options.reads and options.workload == "range":
        by_kind[SLICE] = (
            f"SELECT {values} FROM {name} WHERE partition = ? AND row >= ? LIMIT {options.slice_rows}"
        )
    elif options.reads:
        by_kind[READ] = f"SELECT {values} FROM {name} WHERE {where}"
    return Statements(
        f"CREATE KEYSPACE IF NOT EXISTS {options.keyspace} WITH replication = {options.replication}",
        f"CREATE TABLE IF NOT EXISTS {name} ({defined}, PRIMARY KEY ({', '.join(key_columns)}))",
        by_kind,
        f"DROP KEYSPACE IF EXISTS {options.keyspace}",
    )


class Workload:
    """One process's operations."""

    def __init__(self, options: Options, process: int) -> None:
        """``process``: number of this one, from 0; each draws its own keys and counts its own versions."""
        random = Random(options.seed << 16 | process)
        self.payloads = Payloads(options.row_bytes, options.seed)
        self._options = options
        self._process = process
        self._chance = random.random
        self._version = process << _VERSION_SHIFT
        self._keys: Keys = (
            ZipfKeys(options.keys, options.zipf_exponent, random)
            if options.distribution == "zipf"
            else UniformKeys(options.keys, random)
        )
        self._key_values = _key_encoder(options)
        self._columns = _columns_encoder(options)

    def draw(self, count: int) -> list[Operation]:
        """The next operations of the measured load; see ``Source``."""
        reads, chance = self._options.reads, self._chance
        key_values, columns, make = self._key_values, self._columns, self.payloads.make
        ranged = self._options.workload == "range"
        read_kind = SLICE if ranged else READ
        version = self._version
        operations: list[Operation] = []
        append = operations.append
        for key in self._keys.draw(count):
            if reads and (reads == 1 or chance() < reads):
                if ranged:
                    key = self._slice_start(key)
                append((read_kind, key, key_values(key)))
            else:
                version += 1
                append((INSERT, key, key_values(key) + columns(make(key, version))))
        self._version = version
        return operations

    def preload(self) -> Source:
        """This process's share of the rows, once each."""
        return _Preload(self)

    def preload_keys(self) -> range:
        """The numbers of the rows that this process preloads."""
        return range(self._process, self._options.keys, self._options.processes)

    def insert(self, key: int) -> Operation:
        """The insert of one row in a version of its own."""
        self._version += 1
        return INSERT, key, self._key_values(key) + self._columns(self.payloads.make(key, self._version))

    def judge(self, kind: int, key: int, rows: list[list[bytes | None]]) -> tuple[int, int]:
        """How many rows of an answer are missing, and how many hold what was never written there."""
        expected = self._options.slice_rows if kind == SLICE else 1
        payloads = [b"".join([cell or b"" for cell in cells]) for cells in rows]
        right = {
            stamped_key
            for payload in payloads
            if key <= (stamped_key := self.payloads.key_of(payload)) < key + expected
            and self.payloads.is_right(stamped_key, payload)
        }
        missing = max(expected - len(rows), 0)
        return missing, expected - missing - len(right) + max(len(rows) - expected, 0)

    def found_rows(self, key: int, rows: list[list[bytes | None]]) -> str:
        """What an answer holds, by the payloads' own numbers relative to ``key``: to look into a wrong one."""
        found = [self.payloads.key_of(b"".join([cell or b"" for cell in cells])) - key for cells in rows]
        return f"read at row {key} found {found}"

    def answer_bytes_min(self, kind: int) -> int:
        """Bytes that the body of a read's answer has when it isn't empty-handed."""
        if kind == INSERT:
            return 0
        return self._options.row_bytes * (self._options.slice_rows if kind == SLICE else 1)

    def _slice_start(self, key: int) -> int:
        """The nearest row from which a whole slice fits into the partition."""
        row = key % self._options.rows_per_partition
        return key - max(row + self._options.slice_rows - self._options.rows_per_partition, 0)


class _Preload:
    def __init__(self, workload: Workload) -> None:
        self._keys = iter(workload.preload_keys())
        self._insert = workload.insert

    def draw(self, count: int) -> list[Operation]:
        return [self._insert(key) for key in islice(self._keys, count)]


def _key_encoder(options: Options) -> Callable[[int], bytes]:
    """From a row's number to the [value]s of its key columns."""
    if options.workload == "kv":
        return lambda key: _pack_key(8, key)
    rows = options.rows_per_partition
    return lambda key: _pack_two_keys(8, key // rows, 8, key % rows)


def _columns_encoder(options: Options) -> Callable[[bytes], bytes]:
    """From a payload to the [value]s of the value columns, all of nearly the same length."""
    size, count = options.row_bytes, options.columns
    if count == 1:
        length = size.to_bytes(4, "big")
        return lambda payload: length + payload
    ends = [size * (index + 1) // count for index in range(count)]
    starts = [0, *ends[:-1]]
    pieces = [
        ((end - start).to_bytes(4, "big"), slice(start, end)) for start, end in zip(starts, ends, strict=True)
    ]
    return lambda payload: b"".join([length + payload[piece] for length, piece in pieces])
