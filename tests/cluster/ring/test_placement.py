"""Which nodes hold which positions, on rings of any shape.

If this fails, rows have fewer copies than their keyspace says, copies that die together, or nodes that disagree about
who holds them.
"""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cluster.ring.rings import member, network, position, replications, rings, simple, tokens

from ourodb import limits
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.placement import Placement, Ring
from ourodb.cql.types.murmur3 import TOKEN_MAX, TOKEN_MIN
from ourodb.schema.keyspaces import LOCAL, SIMPLE
from ourodb.schema.model import Replication


def zones(members: list[Member], replication: Replication) -> dict[str | None, tuple[int, list[Member]]]:
    """Copies and members of each data centre; of the whole ring, under None, for SimpleStrategy."""
    if replication.strategy == SIMPLE:
        return {None: (int(replication.options["replication_factor"]), members)}
    return {
        name: (int(copies), [each for each in members if each.data_center == name])
        for name, copies in replication.options.items()
    }


def owner_of(members: list[Member], token: int) -> Member:
    """Whose token is the first at or after this one."""
    return min(members, key=lambda each: min((own - token) % 2**64 for own in each.tokens))


@given(rings(), replications)
def test_ranges_cover_every_position_once(members: list[Member], replication: Replication) -> None:
    placement = Ring(members).placement(replication)
    ranges = list(placement.ranges())
    assert ranges[0][0] == b""
    assert ranges[-1][1] is None
    assert [end for _, end, _ in ranges[:-1]] == [start for start, _, _ in ranges[1:]]
    assert all(end is None or start < end for start, end, _ in ranges)
    assert [held for _, _, held in ranges] == placement.sets


@given(rings(), replications, tokens, st.binary(max_size=20))
def test_a_position_has_the_replicas_of_its_range(
    members: list[Member], replication: Replication, token: int, key: bytes
) -> None:
    ring = Ring(members)
    placement = ring.placement(replication)
    here = position(token, key)
    replicas = placement.replicas_of(here)
    found = [held for start, end, held in placement.ranges() if start <= here and (end is None or here < end)]
    assert found == [replicas]
    by_token = placement.token_range_of(token)
    assert by_token is not None
    assert by_token.replicas is replicas
    assert by_token in placement.token_ranges()
    assert any(start <= here and (end is None or here < end) for start, end in by_token.positions)
    assert by_token.end in owner_of(members, token).tokens
    assert placement.primary_of(here) == replicas.primary == by_token.primary
    assert (replicas.primary, *replicas.secondaries) == (replicas.nodes or (0,))


@given(rings(), replications)
def test_as_many_copies_as_asked_for_on_different_nodes(
    members: list[Member], replication: Replication
) -> None:
    ring = Ring(members)
    for replicas in ring.placement(replication).sets:
        assert len(set(replicas.nodes)) == len(replicas.nodes) == replicas.total
        expected = 0
        for name, (copies, local) in zones(members, replication).items():
            count = min(copies, len(local))
            expected += count
            if name is not None:
                assert len(replicas.by_dc.get(name, ())) == count
        assert replicas.total == expected
        by_dc = defaultdict(list)
        for node in replicas.nodes:
            by_dc[ring.members[node].data_center].append(node)
        assert replicas.by_dc == {name: tuple(nodes) for name, nodes in by_dc.items()}


@given(rings(), replications)
def test_no_two_copies_on_a_host_while_another_is_free(
    members: list[Member], replication: Replication
) -> None:
    ring = Ring(members)
    for replicas in ring.placement(replication).sets:
        for name, (copies, local) in zones(members, replication).items():
            nodes = replicas.nodes if name is None else replicas.by_dc.get(name, ())
            hosts = {ring.members[node].host for node in nodes}
            assert len(hosts) == min(copies, len({each.host for each in local}))


