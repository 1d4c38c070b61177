"""Refusals as bytes: why a command didn't fit, told to the node that proposed it and kept beside its id.

Only the errors that the functions of ``schema`` and ``evolution`` raise have a class of their own here: those are what
an entry can be refused with. Any other comes back as an ``InvalidRequest`` with the same text.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ourodb.errors import (
    AlreadyExists,
    ConfigurationException,
    CqlSyntaxError,
    ErrorCode,
    InvalidRequest,
    Overloaded,
    RequestError,
    StoreDamaged,
)

_PLAIN: Final[dict[int, type[RequestError]]] = {
    int(kind.code): kind for kind in (InvalidRequest, ConfigurationException, CqlSyntaxError, Overloaded)
}


class _Refusal(msgspec.Struct, array_like=True, frozen=True):
    code: int
    message: str
    keyspace: str = ""
    table: str = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Refusal)


def encode_refusal(error: RequestError) -> bytes:
    """Equal errors give equal bytes."""
    if isinstance(error, AlreadyExists):
        return _encoder.encode(_Refusal(error.code, error.message, error.keyspace, error.table))
    code = error.code if error.code in _PLAIN else ErrorCode.INVALID
    return _encoder.encode(_Refusal(code, error.message))


def decode_refusal(encoded: bytes) -> RequestError:
    """Inverse of ``encode_refusal``.

    Raises:
        StoreDamaged: the bytes are no refusal.
    """
    try:
        refusal = _decoder.decode(encoded)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StoreDamaged(f"a refusal can't be read: {error}") from error
    if refusal.code == ErrorCode.ALREADY_EXISTS:
        return AlreadyExists(refusal.keyspace, refusal.table, refusal.message)
    return _PLAIN.get(refusal.code, InvalidRequest)(refusal.message)
