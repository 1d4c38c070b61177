"""Tokens chosen for nodes that join: how even the shares come out.

If this fails, some nodes hold more data and get more requests than others, and fill up before them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cluster.ring.rings import joined, member, network, rings

from ourodb.cluster.ring.allocation import Allocation, choose_tokens
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.placement import Ring
from ourodb.cql.types.murmur3 import TOKEN_MAX, TOKEN_MIN

UNEVENNESS_MAX = 1.15
"""Greatest share of a node, as a multiple of the mean."""

Location = Callable[[int], tuple[str, str, str]]


def one_rack(number: int) -> tuple[str, str, str]:
    return "dc1", "r1", f"h{number}"


def three_racks(number: int) -> tuple[str, str, str]:
    return "dc1", f"r{number % 3}", f"h{number}"


def rack_after_rack(number: int) -> tuple[str, str, str]:
    return "dc1", f"r{number // 4}", f"h{number}"


def two_centers(number: int) -> tuple[str, str, str]:
    return f"dc{number % 2 + 1}", f"r{number // 2 % 3}", f"h{number}"


def four_cores(number: int) -> tuple[str, str, str]:
    return "dc1", "r1", f"h{number // 4}"


@cache
def members_of(location: Location, count: int) -> tuple[Member, ...]:
    return tuple(joined(count, location))


def unevenness(members: Sequence[Member], copies: int, data_center: str = "dc1") -> float:
    local = [each.id for each in members if each.data_center == data_center]
    owned = Ring(members).ownership(network(**{data_center: copies}))
    shares = [owned[node] for node in local]
    return max(shares) * len(shares) / sum(shares)


SIZES = [*range(3, 13), 30, 100]


@pytest.mark.parametrize("count", SIZES)
def test_one_rack(count: int) -> None:
    members = members_of(one_rack, 100)[:count]
    assert unevenness(members, 1) <= UNEVENNESS_MAX
    assert unevenness(members, 3) <= UNEVENNESS_MAX


@pytest.mark.parametrize("count", [*range(3, 13), 30, 99, 100])
def test_three_racks_joined_round_robin(count: int) -> None:
    members = members_of(three_racks, 100)[:count]
    assert unevenness(members, 1) <= UNEVENNESS_MAX
    # While a rack is a node short its nodes hold more, since each rack holds one copy of everything.
    if count % 3 == 0:
        assert unevenness(members, 3) <= UNEVENNESS_MAX


def test_three_racks_joined_one_after_another() -> None:
    members = members_of(rack_after_rack, 12)
    assert unevenness(members, 1) <= UNEVENNESS_MAX
    assert unevenness(members, 3) <= UNEVENNESS_MAX


@pytest.mark.parametrize("count", [12, 16, 20, 24])
def test_hosts_of_several_nodes(count: int) -> None:
    members = members_of(four_cores, 24)[:count]
    assert unevenness(members, 1) <= UNEVENNESS_MAX
    assert unevenness(members, 3) <= UNEVENNESS_MAX


@pytest.mark.parametrize("data_center", ["dc1", "dc2"])
@pytest.mark.parametrize("count", range(6, 25))
def test_two_data_centers(count: int, data_center: str) -> None:
    members = members_of(two_centers, 24)[:count]
    local = [each for each in members if each.data_center == data_center]
    assert unevenness(members, 1, data_center) <= UNEVENNESS_MAX
    if len(local) % 3 == 0:
        assert unevenness(members, 3, data_center) <= UNEVENNESS_MAX


def test_a_data_center_is_a_ring_of_its_own() -> None:
    """Who joins elsewhere doesn't change what a node gets."""
    together = members_of(two_centers, 24)
    alone = joined(12, lambda number: two_centers(2 * number))
    assert [each.tokens for each in together if each.data_center == "dc1"] == [each.tokens for each in alone]


