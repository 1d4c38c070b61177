"""From the name of a table or column in a statement to the thing itself."""

from __future__ import annotations

from ourodb.cql.syntax.ast import QualifiedName
from ourodb.cql.syntax.format import quote_identifier
from ourodb.errors import InvalidRequest
from ourodb.schema.model import Column, Schema, Table


def find_table(name: QualifiedName, keyspace: str | None, schema: Schema) -> Table:
    """The table that a statement names.

    Args:
        keyspace: for a name that has none.
    Raises:
        InvalidRequest: there is no such table or keyspace.
    """
    keyspace = name.keyspace if name.keyspace is not None else keyspace
    if keyspace is None:
        raise InvalidRequest(
            "No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename"
        )
    found = schema.keyspaces.get(keyspace)
    if found is None:
        raise InvalidRequest(f"keyspace {keyspace} does not exist")
    table = found.tables.get(name.name)
    if table is None:
        raise InvalidRequest(f"table {name.name} does not exist")
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
