"""Variable-length integers. If these fail, durations and vectors of text can't be exchanged with clients."""

from __future__ import annotations

import pytest
from cassandra.marshal import uvint_pack, uvint_unpack, vints_pack, vints_unpack
from hypothesis import given, settings
from hypothesis import strategies as st

from ourodb.cql.types.vint import decode_unsigned_vint, decode_vint, encode_unsigned_vint, encode_vint

_edges = [edge + step for bits in range(0, 64, 7) for edge in [1 << bits] for step in (-1, 0, 1)]


@given(st.integers(0, 2**64 - 1) | st.sampled_from(_edges), st.binary(max_size=3))
@settings(max_examples=300, deadline=None)
def test_unsigned(number: int, after: bytes) -> None:
    data = encode_unsigned_vint(number)
    assert decode_unsigned_vint(b"!" + data + after, 1) == (number, 1 + len(data))
    for end in range(len(data)):
        with pytest.raises(ValueError):
            decode_unsigned_vint(data[:end], 0)


@given(st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=300, deadline=None)
def test_signed(number: int) -> None:
    data = encode_vint(number)
    assert decode_vint(data, 0) == (number, len(data))
    if abs(number) < 2**62:
        assert data == vints_pack([number])
        assert tuple(vints_unpack(data)) == (number,)


@given(st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_lengths_are_the_drivers(number: int) -> None:
    assert encode_unsigned_vint(number) == uvint_pack(number)
    assert uvint_unpack(encode_unsigned_vint(number))[0] == number
