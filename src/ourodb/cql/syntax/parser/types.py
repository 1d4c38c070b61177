"""Type names."""

from __future__ import annotations

from ourodb.cql.syntax.ast import (
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
from ourodb.cql.syntax.lexer import (
    IDENT,
    KEPT_TYPE_NAMES,
    NAME_TAGS,
    NATIVE_TYPE_TAGS,
    QUOTED_NAME,
    STRING,
    TYPE_NAME_TAGS,
    unquote_name,
)
from ourodb.cql.syntax.parser.cursor import Cursor, name
from ourodb.errors import CqlSyntaxError

_PARAMETRIZED = frozenset(("K_LIST", "K_SET", "K_MAP", "K_TUPLE", "K_VECTOR", "K_FROZEN"))


def type_name(c: Cursor) -> TypeName:
    """Any type."""
    tag = c.tags[c.at]
    following = c.tags[c.at + 1]
    if tag in NATIVE_TYPE_TAGS and following != ".":
        return native_type_name(c)
    if tag in _PARAMETRIZED and (following == "<" or tag == "K_SET"):
        return _parametrized(c)
    if tag == STRING:
        return CustomTypeName(c.string())
    user_type = user_type_name(c)
    return UserTypeName(user_type.keyspace, user_type.name)


def native_type_name(c: Cursor) -> NativeTypeName:
    """``int``, ``text``, ..."""
    if c.tags[c.at] not in NATIVE_TYPE_TAGS:
        raise c.no_viable()
    c.at += 1
    return NativeTypeName(c.texts[c.at - 1].lower())


def _parametrized(c: Cursor) -> TypeName:
    tag = c.tags[c.at]
    c.at += 1
    c.expect("<")
    c.descend()
    read: TypeName
    inner = type_name(c)
    if tag == "K_LIST":
        read = ListTypeName(inner)
    elif tag == "K_SET":
        read = SetTypeName(inner)
    elif tag == "K_FROZEN":
        if isinstance(inner, NativeTypeName | CustomTypeName):
            raise CqlSyntaxError(
                f"frozen<> is only allowed on collections, tuples, and user-defined types (got {inner})"
            )
        read = FrozenTypeName(inner)
    elif tag == "K_MAP":
        c.expect(",")
        read = MapTypeName(inner, type_name(c))
    elif tag == "K_VECTOR":
        c.expect(",")
        read = VectorTypeName(inner, c.integer(32))
    else:
        elements = [inner]
        while c.accept(","):
            elements.append(type_name(c))
        read = TupleTypeName(tuple(elements))
    c.expect(">")
    c.depth -= 1
    return read


def user_type_name(c: Cursor) -> QualifiedName:
    """``[keyspace.]type``; names of native types must be quoted."""
    keyspace = None
    if c.tags[c.at + 1] == ".":
        keyspace = name(c)
        c.at += 1
    tag = c.tags[c.at]
    if tag not in TYPE_NAME_TAGS:
        if keyspace is None and tag in NATIVE_TYPE_TAGS:
            # Only a keyspace may be called like a native type.
            c.at += 1
            raise c.mismatched(".")
        raise c.no_viable()
    piece = c.texts[c.at]
    if tag == IDENT and piece in KEPT_TYPE_NAMES:
        raise CqlSyntaxError(f"Invalid (reserved) user type name {piece}")
    c.at += 1
    return QualifiedName(keyspace, unquote_name(piece) if tag == QUOTED_NAME else piece.lower())


def types_in_parentheses(c: Cursor) -> tuple[TypeName, ...]:
    """``(type, type)``, perhaps empty."""
    c.expect("(")
    types: list[TypeName] = []
    if c.tags[c.at] != ")":
        types.append(type_name(c))
        while c.accept(","):
            types.append(type_name(c))
    c.expect(")")
    return tuple(types)


def after_type(c: Cursor, at: int) -> int:
    """Index of the token behind the type that begins at this one; -1 when none seems to. Doesn't move."""
    tags = c.tags
    if tags[at] in _PARAMETRIZED and tags[at + 1] == "<":
        opened = 1
        at += 2
        while opened:
            tag = tags[at]
            if tag == "<":
                opened += 1
            elif tag == ">":
                opened -= 1
            elif not (tag in NAME_TAGS or tag in _TYPE_PARTS):
                return -1
            at += 1
        return at
    if tags[at] in NAME_TAGS:
        return at + 3 if tags[at + 1] == "." and tags[at + 2] in NAME_TAGS else at + 1
    return at + 1 if tags[at] == STRING else -1


_TYPE_PARTS = frozenset((",", ".", "K_SET", STRING, "INTEGER"))
