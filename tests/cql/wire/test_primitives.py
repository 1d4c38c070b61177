"""The notations of the spec. A failure here garbles every message that uses one."""

from __future__ import annotations

import io

import pytest
from cassandra import marshal, protocol
from hypothesis import given
from hypothesis import strategies as st

from ourodb.cql.wire import primitives
from ourodb.cql.wire.primitives import UNSET, Reader, Value
from ourodb.errors import ProtocolError

texts = st.text(max_size=20)


def by_driver(name: str, value: object) -> bytes:
    buffer = io.BytesIO()
    getattr(protocol, f"write_{name}")(buffer, value)
    return buffer.getvalue()


@given(texts, st.lists(texts, max_size=4), st.dictionaries(texts, texts, max_size=4))
def test_strings_as_the_driver_writes_them(string: str, strings: list[str], pairs: dict[str, str]) -> None:
    multi = {key: [value, string] for key, value in pairs.items()}
    assert primitives.write_string(string) == by_driver("string", string)
    assert primitives.write_long_string(string) == by_driver("longstring", string)
    assert primitives.write_string_list(strings) == by_driver("stringlist", strings)
    assert primitives.write_string_map(pairs) == by_driver("stringmap", pairs)
    assert primitives.write_string_multimap(multi) == by_driver("stringmultimap", multi)
    assert Reader(by_driver("string", string)).string() == string
    assert Reader(by_driver("longstring", string)).long_string() == string
    assert Reader(by_driver("stringlist", strings)).string_list(9) == strings
    assert Reader(by_driver("stringmap", pairs)).string_map(9) == pairs
    assert Reader(by_driver("stringmultimap", multi)).string_multimap(9) == multi


@given(st.dictionaries(texts, st.none() | st.binary(max_size=9), max_size=4))
def test_bytes_map_as_the_driver_writes_it(pairs: dict[str, bytes | None]) -> None:
    assert primitives.write_bytes_map(pairs) == by_driver("bytesmap", pairs)
    assert Reader(by_driver("bytesmap", pairs)).bytes_map(9) == pairs


@pytest.mark.parametrize("value", [None, b"", b"xyz", UNSET])
def test_value_survives(value: Value) -> None:
    """Null, empty and not set are three different things: mixing them up deletes or keeps data wrongly."""
    written = primitives.write_value(value)
    assert Reader(written).value(4) == value
    assert written == by_driver("value", protocol._UNSET_VALUE if value is UNSET else value)


def test_negative_lengths_of_values_by_version() -> None:
    assert Reader(b"\xff\xff\xff\xfe").value(3) is None
    assert Reader(b"\xff\xff\xff\xfe").value(5) is UNSET
    assert Reader(b"\x80\x00\x00\x00").value(3) is None
    with pytest.raises(ProtocolError, match="Invalid ByteBuf length -3"):
        Reader(b"\xff\xff\xff\xfd").value(4)


@given(st.integers(-(2**63), 2**63 - 1))
def test_vints_as_the_driver_writes_them(number: int) -> None:
    written = primitives.write_vint(number)
    assert written == bytes(marshal.vints_pack([number]))
    reader = Reader(written)
    assert reader.vint() == number
    assert reader.remaining() == 0


def test_unsigned_vint_of_the_spec() -> None:
    assert primitives.write_unsigned_vint(256_000) == bytes((0b11000011, 0b11101000, 0))
    assert primitives.write_unsigned_vint(2**64 - 1) == b"\xff" * 9
    assert Reader(b"\xff" * 9).unsigned_vint() == 2**64 - 1


@pytest.mark.parametrize("address", [bytes((127, 0, 0, 1)), bytes(15) + b"\x01"])
def test_inet(address: bytes) -> None:
    assert Reader(primitives.write_inet(address, 9042)).inet() == (address, 9042)


def test_refusals_say_what_cassandra_says() -> None:
    cases = [
        (lambda reader: reader.consistency(), b"\x00\x63", "Unknown code 99 for a consistency level"),
        (lambda reader: reader.inet(), b"\x05", "Invalid address length 5 while deserializing inet address"),
        (lambda reader: reader.string(), b"\x00\x02\xff\xff", "Cannot decode string as UTF8: 'ffff'"),
        (
            lambda reader: reader.string(),
            b"\x00\x09abc",
            "Not enough bytes to read an UTF8 serialized string",
        ),
        (lambda reader: reader.long_string(), b"\x7f\xff\xff\xff", "preceded by its 4 bytes length"),
        (lambda reader: reader.long_string(), b"\xff\xff\xff\xff", "preceded by its 4 bytes length"),
        (lambda reader: reader.string_map(64), b"\xff\xff", "at most 64"),
    ]
    for read, body, expected in cases:
        with pytest.raises(ProtocolError, match=expected):
            read(Reader(body))


def test_long_text_is_cut_between_characters() -> None:
    """Errors quote what clients sent; one that is too long must not become an internal error."""
    written = primitives.write_text("é" * 40_000 + "\ud800")
    assert Reader(written).string() == "é" * 32_767


READS = [
    "byte", "short", "int32", "int64", "string", "long_string", "short_bytes", "nullable_bytes",
    "consistency", "uuid", "inet_address", "inet", "unsigned_vint", "vint",
]  # fmt: skip


@given(st.binary(max_size=40), st.lists(st.sampled_from(READS), max_size=12))
def test_reader_never_leaves_the_body(body: bytes, reads: list[str]) -> None:
    reader = Reader(body)
    try:
        for read in reads:
            getattr(reader, read)()
            assert 0 <= reader.offset <= len(body)
        reader.value(5)
        reader.string_multimap(99)
    except ProtocolError:
        pass
    assert 0 <= reader.offset <= len(body)
