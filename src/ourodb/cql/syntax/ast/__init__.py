"""The syntax tree of CQL: what a statement says, before anyone asks whether it makes sense.

``parse`` in ``ourodb.cql.syntax.parser`` builds these nodes; nothing in them is resolved against a schema. Conventions:

- Names are plain ``str`` with their case already resolved: lower-cased unless they were quoted.
- Sequences are tuples, absent clauses are ``None`` or ``()``.
- ``str(node)`` of an expression, relation, assignment or type is CQL again, in the form that Cassandra's messages use;
  parsing it gives an equal node.
- Terms and selectables share nodes. A *term* stands where a value is needed (VALUES, WHERE, SET, USING) and never holds
  columns; a *selectable* stands in a SELECT clause, and may hold ``ColumnRef`` and the other selection nodes anywhere
  inside. The grammar guarantees it: whoever checks a term may treat selection nodes as unreachable.
- Bind markers are numbered from 0 in order of appearance; ``statement.markers`` holds their names (None for ``?``).
  A name that appears twice is two variables.
- Nodes that every statement builds many of are slotted but not frozen, because a frozen dataclass costs twice as
  much to make. Nobody changes a node after the parser let go of it.

Source: Apache Cassandra 5, ``src/antlr/Parser.g`` and ``Lexer.g``.
"""

from __future__ import annotations

from typing import TypeAlias

from ourodb.cql.syntax.ast.access import (
    AddIdentity,
    AlterRole,
    CreateRole,
    DataResource,
    DropIdentity,
    DropRole,
    FunctionResource,
    GrantPermissions,
    GrantRole,
    JmxResource,
    ListPermissions,
    ListRoles,
    ListSuperusers,
    ListUsers,
    Resource,
    RevokePermissions,
    RevokeRole,
    RoleOptions,
    RoleResource,
)
from ourodb.cql.syntax.ast.clauses import (
    AddToColumn,
    Assignment,
    BetweenRelation,
    Condition,
    DeleteColumn,
    DeleteElement,
    DeleteField,
    Deletion,
    ElementRef,
    FieldRef,
    IndexExpression,
    InRelation,
    NotNullRelation,
    Operator,
    PrependToColumn,
    Relation,
    RelationTarget,
    SetColumn,
    SetElement,
    SetField,
    SubtractFromColumn,
    TokenRef,
    TupleRef,
    WhereItem,
)
from ourodb.cql.syntax.ast.definitions import (
    AddColumns,
    AddField,
    AlterColumnConstraints,
    AlterColumnMask,
    AlterColumnType,
    AlterFieldType,
    AlterKeyspace,
    AlterTable,
    AlterType,
    AlterView,
    ColumnConstraint,
    ColumnDefinition,
    ColumnMask,
    CreateAggregate,
    CreateFunction,
    CreateIndex,
    CreateKeyspace,
    CreateTable,
    CreateTableLike,
    CreateTrigger,
    CreateType,
    CreateView,
    Describe,
    DescribeKind,
    DropAggregate,
    DropColumns,
    DropCompactStorage,
    DropFunction,
    DropIndex,
    DropKeyspace,
    DropTable,
    DropTrigger,
    DropType,
    DropView,
    IndexTarget,
    IndexTargetKind,
    PrimaryKey,
    Properties,
    RenameColumns,
    RenameFields,
    SetTableProperties,
    TableAlteration,
    TypeAlteration,
)
from ourodb.cql.syntax.ast.names import (
    CustomTypeName,
    FrozenTypeName,
    ListTypeName,
    MapTypeName,
    NativeTypeName,
    QualifiedName,
    SetTypeName,
    TupleTypeName,
    TypeName,
    UserTypeName,
    VectorTypeName,
)
from ourodb.cql.syntax.ast.statements import (
    Batch,
    BatchKind,
    Delete,
    Insert,
    InsertJson,
    Markers,
    Ordering,
    Select,
    Truncate,
    Update,
    Use,
)
from ourodb.cql.syntax.ast.terms import (
    Arithmetic,
    Cast,
    CellProperty,
    CellPropertySelection,
    ColumnRef,
    Constant,
    ConstantKind,
    CountRows,
    ElementSelection,
    FieldSelection,
    FunctionCall,
    ListLiteral,
    MapLiteral,
    Marker,
    Negation,
    Null,
    Selectable,
    Selector,
    SetLiteral,
    SliceSelection,
    Term,
    TupleLiteral,
    TypeHint,
    UdtLiteral,
)

