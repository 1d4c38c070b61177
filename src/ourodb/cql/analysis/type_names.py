"""From a type as it is written to the type.

What may be frozen, and what must be, is decided on the written form: ``frozen<>`` around a collection freezes
everything inside it, tuples and vectors are always frozen, and what stands inside a collection that isn't frozen must
be frozen itself.

Source: Apache Cassandra 5, ``CQL3Type.Raw``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from ourodb.cql.syntax import ast
from ourodb.cql.types import (
    CqlType,
    ListType,
    MapType,
    SetType,
    TupleType,
    UserType,
    VectorType,
    native_type,
    parse_class_name,
)
from ourodb.errors import ConfigurationException, CqlSyntaxError, InvalidRequest
from ourodb.schema.model import Schema

UserTypes: TypeAlias = Mapping[str, UserType]
Collection: TypeAlias = ast.ListTypeName | ast.SetTypeName | ast.MapTypeName


def resolve_type(name: ast.TypeName, keyspace: str, schema: Schema) -> CqlType:
    """The type that ``name`` means for something in ``keyspace``.

    Raises:
        RequestError: with Cassandra's class and text: unknown, of another keyspace, wrongly frozen or nested.
    """
    holder = schema.keyspaces.get(keyspace)
    if holder is None:
        raise ConfigurationException(f"Keyspace {keyspace} doesn't exist")
    check_frozen(name)
    return _resolved(name, False, keyspace, holder.types)


def check_frozen(name: ast.TypeName) -> None:
    """Refuse ``frozen<>`` around what can't be frozen. Cassandra does so while it parses.

    Raises:
        CqlSyntaxError: with Cassandra's text.
    """
    if isinstance(name, ast.FrozenTypeName):
        check_frozen(name.inner)
        if not _freezable(name.inner):
            raise CqlSyntaxError(
                "frozen<> is only allowed on collections, tuples, and user-defined types "
                f"(got {_shown(name.inner, False)})"
            )
        return
    for part in _parts(name):
        check_frozen(part)


def is_plain(name: ast.TypeName, native: str) -> bool:
    """Whether ``name`` is the simple type ``native``."""
    return isinstance(name, ast.NativeTypeName) and name.name == native


def is_unfrozen_user_type(name: ast.TypeName) -> bool:
    """Whether ``name`` is a user type without ``frozen<>`` around it."""
    return isinstance(name, ast.UserTypeName)


def _parts(name: ast.TypeName) -> tuple[ast.TypeName, ...]:
    if isinstance(name, ast.MapTypeName):
        return (name.key, name.value)
    if isinstance(name, ast.TupleTypeName):
        return name.elements
    if isinstance(name, ast.ListTypeName | ast.SetTypeName | ast.VectorTypeName):
        return (name.element,)
    return ()


def _freezable(name: ast.TypeName) -> bool:
    return not isinstance(name, ast.NativeTypeName | ast.CustomTypeName)


def _is_frozen(name: ast.TypeName) -> bool:
    return isinstance(name, ast.FrozenTypeName | ast.TupleTypeName | ast.VectorTypeName)


def _resolved(name: ast.TypeName, frozen: bool, keyspace: str, types: UserTypes) -> CqlType:
    if isinstance(name, ast.FrozenTypeName):
        return _resolved(name.inner, True, keyspace, types)
    if isinstance(name, ast.NativeTypeName):
        simple = native_type(name.name)
        if simple is None:
            raise InvalidRequest(f"Unknown type {keyspace}.{name.name}")
        return simple
    if isinstance(name, ast.UserTypeName):
        return _user_type(name, frozen, keyspace, types)
    if isinstance(name, ast.TupleTypeName):
        for part in name.elements:
            if is_plain(part, "counter"):
                raise InvalidRequest("Counters are not allowed inside tuples")
        return TupleType(tuple(_resolved(part, True, keyspace, types) for part in name.elements))
    if isinstance(name, ast.VectorTypeName):
        element = _resolved(name.element, frozen, keyspace, types)
        if name.dimension <= 0:
            raise InvalidRequest(f"vectors may only have positive dimensions; given {name.dimension}")
        return VectorType(element.frozen(), name.dimension)
    if isinstance(name, ast.CustomTypeName):
        return parse_class_name(name.class_name)
    return _collection(name, frozen, keyspace, types)


def _collection(name: Collection, frozen: bool, keyspace: str, types: UserTypes) -> CqlType:
    shown = _shown(name, frozen)
    value = name.value if isinstance(name, ast.MapTypeName) else name.element
    if not frozen:
        _check_nested(value, shown)
    if is_plain(value, "counter"):
        raise InvalidRequest(f"Counters are not allowed inside collections: {shown}")
    if is_plain(value, "duration") and isinstance(name, ast.SetTypeName):
        raise InvalidRequest(f"Durations are not allowed inside sets: {shown}")
    if isinstance(name, ast.MapTypeName):
        if is_plain(name.key, "counter"):
            raise InvalidRequest(f"Counters are not allowed inside collections: {shown}")
        if is_plain(name.key, "duration"):
            raise InvalidRequest(f"Durations are not allowed as map keys: {shown}")
        if not frozen:
            _check_nested(name.key, shown)
    element = _resolved(value, frozen, keyspace, types)
    if isinstance(name, ast.MapTypeName):
        return MapType(_resolved(name.key, frozen, keyspace, types), element, frozen=frozen)
    if isinstance(name, ast.ListTypeName):
        return ListType(element, frozen=frozen)
    return SetType(element, frozen=frozen)


def _check_nested(part: ast.TypeName, shown: str) -> None:
    if not _freezable(part) or _is_frozen(part):
        return
    kind = "UDTs" if isinstance(part, ast.UserTypeName) else "collections"
    raise InvalidRequest(f"Non-frozen {kind} are not allowed inside collections: {shown}")


def _user_type(name: ast.UserTypeName, frozen: bool, keyspace: str, types: UserTypes) -> CqlType:
    if name.keyspace is not None and name.keyspace != keyspace:
        raise InvalidRequest(
            f"Statement on keyspace {keyspace} cannot refer to a user type in keyspace {name.keyspace}; user types can "
            "only be used in the keyspace they are defined in"
        )
    found = types.get(name.name)
    if found is None:
        raise InvalidRequest(f"Unknown type {keyspace}.{name.name}")
    return found.frozen() if frozen else found


def _shown(name: ast.TypeName, frozen: bool) -> str:
    """As Cassandra's messages show a type that it hasn't resolved yet."""
    if isinstance(name, ast.FrozenTypeName):
        return _shown(name.inner, True)
    if isinstance(name, ast.UserTypeName):
        shown = name.name if name.keyspace is None else f"{name.keyspace}.{name.name}"
        return f"frozen<{shown}>" if frozen else shown
    if isinstance(name, ast.TupleTypeName):
        return f"tuple<{', '.join(_shown(part, True) for part in name.elements)}>"
    if isinstance(name, ast.VectorTypeName):
        return f"vector<{_shown(name.element, False)}, {name.dimension}>"
    if isinstance(name, ast.MapTypeName):
        shown = f"map<{_shown(name.key, frozen)}, {_shown(name.value, frozen)}>"
    elif isinstance(name, ast.ListTypeName | ast.SetTypeName):
        shown = f"{'list' if isinstance(name, ast.ListTypeName) else 'set'}<{_shown(name.element, frozen)}>"
    else:
        return str(name)
    return f"frozen<{shown}>" if frozen else shown
