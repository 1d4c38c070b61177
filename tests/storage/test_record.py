"""Records: what is written is read back; the fast paths and the general ones mean the same bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.records import cells, deletions, rows, uniform_records

from ourodb.storage.record import (
    COMPLEX_DELETION,
    DELETION,
    ELEMENT_FORMAT,
    EXPIRING,
    LIVE,
    TOMBSTONE,
    UNIFORM,
    CorruptRecord,
    Header,
    Row,
    UniformShape,
    decode_element,
    decode_header,
    decode_range,
    decode_row,
    encode_element,
    encode_header,
    encode_range,
    encode_row,
    greatest_timestamp,
    is_plain,
    raw_clustering,
    restamp,
    uniform_cells,
    uniform_marker,
)


def joined(*values: bytes) -> bytes:
    return b"".join(len(value).to_bytes(4, "big") + value for value in values)


def parts(row: Row) -> tuple[object, ...]:
    return row.marker, row.deletion, row.cells, row.raw_clustering


@given(rows().filter(lambda row: not row.is_empty()))
def test_row_is_read_back(row: Row) -> None:
    record = encode_row(row)
    assert parts(decode_row(record)) == parts(row)
    assert parts(decode_row(b"before" + record, 6)) == parts(row)
    assert raw_clustering(record) == row.raw_clustering
    at = [cell[0] for cell in row.cells.values()]
    at += [part[0] for part in (row.marker, row.deletion) if part is not None]
    assert greatest_timestamp(record) == max(at)


@given(rows().filter(lambda row: not row.is_empty()))
def test_uniform_row_gives_the_same_cells_by_either_way(row: Row) -> None:
    record = encode_row(row)
    if not record[1] & UNIFORM:
        return
    expected = {column_id: (value, at, ttl, due) for column_id, (at, _, due, value, ttl) in row.cells.items()}
    assert uniform_cells(record) == expected
    if row.marker is None:
        assert uniform_marker(record) is None
    else:
        assert uniform_marker(record) == (row.marker[0], row.marker[3], row.marker[2])


@given(uniform_records())
def test_joined_bytes_are_what_the_encoder_makes(record: bytes) -> None:
    """Else a row that was merged would differ from the same row inserted at once."""
    assert encode_row(decode_row(record)) == record


def test_layout_of_a_plain_insert() -> None:
    """The format on disk: a change here needs a new format byte."""
    record = UniformShape([1, 2]).record(7, joined(b"ab", b""))
    seven = b"\x00\x00\x00\x00\x00\x00\x00\x07"
    assert (
        record
        == b"\x01\x03" + seven + seven + b"\x00\x02\x00\x01\x00\x02" + b"\x00\x00\x00\x02ab\x00\x00\x00\x00"
    )


def test_layout_of_a_row_with_everything() -> None:
    row = Row(
        (9, EXPIRING, 50, 5), (3, 40), {1: (9, TOMBSTONE, 41, b"", 0), 2: (8, LIVE, 0, b"x", 0)}, (b"r",)
    )
    assert encode_row(row).hex(" ") == " ".join(
        [
            "01 1a",
            "00 00 00 00 00 00 00 03 00 00 00 00 00 00 00 09",
            "00 00 00 00 00 00 00 09 00 00 00 05 00 00 00 00 00 00 00 32",
            "00 00 00 00 00 00 00 03 00 00 00 00 00 00 00 28",
            "00 01 00 00 00 01 72",
            "00 02 00 01 00 02",
            "02 00 00 00 00 00 00 00 09 00 00 00 00 00 00 00 00 00 00 00 29",
            "00 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00 00 00 00 00 00",
            "ff ff ff ff",
            "00 00 00 01 78",
        ]
    )


def test_shape_knows_its_rows_and_no_others() -> None:
    shape = UniformShape([1, 2])
    values = joined(b"ab", b"c")
    for record in (
        shape.record(7, values),
        shape.expiring_record(7, 5, 50, values),
        UniformShape([1, 2], marker=False).record(7, values),
    ):
        at = shape.values_at(record)
        assert record[at:] == values
    assert not shape.values_at(UniformShape([1, 3]).record(7, values))
    assert not shape.values_at(UniformShape([1]).record(7, joined(b"ab")))
    assert not shape.values_at(UniformShape([1, 2, 3]).record(7, joined(b"ab", b"c", b"d")))
    row = decode_row(shape.record(7, values))
    row.deletion = (3, 40)
    assert encode_row(row)[1] & (UNIFORM | DELETION) == UNIFORM | DELETION
    assert not shape.values_at(encode_row(row))


def test_plain_is_what_never_comes_due() -> None:
    shape = UniformShape([1])
    assert is_plain(shape.record(7, joined(b"a")))
    assert not is_plain(shape.expiring_record(7, 5, 50, joined(b"a")))
    assert not is_plain(encode_row(Row(None, (3, 40), {})))
    assert not is_plain(encode_element((7, LIVE, 0, b"a", 0)))


@given(cells(), st.none() | st.binary(max_size=3))
def test_element_is_read_back(cell: tuple[int, int, int, bytes, int], raw_path: bytes | None) -> None:
    assert decode_element(encode_element(cell, raw_path)) == (cell, raw_path)


@given(st.none() | deletions, st.booleans(), st.none() | rows(with_deletion=False, with_marker=False))
def test_header_is_read_back(deletion: tuple[int, int] | None, has_ranges: bool, static: Row | None) -> None:
    if static is not None:
        static.raw_clustering = None
    header = decode_header(encode_header(Header(deletion, has_ranges, static)))
    assert (header.deletion, header.has_ranges) == (deletion, has_ranges)
    if static is None or static.is_empty():
        assert header.static is None
    else:
        assert header.static is not None
        assert header.static.cells == static.cells


def test_range_is_read_back() -> None:
    assert decode_range(encode_range(b"end", (-5, 40))) == (b"end", (-5, 40))


def test_arrival_is_stamped_on_deletions_and_on_nothing_else() -> None:
    """Tombstones age from when they came to this node; expiry is the writer's."""
    live, expiring = (5, LIVE, 0, b"x", 0), (5, EXPIRING, 60, b"x", 9)
    row = Row((5, EXPIRING, 60, 9), (3, 40), {1: (5, TOMBSTONE, 41, b"", 0), 2: live, 3: expiring})
    row.cells[4] = (4, COMPLEX_DELETION, 42, b"", 0)
    found = decode_row(restamp(encode_row(row), 99))
    assert found.deletion == (3, 99)
    assert found.marker == row.marker
    assert found.cells == {
        1: (5, TOMBSTONE, 99, b"", 0),
        2: live,
        3: expiring,
        4: (4, COMPLEX_DELETION, 99, b"", 0),
    }
    assert decode_element(restamp(encode_element((5, TOMBSTONE, 41, b"", 0)), 99))[0][2] == 99
    assert decode_element(restamp(encode_element(expiring), 99))[0] == expiring
    header = decode_header(restamp(encode_header(Header((3, 40), True, Row(None, None, {1: live}))), 99))
    assert header.deletion == (3, 99)
    assert decode_range(restamp(encode_range(b"e", (3, 40)), 99)) == (b"e", (3, 99))


def test_row_older_than_its_own_deletion_keeps_its_timestamp() -> None:
    """UNIFORM would give its cells the greatest timestamp, which is the deletion's: dead data would live."""
    row = Row((5, LIVE, 0, 0), (6, 40), {1: (5, LIVE, 0, b"x", 0)})
    assert parts(decode_row(encode_row(row))) == parts(row)


def test_unknown_format_is_refused() -> None:
    """A newer node's record must not be read as something else."""
    with pytest.raises(CorruptRecord):
        decode_row(bytes([9]) + bytes(40))
    with pytest.raises(CorruptRecord):
        decode_element(bytes([9]) + bytes(40))
    with pytest.raises(CorruptRecord):
        decode_header(bytes([ELEMENT_FORMAT]) + bytes(40))
