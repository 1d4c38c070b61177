"""Many rows that don't change, on all replicas before anything moves: so any replica that is read, even at ONE, has to
have every one of them, and none of those that were deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cassandra.metadata import Murmur3Token

from ourodb.cql.wire.codes import Consistency
from ourodb.sim.history import Outcome
from ourodb.sim.workloads.stage import Reply, Script, Stage, insist, set_up_tables

KEYSPACE: Final = "bulk"
CREATE: Final = f"CREATE TABLE {KEYSPACE}.rows (k int, c int, v text, PRIMARY KEY (k, c))"
INSERT: Final = f"INSERT INTO {KEYSPACE}.rows (k, c, v) VALUES (?, ?, ?);"
ROWS_PER_PARTITION: Final = 100
BATCH: Final = f"BEGIN UNLOGGED BATCH {INSERT * ROWS_PER_PARTITION} APPLY BATCH"
DELETE_PARTITION: Final = f"DELETE FROM {KEYSPACE}.rows WHERE k = ?"
DELETE_ROW: Final = f"DELETE FROM {KEYSPACE}.rows WHERE k = ? AND c = ?"
DELETE_SLICE: Final = f"DELETE FROM {KEYSPACE}.rows WHERE k = ? AND c >= ?"
READ_PARTITION: Final = f"SELECT k, c, v FROM {KEYSPACE}.rows WHERE k = ?"
READ_ROW: Final = f"SELECT k, c, v FROM {KEYSPACE}.rows WHERE k = ? AND c = ?"
SCAN: Final = f"SELECT k, c, v FROM {KEYSPACE}.rows WHERE token(k) > ? LIMIT ?"

DELETED_ROW: Final = 3
DELETED_FROM: Final = 90
"""The first of a slice that is deleted."""
VALUE_SIZE: Final = 200
SCANNED_MAX: Final = 350
CREW_FOR_LOADING: Final = 16

Row = tuple[int, int, str]


def integer(number: int) -> bytes:
    return number.to_bytes(4, "big", signed=True)


def rows_of(partition: int) -> list[Row]:
    """What has to be found in a partition."""
    if partition % 50 == 7:
        return []
    count = DELETED_FROM if partition % 3 == 0 else ROWS_PER_PARTITION
    return [
        (partition, row, value(partition, row))
        for row in range(count)
        if not (partition % 2 == 0 and row == DELETED_ROW)
    ]


def value(partition: int, row: int) -> str:
    word = f"{partition}/{row} "
    return (word * (VALUE_SIZE // len(word) + 1))[:VALUE_SIZE]


def decoded(reply: Reply) -> list[Row]:
    return [
        (int.from_bytes(k or b"", "big"), int.from_bytes(c or b"", "big"), (v or b"").decode())
        for k, c, v in reply.rows
    ]


class BulkWorkload:
    """Reads of single rows, partitions and slices of the ring, at ONE and at QUORUM.

    Attributes:
        wrong: what a read gave that isn't what there is.
    """

    name = "bulk"

    def __init__(self, stage: Stage, rows: int) -> None:
        self._stage = stage
        self.wrong: list[str] = []
        self._partitions = rows // ROWS_PER_PARTITION
        self._by_token = sorted(
            (Murmur3Token.hash_fn(integer(partition)), partition) for partition in range(self._partitions)
        )

    def set_up(self) -> Script[None]:
        yield from set_up_tables(
            self._stage,
            [
                f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 3}}",
                CREATE,
            ],
        )

    def loaders(self) -> list[Script[None]]:
        """What loads all rows on all replicas; to be played before any client."""
        return [self._load(number) for number in range(CREW_FOR_LOADING)]

    def _load(self, number: int) -> Script[None]:
        for partition in range(number, self._partitions, CREW_FOR_LOADING):
            values: list[bytes | None] = []
            for row in range(ROWS_PER_PARTITION):
                values += (integer(partition), integer(row), value(partition, row).encode())
            yield from self._everywhere(BATCH, values)
            if partition % 50 == 7:
                yield from self._everywhere(DELETE_PARTITION, [integer(partition)])
            if partition % 2 == 0:
                yield from self._everywhere(DELETE_ROW, [integer(partition), integer(DELETED_ROW)])
            if partition % 3 == 0:
                yield from self._everywhere(DELETE_SLICE, [integer(partition), integer(DELETED_FROM)])

    def _everywhere(self, statement: str, values: Sequence[bytes | None]) -> Script[None]:
        yield from insist(self._stage, statement, values, consistency=Consistency.ALL)

    def run_client(self, number: int) -> Script[None]:
        stage = self._stage
        client, random = stage.client(number), stage.random
        while not stage.is_over:
            level = Consistency.ONE if random.below(2) else Consistency.QUORUM
            index = random.below(self._partitions)
            kind = random.below(10)
            expected: list[Row]
            if kind < 6:
                row = random.below(ROWS_PER_PARTITION)
                what, statement, values = "look up", READ_ROW, [integer(index), integer(row)]
                expected = [one for one in rows_of(index) if one[1] == row]
            elif kind < 9:
                what, statement, values = "read", READ_PARTITION, [integer(index)]
                expected = rows_of(index)
            else:
                what, statement = "scan", SCAN
                values = [self._by_token[index][0].to_bytes(8, "big", signed=True), integer(SCANNED_MAX)]
                expected = self._after(index)
            operation = stage.history.invoke(number, f"{what} at {level.name}", index)
            reply: Reply = yield client.execute(statement, values, consistency=level)
            stage.history.complete(operation, reply.outcome, None, reply.error_name)
            if reply.outcome is Outcome.DONE and decoded(reply) != expected:
                found = decoded(reply)
                self.wrong.append(
                    f"{operation}: {len(found)} rows instead of {len(expected)}:"
                    f" missing {sorted(set(expected) - set(found))[:3]}, too many"
                    f" {sorted(set(found) - set(expected))[:3]}"
                )
            yield stage.sleep(random.below(20) / 1000)

    def _after(self, index: int) -> list[Row]:
        """What a scan has to give that begins after this partition, in the order of tokens."""
        rows: list[Row] = []
        for _, partition in self._by_token[index + 1 :]:
            rows += rows_of(partition)
            if len(rows) >= SCANNED_MAX:
                break
        return rows[:SCANNED_MAX]

    def finish(self) -> Script[None]:
        """Every partition, at ONE: whoever answers has to have it."""
        for partition in range(self._partitions):
            reply = yield from insist(
                self._stage, READ_PARTITION, [integer(partition)], consistency=Consistency.ONE
            )
            if decoded(reply) != rows_of(partition):
                self.wrong.append(f"in the end partition {partition} has {len(reply.rows)} rows")

    def problems(self) -> list[str]:
        return [*self.wrong[:10], *([f"and {len(self.wrong) - 10} more"] if len(self.wrong) > 10 else [])]
