"""Statements that change the schema: from syntax to a checked change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ourodb.cql.syntax import ast
from ourodb.ports import Clock, Random
from ourodb.schema.changes import Change
from ourodb.schema.model import Schema

DdlStatement: TypeAlias = (
    ast.CreateKeyspace
    | ast.AlterKeyspace
    | ast.DropKeyspace
    | ast.CreateTable
    | ast.AlterTable
    | ast.DropTable
    | ast.CreateType
    | ast.AlterType
    | ast.DropType
    | ast.Truncate
)


@dataclass(frozen=True, slots=True)
class CheckedChange:
    """A statement that fits the schema it was checked against.

    Attributes:
        change: what to append to the metadata log; None when there is nothing to do (the result is void).
        warnings: for the client.
    """

    change: Change | None
    warnings: tuple[str, ...] = ()


def analyse_ddl(
    statement: DdlStatement,
    schema: Schema,
    keyspace: str | None,
    datacenters: Mapping[str, int],
    clock: Clock,
    random: Random,
) -> CheckedChange:
    """Check a statement against the schema.

    Args:
        keyspace: the one in use, or None.
        datacenters: number of nodes in each DC of the cluster, in order of name.
    Raises:
        RequestError: with Cassandra's class and text.
    """
    raise NotImplementedError
