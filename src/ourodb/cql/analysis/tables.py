"""From the name of a table or column in a statement to the thing itself."""

from __future__ import annotations

from ourodb.cql.analysis.terms import Context
from ourodb.cql.syntax.ast import QualifiedName
from ourodb.cql.syntax.format import quote_identifier
from ourodb.errors import InvalidRequest, Unauthorized
from ourodb.schema.model import Column, Table


def find_table(name: QualifiedName, context: Context) -> Table:
    """The table that a statement names.

    Raises:
        InvalidRequest: there is no such table or keyspace.
    """
    keyspace = name.keyspace if name.keyspace is not None else context.keyspace
    if keyspace is None:
        raise InvalidRequest(
            "No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename"
        )
    found = context.schema.keyspaces.get(keyspace)
    if found is None:
        raise InvalidRequest(f"keyspace {keyspace} does not exist")
    table = found.tables.get(name.name)
    if table is None:
        raise InvalidRequest(f"table {name.name} does not exist")
    return table


def modifiable_table(name: QualifiedName, context: Context) -> Table:
    """As ``find_table``, for a statement that writes.

    Raises:
        Unauthorized: the table is the system's own.
        InvalidRequest: there is no such table, or its rows are made on the fly.
    """
    table = find_table(name, context)
    if table.virtual:
        if table.keyspace in ("system", "system_schema"):
            raise Unauthorized(f"{table.keyspace} keyspace is not user-modifiable.")
        raise InvalidRequest(f"Modification is not supported by table {table.keyspace}.{table.name}")
    return table


def find_column(table: Table, name: str) -> Column:
    """The column of that name.

    Raises:
        InvalidRequest: there is none.
    """
    column = table.columns.get(name)
    if column is None:
        where = f"{quote_identifier(table.keyspace)}.{quote_identifier(table.name)}"
        raise InvalidRequest(f"Undefined column name {quote_identifier(name)} in table {where}")
    return column
