"""A fetch is done exactly once, with what its replicas agree on, whatever becomes of its messages.

If this fails, a client waits for ever or is answered twice, a quorum read misses what was acknowledged or goes back
in time, LOCAL_* asks the other side, or the tables of waiting requests fill up.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.replication.mutations import TABLES, Changes, changes_of
from tests.replication.ring import Message, Net, Watched, with_options
from tests.storage.tables import GC_GRACE_S, PLAIN

from ourodb import limits
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import ReadFailure, ReadTimeout
from ourodb.peer.messages import Verb
from ourodb.ports import NodeId
from ourodb.replication.messages import Reason
from ourodb.replication.replica.reads import (
    DIGEST_WORTH_BYTES,
    RangeCommand,
    ReadCommand,
    RowCommand,
    SlicesCommand,
)
from ourodb.schema.model import Table
from ourodb.storage.chunk import Chunk, lacking, live_row, merge_partitions, read_slices
from ourodb.storage.keys import ALL_ROWS, HEADER_BYTE, RANGE_TOMBSTONE_BYTE
from ourodb.storage.meaning import DIGEST_BYTES
from ourodb.storage.mutation import Mutation, MutationBuilder
from ourodb.storage.record import Header, encode_header
from ourodb.storage.row import LiveRow

ONE, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)
KEY = b"\0\0\0\1"
BIG = b"x" * DIGEST_WORTH_BYTES
NO_LIMITS = {"rows_max": 1 << 40, "bytes_max": 1 << 40, "keys_max": 1 << 40}


def mutation(
    t: Table, timestamp: int, value: bytes, clustering: bytes = KEY, now_s: int = 1_700_000_000
) -> Mutation:
    """A row of ``PLAIN``."""
    keys = Net(t).nodes[ONE].rows.keys
    builder = MutationBuilder(keys, keys.position([KEY]), timestamp, now_s)
    row = builder.row([clustering])
    row.marker()
    row.cell(t.columns["v"], value)
    built = builder.build()
    assert built is not None
    return built


class Story:
    """Three nodes that hold one row of a table; node 1 coordinates."""

    def __init__(
        self, t: Table = PLAIN, *, level: int = Consistency.QUORUM, held: Sequence[Mutation | None]
    ) -> None:
        self.net = Net(t)
        self.node = self.net.nodes[ONE]
        self.position = self.node.rows.keys.position([KEY])
        self.level = level
        for node, change in zip(self.net.nodes.values(), held, strict=True):
            if change is not None:
                node.hold(change)

    def read(self, *, level: int | None = None) -> Watched:
        keys = self.node.rows.keys
        command = RowCommand(self.node.rows, self.position, keys.clustering([KEY]), self.now_s())
        watched = self.node.fetch(command, self.position, self.level if level is None else level)
        self.net.settle()
        return watched

    def now_s(self) -> int:
        return self.net.now_ns // 10**9

    def value(self, chunk: Chunk | None) -> bytes | None:
        assert chunk is not None
        rows = self.node.rows
        row = live_row(rows, chunk, self.position, rows.keys.clustering([KEY]), self.now_s())
        return None if row is None else row.cells[PLAIN.columns["v"].id][0]

    def held(self, node: NodeId) -> bytes | None:
        rows = self.net.nodes[node].rows
        row = rows.get_row(self.position, rows.keys.clustering([KEY]), self.now_s())
        assert row is None or isinstance(row, LiveRow)
        return None if row is None else row.cells[PLAIN.columns["v"].id][0]

    def to(self, node: NodeId) -> list[Message]:
        return [message for message in self.net.messages if message.receiver == node and not message.is_reply]

    def check_nothing_waits(self) -> None:
        for node in self.net.nodes.values():
            assert node.peers.in_flight == 0


OLD = mutation(PLAIN, 1, b"old")
NEW = mutation(PLAIN, 2, b"new")
BIG_OLD = mutation(PLAIN, 1, b"old" + BIG)
BIG_NEW = mutation(PLAIN, 2, b"new" + BIG)


def test_replicas_that_agree_are_asked_once() -> None:
    story = Story(held=[NEW, NEW, OLD])
    watched = story.read()
    assert len(story.net.messages) == 1
    story.net.deliver_all()
    assert story.value(watched.fetch.chunk) == b"new"
    assert watched.woken == 1
    assert story.node.fetches.mismatches == 0
    assert story.held(THREE) == b"old", "who wasn't asked isn't repaired"
    story.check_nothing_waits()


def test_a_large_row_is_answered_by_its_digest() -> None:
    story = Story(held=[BIG_NEW, BIG_NEW, None])
    watched = story.read()
    (request,) = story.net.messages
    story.net.deliver(request)
    (reply,) = story.net.messages
    assert len(reply.body) == DIGEST_BYTES
    story.net.deliver(reply)
    assert watched.woken == 1
    assert watched.fetch.chunk is not None


@pytest.mark.parametrize(
    ("held", "newest", "reads"),
    [
        ((OLD, NEW, NEW), b"new", 1),
        ((NEW, OLD, OLD), b"new", 1),
        ((None, NEW, NEW), b"new", 1),
        ((NEW, None, None), b"new", 1),
        ((BIG_OLD, BIG_NEW, None), b"new" + BIG, 2),
        ((BIG_NEW, BIG_OLD, None), b"new" + BIG, 2),
    ],
)
def test_replicas_that_differ_are_made_equal_before_the_client_hears_of_it(
    held: Sequence[Mutation | None], newest: bytes, reads: int
) -> None:
    """Small rows come with the first answer; only large ones need a second round."""
    story = Story(held=held)
    watched = story.read()
    asked = 0
    while story.net.messages:
        message = story.net.messages[0]
        assert message.receiver != THREE
        asked += message.verb == Verb.READ_ROW and not message.is_reply
        if watched.fetch.is_done:
            assert story.held(ONE) == story.held(TWO) == newest
        story.net.deliver(message)
    assert asked == reads
    assert story.value(watched.fetch.chunk) == newest
    assert story.held(ONE) == story.held(TWO) == newest
    assert watched.woken == 1
    assert story.node.fetches.repairs == 1
    story.check_nothing_waits()


def test_read_repair_none_only_reads() -> None:
    story = Story(with_options(PLAIN, read_repair="NONE"), held=[OLD, NEW, NEW])
    watched = story.read()
    story.net.deliver_all()
    assert story.value(watched.fetch.chunk) == b"new"
    assert story.held(ONE) == b"old"


@pytest.mark.parametrize(
    ("level", "asked"),
    [
        (Consistency.ONE, 0),
        (Consistency.LOCAL_ONE, 0),
        (Consistency.TWO, 1),
        (Consistency.THREE, 2),
        (Consistency.ALL, 2),
        (Consistency.QUORUM, 1),
        (Consistency.LOCAL_QUORUM, 1),
    ],
)
def test_each_level_asks_as_many_as_it_needs(level: int, asked: int) -> None:
    story = Story(held=[NEW, NEW, NEW], level=level)
    watched = story.read()
    assert len(story.net.messages) == asked
    assert watched.fetch.is_done == (asked == 0)
    story.net.deliver_all()
    assert watched.woken == 1
    story.check_nothing_waits()


def test_a_failure_is_replaced_at_once() -> None:
    story = Story(held=[OLD, OLD, NEW])
    watched = story.read()
    story.net.refuse(story.to(TWO)[0])
    story.net.deliver(story.net.messages[0])
    assert len(story.to(THREE)) == 1
    story.net.deliver_all()
    assert story.value(watched.fetch.chunk) == b"new"
    story.check_nothing_waits()


def test_where_this_node_fails_alone_another_is_asked() -> None:
    """At ONE nobody else was asked so far; the one who is now must be heard, and waited for."""
    story = Story(held=[NEW, NEW, None], level=Consistency.ONE)
    story.node.store.is_cold = story.node.store.is_broken = True
    for outcome in ("answer", "silence"):
        watched = story.read()
        (end,) = story.node.store.fetches
        story.node.store.fetches.clear()
        end()
        if outcome == "answer":
            story.net.deliver_all()
            assert story.value(watched.fetch.chunk) == b"new"
        else:
            story.net.pass_ms(2 * limits.READ_TIMEOUT_MS)
            assert watched.fetch.error is not None
        assert watched.woken == 1
        story.check_nothing_waits()


def test_when_all_that_is_left_fails_the_client_is_told_why() -> None:
    story = Story(held=[NEW, NEW, NEW])
    watched = story.read()
    story.net.refuse(story.to(TWO)[0], Reason.TOO_MANY_TOMBSTONES)
    story.net.deliver(story.net.messages[0])
    story.net.refuse(story.to(THREE)[0], Reason.READ_ONLY)
    story.net.deliver(story.net.messages[0])
    error = watched.fetch.error
    assert isinstance(error, ReadFailure)
    assert (error.received, error.required, error.data_present) == (1, 2, True)
    assert error.reasons == {b"\x7f\0\0\2": Reason.TOO_MANY_TOMBSTONES, b"\x7f\0\0\3": Reason.UNKNOWN}
    assert watched.woken == 1
    story.check_nothing_waits()


def test_a_table_that_a_replica_does_not_know_is_a_failure_with_a_reason() -> None:
    story = Story(held=[NEW, NEW, NEW], level=Consistency.ALL)
    for node in (TWO, THREE):
        story.net.nodes[node].all_rows.drop(PLAIN.incarnation)
    watched = story.read()
    story.net.deliver_all()
    error = watched.fetch.error
    assert isinstance(error, ReadFailure)
    assert set(error.reasons.values()) == {Reason.INCOMPATIBLE_SCHEMA}
    story.check_nothing_waits()


def test_nodes_that_are_gone_are_a_timeout() -> None:
    story = Story(held=[NEW, NEW, NEW])
    watched = story.read()
    story.net.break_link(ONE, TWO)
    assert not watched.fetch.is_done
    story.net.break_link(ONE, THREE)
    error = watched.fetch.error
    assert isinstance(error, ReadTimeout)
    assert (error.received, error.required, error.data_present) == (1, 2, True)
    story.check_nothing_waits()


def test_a_link_that_takes_nothing_is_a_failure() -> None:
    story = Story(held=[NEW, NEW, NEW])
    story.node.peers.links[TWO].is_connected = False
    watched = story.read()
    assert len(story.to(THREE)) == 1
    story.net.deliver_all()
    assert watched.woken == 1
    story.check_nothing_waits()


def test_silence_ends_in_a_timeout_with_true_counts() -> None:
    story = Story(with_options(PLAIN, speculative_retry="NEVER"), held=[NEW, NEW, NEW])
    watched = story.read()
    story.net.pass_ms(limits.READ_TIMEOUT_MS + 2 * limits.REQUEST_TICK_MS)
    error = watched.fetch.error
    assert isinstance(error, ReadTimeout)
    assert (error.received, error.required, error.data_present) == (1, 2, True)
    story.net.deliver_all()
    assert watched.woken == 1
    story.check_nothing_waits()


def test_a_slow_replica_is_not_waited_for() -> None:
    story = Story(with_options(PLAIN, speculative_retry="30ms"), held=[OLD, OLD, NEW])
    watched = story.read()
    story.net.pass_ms(20)
    assert not story.to(THREE)
    story.net.pass_ms(20)
    (extra,) = story.to(THREE)
    story.net.deliver(extra)
    story.net.deliver(next(message for message in story.net.messages if message.is_reply))
    assert watched.woken == 1
    assert story.value(watched.fetch.chunk) == b"new"
    story.net.deliver_all()
    assert watched.woken == 1
    assert story.node.fetches.speculations == 1
    # And it is asked less from now on.
    assert story.node.latencies.of_us(TWO) > story.node.latencies.of_us(THREE)
    story.check_nothing_waits()


@pytest.mark.parametrize("policy", ["NEVER", "NONE", "60ms"])
def test_a_read_that_waits_does_not_keep_later_ones_from_asking_more(policy: str) -> None:
    """Tables have policies of their own, and a read that has asked one more may still wait."""
    story = Story(with_options(PLAIN, speculative_retry=policy), held=[NEW, NEW, NEW])
    story.read()
    eager = Story(with_options(PLAIN, speculative_retry="5ms"), held=[NEW, NEW, NEW])
    keys = story.node.rows.keys
    rows = story.node.all_rows.register(eager.node.rows.table)
    for _ in range(2):
        before = story.node.fetches.speculations
        command = RowCommand(rows, story.position, keys.clustering([KEY]), story.now_s())
        story.node.fetch(command, story.position, Consistency.QUORUM)
        story.net.pass_ms(20)
        assert story.node.fetches.speculations == before + 1


def test_always_asks_one_more_at_once() -> None:
    story = Story(with_options(PLAIN, speculative_retry="ALWAYS"), held=[NEW, NEW, NEW])
    watched = story.read()
    assert len(story.to(TWO)) == len(story.to(THREE)) == 1
    story.net.deliver(story.to(THREE)[0])
    story.net.deliver(next(message for message in story.net.messages if message.is_reply))
    assert watched.woken == 1


def test_a_chunk_of_a_range_is_waited_for_longer() -> None:
    """By the measure of rows each chunk of a scan would be late, and every scan cost twice as much."""
    story = Story(with_options(PLAIN, speculative_retry="5ms"), held=[NEW, NEW, NEW])
    command = RangeCommand(story.node.rows, b"", None, ALL_ROWS, story.now_s())
    story.node.fetch(command, story.position, Consistency.QUORUM)
    story.net.pass_ms(50)
    assert not story.to(THREE)
    story.net.pass_ms(100)
    assert story.to(THREE)


def test_a_damaged_record_ends_the_read() -> None:
    """It is found when answers are compared, in the midst of somebody's reply."""
    story = Story(held=[BIG_NEW, BIG_NEW, None])
    ((key, record),) = story.node.store.scan(0, b"", b"\xff" * 8)
    story.node.store.apply([(0, key, b"\x09" + record[1:])])
    watched = story.read()
    story.net.deliver_all()
    assert isinstance(watched.fetch.error, ReadFailure)
    assert watched.woken == 1
    story.check_nothing_waits()


