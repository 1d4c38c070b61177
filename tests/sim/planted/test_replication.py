"""Mistakes planted in writes, reads, repairs, hints and counters, which the simulator has to find.

If this fails, it is blind to writes that were acknowledged and are lost, to reads that go back in time, or to replicas
that stay apart, and a clean run of sets, versions and counters says less than it seems to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, count
from typing import Any

import pytest
from tests.sim.planted.circumstances import on_slow_disks, with_late_repairs, with_stalling_stores
from tests.sim.planted.convergence import UnreadSetWorkload, look_before_reading
from tests.sim.planted.hunt import hunt

from ourodb.errors import InvalidRequest, OuroError, RequestError
from ourodb.peer.messages import Verb
from ourodb.ports import Link, NodeId
from ourodb.replication import routes
from ourodb.replication.coordinator import fetch
from ourodb.replication.coordinator.coordinator import Coordinator
from ourodb.replication.counters import _Led
from ourodb.replication.hints import _Delivery
from ourodb.replication.replica import reads
from ourodb.replication.replica.replica import Acknowledgement, Replica, decode_mutations, encode_mutations
from ourodb.replication.replica.writes import Done, Pieces, Step, Writes, as_request_error
from ourodb.replication.routes import Route
from ourodb.storage import chunk
from ourodb.storage.families import DATA
from ourodb.storage.mutation import Mutation
from ourodb.storage.record import LIVE, Row, decode_row, encode_row, greatest_timestamp

OF_COUNTERS = ("ended at", "a counter wasn't read between")

# --- Writes ----------------------------------------------------------------------------------------------------


def acknowledge_before_fsync(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Writes) -> None:
        waiting = self._unsettled + self._unsynced
        self._unsettled, self._unsynced = [], []
        try:
            self._store.settle()
        except OuroError as error:
            for done in waiting:
                done(as_request_error(error))
            return
        for done in waiting:
            done(None)
        if waiting:
            self._store.sync(lambda error: None)

    patch.setattr(Writes, "settle", settle)


@pytest.mark.parametrize(
    ("workload", "telling"),
    [
        ("set", "an acknowledged element"),
        ("register", "isn't linearizable"),
        ("counter", OF_COUNTERS),
        ("monotonic", "went back in time"),
    ],
)
def test_acknowledging_before_the_fsync(workload: str, telling: str | tuple[str, ...]) -> None:
    """Ballots, increments and rows that were acknowledged are gone after a blackout."""
    hunt(acknowledge_before_fsync, telling, workload, ("blackout",), build=on_slow_disks)


def quorum_off_by_one(patch: pytest.MonkeyPatch) -> None:
    required = routes.required
    patch.setattr(routes, "required", lambda *arguments: max(1, required(*arguments) - 1))


@pytest.mark.parametrize(
    ("workload", "telling"), [("set", "an acknowledged element"), ("monotonic", "went back in time")]
)
def test_a_quorum_that_is_one_too_small(workload: str, telling: str) -> None:
    hunt(quorum_off_by_one, telling, workload, ("partition",))


def refused_now_and_then(patch: pytest.MonkeyPatch) -> None:
    """A coordinator takes a statement that is right for wrong, once in 25 writes."""
    write = Coordinator.write
    writes = count(1)

    def refusing(self: Coordinator, *arguments: Any) -> None:
        if next(writes) % 25 == 0:
            raise InvalidRequest("not this one")
        write(self, *arguments)

    patch.setattr(Coordinator, "write", refusing)


def test_writes_that_are_refused_now_and_then() -> None:
    told = "an error that no fault explains: INSERT INTO sim.elements (id, writer) VALUES (?, ?): InvalidRequest:"
    hunt(refused_now_and_then, told, "set", seconds=1)


# --- Reads -----------------------------------------------------------------------------------------------------


def read_repair_skipped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fetch, "lacking", lambda *arguments: None)


def test_a_read_repair_that_is_skipped() -> None:
    hunt(
        read_repair_skipped, "went back in time", "monotonic", ("stall",), circumstances=with_stalling_stores
    )


def repair_writes_the_older_value(patch: pytest.MonkeyPatch) -> None:
    """A replica takes what it is repaired with for the newest there is, and has got something newer meanwhile."""
    write_pieces = Replica._write_pieces

    def overwrite(self: Replica, pieces: Pieces, now_s: int, epoch: int, done: Acknowledgement) -> None:
        if done._verb is not Verb.REPAIR:
            write_pieces(self, pieces, now_s, epoch, done)
            return
        writes = [
            (
                DATA,
                self._rows.known(mutation.incarnation).use.incarnation + mutation.position + suffix,
                record,
            )
            for mutation in chain.from_iterable(pieces.left)
            for suffix, record in mutation.writes
        ]
        self._writes.run(lambda: self._store.apply(writes), done)

    patch.setattr(Replica, "_write_pieces", overwrite)


def test_a_repair_that_writes_the_older_value() -> None:
    hunt(
        repair_writes_the_older_value,
        "went back in time",
        "monotonic",
        ("flap",),
        circumstances=with_late_repairs,
    )


def read_merges_to_the_older_value(patch: pytest.MonkeyPatch) -> None:
    def older(stored: bytes, incoming: bytes) -> bytes:
        return min(stored, incoming, key=greatest_timestamp)

    patch.setattr(chunk, "merge", older)


def test_a_read_that_takes_the_older_of_two_values() -> None:
    hunt(read_merges_to_the_older_value, "went back in time", "monotonic", ("flap",))


def digest_over_keys_alone(patch: pytest.MonkeyPatch) -> None:
    digest = reads.digest

    def without_cells(partitions: Sequence[Mutation], *others: Any) -> bytes:
        return digest([_bare(partition) for partition in partitions], *others)

    patch.setattr(reads, "digest", without_cells)


def _bare(partition: Mutation) -> Mutation:
    row = encode_row(Row(marker=(0, LIVE, 0, 0)))
    writes = [(suffix, row) for suffix, _ in partition.writes]
    return Mutation(partition.incarnation, partition.position, writes)


def test_a_digest_over_the_wrong_columns() -> None:
    hunt(digest_over_keys_alone, "went back in time", "monotonic", ("flap",))


def quorum_reads_ask_one(patch: pytest.MonkeyPatch) -> None:
    """The nearest replica alone is asked, whatever the level."""
    read_nodes = Route._read_nodes

    def nearest(self: Route, level: int) -> tuple[NodeId, ...] | RequestError:
        nodes = read_nodes(self, level)
        return nodes[:1] if isinstance(nodes, tuple) else nodes

    patch.setattr(Route, "_read_nodes", nearest)


def test_a_quorum_read_that_asks_one_replica() -> None:
    hunt(quorum_reads_ask_one, OF_COUNTERS[1], "counter", ("partition",))


# --- Hints -----------------------------------------------------------------------------------------------------


def hint_with_a_new_timestamp(patch: pytest.MonkeyPatch) -> None:
    on_hints = Replica.on_hints

    def restamped(self: Replica, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        now_us = self._clock.wall_us()
        mutations = decode_mutations(body)
        for mutation in mutations:
            mutation.writes = [(suffix, _stamped(record, now_us)) for suffix, record in mutation.writes]
        on_hints(self, link, node, request, epoch, encode_mutations(mutations))

    patch.setattr(Replica, "on_hints", restamped)


def _stamped(record: bytes, timestamp: int) -> bytes:
    row = decode_row(record)
    if row.marker is not None:
        row.marker = (timestamp, *row.marker[1:])
    row.cells = {column: (timestamp, *cell[1:]) for column, cell in row.cells.items()}
    return encode_row(row)


def test_a_hint_that_is_applied_with_a_new_timestamp() -> None:
    hunt(hint_with_a_new_timestamp, "went back in time", "monotonic", ("pause",), quiet_seconds=6)


def hint_to_the_wrong_owner(patch: pytest.MonkeyPatch) -> None:
    go_on = _Delivery.go_on

    def astray(self: _Delivery) -> None:
        peers = self._hints.peers
        links = peers.links
        others = [link for node, link in links.items() if node != self.node and peers.up.get(node)]
        peers.links = {**links, self.node: others[0]} if others else links
        try:
            go_on(self)
        finally:
            peers.links = links

    patch.setattr(_Delivery, "go_on", astray)


def test_a_hint_that_is_replayed_to_the_wrong_owner() -> None:
    hunt(
        hint_to_the_wrong_owner,
        "replicas differ",
        UnreadSetWorkload,
        ("restart",),
        look=look_before_reading,
        quiet_seconds=6,
    )


# --- Counters --------------------------------------------------------------------------------------------------


def shard_not_synced(patch: pytest.MonkeyPatch) -> None:
    """The leader answers for its shard as soon as the store has it."""

    def run_once(
        self: Writes, step: Step, done: Done, unknown: RequestError, again: Callable[[], None]
    ) -> None:
        self.run(step, done, again=again)

    patch.setattr(Writes, "run_once", run_once)


def test_a_counters_shard_that_is_not_synced() -> None:
    hunt(shard_not_synced, OF_COUNTERS, "counter", ("blackout",), sync_period_ms=1_000)


def counter_retried_inside(patch: pytest.MonkeyPatch) -> None:
    """An increment whose leader isn't heard of in time, or any more, is given to another one."""

    def try_another(self: _Led) -> None:
        self._ask(self._unknown())

    patch.setattr(_Led, "on_expired", try_another)


def test_a_counter_that_is_retried_inside() -> None:
    hunt(counter_retried_inside, OF_COUNTERS, "counter", ("pause",), nodes=5, clients=8, gap_ms_max=200)
