"""Tokens. If these fail, drivers send requests to the wrong replicas, and tools read ranges that aren't there."""

from __future__ import annotations

import pytest
from cassandra.murmur3 import _murmur3, murmur3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ourodb.cql.types import TOKEN_MAX, TOKEN_MIN, token
from ourodb.cql.types import murmur3 as module

_high_bytes = st.lists(st.integers(0x7E, 0x81), max_size=100).map(bytes)


@given(st.binary(min_size=1, max_size=100) | _high_bytes.filter(bool))
@example(b"\xff" * 8)
@example(b"\x80")
@settings(max_examples=1000, deadline=None)
def test_tokens_are_the_drivers(key: bytes) -> None:
    assert token(key) == murmur3(key) == _murmur3(key)


@pytest.mark.parametrize("length", range(1, 48))
def test_every_length_of_tail_with_every_sign(length: int) -> None:
    for at in range(length):
        key = bytes(range(length))[:at] + b"\xfe" + bytes(range(length))[at + 1 :]
        assert token(key) == _murmur3(key)
    assert token(b"\xff" * length) == _murmur3(b"\xff" * length)


def test_known_tokens() -> None:
    # From the tests of the drivers, which took them from Cassandra.
    assert token(b"123") == -7468325962851647638
    assert token(b"\x00\xff\x10\xfa\x99" * 10) == 5837342703291459765
    assert token(b"\xfe" * 8) == -8927430733708461935
    assert token(b"\x10" * 8) == 1446172840243228796
    assert token(b"9223372036854775807") == 7162290910810015547


def test_the_least_number_is_no_keys_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "hash64", lambda key: (TOKEN_MIN, 0))
    assert token(b"a key") == TOKEN_MAX
    assert token(b"\xff" * 8) == TOKEN_MAX


def test_the_empty_key_stands_before_all() -> None:
    assert token(b"") == TOKEN_MIN
