"""From the name of a type to the type.

``parse_type`` reads what ``CqlType.cql_name`` writes, and so what ``system_schema`` keeps; ``parse_class_name`` reads
``CqlType.class_name``. Neither is the parser of statements, which has a syntax tree of its own; ``build`` is what
both share with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ourodb.cql.types.base import MARSHAL, NESTING_MAX, CqlType
from ourodb.cql.types.collection import ListType, MapType, SetType
from ourodb.cql.types.composite import TupleType, UserType
from ourodb.cql.types.native import NATIVE_TYPES
from ourodb.cql.types.text import CustomType
from ourodb.cql.types.vector import VectorType
from ourodb.errors import InvalidRequest

UdtResolver = Callable[[str | None, str], UserType | None]
"""(keyspace, or None where the name isn't qualified; name of the type) -> the type, not frozen, or None."""

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<word>[A-Za-z0-9_]+)|"(?P<quoted>(?:[^"]|"")+)"|'(?P<class>[^']+)'|(?P<sign>[<>,.]))""",
    re.ASCII,
)
_CLASS_TOKEN: Final = re.compile(r"\s*(?:(?P<word>[\w.]+)|(?P<sign>[(),:]))", re.ASCII)

_ARGUMENTS: Final = {"list": 1, "set": 1, "map": 2, "frozen": 1, "vector": 1}
_CLASSES: Final = {type_.class_name: type_ for type_ in NATIVE_TYPES.values()}
_PARAMETERISED_CLASSES: Final = {"ListType": "list", "SetType": "set", "MapType": "map", "TupleType": "tuple"}

_Token = tuple[str, str]
_END: Final[_Token] = ("end", "")


def native_type(name: str) -> CqlType | None:
    """The simple type of that (lower case) name; ``varchar`` is ``text``."""
    return NATIVE_TYPES.get(name)


def build(name: str, arguments: Sequence[CqlType], dimension: int | None = None) -> CqlType:
    """The type ``name<arguments>``: list, set, map, tuple, vector (with ``dimension``) or frozen.

    Raises:
        InvalidRequest: there is no such parameterised type, or its arguments are wrong.
    """
    if (dimension is not None) != (name == "vector") or len(arguments) != _ARGUMENTS.get(
        name, len(arguments)
    ):
        raise InvalidRequest(f"Wrong parameters for type {name}")
    if name == "list":
        return ListType(*arguments)
    if name == "set":
        return SetType(*arguments)
    if name == "map":
        return MapType(*arguments)
    if name == "tuple":
        return TupleType(arguments)
    if name == "vector" and dimension is not None:
        return VectorType(arguments[0], dimension)
    if name == "frozen":
        return _freeze(arguments[0])
    raise InvalidRequest(f"Unknown type {name}")


def parse_type(text: str, udt_resolver: UdtResolver | None = None) -> CqlType:
    """The type that reads ``text``.

    Raises:
        InvalidRequest: the text isn't a type, or names one that isn't known.
    """
    return _Parser(text, _TOKEN, udt_resolver).type_only()


def parse_class_name(text: str) -> CqlType:
    """The type of a marshal class; classes that CQL has no type for become a ``CustomType``.

    Raises:
        InvalidRequest: the text isn't the name of a class.
    """
    return _ClassParser(text, _CLASS_TOKEN).type_only()


