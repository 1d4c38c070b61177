"""Numbers about many nodes, packed by column.

A digest says three or four numbers about each of up to a thousand nodes, once a second, so its size is what
gossip costs. All generations lie within the cluster's lifetime and ids are small, so a column is its least
value and the differences from it, each in the one, two, four or eight bytes that the greatest needs; equal
values need none.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from ourodb.limits import GOSSIP_NUMBER_MAX

Number = Annotated[int, msgspec.Meta(ge=0, le=GOSSIP_NUMBER_MAX)]
FORMATS: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
WIDTHS: Final = (0, 1, 2, 4, 4, 8, 8, 8, 8)
"""Width by the number of bytes that the greatest difference needs."""


class Column(msgspec.Struct, array_like=True, frozen=True):
    """Attributes:
    base: the least value.
    width: bytes of each difference: 0, 1, 2, 4 or 8.
    data: the differences, big-endian.
    """

    base: Number = 0
    width: int = 0
    data: bytes = b""


EMPTY: Final = Column()


def pack(values: Sequence[int]) -> Column:
    """The column of these values, each in [0, GOSSIP_NUMBER_MAX]."""
    if not values:
        return EMPTY
    base = min(values)
    width = WIDTHS[((max(values) - base).bit_length() + 7) // 8]
    if not width:
        return Column(base)
    return Column(
        base, width, struct.pack(f">{len(values)}{FORMATS[width]}", *[value - base for value in values])
    )


def unpack(column: Column, count: int) -> list[int]:
    """The values.

    Raises:
        ValueError: the column isn't of that many values, or a value is out of bounds.
    """
    base, width = column.base, column.width
    if len(column.data) != width * count:
        raise ValueError(f"{len(column.data)} bytes for {count} values of {width} bytes")
    if not width:
        return [base] * count
    letter = FORMATS.get(width)
    if letter is None:
        raise ValueError(f"values of {width} bytes")
    differences = struct.unpack(f">{count}{letter}", column.data)
    if count and base + max(differences) > GOSSIP_NUMBER_MAX:
        raise ValueError("a value is out of bounds")
    return [base + difference for difference in differences]
