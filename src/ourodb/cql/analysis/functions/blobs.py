"""``int_as_blob``, ``blob_as_int`` and so on for every simple type, and their older names ``intasblob``, ``blobasint``.

Source: Apache Cassandra 5, ``BytesConversionFcts``.
"""

from __future__ import annotations

from collections.abc import Iterator

from ourodb.cql.analysis.functions.core import Execute, Function, null_on_null
from ourodb.cql.types import native
from ourodb.cql.types.base import CqlType
from ourodb.errors import InvalidRequest


def _from_blob(name: str, type: CqlType) -> Execute:
    def convert(value: bytes) -> bytes:
        try:
            type.validate(value)
        except InvalidRequest:
            raise InvalidRequest(
                f"In call to function system.{name}, value 0x{value.hex()} is not a valid binary representation "
                f"for type {type}"
            ) from None
        return value

    return null_on_null(convert)


def functions() -> Iterator[Function]:
    """Both directions, in both spellings."""
    for name, type in native.NATIVE_TYPES.items():
        if type is native.BLOB:
            continue
        for to_blob in (f"{name}_as_blob", f"{name}asblob"):
            yield Function(to_blob, [type], native.BLOB, null_on_null(lambda value: value))
        for from_blob in (f"blob_as_{name}", f"blobas{name}"):
            yield Function(from_blob, [native.BLOB], type, _from_blob(from_blob, type))
