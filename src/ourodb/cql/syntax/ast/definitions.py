"""Statements that define and describe the schema."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from ourodb.cql.syntax.ast.clauses import Operator, WhereItem
from ourodb.cql.syntax.ast.names import QualifiedName, TypeName
from ourodb.cql.syntax.ast.terms import Selector, Term

Properties: TypeAlias = dict[str, str | dict[str, str]]
"""What WITH says, in order: a name to the raw text of a constant (a string's contents; other constants, and bare words,
as written), or to a map of such texts. A name given twice is a syntax error."""


# --- keyspaces -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CreateKeyspace:
    name: str
    properties: Properties
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class AlterKeyspace:
    name: str
    properties: Properties
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropKeyspace:
    name: str
    if_exists: bool = False


# --- tables --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ColumnMask:
    """``MASKED WITH function(arguments)``; ``MASKED WITH DEFAULT`` is the function ``mask_default``."""

    function: QualifiedName
    arguments: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class ColumnConstraint:
    """One condition of CHECK (Cassandra 6): ``column op value``, ``function(column) op value`` or ``function(column)``.

    Attributes:
        op, value: None for the last form.
    """

    column: str
    function: str | None = None
    op: Operator | None = None
    value: Term | None = None


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """``name type [STATIC] [MASKED WITH ...] [CHECK ...]``."""

    name: str
    type: TypeName
    static: bool = False
    mask: ColumnMask | None = None
    constraints: tuple[ColumnConstraint, ...] = ()


@dataclass(frozen=True, slots=True)
class PrimaryKey:
    partition_key: tuple[str, ...]
    clustering: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CreateTable:
    """CREATE TABLE.

    Attributes:
        columns: in order; names may repeat.
        primary_keys: each PRIMARY KEY that was written, of a column or of the table; a sound statement has one.
        clustering_order: (column, ascending) in order; names may repeat.
    """

    table: QualifiedName
    columns: tuple[ColumnDefinition, ...]
    primary_keys: tuple[PrimaryKey, ...]
    clustering_order: tuple[tuple[str, bool], ...] = ()
    compact_storage: bool = False
    properties: Properties = field(default_factory=dict)
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class CreateTableLike:
    """``CREATE TABLE table LIKE source`` (Cassandra 6)."""

    table: QualifiedName
    source: QualifiedName
    with_indexes: bool = False
    properties: Properties = field(default_factory=dict)
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class AlterColumnType:
    """``ALTER column TYPE type``, which Cassandra parses and refuses."""

    column: str
    type: TypeName


@dataclass(frozen=True, slots=True)
class AddColumns:
    """``ADD [IF NOT EXISTS] column type`` or the same for several in parentheses."""

    columns: tuple[ColumnDefinition, ...]
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropColumns:
    """``DROP [IF EXISTS] column [USING TIMESTAMP timestamp]`` or the same for several in parentheses.

    Attributes:
        timestamp: microseconds.
    """

    columns: tuple[str, ...]
    if_exists: bool = False
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class RenameColumns:
    """``RENAME [IF EXISTS] old TO new AND ...``; (old, new) pairs."""

    renames: tuple[tuple[str, str], ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class AlterColumnMask:
    """``ALTER [IF EXISTS] column MASKED WITH ...``, or ``DROP MASKED`` when mask is None."""

    column: str
    mask: ColumnMask | None
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class AlterColumnConstraints:
    """``ALTER [IF EXISTS] column CHECK ...``, or ``DROP CHECK`` when there are no constraints."""

    column: str
    constraints: tuple[ColumnConstraint, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropCompactStorage:
    """``DROP COMPACT STORAGE``."""


@dataclass(frozen=True, slots=True)
class SetTableProperties:
    """``WITH name = value AND ...``."""

    properties: Properties


TableAlteration: TypeAlias = (
    AlterColumnType
    | AddColumns
    | DropColumns
    | RenameColumns
    | AlterColumnMask
    | AlterColumnConstraints
    | DropCompactStorage
    | SetTableProperties
)


@dataclass(frozen=True, slots=True)
class AlterTable:
    table: QualifiedName
    alteration: TableAlteration
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropTable:
    table: QualifiedName
    if_exists: bool = False


# --- user types ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CreateType:
    """CREATE TYPE; (field, type) pairs in order, names may repeat."""

    name: QualifiedName
    fields: tuple[tuple[str, TypeName], ...]
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class AlterFieldType:
    """``ALTER field TYPE type``, which Cassandra parses and refuses."""

    field: str
    type: TypeName


@dataclass(frozen=True, slots=True)
class AddField:
    """``ADD [IF NOT EXISTS] field type``."""

    field: str
    type: TypeName
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class RenameFields:
    """``RENAME [IF EXISTS] old TO new AND ...``; (old, new) pairs."""

    renames: tuple[tuple[str, str], ...]
    if_exists: bool = False


TypeAlteration: TypeAlias = AlterFieldType | AddField | RenameFields


@dataclass(frozen=True, slots=True)
class AlterType:
    name: QualifiedName
    alteration: TypeAlteration
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropType:
    name: QualifiedName
    if_exists: bool = False


# --- indexes, views, triggers --------------------------------------------------------------------------------------


class IndexTargetKind(StrEnum):
    """What of a column is indexed; SIMPLE is a bare column name."""

    SIMPLE = "simple"
    VALUES = "values"
    KEYS = "keys"
    ENTRIES = "entries"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class IndexTarget:
    column: str
    kind: IndexTargetKind = IndexTargetKind.SIMPLE


@dataclass(frozen=True, slots=True)
class CreateIndex:
    """``CREATE [CUSTOM] INDEX [name] ON table (targets) [USING 'class'] [WITH ...]``; targets may be missing."""

    name: str | None
    table: QualifiedName
    targets: tuple[IndexTarget, ...]
    custom: bool = False
    custom_class: str | None = None
    properties: Properties = field(default_factory=dict)
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropIndex:
    name: QualifiedName
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class CreateView:
    """``CREATE MATERIALIZED VIEW view AS SELECT selectors FROM base WHERE ... PRIMARY KEY (...)``.

    Attributes:
        selectors: empty for ``*``.
    """

    view: QualifiedName
    base: QualifiedName
    selectors: tuple[Selector, ...]
    where: tuple[WhereItem, ...]
    primary_key: PrimaryKey
    clustering_order: tuple[tuple[str, bool], ...] = ()
    properties: Properties = field(default_factory=dict)
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class AlterView:
    view: QualifiedName
    properties: Properties
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropView:
    view: QualifiedName
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class CreateTrigger:
    name: str
    table: QualifiedName
    trigger_class: str
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropTrigger:
    name: str
    table: QualifiedName
    if_exists: bool = False


# --- functions and aggregates --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CreateFunction:
    """CREATE FUNCTION.

    Attributes:
        parameters: (name, type) pairs.
        language: lower case.
    """

    name: QualifiedName
    parameters: tuple[tuple[str, TypeName], ...]
    returns: TypeName
    called_on_null_input: bool
    language: str
    body: str
    or_replace: bool = False
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropFunction:
    """DROP FUNCTION; argument_types is None when no parentheses were written."""

    name: QualifiedName
    argument_types: tuple[TypeName, ...] | None = None
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class CreateAggregate:
    name: QualifiedName
    argument_types: tuple[TypeName, ...]
    state_function: str
    state_type: TypeName
    final_function: str | None = None
    initial_condition: Term | None = None
    or_replace: bool = False
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropAggregate:
    """DROP AGGREGATE; argument_types is None when no parentheses were written."""

    name: QualifiedName
    argument_types: tuple[TypeName, ...] | None = None
    if_exists: bool = False


# --- DESCRIBE ------------------------------------------------------------------------------------------------------


class DescribeKind(StrEnum):
    """What a DESCRIBE asks for; GENERIC is a bare name, to be looked for among keyspaces, tables, types and so on."""

    CLUSTER = "CLUSTER"
    SCHEMA = "SCHEMA"
    FULL_SCHEMA = "FULL SCHEMA"
    KEYSPACES = "KEYSPACES"
    KEYSPACE = "KEYSPACE"
    ONLY_KEYSPACE = "ONLY KEYSPACE"
    TABLES = "TABLES"
    TABLE = "TABLE"
    INDEX = "INDEX"
    VIEW = "MATERIALIZED VIEW"
    TYPES = "TYPES"
    TYPE = "TYPE"
    FUNCTIONS = "FUNCTIONS"
    FUNCTION = "FUNCTION"
    AGGREGATES = "AGGREGATES"
    AGGREGATE = "AGGREGATE"
    GENERIC = "GENERIC"


@dataclass(frozen=True, slots=True)
class Describe:
    """DESCRIBE or DESC.

    Attributes:
        keyspace: for KEYSPACE and ONLY_KEYSPACE the one asked for (None: the session's); for named things the
            keyspace written before the dot.
        name: of TABLE, INDEX, VIEW, TYPE, FUNCTION, AGGREGATE and GENERIC; None otherwise.
        internals: WITH INTERNALS.
    """

    kind: DescribeKind
    keyspace: str | None = None
    name: str | None = None
    internals: bool = False
