"""The contract of a CQL type.

A type never holds a value. On the data plane a value is its serialized bytes, exactly as on the wire, and ``None``
is null; a type knows how to check those bytes, order them, turn them into Python objects and print them.

There are three forms of a value:

- **wire**: the bytes of the native protocol's ``[value]``, without the length. Zero bytes are the *empty value*,
  which most types accept beside null (``allows_empty``).
- **ordered**: bytes for keys in the store. Unsigned comparison of two ordered forms is Cassandra's comparison of the
  values, no ordered form is a prefix of another one of its type, and both hold too when every byte is complemented
  (DESC). ``ourodb.cql.types.ordered`` has the rules.
- **object**: a Python object, for literals, functions and display. Each type's ``encode`` says which.

Types are immutable, hashable and equal by structure, so that they can be kept in schemas and be keys of caches.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from ourodb.cql.types.ordered import COMPLEMENT
from ourodb.errors import InvalidRequest

MARSHAL = "org.apache.cassandra.db.marshal."

NESTING_MAX = 64
"""Types inside types. Everything that walks a type or a value recurses at most this deep."""

CLASS_NAME_BYTES_MAX = 65_535
"""Length of a marshal class name, which spells out every user type inside: a bound on what nesting can multiply to."""

_SHORT = struct.Struct(">H")

Validator = Callable[[bytes], None]

Options = tuple[bytes, bytes, bytes]
"""The ``[option]`` of a type in native protocol v3, v4 and v5."""


class CqlType(ABC):
    """One CQL type.

    Attributes:
        cql_name: as it reads in CQL and in ``system_schema``: ``map<text, frozen<list<int>>>``.
        class_name: Cassandra's marshal class, as in ``org.apache.cassandra.db.marshal.ListType(...)``.
        bare_class_name: ``class_name`` without the ``FrozenType(...)`` around what is frozen.
        option: the ``[option]`` of native protocol v5 (4.2.5.2): id and parameters. See ``option_for``.
        fixed_length: bytes of every non-empty value, or None.
        is_multicell: a non-frozen collection or user type, whose elements are cells of their own.
        is_collection: a list, set or map.
        is_counter: the counter type.
        allows_empty: the empty value is valid.
        normalizes: values that compare equal may differ in bytes (decimal 1.0 and 1.00); ``decode_ordered`` then
            gives the canonical one, and who wants the bytes that were written must keep them too.
        needs_ordering: what a client sends may have to be put in order before it is kept: ``in_type_order`` may
            change it (sets and maps, and what contains them).
        references_counter, references_duration: this type or a type inside it is one.
        nesting: 0 for a simple type, one more than the deepest type inside it for others.
        valid_by_length: every value of ``fixed_length`` bytes is valid.
        validator: ``validate`` as a plain function for hot paths; None when any bytes are valid.
    """

    __slots__ = (
        "_hash",
        "_options",
        "_structure",
        "allows_empty",
        "bare_class_name",
        "class_name",
        "cql_name",
        "fixed_length",
        "is_collection",
        "is_counter",
        "is_multicell",
        "needs_ordering",
        "nesting",
        "normalizes",
        "option",
        "references_counter",
        "references_duration",
        "valid_by_length",
        "validator",
    )

    def __init__(
        self,
        structure: tuple[Any, ...],
        *,
        cql_name: str,
        class_name: str,
        options: Options,
        bare_class_name: str | None = None,
        fixed_length: int | None = None,
        is_multicell: bool = False,
        is_collection: bool = False,
        is_counter: bool = False,
        is_duration: bool = False,
        allows_empty: bool = True,
        normalizes: bool = False,
        needs_ordering: bool = False,
        any_bytes: bool = False,
        valid_by_length: bool = False,
        parts: tuple[CqlType, ...] = (),
    ) -> None:
        """
        Args:
            structure: what, beside the class, makes this type equal to another one.
            any_bytes: every value is valid, so that there is no validator.
            parts: the types directly inside this one.
        Raises:
            InvalidRequest: types are nested too deeply, or multiply to too many.
        """
        self.nesting: int = 1 + max(part.nesting for part in parts) if parts else 0
        if self.nesting > NESTING_MAX:
            raise InvalidRequest(f"Types cannot be nested more than {NESTING_MAX} deep")
        if len(class_name) > CLASS_NAME_BYTES_MAX:
            raise InvalidRequest(f"Type is too large: its class name has {len(class_name)} bytes")
        self._structure = structure
        self._hash = hash((type(self), structure))
        self._options = options
        self.cql_name = cql_name
        self.class_name = class_name
        self.bare_class_name = bare_class_name or class_name
        self.option = options[2]
        self.fixed_length = fixed_length
        self.is_multicell = is_multicell
        self.is_collection = is_collection
        self.is_counter = is_counter
        self.allows_empty = allows_empty
        self.normalizes: bool = normalizes or any(part.normalizes for part in parts)
        self.needs_ordering: bool = needs_ordering or any(part.needs_ordering for part in parts)
        self.references_counter: bool = is_counter or any(part.references_counter for part in parts)
        self.references_duration: bool = is_duration or any(part.references_duration for part in parts)
        self.valid_by_length = valid_by_length
        self.validator: Validator | None = None if any_bytes else self.validate

    # Identity

    def __eq__(self, other: object) -> bool:
        return self is other or (
            type(self) is type(other) and self._hash == other._hash and self._structure == other._structure
        )

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return self.cql_name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.cql_name}>"

    def option_for(self, version: int) -> bytes:
        """The ``[option]`` in native protocol ``version``, 3 to 5. v3 has no ids for date, time, smallint and tinyint,
        nor v4 for duration, and names their classes instead.
        """
        return self._options[version - 3]

    def frozen(self) -> CqlType:
        """This type with itself and everything inside frozen."""
        return self

    def references_udt(self, keyspace: str, name: str) -> bool:
        """Whether the user type ``keyspace.name`` is this type or inside it."""
        return False

    # Wire form

    @abstractmethod
    def validate(self, value: bytes) -> None:
        """Check wire bytes that a client sent.

        Raises:
            InvalidRequest: with Cassandra's text. Nothing else is ever raised, whatever the bytes are.
        """

    @abstractmethod
    def encode(self, obj: Any) -> bytes:
        """Wire bytes of a Python object, which must be of the right kind and in range.

        Raises:
            InvalidRequest: the object can't be a value of this type.
        """

    @abstractmethod
    def decode(self, value: bytes) -> Any:
        """The Python object of a valid value; None for the empty value of a type that has no natural one."""

    def in_type_order(self, value: bytes) -> bytes:
        """A valid value with the elements of sets and maps inside it sorted and made unique (the last entry of a
        map key wins), as it is kept.
        """
        return value

    # Text form

    @abstractmethod
    def parse(self, text: str) -> bytes:
        """Wire bytes of what stands inside a CQL string literal.

        Raises:
            InvalidRequest: with Cassandra's text.
        """

    @abstractmethod
    def literal(self, value: bytes) -> str:
        """A valid value as a CQL literal: text in quotes, blobs as 0x..., collections nested."""

    # Order

    @abstractmethod
    def encode_ordered(self, value: bytes) -> bytes:
        """The ordered form of a valid value."""

    @abstractmethod
    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        """The canonical value whose ordered form starts at ``offset``, and the offset after it.

        Raises:
            ValueError or IndexError: no ordered form of this type starts there.
        """

    def encode_ordered_desc(self, value: bytes) -> bytes:
        """The ordered form under CLUSTERING ORDER DESC: every byte complemented."""
        return self.encode_ordered(value).translate(COMPLEMENT)

    def decode_ordered_desc(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        """Inverse of ``encode_ordered_desc``; as ``decode_ordered``."""
        value, length = self.decode_ordered(buf[offset:].translate(COMPLEMENT), 0)
        return value, offset + length

    def canonical(self, value: bytes) -> bytes:
        """The one value that stands for all that compare equal to ``value``."""
        if not self.normalizes:
            return value
        return self.decode_ordered(self.encode_ordered(value), 0)[0]

    def compare(self, left: bytes, right: bytes) -> int:
        """-1, 0 or 1 as ``left`` sorts before, with or after ``right``; both are valid values."""
        if left == right:
            return 0
        a = self.encode_ordered(left)
        b = self.encode_ordered(right)
        return -1 if a < b else (1 if a > b else 0)


def short(number: int) -> bytes:
    """A ``[short]`` of the native protocol."""
    return _SHORT.pack(number)


def string(text: str) -> bytes:
    """A ``[string]`` of the native protocol."""
    data = text.encode()
    return _SHORT.pack(len(data)) + data


def custom_option(class_name: str) -> bytes:
    """The ``[option]`` of a custom type: id 0 and the name of its class."""
    return short(0) + string(class_name)


def options_of(prefix: bytes, parts: tuple[CqlType, ...]) -> Options:
    """``[option]``s of a parameterised type: its id (and what follows), then the options of the types inside it."""
    v3, v4, v5 = (prefix + b"".join(part.option_for(version) for part in parts) for version in (3, 4, 5))
    return v3, v4, v5


def quoted(text: str) -> str:
    """A CQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def from_hex(text: str) -> bytes:
    """Bytes of pairs of hex digits and nothing else.

    Raises:
        InvalidRequest: with Cassandra's text.
    """
    try:
        # bytes.fromhex skips white space.
        if text.isascii() and not any(map(str.isspace, text)):
            return bytes.fromhex(text)
    except ValueError:
        pass
    raise InvalidRequest(f"cannot parse '{text}' as hex bytes")


def not_a_value(type_: CqlType, obj: object) -> InvalidRequest:
    """For an object that ``type_.encode`` can't encode."""
    return InvalidRequest(f"Cannot make a value of type {type_.cql_name} of {obj!r:.80}")