@given(rings(), replications)
def test_no_two_copies_in_a_rack_while_another_is_free(
    members: list[Member], replication: Replication
) -> None:
    """Unless a host is in several racks, which then stand for nothing that fails by itself."""
    ring = Ring(members)
    for replicas in ring.placement(replication).sets:
        for name, (copies, local) in zones(members, replication).items():
            hosts = {each.host for each in local}
            if name is None or (len({(each.host, each.rack) for each in local}) > len(hosts) > 1):
                continue
            racks = {ring.members[node].rack for node in replicas.by_dc.get(name, ())}
            assert len(racks) == min(copies, len({each.rack for each in local}))


@given(rings(), st.integers(1, 4))
def test_the_owner_of_a_token_is_the_primary(members: list[Member], copies: int) -> None:
    ring = Ring(members)
    everywhere = network(**{each.data_center: copies for each in members})
    for replication in (simple(copies), everywhere):
        for each in members:
            for token in each.tokens:
                assert ring.placement(replication).primary_of(position(token)) == each.id


@given(rings(least=2, own_hosts=True), st.integers(1, 4))
def test_a_node_that_joins_takes_copies_and_shuffles_none(members: list[Member], copies: int) -> None:
    """Else a join would move data between nodes that were there before."""
    before, after = Ring(members[:-1]), Ring(members)
    newcomer = members[-1].id
    for start, _, now in after.placement(simple(copies)).ranges():
        then = before.placement(simple(copies)).replicas_of(start)
        assert set(now.nodes) - {newcomer} <= set(then.nodes)
        assert newcomer in now.nodes or now.nodes == then.nodes


@given(rings(), replications)
def test_equal_sets_are_one_object(members: list[Member], replication: Replication) -> None:
    """Callers compare and remember them by identity."""
    ring = Ring(members)
    placement = ring.placement(replication)
    by_nodes = {replicas.nodes: replicas for replicas in placement.sets}
    assert all(by_nodes[replicas.nodes] is replicas for replicas in placement.sets)
    alike = Replication(replication.strategy, dict(reversed(replication.options.items())))
    assert ring.placement(alike) is placement


@given(
    rings(), replications, st.tuples(tokens, st.binary(max_size=3)), st.tuples(tokens, st.binary(max_size=3))
)
def test_ranges_between(
    members: list[Member], replication: Replication, start: tuple[int, bytes], end: tuple[int, bytes]
) -> None:
    placement = Ring(members).placement(replication)
    first, last = position(*start), position(*end)
    for until in (last, None):
        expected = []
        for begin, stop, held in placement.ranges():
            begin = max(begin, first)
            stop = until if stop is None else stop if until is None else min(stop, until)
            if stop is None or begin < stop:
                expected.append((begin, stop, held))
        assert list(placement.ranges_between(first, until)) == expected


@given(rings(), replications)
def test_shares_add_up(members: list[Member], replication: Replication) -> None:
    ring = Ring(members)
    copies = sum(min(count, len(local)) for count, local in zones(members, replication).values())
    owned, first = ring.ownership(replication), ring.primary_ownership(replication)
    assert list(owned) == list(first) == [each.id for each in members]
    assert sum(owned.values()) == pytest.approx(copies)
    assert sum(first.values()) == pytest.approx(1 if copies else 0)
    assert all(first[node] <= owned[node] <= 1 for node in owned)
    assert sum(each.share for each in ring.placement(replication).token_ranges()) == pytest.approx(1)


def everything(placement: Placement) -> list[tuple[bytes, bytes | None, tuple[int, ...]]]:
    return [(start, end, held.nodes) for start, end, held in placement.ranges()]


@pytest.mark.parametrize("replication", [simple(3), network(dc1=3), Replication(LOCAL)])
def test_a_ring_without_tokens_holds_nothing(replication: Replication) -> None:
    for members in ([], [member(1, [])]):
        ring = Ring(members)
        placement = ring.placement(replication)
        assert everything(placement) == [(b"", None, ())]
        assert placement.primary_of(position(5)) == 0
        assert placement.token_ranges() == []
        assert placement.token_range_of(5) is None
        assert ring.ownership(replication) == {each.id: 0 for each in members}


