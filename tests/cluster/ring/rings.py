"""Rings for tests: members by hand, members that joined one after another, and rings of any shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from hypothesis import strategies as st

from ourodb.cluster.ring.allocation import choose_tokens
from ourodb.cluster.ring.model import Member
from ourodb.cql.types.murmur3 import TOKEN_MAX, TOKEN_MIN
from ourodb.ports import NodeId
from ourodb.schema.keyspaces import NETWORK_TOPOLOGY, SIMPLE
from ourodb.schema.model import Replication


def member(
    number: int, tokens: Sequence[int], data_center: str = "dc1", rack: str = "r1", host: str | None = None
) -> Member:
    address = f"127.0.0.{number}"
    return Member(
        NodeId(number),
        UUID(int=number),
        (address, 7000),
        (address, 9042),
        data_center,
        rack,
        host or f"h{number}",
        tuple(sorted(tokens)),
    )


def simple(copies: int | str) -> Replication:
    return Replication(SIMPLE, {"replication_factor": str(copies)})


def network(**copies: int | str) -> Replication:
    return Replication(NETWORK_TOPOLOGY, {name: str(value) for name, value in copies.items()})


def position(token: int, key: bytes = b"k") -> bytes:
    """The position of a partition with this token, as storage makes it."""
    return (token - TOKEN_MIN).to_bytes(8, "big") + len(key).to_bytes(2, "big") + key


def joined(count: int, location: Callable[[int], tuple[str, str, str]], tokens: int = 16) -> list[Member]:
    """Members that joined one after another; ``location`` gives data centre, rack and host of the n-th, from 0."""
    members: list[Member] = []
    for number in range(count):
        where = location(number)
        members.append(member(number + 1, choose_tokens(members, *where, tokens), *where))
    return members


# The extremes, neighbours and the usual.
tokens = st.one_of(
    st.sampled_from([TOKEN_MIN + 1, TOKEN_MIN + 2, -1, 0, 1, TOKEN_MAX - 1, TOKEN_MAX]),
    st.integers(TOKEN_MIN + 1, TOKEN_MAX),
)


@st.composite
def rings(draw: st.DrawFn, *, own_hosts: bool = False, least: int = 1) -> list[Member]:
    """Up to ten members in up to three data centres and racks, with one to four tokens each.

    Args:
        own_hosts: no two members share one. Otherwise they may, and a host may even appear in several racks.
        least: how many members at least.
    """
    count = draw(st.integers(least, 10))
    sizes = draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    given = draw(st.lists(tokens, min_size=sum(sizes), max_size=sum(sizes), unique=True))
    centers, racks, hosts = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    members = []
    for number, size in enumerate(sizes, 1):
        data_center = f"dc{draw(st.integers(1, centers))}"
        rack = f"r{draw(st.integers(1, racks))}"
        host = None if own_hosts else f"h{draw(st.integers(1, hosts))}"
        members.append(member(number, given[:size], data_center, rack, host))
        given = given[size:]
    return members


replications = st.one_of(
    st.builds(simple, st.integers(1, 5)),
    st.builds(network, dc1=st.integers(0, 5), dc2=st.integers(0, 4)),
    st.builds(network, dc1=st.integers(1, 5), dc2=st.integers(0, 4), dc3=st.integers(0, 3)),
)
