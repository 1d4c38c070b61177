"""Types inside other types: what changes when a user type does, and which types can take each other's place.

A column's type holds the user types in it whole, fields and all, so that whoever has a column needs no keyspace to read
its values. ALTER TYPE therefore rebuilds every type that mentions the one that changed.

Source: Apache Cassandra 5, ``AbstractType``: ``withUpdatedUserType``, ``expandUserTypes``,
``isSerializationCompatibleWith``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ourodb.cql.types import CqlType, ListType, MapType, SetType, TupleType, UserType, VectorType, parse_type
from ourodb.errors import InvalidRequest

_READS = frozenset(
    {
        ("text", "ascii"),
        ("bigint", "timestamp"),
        ("timestamp", "bigint"),
        ("uuid", "timeuuid"),
    }
)
"""(type, other type whose values it can hold), beside blob, which holds everything that has no fixed length."""

_FIXED_LENGTH = ("bigint", "boolean", "counter", "double", "float", "int", "timestamp", "timeuuid", "uuid")


def type_parser(find: Callable[[str], UserType | None]) -> Callable[[str], CqlType]:
    """A parser of type texts for a keyspace whose user types ``find`` finds by name."""

    def resolve(_: str | None, name: str) -> UserType | None:
        return find(name)

    def parse(text: str) -> CqlType:
        return parse_type(text, resolve)

    return parse


def mapped(part: CqlType, change: Callable[[CqlType], CqlType]) -> CqlType:
    """A type with ``change`` applied to each type directly inside it; the type itself when that changes nothing."""
    frozen = not part.is_multicell
    if isinstance(part, UserType | TupleType):
        before = part.components
        after = tuple(change(component) for component in before)
        if after == before:
            return part
        if isinstance(part, UserType):
            return UserType(part.keyspace, part.name, part.field_names, after, frozen=frozen)
        return TupleType(after)
    if isinstance(part, MapType):
        key, value = change(part.key), change(part.element)
        return part if (key, value) == (part.key, part.element) else MapType(key, value, frozen=frozen)
    if isinstance(part, ListType | SetType):
        element = change(part.element)
        return part if element == part.element else type(part)(element, frozen=frozen)
    if isinstance(part, VectorType):
        element = change(part.element)
        return part if element == part.element else VectorType(element, part.dimension)
    return part


def with_user_type(part: CqlType, updated: UserType) -> CqlType:
    """The type with every mention of the user type replaced, each as frozen as it was."""
    if isinstance(part, UserType) and (part.keyspace, part.name) == (updated.keyspace, updated.name):
        return updated if part.is_multicell else updated.frozen()
    return mapped(part, lambda inner: with_user_type(inner, updated))


def without_user_types(part: CqlType) -> CqlType:
    """The type with tuples in place of user types, as dropped columns keep it."""
    if isinstance(part, UserType):
        return TupleType(tuple(without_user_types(component).frozen() for component in part.components))
    return mapped(part, without_user_types)


def statement_text(part: CqlType) -> str:
    """The type as Cassandra's messages quote a statement: user types with their keyspace, tuples not as frozen."""
    if isinstance(part, UserType):
        shown = f"{part.keyspace}.{part.name}"
        return shown if part.is_multicell else f"frozen<{shown}>"
    if isinstance(part, TupleType):
        return f"tuple<{', '.join(map(statement_text, part.components))}>"
    if isinstance(part, VectorType):
        return f"vector<{statement_text(part.element)}, {part.dimension}>"
    if isinstance(part, MapType):
        shown = f"map<{statement_text(part.key)}, {statement_text(part.element)}>"
    elif isinstance(part, ListType | SetType):
        shown = f"{'list' if isinstance(part, ListType) else 'set'}<{statement_text(part.element)}>"
    else:
        return part.cql_name
    return shown if part.is_multicell else f"frozen<{shown}>"


def in_dependency_order(types: Mapping[str, UserType]) -> list[UserType]:
    """User types of a keyspace, each after those that it is made of; by name where that leaves a choice."""
    ordered: list[UserType] = []
    placed: dict[str, bool] = {}

    def place(user_type: UserType) -> None:
        if user_type.name in placed:
            return
        placed[user_type.name] = True
        for name in sorted(types):
            if name != user_type.name and user_type.references_udt(user_type.keyspace, name):
                place(types[name])
        ordered.append(user_type)

    for name in sorted(types):
        place(types[name])
    return ordered


def can_replace(new: CqlType, dropped: CqlType) -> bool:
    """Whether a column of type ``new`` may be added where one of type ``dropped`` was."""
    if new == dropped:
        return True
    if new.is_multicell != dropped.is_multicell or isinstance(new, UserType):
        return False
    if isinstance(new, MapType):
        return (
            isinstance(dropped, MapType)
            and _sorts_like(new.key, dropped.key)
            and can_replace(new.element, dropped.element)
        )
    if isinstance(new, SetType):
        return isinstance(dropped, SetType) and _sorts_like(new.element, dropped.element)
    if isinstance(new, ListType):
        return isinstance(dropped, ListType) and can_replace(new.element, dropped.element)
    if isinstance(new, TupleType):
        return (
            isinstance(dropped, TupleType)
            and len(new.components) >= len(dropped.components)
            and all(map(can_replace, new.components, dropped.components))
        )
    if new.cql_name == "blob":
        return not dropped.is_collection and dropped.cql_name not in _FIXED_LENGTH
    return (new.cql_name, dropped.cql_name) in _READS


def _sorts_like(new: CqlType, dropped: CqlType) -> bool:
    return new == dropped or (new.cql_name, dropped.cql_name) in (
        ("text", "ascii"),
        ("blob", "ascii"),
        ("blob", "text"),
    )


def check_nesting(part: CqlType, message: str) -> None:
    """Refuse a non-frozen user type that has non-frozen collections inside.

    Raises:
        InvalidRequest: with ``message``.
    """
    if (
        isinstance(part, UserType)
        and part.is_multicell
        and any(field.is_multicell for field in part.components)
    ):
        raise InvalidRequest(message)