def test_a_single_token() -> None:
    placement = Ring([member(1, [0])]).placement(simple(3))
    (only,) = placement.token_ranges()
    assert (only.start, only.end, only.share, only.primary, only.secondaries) == (0, 0, 1, 1, ())
    assert everything(placement) == [
        (b"", b"\x80" + bytes(6) + b"\x01", (1,)),
        (b"\x80" + bytes(6) + b"\x01", None, (1,)),
    ]


def test_the_greatest_token_needs_no_cut() -> None:
    placement = Ring([member(1, [TOKEN_MAX]), member(2, [TOKEN_MIN + 1])]).placement(simple(1))
    bound = bytes(7) + b"\x02"
    assert everything(placement) == [(b"", bound, (2,)), (bound, None, (1,))]
    assert placement.primary_of(position(TOKEN_MAX, b"\xff" * 30)) == 1


def test_members_without_tokens_get_no_copies() -> None:
    placement = Ring([member(1, [0]), member(2, []), member(3, [5])]).placement(network(dc1=3))
    assert {replicas.nodes for replicas in placement.sets} == {(1, 3), (3, 1)}


def test_local_data_is_the_nodes_own() -> None:
    ring = Ring([member(1, [0]), member(2, [5])])
    assert everything(ring.local(ring.members[2].id)) == [(b"", None, (2,))]
    assert all(replicas.nodes == () for replicas in ring.placement(Replication(LOCAL)).sets)


def test_copies_as_text() -> None:
    ring = Ring([member(number, [number]) for number in range(1, 6)])
    assert ring.placement(network(dc1="3/1")).sets[0].total == 3
    assert ring.placement(network(dc1=0)).sets[0].total == 0
    assert ring.placement(network(elsewhere=3)).sets[0].total == 0
    for wrong in (simple("three"), Replication("EverywhereStrategy")):
        with pytest.raises(ValueError):
            ring.placement(wrong)


def test_two_members_with_one_token_are_no_ring() -> None:
    with pytest.raises(AssertionError):
        Ring([member(1, [7]), member(2, [7])])


def test_a_host_with_many_nodes_counts_once() -> None:
    """Three machines of four cores: each holds one copy of everything, though its nodes are next to each other."""
    members = [member(number + 1, [number * 10], host=f"h{number // 4}") for number in range(12)]
    ring = Ring(members)
    for replication in (simple(3), network(dc1=3)):
        for replicas in ring.placement(replication).sets:
            assert sorted(ring.members[node].host for node in replicas.nodes) == ["h0", "h1", "h2"]
    assert ring.placement(simple(3)).replicas_of(position(0)).nodes == (1, 5, 9)
    assert ring.placement(simple(4)).replicas_of(position(10)).nodes == (2, 3, 5, 9)


def test_a_host_in_several_racks_counts_as_one() -> None:
    """Hosts come first: the copy goes to h2, although h1 has a node in another rack before it."""
    members = [
        member(1, [0], rack="r1", host="h1"),
        member(2, [10], rack="r2", host="h1"),
        member(3, [20], rack="r1", host="h2"),
    ]
    assert Ring(members).placement(network(dc1=2)).replicas_of(position(0)).nodes == (1, 3)


def test_racks_of_one_machine_still_count() -> None:
    """Nodes started by hand on one machine, each in a rack of its own."""
    members = [member(number + 1, [number * 10], rack=f"r{number // 2}", host="h") for number in range(6)]
    assert Ring(members).placement(network(dc1=3)).replicas_of(position(0)).nodes == (1, 3, 5)


def test_placements_kept_are_bounded() -> None:
    ring = Ring([member(1, [0])])
    first = ring.placement(simple(1))
    for copies in range(2, limits.PLACEMENTS_PER_RING_MAX + 1):
        ring.placement(simple(copies))
    assert ring.placement(simple(1)) is first
    ring.placement(simple(limits.PLACEMENTS_PER_RING_MAX + 1))
    assert ring.placement(simple(1)) is not first
