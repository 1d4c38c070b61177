"""Tokens and the positions between them.

If this fails, a node reads, streams or repairs partitions that belong to a neighbour, or leaves out its own.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.cluster.ring.rings import position, tokens

from ourodb.cluster.ring.tokens import TOKENS, bound_of, positions_of, token_of, tokens_between, wrapped
from ourodb.cql.types.murmur3 import TOKEN_MAX, TOKEN_MIN
from ourodb.storage import keys

some_keys = st.binary(max_size=40)


@given(tokens, some_keys, tokens, some_keys)
def test_a_bound_parts_the_token_from_the_next(token: int, key: bytes, other: int, other_key: bytes) -> None:
    bound = bound_of(token)
    if bound is None:
        assert token == TOKEN_MAX
        return
    assert len(bound) == 8
    assert position(token, key) < bound
    assert (position(other, other_key) < bound) == (other <= token)


@given(tokens)
def test_bounds_are_those_of_storage(token: int) -> None:
    """Placement and storage each make their own, since neither may import the other."""
    assert bound_of(token) == keys.token_end(token)
    assert token_of(position(token)) == keys.token_of(position(token)) == token


@given(tokens, tokens, tokens, some_keys)
def test_a_token_range_is_its_slices_of_positions(start: int, end: int, token: int, key: bytes) -> None:
    slices = positions_of(start, end)
    inside = start < token <= end if start < end else token > start or token <= end
    found = [
        first <= position(token, key) and (last is None or position(token, key) < last)
        for first, last in slices
    ]
    assert sum(found) == inside
    assert list(slices) == sorted(slices, key=lambda each: each[0])
    assert all(last is None or first < last for first, last in slices)


def test_the_circle() -> None:
    assert tokens_between(3, 4) == 1
    assert tokens_between(4, 3) == TOKENS - 1
    assert tokens_between(7, 7) == TOKENS
    assert tokens_between(TOKEN_MAX, TOKEN_MIN) == 1
    assert wrapped(TOKEN_MAX + 1) == TOKEN_MIN
    assert wrapped(TOKEN_MIN - 1) == TOKEN_MAX
    assert positions_of(TOKEN_MAX, TOKEN_MAX) == ((b"", None),)
