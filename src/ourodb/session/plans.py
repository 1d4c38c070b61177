"""Plans of the statements that have no rows to compute: USE, DDL, DESCRIBE.

They share the shape of ``SelectPlan`` and ``ModificationPlan`` (``variables``, ``partition_key_indexes``,
``warnings``, ``metadata``), so that any statement can be prepared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ourodb.cql.analysis.ddl import DdlStatement
from ourodb.cql.analysis.terms import ColumnSpec
from ourodb.cql.syntax import ast
from ourodb.cql.wire.columns import RowsMetadata


class Plan(Protocol):
    """What every plan tells a client that prepares its statement."""

    @property
    def variables(self) -> Sequence[ColumnSpec]: ...

    @property
    def partition_key_indexes(self) -> Sequence[int]: ...

    @property
    def warnings(self) -> Sequence[str]: ...

    def metadata(self, version: int) -> RowsMetadata | None: ...


class _Unbound:
    """A plan without bind markers and without rows that are known beforehand."""

    __slots__ = ()

    @property
    def variables(self) -> Sequence[ColumnSpec]:
        return ()

    @property
    def partition_key_indexes(self) -> Sequence[int]:
        return ()

    @property
    def warnings(self) -> Sequence[str]:
        return ()

    def metadata(self, version: int) -> RowsMetadata | None:
        return None


class UsePlan(_Unbound):
    """USE keyspace."""

    __slots__ = ("keyspace",)

    def __init__(self, keyspace: str) -> None:
        self.keyspace = keyspace


class DdlPlan(_Unbound):
    """A statement that changes the schema; checked when it runs, since the schema may have moved until then."""

    __slots__ = ("keyspace", "statement")

    def __init__(self, statement: DdlStatement, keyspace: str | None) -> None:
        self.statement = statement
        self.keyspace = keyspace


class DescribePlan(_Unbound):
    """DESCRIBE."""

    __slots__ = ("keyspace", "statement")

    def __init__(self, statement: ast.Describe, keyspace: str | None) -> None:
        self.statement = statement
        self.keyspace = keyspace
