"""Types under unsigned comparison of their bytes: text, ascii, blob, and custom types that nobody here knows."""

from __future__ import annotations

from typing import Any, Final

from ourodb.cql.types.base import MARSHAL, CqlType, custom_option, from_hex, not_a_value, quoted
from ourodb.cql.types.fixed import native_options
from ourodb.cql.types.ordered import decode_bytes, decode_bytes_desc, encode_bytes, encode_bytes_desc
from ourodb.errors import InvalidRequest


class BytesOrderedType(CqlType):
    """The order of text, ascii, blob and custom types."""

    __slots__ = ()

    def encode_ordered(self, value: bytes) -> bytes:
        return encode_bytes(value)

    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        return decode_bytes(buf, offset)

    def encode_ordered_desc(self, value: bytes) -> bytes:
        return encode_bytes_desc(value)

    def decode_ordered_desc(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        return decode_bytes_desc(buf, offset)

    def compare(self, left: bytes, right: bytes) -> int:
        return -1 if left < right else (1 if left > right else 0)


class TextType(BytesOrderedType):
    """text, which CQL also calls varchar. Objects: str. '' is the empty value."""

    __slots__ = ()

    def __init__(self) -> None:
        class_name = MARSHAL + "UTF8Type"
        super().__init__((), cql_name="text", class_name=class_name, options=native_options(class_name, 0x0D))

    def validate(self, value: bytes) -> None:
        if not value.isascii():
            try:
                value.decode()
            except UnicodeDecodeError:
                raise InvalidRequest("String didn't validate.") from None

    def encode(self, obj: Any) -> bytes:
        try:
            return str.encode(obj)
        except (TypeError, UnicodeEncodeError):
            raise not_a_value(self, obj) from None

    def decode(self, value: bytes) -> str:
        return value.decode()

    def parse(self, text: str) -> bytes:
        return self.encode(text)

    def literal(self, value: bytes) -> str:
        return quoted(value.decode())


class AsciiType(BytesOrderedType):
    """Objects: str. '' is the empty value."""

    __slots__ = ()

    def __init__(self) -> None:
        class_name = MARSHAL + "AsciiType"
        super().__init__(
            (), cql_name="ascii", class_name=class_name, options=native_options(class_name, 0x01)
        )

    def validate(self, value: bytes) -> None:
        if not value.isascii():
            byte = next(byte for byte in value if byte > 0x7F)
            # Java prints the byte signed.
            raise InvalidRequest(f"Invalid byte for ascii: {byte - 0x100}")

    def encode(self, obj: Any) -> bytes:
        try:
            return str.encode(obj, "ascii")
        except (TypeError, UnicodeEncodeError):
            raise not_a_value(self, obj) from None

    def decode(self, value: bytes) -> str:
        return value.decode("ascii")

    def parse(self, text: str) -> bytes:
        try:
            return text.encode("ascii")
        except UnicodeEncodeError as error:
            units = 2 if ord(text[error.start]) > 0xFFFF else 1
            raise InvalidRequest(
                "Invalid ASCII character in string literal: "
                f"java.nio.charset.UnmappableCharacterException: Input length = {units}"
            ) from None

    def literal(self, value: bytes) -> str:
        return quoted(value.decode("ascii"))


class BlobType(BytesOrderedType):
    """Objects: bytes. 0x is the empty value. ``parse`` takes the hex digits without the 0x."""

    __slots__ = ()

    def __init__(self) -> None:
        class_name = MARSHAL + "BytesType"
        super().__init__(
            (),
            cql_name="blob",
            class_name=class_name,
            options=native_options(class_name, 0x03),
            any_bytes=True,
        )

    def validate(self, value: bytes) -> None:
        pass

    def encode(self, obj: Any) -> bytes:
        if not isinstance(obj, (bytes, bytearray, memoryview)):
            raise not_a_value(self, obj)
        return bytes(obj)

    def decode(self, value: bytes) -> bytes:
        return value

    def parse(self, text: str) -> bytes:
        return from_hex(text)

    def literal(self, value: bytes) -> str:
        return "0x" + value.hex()


class CustomType(BytesOrderedType):
    """A type known only by its Java class: bytes to us, in byte order. Objects: bytes."""

    __slots__ = ()

    def __init__(self, class_name: str) -> None:
        option = custom_option(class_name)
        super().__init__(
            (class_name,),
            cql_name=f"'{class_name}'",
            class_name=class_name,
            options=(option, option, option),
            any_bytes=True,
        )

    def validate(self, value: bytes) -> None:
        pass

    def encode(self, obj: Any) -> bytes:
        return BLOB.encode(obj)

    def decode(self, value: bytes) -> bytes:
        return value

    def parse(self, text: str) -> bytes:
        return from_hex(text)

    def literal(self, value: bytes) -> str:
        return "0x" + value.hex()


TEXT: Final = TextType()
ASCII: Final = AsciiType()
BLOB: Final = BlobType()
