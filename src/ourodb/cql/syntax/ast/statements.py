"""Statements that read and write rows, and USE."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from ourodb.cql.syntax.ast.clauses import Assignment, Condition, Deletion, WhereItem
from ourodb.cql.syntax.ast.names import QualifiedName
from ourodb.cql.syntax.ast.terms import Constant, Marker, Selectable, Selector, Term

Markers: TypeAlias = tuple[str | None, ...]
"""Names of a statement's bind markers, by index; None for ``?``. The statements of a batch leave it empty: the
batch numbers the markers of all of them."""


@dataclass(frozen=True, slots=True)
class Use:
    """``USE keyspace``."""

    keyspace: str


@dataclass(slots=True, unsafe_hash=True)
class Ordering:
    """One item of ORDER BY.

    Attributes:
        ann_of: the vector of ``ORDER BY column ANN OF vector``.
    """

    column: str
    ascending: bool = True
    ann_of: Term | None = None


@dataclass(slots=True, unsafe_hash=True)
class Select:
    """SELECT.

    Attributes:
        selectors: empty for ``*``.
        where: joined by AND.
        limit, per_partition_limit: an integer constant or a marker.
    """

    table: QualifiedName
    selectors: tuple[Selector, ...]
    where: tuple[WhereItem, ...] = ()
    distinct: bool = False
    json: bool = False
    group_by: tuple[Selectable, ...] = ()
    order_by: tuple[Ordering, ...] = ()
    per_partition_limit: Constant | Marker | None = None
    limit: Constant | Marker | None = None
    allow_filtering: bool = False
    markers: Markers = ()


@dataclass(slots=True, unsafe_hash=True)
class Insert:
    """``INSERT INTO table (columns) VALUES (values)``; columns and values may differ in number.

    Attributes:
        timestamp, ttl: of USING, an integer constant or a marker.
    """

    table: QualifiedName
    columns: tuple[str, ...]
    values: tuple[Term, ...]
    if_not_exists: bool = False
    timestamp: Constant | Marker | None = None
    ttl: Constant | Marker | None = None
    markers: Markers = ()


@dataclass(slots=True, unsafe_hash=True)
class InsertJson:
    """``INSERT INTO table JSON value``.

    Attributes:
        value: a string constant or a marker.
        default_unset: columns that the JSON doesn't name stay as they are, instead of becoming null.
    """

    table: QualifiedName
    value: Constant | Marker
    default_unset: bool = False
    if_not_exists: bool = False
    timestamp: Constant | Marker | None = None
    ttl: Constant | Marker | None = None
    markers: Markers = ()


@dataclass(slots=True, unsafe_hash=True)
class Update:
    """UPDATE. At most one of ``conditions`` and ``if_exists`` is there."""

    table: QualifiedName
    assignments: tuple[Assignment, ...]
    where: tuple[WhereItem, ...]
    conditions: tuple[Condition, ...] = ()
    if_exists: bool = False
    timestamp: Constant | Marker | None = None
    ttl: Constant | Marker | None = None
    markers: Markers = ()


@dataclass(slots=True, unsafe_hash=True)
class Delete:
    """DELETE; no deletions means whole rows. At most one of ``conditions`` and ``if_exists`` is there."""

    table: QualifiedName
    deletions: tuple[Deletion, ...]
    where: tuple[WhereItem, ...]
    conditions: tuple[Condition, ...] = ()
    if_exists: bool = False
    timestamp: Constant | Marker | None = None
    markers: Markers = ()


class BatchKind(StrEnum):
    LOGGED = "LOGGED"
    UNLOGGED = "UNLOGGED"
    COUNTER = "COUNTER"


@dataclass(slots=True, unsafe_hash=True)
class Batch:
    """``BEGIN [UNLOGGED | COUNTER] BATCH ... APPLY BATCH``; may be empty."""

    kind: BatchKind
    statements: tuple[Insert | InsertJson | Update | Delete, ...]
    timestamp: Constant | Marker | None = None
    ttl: Constant | Marker | None = None
    markers: Markers = ()


@dataclass(frozen=True, slots=True)
class Truncate:
    """``TRUNCATE [TABLE] table``."""

    table: QualifiedName
