"""Tables that the tests of the store share."""

from __future__ import annotations

from uuid import UUID

from ourodb.cql.types.base import CqlType
from ourodb.cql.types.collection import ListType, MapType, SetType
from ourodb.cql.types.composite import UserType
from ourodb.cql.types.native import COUNTER, DECIMAL, INT, TEXT
from ourodb.schema.model import Column, ColumnKind, Table, TableOptions

GC_GRACE_S = 36_000


def table(
    partition_key: list[tuple[str, CqlType]],
    clustering: list[tuple[str, CqlType, bool]],
    statics: list[tuple[str, CqlType]],
    regulars: list[tuple[str, CqlType]],
    incarnation: int = 1024,
    is_counter: bool = False,
) -> Table:
    """A table; clustering columns are (name, type, descending), ids are handed out in the order given."""
    columns = [
        Column(name, kind, ColumnKind.PARTITION_KEY, at) for at, (name, kind) in enumerate(partition_key)
    ]
    columns += [
        Column(name, kind, ColumnKind.CLUSTERING, at, 0, descending)
        for at, (name, kind, descending) in enumerate(clustering)
    ]
    next_id = 1
    for chosen, column_kind in ((statics, ColumnKind.STATIC), (regulars, ColumnKind.REGULAR)):
        for name, kind in chosen:
            columns.append(Column(name, kind, column_kind, -1, next_id))
            next_id += 1
    return Table(
        "ks",
        "t",
        UUID(int=incarnation),
        incarnation,
        {column.name: column for column in columns},
        TableOptions(gc_grace_seconds=GC_GRACE_S),
        next_column_id=next_id,
        is_counter=is_counter,
    )


UDT = UserType("ks", "u", ("a", "b"), (INT, TEXT))

PLAIN = table([("p", INT)], [("c", INT, False)], [], [("v", INT), ("w", INT)])
"""Neither statics nor collections: the paths that skip headers."""

KEY_VALUE = table([("p", TEXT)], [], [], [("v", TEXT)], 1025)

WIDE = table(
    [("p", INT), ("q", INT)],
    [("c", INT, False), ("d", INT, True)],
    [("s", INT), ("sm", MapType(TEXT, INT))],
    [
        ("v", INT),
        ("w", INT),
        ("m", MapType(TEXT, INT)),
        ("e", SetType(INT)),
        ("l", ListType(INT)),
        ("u", UDT),
    ],
    1026,
)
"""All there is, with clustering orders that mix."""

COUNTERS = table([("p", INT)], [("c", INT, True)], [("s", COUNTER)], [("n", COUNTER)], 1027, is_counter=True)

NORMALIZING = table([("p", INT)], [("c", DECIMAL, False)], [], [("v", INT), ("e", SetType(DECIMAL))], 1028)
"""Clustering values and paths that compare equal but differ in bytes."""
