"""What changes hands when nodes come and go, and from whom it is copied.

If this fails, a node is asked for rows that it was never given, or is given them by one that doesn't have them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from tests.cluster.ring.rings import replications, rings

from ourodb.cluster.ring.allocation import choose_tokens
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.moves import JOIN, LEAVE, Move, MovedRange, Stage, moved_ranges, overlaid, ring_after
from ourodb.cluster.ring.placement import ReplicaSet, Ring
from ourodb.ports import NodeId
from ourodb.schema.keyspaces import SIMPLE
from ourodb.schema.model import Replication

THREE = Replication(SIMPLE, {"replication_factor": "3"})
COUNT = 6


def members_of(count: int) -> dict[NodeId, Member]:
    """Nodes that joined one after the other."""
    found: dict[NodeId, Member] = {}
    for number in range(1, count + 1):
        chosen = choose_tokens(tuple(found.values()), "dc1", "r1", f"h{number}", 16)
        found[NodeId(number)] = template(number, chosen)
    return found


def template(number: int, tokens: tuple[int, ...] = ()) -> Member:
    address = f"10.0.0.{number}"
    return Member(
        NodeId(number), UUID(int=number), (address, 7000), (address, 9042), "dc1", "r1", f"h{number}", tokens
    )


def move_of(tokens: Mapping[int, tuple[int, ...]], kind: str) -> Move:
    return Move(
        1, kind, MappingProxyType({NodeId(node): own for node, own in tokens.items()}), Stage.COPYING, 1
    )


@given(rings(), replications, st.data())
def test_outside_of_moved_ranges_the_replicas_stay(
    members: list[Member], replication: Replication, data: st.DataObject
) -> None:
    known = {member.id: member for member in members}
    leaver = data.draw(st.sampled_from(sorted(known)))
    before = Ring(members).placement(replication)
    after = ring_after(known, move_of({leaver: ()}, LEAVE)).placement(replication)
    moved = moved_ranges(before, after)
    for start, end, old, new in overlaid(before, after):
        within = [
            one for one in moved if one.start <= start and (one.end is None or (end and end <= one.end))
        ]
        assert bool(within) == (sorted(old.nodes) != sorted(new.nodes))
        if within:
            assert sorted(within[0].before.nodes) == sorted(old.nodes)
            assert sorted(within[0].after.nodes) == sorted(new.nodes)
    assert all(leaver not in one.after.nodes for one in moved)


def test_a_newcomer_gains_its_share_from_those_whose_place_it_takes() -> None:
    members = members_of(COUNT)
    newcomer = template(COUNT + 1)
    known = {**members, newcomer.id: newcomer}
    tokens = choose_tokens(tuple(members.values()), "dc1", "r1", newcomer.host, 16)
    before = Ring(tuple(known.values())).placement(THREE)
    after = ring_after(known, move_of({newcomer.id: tokens}, JOIN))
    moved = moved_ranges(before, after.placement(THREE))
    everybody = sorted(members)
    for one in moved:
        # A token of its own may put another node in the place of one, too.
        assert len(one.gaining) == len(one.losing)
        for gaining, losing in zip(one.gaining, one.losing, strict=True):
            assert one.sources(gaining, everybody) == (losing,)
    assert any(newcomer.id in one.gaining for one in moved)
    ownership = after.ownership(THREE)
    assert max(ownership.values()) / (sum(ownership.values()) / len(ownership)) < 1.15


def test_for_one_that_is_down_others_stand_in_as_many_as_hold_all_that_a_quorum_has() -> None:
    members = members_of(COUNT)
    before = Ring(tuple(members.values())).placement(THREE)
    gone = NodeId(2)
    after = ring_after(members, move_of({gone: ()}, LEAVE)).placement(THREE)
    live = [node for node in members if node != gone]
    for one in moved_ranges(before, after):
        for node in one.gaining:
            sources = one.sources(node, live)
            assert sources is not None
            # Two of three: any write that two acknowledged is on one of them.
            assert len(sources) == 2
            assert gone not in sources
            assert set(sources) <= set(one.before.nodes)
            assert one.sources(node, [sources[0]]) is None


@st.composite
def moved_somewhere(draw: st.DrawFn) -> tuple[MovedRange, list[NodeId]]:
    """A range of which any replicas change in one, two or three data centres, and who is gone for good."""
    members: dict[NodeId, Member] = {}
    sets: tuple[list[NodeId], list[NodeId]] = ([], [])
    for name in ("dc1", "dc2", "dc3")[: draw(st.integers(1, 3))]:
        there = [NodeId(len(members) + number) for number in range(1, 8)]
        members |= {node: replace(template(node), data_center=name) for node in there}
        for replicas in sets:
            replicas += draw(st.permutations(there))[: draw(st.integers(0, 5))]
    before, after = (ReplicaSet(tuple(draw(st.permutations(one))), members) for one in sets)
    leaving = [node for node in before.nodes if node not in after.nodes]
    gone = draw(st.lists(st.sampled_from(leaving), unique=True)) if leaving else []
    return MovedRange(b"", None, before, after), gone


def quorum(replicas: Sequence[NodeId]) -> int:
    return len(replicas) // 2 + 1


@given(moved_somewhere(), st.data())
def test_what_a_quorum_has_any_quorum_after_finds(
    moved: tuple[MovedRange, list[NodeId]], data: st.DataObject
) -> None:
    """A quorum of all, or of a data centre, whoever is in it."""
    one, gone = moved
    live = [node for node in (*one.before.nodes, *one.after.nodes) if node not in gone]
    copying = (*one.gaining, *one.merging)
    sources = {node: one.sources(node, live, gone) for node in copying}
    if any(found is None for found in sources.values()):
        return
    by_dc = [
        (there, one.after.by_dc[name])
        for name, there in one.before.by_dc.items()
        # What only a data centre had all of whose replicas are gone is lost, unless others have it.
        if name in one.after.by_dc and not all(node in gone for node in there)
    ]
    for before, after in [(one.before.nodes, one.after.nodes), *by_dc]:
        if not before or not after or all(node in gone for node in before):
            continue
        # Those that acknowledged a write; nobody else has it.
        having = data.draw(st.permutations(before))[: quorum(before)]
        if len([node for node in having if node in gone]) > len(before) - quorum(before):
            continue
        lacking = [
            node
            for node in after
            if node not in having and not any(source in having for source in sources.get(node) or ())
        ]
        assert len(lacking) < quorum(after), (before, after, having, sources, gone)


def test_where_nobody_held_anything_nothing_is_copied() -> None:
    newcomer = template(1)
    before = Ring((newcomer,)).placement(THREE)
    after = ring_after({newcomer.id: newcomer}, move_of({newcomer.id: (5, 10)}, JOIN)).placement(THREE)
    (one,) = moved_ranges(before, after)
    assert (one.start, one.end, one.gaining, one.losing) == (b"", None, (newcomer.id,), ())
    assert one.sources(newcomer.id, ()) == ()


def test_a_move_that_changes_nothing_moves_nothing() -> None:
    members = members_of(COUNT)
    ring = Ring(tuple(members.values()))
    same = ring_after(members, move_of({1: members[NodeId(1)].tokens}, JOIN))
    assert moved_ranges(ring.placement(THREE), same.placement(THREE)) == ()
