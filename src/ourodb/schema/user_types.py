"""Changes of user types. Each function takes (schema, change) and gives (schema, events); see ``evolution``.

Source: Apache Cassandra 5, ``CreateTypeStatement``, ``AlterTypeStatement``, ``DropTypeStatement``.
"""

from __future__ import annotations

from dataclasses import replace

from ourodb import limits
from ourodb.cql.types import UserType
from ourodb.errors import InvalidRequest
from ourodb.schema.changes import AddField, CreateType, DropType, Outcome, RenameFields, SchemaChangeEvent
from ourodb.schema.model import Keyspace, Schema, Table, frozen_map
from ourodb.schema.names import qualified
from ourodb.schema.types import statement_text, type_parser, with_user_type


def create_type(schema: Schema, change: CreateType) -> Outcome:
    keyspace = schema.keyspaces.get(change.keyspace)
    if keyspace is None:
        raise InvalidRequest(f"Keyspace '{change.keyspace}' doesn't exist")
    if change.type in keyspace.types:
        if change.if_not_exists:
            return schema, ()
        raise InvalidRequest(f"A user type with name '{change.type}' already exists")
    names = tuple(name for name, _ in change.fields)
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InvalidRequest(f"Duplicate field name '{name}' in type '{change.type}'")
    parse = type_parser(keyspace.types.get)
    created = UserType(keyspace.name, change.type, names, tuple(parse(text) for _, text in change.fields))
    _check_field_count(created)
    return schema.with_keyspace(keyspace.with_type(created)), (_event("CREATED", created),)


def add_field(schema: Schema, change: AddField) -> Outcome:
    found = _existing(schema, change.keyspace, change.type, change.if_exists)
    if found is None:
        return schema, ()
    keyspace, user_type = found
    shown = qualified(keyspace.name, user_type.name)
    if change.field in user_type.field_names:
        if change.if_not_exists:
            return schema, ()
        raise InvalidRequest(
            f"Cannot add field {change.field} to type {shown}: a field with name {change.field} already exists"
        )
    added = type_parser(keyspace.types.get)(change.field_type)
    adding = f"Cannot add new field {change.field} of type {statement_text(added)} to user type {shown}"
    if added.references_udt(keyspace.name, user_type.name):
        raise InvalidRequest(f"{adding} as it would create a circular reference")
    keyed = [
        qualified(keyspace.name, table.name)
        for table in _by_name(keyspace)
        if any(column.type.references_udt(keyspace.name, user_type.name) for column in table.partition_key)
    ]
    if keyed:
        raise InvalidRequest(
            f"{adding} as the type is being used in partition key by the following tables: {', '.join(keyed)}"
        )
    altered = UserType(
        keyspace.name,
        user_type.name,
        (*user_type.field_names, change.field),
        (*user_type.components, added),
    )
    _check_field_count(altered)
    return _altered(schema, keyspace, altered)


def rename_fields(schema: Schema, change: RenameFields) -> Outcome:
    found = _existing(schema, change.keyspace, change.type, change.if_exists)
    if found is None:
        return schema, ()
    keyspace, user_type = found
    names = list(user_type.field_names)
    for old, new in change.renames:
        index = user_type.field_index(old)
        if index >= 0:
            names[index] = new
        elif not change.if_field_exists:
            # The misspelling is Cassandra's; tests of clients look for it.
            raise InvalidRequest(
                f"Unkown field {old} in user type {qualified(keyspace.name, user_type.name)}"
            )
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f"Duplicate field name {name} in type {keyspace.name}")
    altered = UserType(keyspace.name, user_type.name, tuple(names), user_type.components)
    return _altered(schema, keyspace, altered)


def drop_type(schema: Schema, change: DropType) -> Outcome:
    holder = schema.keyspaces.get(change.keyspace)
    user_type = holder.types.get(change.type) if holder is not None else None
    if holder is None or user_type is None:
        if change.if_exists:
            return schema, ()
        raise InvalidRequest(f"Type '{change.keyspace}.{change.type}' doesn't exist")
    in_use = f"Cannot drop user type '{change.keyspace}.{change.type}' as it is still used by"
    types = [
        name
        for name in sorted(holder.types)
        if name != change.type and holder.types[name].references_udt(change.keyspace, change.type)
    ]
    if types:
        raise InvalidRequest(f"{in_use} user types {', '.join(types)}")
    tables = [table.name for table in _by_name(holder) if _uses(table, user_type)]
    if tables:
        raise InvalidRequest(f"{in_use} tables {', '.join(tables)}")
    kept = {name: other for name, other in holder.types.items() if name != change.type}
    after = schema.with_keyspace(replace(holder, types=frozen_map(kept)))
    return after, (_event("DROPPED", user_type),)


def _existing(schema: Schema, keyspace: str, name: str, if_exists: bool) -> tuple[Keyspace, UserType] | None:
    holder = schema.keyspaces.get(keyspace)
    user_type = holder.types.get(name) if holder is not None else None
    if holder is not None and user_type is not None:
        return holder, user_type
    if if_exists:
        return None
    raise InvalidRequest(f"Type {keyspace}.{name} doesn't exist")


def _altered(schema: Schema, keyspace: Keyspace, user_type: UserType) -> Outcome:
    """With the type in place of the one of its name, in every type and table that uses it."""
    if keyspace.types[user_type.name] == user_type:
        return schema, ()
    types = {}
    for name, other in keyspace.types.items():
        updated = with_user_type(other, user_type)
        assert isinstance(updated, UserType)
        types[name] = updated
    tables = {name: _rebuilt(table, user_type) for name, table in keyspace.tables.items()}
    events = [
        SchemaChangeEvent("UPDATED", "TABLE", keyspace.name, name)
        for name in sorted(tables)
        if tables[name] is not keyspace.tables[name]
    ]
    events.append(_event("UPDATED", user_type))
    altered = replace(keyspace, types=frozen_map(types), tables=frozen_map(tables))
    return schema.with_keyspace(altered), tuple(events)


def _rebuilt(table: Table, user_type: UserType) -> Table:
    if not _uses(table, user_type):
        return table
    columns = {
        name: replace(column, type=with_user_type(column.type, user_type))
        for name, column in table.columns.items()
    }
    return replace(table, columns=frozen_map(columns))


def _uses(table: Table, user_type: UserType) -> bool:
    return any(
        column.type.references_udt(user_type.keyspace, user_type.name) for column in table.columns.values()
    )


def _by_name(keyspace: Keyspace) -> list[Table]:
    return [keyspace.tables[name] for name in sorted(keyspace.tables)]


def _check_field_count(user_type: UserType) -> None:
    count = len(user_type.field_names)
    if count > limits.FIELDS_PER_TYPE_MAX:
        raise InvalidRequest(
            f"User types cannot have more than {limits.FIELDS_PER_TYPE_MAX} columns, but {count} provided for user "
            f"type {user_type.name}."
        )


def _event(change: str, user_type: UserType) -> SchemaChangeEvent:
    return SchemaChangeEvent(change, "TYPE", user_type.keyspace, user_type.name)