class _Parser:
    """Recursive descent over the tokens of one type."""

    def __init__(self, text: str, pattern: re.Pattern[str], udt_resolver: UdtResolver | None = None) -> None:
        self._text = text
        self._resolve = udt_resolver
        self._tokens = _tokens(text, pattern)
        self._next = next(self._tokens, _END)
        self._nesting = 0

    def type_only(self) -> CqlType:
        try:
            type_ = self._type()
        except ValueError:
            raise self._error() from None
        if self._next != _END:
            raise self._error()
        return type_

    def _type(self) -> CqlType:
        self._nesting += 1
        if self._nesting > NESTING_MAX + 1:
            raise InvalidRequest(f"Types cannot be nested more than {NESTING_MAX} deep")
        kind, name = self._take()
        if kind == "class":
            type_: CqlType = parse_class_name(name)
        elif kind == "word" and self._next == ("sign", "<"):
            type_ = self._parameterised(name.lower())
        elif kind == "word" and self._next != ("sign", ".") and name.lower() in NATIVE_TYPES:
            type_ = NATIVE_TYPES[name.lower()]
        elif kind in ("word", "quoted"):
            type_ = self._user_type(kind, name)
        else:
            raise self._error()
        self._nesting -= 1
        return type_

    def _parameterised(self, name: str) -> CqlType:
        self._expect("<")
        arguments = [self._type()]
        dimension = None
        while self._next == ("sign", ","):
            self._expect(",")
            if name == "vector":
                dimension = int(self._take()[1])
                break
            arguments.append(self._type())
        self._expect(">")
        return build(name, arguments, dimension)

    def _user_type(self, kind: str, name: str) -> CqlType:
        keyspace = None
        name = _identifier(kind, name)
        if self._next == ("sign", "."):
            self._expect(".")
            keyspace, (kind, name) = name, self._take()
            if kind not in ("word", "quoted"):
                raise self._error()
            name = _identifier(kind, name)
        type_ = self._resolve(keyspace, name) if self._resolve is not None else None
        if type_ is None:
            raise InvalidRequest(f"Unknown type {name if keyspace is None else f'{keyspace}.{name}'}")
        return type_

    def _take(self) -> _Token:
        token = self._next
        self._next = next(self._tokens, _END)
        return token

    def _expect(self, sign: str) -> None:
        if self._take() != ("sign", sign):
            raise self._error()

    def _error(self) -> InvalidRequest:
        return InvalidRequest(f"Invalid type: {self._text:.200}")


class _ClassParser(_Parser):
    """The same over marshal classes, where ``FrozenType`` freezes and the user types bring their fields along."""

    def _type(self) -> CqlType:
        self._nesting += 1
        if self._nesting > 2 * NESTING_MAX:
            raise InvalidRequest(f"Types cannot be nested more than {NESTING_MAX} deep")
        kind, name = self._take()
        if kind != "word":
            raise self._error()
        class_name = name if "." in name else MARSHAL + name
        short_name = class_name.removeprefix(MARSHAL)
        if self._next != ("sign", "("):
            type_ = _CLASSES.get(class_name) or CustomType(class_name)
        elif short_name == "UserType":
            type_ = self._user_class()
        elif short_name in _PARAMETERISED_CLASSES:
            type_ = build(_PARAMETERISED_CLASSES[short_name], self._class_arguments())
        elif short_name in ("FrozenType", "ReversedType"):
            arguments = self._class_arguments()
            if len(arguments) != 1:
                raise self._error()
            type_ = arguments[0].frozen() if short_name == "FrozenType" else arguments[0]
        elif short_name == "VectorType":
            self._expect("(")
            element = self._type()
            self._expect(",")
            type_ = VectorType(element, int(self._take()[1]))
            self._expect(")")
        else:
            raise self._error()
        self._nesting -= 1
        return type_

    def _class_arguments(self) -> list[CqlType]:
        self._expect("(")
        arguments = [self._type()]
        while self._next == ("sign", ","):
            self._expect(",")
            arguments.append(self._type())
        self._expect(")")
        return arguments

    def _user_class(self) -> UserType:
        self._expect("(")
        keyspace = self._take()[1]
        self._expect(",")
        name = bytes.fromhex(self._take()[1]).decode()
        fields: dict[str, CqlType] = {}
        while self._next == ("sign", ","):
            self._expect(",")
            field = bytes.fromhex(self._take()[1]).decode()
            self._expect(":")
            fields[field] = self._type()
        self._expect(")")
        return UserType(keyspace, name, tuple(fields), tuple(fields.values()))


def _freeze(type_: CqlType) -> CqlType:
    if not isinstance(type_, (ListType, SetType, MapType, TupleType, UserType, VectorType)):
        raise InvalidRequest(
            f"frozen<> is only allowed on collections, tuples, and user-defined types (got {type_.cql_name})"
        )
    return type_.frozen()


def _identifier(kind: str, text: str) -> str:
    return text.replace('""', '"') if kind == "quoted" else text.lower()


def _tokens(text: str, pattern: re.Pattern[str]) -> Iterator[_Token]:
    offset = 0
    end = len(text.rstrip())
    while offset < end:
        match = pattern.match(text, offset)
        if match is None or match.lastgroup is None:
            raise InvalidRequest(f"Invalid type: {text:.200}")
        yield match.lastgroup, match[match.lastgroup]
        offset = match.end()