def test_a_replica_that_fails_when_asked_for_its_records_is_replaced() -> None:
    story = Story(held=[BIG_OLD, BIG_NEW, BIG_NEW])
    watched = story.read()
    story.net.deliver(story.to(TWO)[0])
    story.net.deliver(story.net.messages[0])
    (again,) = story.to(TWO)
    story.net.refuse(again)
    story.net.deliver(story.net.messages[0])
    assert len(story.to(THREE)) == 1
    story.net.deliver_all()
    assert story.value(watched.fetch.chunk) == b"new" + BIG
    assert story.held(ONE) == b"new" + BIG
    story.check_nothing_waits()


def test_one_who_was_too_slow_for_the_first_round_may_help_in_the_second() -> None:
    """Node 4 holds no copy. The first of three is slow, the second differs from the third, and then fails."""
    net = Net(with_options(PLAIN, speculative_retry="5ms"), 4)
    node = net.nodes[NodeId(4)]
    key = next(
        key
        for key in (number.to_bytes(4, "big") for number in range(100))
        if node.id not in node.route(node.rows.keys.position([key])).replicas.nodes
    )
    position = node.rows.keys.position([key])
    for number, value in ((ONE, b"new"), (TWO, b"new"), (THREE, b"old")):
        builder = MutationBuilder(node.rows.keys, position, int(number), 0)
        builder.row([KEY]).cell(PLAIN.columns["v"], value + BIG)
        change = builder.build()
        assert change is not None
        net.nodes[number].hold(change)
    command = RowCommand(node.rows, position, node.rows.keys.clustering([KEY]), net.now_ns // 10**9)
    watched = node.fetch(command, position, Consistency.QUORUM)

    def asked(number: NodeId) -> Message:
        (found,) = [message for message in net.messages if message.receiver == number]
        return found

    slow = asked(ONE)
    net.deliver(asked(TWO))
    net.deliver(asked(node.id))
    net.lose(slow)
    net.pass_ms(20)
    net.deliver(asked(THREE))
    net.deliver(asked(node.id))
    net.refuse(asked(TWO))
    net.deliver(asked(node.id))
    net.deliver(asked(ONE))
    net.deliver_all()
    assert watched.woken == 1
    assert watched.fetch.chunk is not None
    assert node.peers.in_flight == 0


def test_a_repair_that_one_replica_refuses_goes_to_another() -> None:
    """A full disk on one of three must not stop quorum reads of what it lacks."""
    story = Story(held=[NEW, OLD, None])
    story.net.nodes[TWO].store.is_read_only = True
    watched = story.read()
    story.net.deliver_all()
    assert story.value(watched.fetch.chunk) == b"new"
    assert story.held(THREE) == b"new"
    assert watched.woken == 1
    story.check_nothing_waits()


def test_a_read_whose_keyspace_goes_meanwhile_is_answered() -> None:
    """Where its rows are now can't be said; as they differ it is asked for."""
    story = Story(held=[OLD, NEW, None])
    watched = story.read()
    story.net.is_keyspace_gone = True
    story.node.peers.epoch += 1
    story.net.deliver_all()
    assert watched.woken == 1
    assert story.value(watched.fetch.chunk) == b"new"
    story.check_nothing_waits()


def test_a_repair_that_this_node_refuses_goes_to_another() -> None:
    story = Story(held=[OLD, NEW, None])
    story.node.store.is_read_only = True
    watched = story.read()
    story.net.deliver_all()
    assert story.value(watched.fetch.chunk) == b"new"
    assert story.held(THREE) == b"new"
    story.check_nothing_waits()


def test_a_slow_repair_is_not_waited_for_either() -> None:
    story = Story(with_options(PLAIN, speculative_retry="5ms"), held=[NEW, OLD, None])
    watched = story.read()
    story.net.deliver(story.to(TWO)[0])
    story.net.deliver(story.net.messages[0])
    (repair,) = story.to(TWO)
    assert repair.verb != Verb.READ_ROW
    story.net.pass_ms(20)
    (instead,) = story.to(THREE)
    story.net.deliver(instead)
    assert not watched.fetch.is_done
    story.net.deliver(next(message for message in story.net.messages if message.sender == THREE))
    assert watched.woken == 1
    assert story.held(THREE) == b"new"
    story.net.deliver_all()
    assert watched.woken == 1
    story.check_nothing_waits()


@pytest.mark.parametrize("how", ["lost", "refused", "silent", "unsent"])
def test_a_repair_that_nobody_takes_is_a_timeout(how: str) -> None:
    """Else the next quorum read might give the older value again."""
    story = Story(held=[NEW, OLD, OLD])
    story.net.break_link(ONE, THREE)
    watched = story.read()
    story.net.deliver(story.to(TWO)[0])
    if how == "unsent":
        story.node.peers.links[TWO].is_connected = False
    story.net.deliver(story.net.messages[0])
    if how == "lost":
        story.net.break_link(ONE, TWO)
    elif how == "refused":
        story.net.refuse(story.to(TWO)[0])
        story.net.deliver_all()
    elif how == "silent":
        story.net.pass_ms(limits.READ_TIMEOUT_MS + 2 * limits.REQUEST_TICK_MS)
    error = watched.fetch.error
    assert isinstance(error, ReadTimeout)
    assert (error.received, error.required, error.data_present) == (1, 2, True)
    story.net.deliver_all()
    assert watched.woken == 1
    story.check_nothing_waits()


def test_cold_rows_are_waited_for_here_and_there() -> None:
    story = Story(held=[NEW, NEW, NEW])
    for node in story.net.nodes.values():
        node.store.is_cold = True
    watched = story.read()
    story.net.deliver_all()
    assert not watched.fetch.is_done
    for number in (TWO, ONE):
        (end,) = story.net.nodes[number].store.fetches
        end()
        story.net.settle()
        story.net.deliver_all()
    assert story.value(watched.fetch.chunk) == b"new"
    assert watched.woken == 1
    story.check_nothing_waits()


def test_a_cold_row_that_comes_while_others_are_repaired_is_too_late() -> None:
    story = Story(with_options(PLAIN, speculative_retry="5ms"), held=[NEW, OLD, NEW])
    story.node.store.is_cold = True
    watched = story.read()
    story.net.pass_ms(20)
    for node in (TWO, THREE):
        story.net.deliver(story.to(node)[0])
    for reply in [message for message in story.net.messages if message.is_reply]:
        story.net.deliver(reply)
    repairs = len(story.to(TWO))
    assert repairs == 1
    for end in story.node.store.fetches:
        end()
    story.net.settle()
    assert len(story.to(TWO)) == repairs
    story.net.deliver_all()
    assert watched.woken == 1
    assert story.value(watched.fetch.chunk) == b"new"
    story.check_nothing_waits()


def test_bytes_that_are_no_chunk_count_as_a_failure() -> None:
    story = Story(held=[NEW, NEW, NEW])
    watched = story.read()
    story.net.deliver(story.to(TWO)[0])
    (reply,) = story.net.messages
    reply.body = reply.body[:-3]
    story.net.deliver(reply)
    assert len(story.to(THREE)) == 1
    story.net.deliver_all()
    assert story.value(watched.fetch.chunk) == b"new"
    story.check_nothing_waits()


@pytest.mark.parametrize("level", [Consistency.LOCAL_ONE, Consistency.LOCAL_QUORUM])
def test_local_levels_never_ask_the_other_side(level: int) -> None:
    """Not even when their own side is slow, fails, or can't be repaired."""
    t = with_options(PLAIN, speculative_retry="5ms")
    net = Net(t, 6, factor=3, data_centers=2)
    node = net.nodes[ONE]
    position = node.rows.keys.position([KEY])
    others = [number for number in net.nodes if number % 2 == 1 and number != ONE]
    command = RowCommand(node.rows, position, node.rows.keys.clustering([KEY]), net.now_ns // 10**9)
    node.store.is_cold = True
    watched = node.fetch(command, position, level)
    net.pass_ms(100)
    for message in list(net.messages):
        net.refuse(message)
    net.deliver_all()
    net.pass_ms(100)
    for end in node.store.fetches:
        end()
    net.pass_ms(limits.READ_TIMEOUT_MS * 2)
    assert {message.receiver for message in net.messages} <= {ONE, *others}
    assert watched.woken == 1


# Any order of events

LEVELS = [
    Consistency.ONE,
    Consistency.TWO,
    Consistency.THREE,
    Consistency.QUORUM,
    Consistency.ALL,
    Consistency.LOCAL_ONE,
    Consistency.LOCAL_QUORUM,
]


def command_of(draw: Random, changes: Changes, net: Net, node: NodeId, position: bytes) -> ReadCommand:
    rows, now_s = net.nodes[node].rows, net.now_ns // 10**9
    what = draw.random()
    if what < 0.4:
        return RowCommand(rows, position, changes.keys.clustering(draw.choice(changes.clusterings)), now_s)
    rows_max = draw.choice([1, 2, 5_000])
    if what < 0.8:
        reverse = draw.random() < 0.5
        return SlicesCommand(rows, position, changes.slices(), now_s, reverse=reverse, rows_max=rows_max)
    for low, high, route in net.nodes[node].routes().between(b"", None):
        if low <= position and (high is None or position < high):
            assert route is not None
            return RangeCommand(rows, low, high, changes.slices(), now_s, rows_max=rows_max)
    raise AssertionError(position)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([*TABLES]))
def test_whatever_happens(seed: int, name: str) -> None:
    draw = Random(seed)
    t = with_options(
        TABLES[name],
        speculative_retry=draw.choice(["99p", "NEVER", "ALWAYS", "10ms", "MIN(99p,20ms)"]),
        read_repair=draw.choice(["BLOCKING", "BLOCKING", "NONE"]),
    )
    data_centers = draw.choice([1, 1, 2])
    net = Net(t, draw.choice([3, 4]) * data_centers, data_centers=data_centers)
    changes = Changes(t, draw)
    position = draw.choice(changes.positions)
    coordinator = net.nodes[draw.choice(list(net.nodes))]
    replicas = coordinator.route(position).replicas.nodes
    made = [change for change in changes_of(changes, draw.choice([1, 4, 12])) if change.position == position]
    on: dict[int, list[NodeId]] = {}
    agreed = draw.random() < 0.3
    for index, change in enumerate(made):
        on[index] = list(replicas) if agreed else draw.sample(replicas, draw.randrange(1, len(replicas) + 1))
        for number in on[index]:
            net.nodes[number].hold(change)
    for node in net.nodes.values():
        node.store.is_cold = draw.random() < 0.2
        node.store.is_broken = draw.random() < 0.1
        node.store.is_read_only = draw.random() < 0.05
    level = draw.choice(LEVELS)
    required = len(coordinator.route(position).read_nodes(level))
    command = command_of(draw, changes, net, coordinator.id, position)
    watched = coordinator.fetch(command, position, level)
    trouble = draw.choice([0.0, 0.1, 0.4])
    steps = 0
    while not watched.fetch.is_done or net.messages:
        steps += 1
        assert steps < 3_000
        happen(draw, net, coordinator.id, trouble)
        assert watched.woken == watched.fetch.is_done
    net.pass_ms(3 * limits.RANGE_TIMEOUT_MS)
    net.messages.clear()
    assert watched.woken == 1
    assert all(node.peers.in_flight == 0 for node in net.nodes.values())
    if level in (Consistency.LOCAL_ONE, Consistency.LOCAL_QUORUM):
        for node in net.nodes.values():
            if node.member.data_center != coordinator.member.data_center:
                assert not node.heard
    if watched.fetch.chunk is None:
        assert isinstance(watched.fetch.error, ReadTimeout | ReadFailure)
        stores = [node.store for node in net.nodes.values()]
        assert trouble or any(store.is_read_only or store.is_broken for store in stores)
        return
    check(watched.fetch.chunk, command, net, replicas, required, made, on)


def happen(draw: Random, net: Net, coordinator: NodeId, trouble: float) -> None:
    """One thing."""
    fetches = [(node, end) for node in net.nodes.values() for end in node.store.fetches]
    if fetches and draw.random() < 0.5:
        node, end = draw.choice(fetches)
        node.store.fetches.remove(end)
        end()
        net.settle()
    elif net.messages and draw.random() < 0.8:
        message = draw.choice(net.messages)
        what = draw.random()
        if what < trouble / 2:
            net.lose(message)
        elif what < trouble and not message.is_reply:
            net.refuse(message)
        else:
            net.deliver(message)
    elif draw.random() < trouble / 5:
        net.break_link(coordinator, draw.choice([number for number in net.nodes if number != coordinator]))
    else:
        net.pass_ms(draw.choice([1, 10, 50] if not trouble else [1, 50, 1_000, 6_000]))


def check(
    chunk: Chunk,
    command: ReadCommand,
    net: Net,
    replicas: Sequence[NodeId],
    required: int,
    made: Sequence[Mutation],
    on: dict[int, list[NodeId]],
) -> None:
    """What enough replicas had is in the chunk; and enough replicas have what is in it."""
    now_s = command.now_s
    position = made[0].position if made else None
    said = {partition.position: partition for partition in chunk.partitions}
    covered_wholly = chunk.end is None and isinstance(command, RowCommand)
    if covered_wholly and position is not None:
        assert isinstance(command, RowCommand)
        prefix = b"\x40" + command.clustering_key
        for index, change in enumerate(made):
            if len(on[index]) <= len(replicas) - required:
                continue
            part = [(suffix, record) for suffix, record in change.writes if suffix.startswith(prefix)]
            if part:
                acknowledged = Mutation(change.incarnation, change.position, part)
                held = said.get(position)
                together = acknowledged if held is None else merge_partitions([held, acknowledged])
                assert lacking(together, held, now_s, GC_GRACE_S) is None, "an acknowledged write was missed"
    if command.rows.table.options.read_repair == "NONE":
        return
    for partition in chunk.partitions:
        copies = []
        for number in replicas:
            found = read_slices(net.nodes[number].rows, partition.position, ALL_ROWS, **NO_LIMITS)
            copies += found.partitions or [Mutation(partition.incarnation, partition.position, [])]
        # Without what is shadowed in it.
        clean = lacking(partition, None, now_s, GC_GRACE_S)
        for piece in [] if clean is None else pieces(clean):
            holders = 0
            for copy in copies:
                together = merge_partitions([copy, piece])
                holders += lacking(together, copy, now_s, GC_GRACE_S) is None
            assert holders >= required, "the next read may go back in time"


def pieces(partition: Mutation) -> list[Mutation]:
    """What it says, record by record: each may be on other replicas."""
    found = []
    header = [(HEADER_BYTE, encode_header(Header(None, True)))]
    for suffix, record in partition.writes:
        writes = [*header, (suffix, record)] if suffix[:1] == RANGE_TOMBSTONE_BYTE else [(suffix, record)]
        found.append(Mutation(partition.incarnation, partition.position, writes))
    return found