def test_nodes_replaced_over_and_over() -> None:
    """Evenness doesn't wear off as nodes come and go."""
    members = list(members_of(one_rack, 12))
    for number in range(30):
        del members[(number * 7) % 12]
        where = one_rack(100 + number)
        members.append(member(101 + number, choose_tokens(members, *where), *where))
        assert unevenness(members, 1) <= UNEVENNESS_MAX
        assert unevenness(members, 3) <= UNEVENNESS_MAX


def test_a_node_with_more_tokens_gets_more() -> None:
    members: list[Member] = []
    for number in range(12):
        where = one_rack(number)
        members.append(member(number + 1, choose_tokens(members, *where, 8 if number % 2 else 32), *where))
    owned = Ring(members).ownership(network(dc1=1))
    large = [owned[each.id] for each in members if len(each.tokens) == 32]
    small = [owned[each.id] for each in members if len(each.tokens) == 8]
    assert max(large) / min(large) < UNEVENNESS_MAX**2
    assert 4 / UNEVENNESS_MAX < sum(large) / sum(small) < 4 * UNEVENNESS_MAX


@settings(max_examples=50)
@given(
    rings(), st.sampled_from(["dc1", "dc2", "new"]), st.integers(1, 4), st.integers(1, 5), st.integers(1, 20)
)
def test_any_ring_can_be_joined(
    members: list[Member], data_center: str, rack: int, host: int, count: int
) -> None:
    """Even one made by hand, with tokens next to each other, and always with the same outcome."""
    chosen = choose_tokens(members, data_center, f"r{rack}", f"h{host}", count)
    assert chosen == choose_tokens(members, data_center, f"r{rack}", f"h{host}", count)
    assert list(chosen) == sorted(set(chosen))
    assert len(chosen) == count
    assert not set(chosen) & {token for each in members for token in each.tokens}
    assert all(TOKEN_MIN < token <= TOKEN_MAX for token in chosen)


@given(rings(least=3, own_hosts=True), st.integers(1, 16))
def test_what_a_split_moves_is_foreseen_exactly(members: list[Member], count: int) -> None:
    """The shares that a choice goes by are those of the ring that it makes, though it only counts what changes."""
    for racks in (1, 3):
        local = [
            member(each.id, each.tokens, rack=f"r{number % racks}") for number, each in enumerate(members)
        ]
        allocation = Allocation(local, "r0", "new", count)
        assert allocation.is_replicated
        tokens = allocation.run()
        if len({*tokens, *(token for each in local for token in each.tokens)}) < count + sum(
            len(each.tokens) for each in local
        ):
            continue
        ring = Ring([*local, member(11, tokens, rack="r0")])
        expected = [
            *ring.ownership(network(dc1=1)).values(),
            *ring.ownership(network(dc1=3)).values(),
        ]
        shares = [
            (1 + deviation) * fair
            for deviation, fair in zip(allocation.deviations, allocation.fair, strict=True)
        ]
        assert shares == pytest.approx(expected, abs=1e-9)


def test_tokens_that_others_have_are_passed_over() -> None:
    wanted = choose_tokens([], "dc1", "r1", "h1")
    taken = member(1, wanted, "dc2")
    after = member(2, [token + 1 for token in wanted], "dc2")
    assert choose_tokens([taken, after], "dc1", "r1", "h1") == tuple(token + 2 for token in wanted)


def test_a_thousand_members_can_be_joined() -> None:
    """As many as the design names. Work that grew with their square would run into the suite's timeout."""
    step = 2**64 // 16_000
    members = [
        member(
            number + 1,
            [(turn * 1000 + number) * step - 2**63 + 1 for turn in range(16)],
            rack=f"r{number % 3}",
        )
        for number in range(999)
    ]
    members.append(member(1000, choose_tokens(members, "dc1", "r0", "new"), rack="r0"))
    owned = Ring(members).ownership(network(dc1=3))
    assert 0.5 < owned[members[-1].id] / (3 / 1000) < UNEVENNESS_MAX