Statement: TypeAlias = (
    Select
    | Insert
    | InsertJson
    | Update
    | Delete
    | Batch
    | Use
    | Truncate
    | CreateKeyspace
    | AlterKeyspace
    | DropKeyspace
    | CreateTable
    | CreateTableLike
    | AlterTable
    | DropTable
    | CreateType
    | AlterType
    | DropType
    | CreateIndex
    | DropIndex
    | CreateView
    | AlterView
    | DropView
    | CreateTrigger
    | DropTrigger
    | CreateFunction
    | DropFunction
    | CreateAggregate
    | DropAggregate
    | Describe
    | CreateRole
    | AlterRole
    | DropRole
    | GrantRole
    | RevokeRole
    | ListRoles
    | ListUsers
    | ListSuperusers
    | GrantPermissions
    | RevokePermissions
    | ListPermissions
    | AddIdentity
    | DropIdentity
)

__all__ = [
    "AddColumns",
    "AddField",
    "AddIdentity",
    "AddToColumn",
    "AlterColumnConstraints",
    "AlterColumnMask",
    "AlterColumnType",
    "AlterFieldType",
    "AlterKeyspace",
    "AlterRole",
    "AlterTable",
    "AlterType",
    "AlterView",
    "Arithmetic",
    "Assignment",
    "Batch",
    "BatchKind",
    "BetweenRelation",
    "Cast",
    "CellProperty",
    "CellPropertySelection",
    "ColumnConstraint",
    "ColumnDefinition",
    "ColumnMask",
    "ColumnRef",
    "Condition",
    "Constant",
    "ConstantKind",
    "CountRows",
    "CreateAggregate",
    "CreateFunction",
    "CreateIndex",
    "CreateKeyspace",
    "CreateRole",
    "CreateTable",
    "CreateTableLike",
    "CreateTrigger",
    "CreateType",
    "CreateView",
    "CustomTypeName",
    "DataResource",
    "Delete",
    "DeleteColumn",
    "DeleteElement",
    "DeleteField",
    "Deletion",
    "Describe",
    "DescribeKind",
    "DropAggregate",
    "DropColumns",
    "DropCompactStorage",
    "DropFunction",
    "DropIdentity",
    "DropIndex",
    "DropKeyspace",
    "DropRole",
    "DropTable",
    "DropTrigger",
    "DropType",
    "DropView",
    "ElementRef",
    "ElementSelection",
    "FieldRef",
    "FieldSelection",
    "FrozenTypeName",
    "FunctionCall",
    "FunctionResource",
    "GrantPermissions",
    "GrantRole",
    "InRelation",
    "IndexExpression",
    "IndexTarget",
    "IndexTargetKind",
    "Insert",
    "InsertJson",
    "JmxResource",
    "ListLiteral",
    "ListPermissions",
    "ListRoles",
    "ListSuperusers",
    "ListTypeName",
    "ListUsers",
    "MapLiteral",
    "MapTypeName",
    "Marker",
    "Markers",
    "NativeTypeName",
    "Negation",
    "NotNullRelation",
    "Null",
    "Operator",
    "Ordering",
    "PrependToColumn",
    "PrimaryKey",
    "Properties",
    "QualifiedName",
    "Relation",
    "RelationTarget",
    "RenameColumns",
    "RenameFields",
    "Resource",
    "RevokePermissions",
    "RevokeRole",
    "RoleOptions",
    "RoleResource",
    "Select",
    "Selectable",
    "Selector",
    "SetColumn",
    "SetElement",
    "SetField",
    "SetLiteral",
    "SetTableProperties",
    "SetTypeName",
    "SliceSelection",
    "Statement",
    "SubtractFromColumn",
    "TableAlteration",
    "Term",
    "TokenRef",
    "Truncate",
    "TupleLiteral",
    "TupleRef",
    "TupleTypeName",
    "TypeAlteration",
    "TypeHint",
    "TypeName",
    "UdtLiteral",
    "Update",
    "Use",
    "UserTypeName",
    "VectorTypeName",
    "WhereItem",
]
