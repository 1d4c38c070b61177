"""inet: IPv4 and IPv6 addresses, under unsigned comparison of their 4 or 16 bytes.

Ordered form: the first four bytes, then one that tells whether there are more, then those.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from ourodb.cql.types.base import MARSHAL, CqlType, not_a_value, quoted
from ourodb.cql.types.fixed import native_options
from ourodb.cql.types.ordered import EMPTY, EMPTY_BYTES, VALUE, VALUE_BYTES, bad_marker, cut_short
from ourodb.errors import InvalidRequest

_IPV4_END: Final = 0x01
_IPV6_REST: Final = 0x02


class InetType(CqlType):
    """Objects: ipaddress.IPv4Address and IPv6Address."""

    __slots__ = ()

    def __init__(self) -> None:
        class_name = MARSHAL + "InetAddressType"
        super().__init__((), cql_name="inet", class_name=class_name, options=native_options(class_name, 0x10))

    def validate(self, value: bytes) -> None:
        if len(value) not in (0, 4, 16):
            raise InvalidRequest(f"Expected 4 or 16 byte inetaddress; got {value.hex()}")

    def encode(self, obj: Any) -> bytes:
        if not isinstance(obj, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
            raise not_a_value(self, obj)
        return obj.packed

    def decode(self, value: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        if not value:
            return None
        return ipaddress.IPv4Address(value) if len(value) == 4 else ipaddress.IPv6Address(value)

    def parse(self, text: str) -> bytes:
        """Addresses only; a host's name isn't looked up. An IPv6 address that maps an IPv4 one becomes that."""
        if not text:
            return b""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise InvalidRequest(f"Unable to make inet address from '{text}'") from None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            return address.ipv4_mapped.packed
        return address.packed

    def literal(self, value: bytes) -> str:
        """As Java prints it: all eight groups of an IPv6 address."""
        if not value:
            return "null"
        if len(value) == 4:
            return quoted(".".join(map(str, value)))
        return quoted(":".join(f"{value[i] << 8 | value[i + 1]:x}" for i in range(0, 16, 2)))

    def encode_ordered(self, value: bytes) -> bytes:
        if not value:
            return EMPTY_BYTES
        if len(value) == 4:
            return b"\x20%b\x01" % value
        return VALUE_BYTES + value[:4] + b"\x02" + value[4:]

    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker == VALUE:
            start = offset + 1
            kind = buf[offset + 5]
            if kind == _IPV4_END:
                return buf[start : start + 4], offset + 6
            end = offset + 18
            if kind != _IPV6_REST:
                raise bad_marker(buf, offset + 5)
            if end > len(buf):
                raise cut_short(buf, offset)
            return buf[start : start + 4] + buf[start + 5 : end], end
        if marker == EMPTY:
            return b"", offset + 1
        raise bad_marker(buf, offset)


INET: Final = InetType()
