"""The numbers of the protocol: opcodes, flags, consistency levels.

Hot code compares plain ints, so the opcodes that it meets are module constants as well; the enums are for names.

Source: native_protocol_v5.spec, sections 2.2, 2.4, 3 and 4.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

VERSIONS: Final = (3, 4, 5)
VERSION_MAX: Final = 5
DIRECTION_RESPONSE: Final = 0x80
"""Bit of the version byte that tells a response from a request."""

CQL_VERSION: Final = "3.4.7"


class Opcode(IntEnum):
    """What a message is."""

    ERROR = 0x00
    STARTUP = 0x01
    READY = 0x02
    AUTHENTICATE = 0x03
    OPTIONS = 0x05
    SUPPORTED = 0x06
    QUERY = 0x07
    RESULT = 0x08
    PREPARE = 0x09
    EXECUTE = 0x0A
    REGISTER = 0x0B
    EVENT = 0x0C
    BATCH = 0x0D
    AUTH_CHALLENGE = 0x0E
    AUTH_RESPONSE = 0x0F
    AUTH_SUCCESS = 0x10


ERROR: Final = 0x00
STARTUP: Final = 0x01
READY: Final = 0x02
AUTHENTICATE: Final = 0x03
OPTIONS: Final = 0x05
SUPPORTED: Final = 0x06
QUERY: Final = 0x07
RESULT: Final = 0x08
PREPARE: Final = 0x09
EXECUTE: Final = 0x0A
REGISTER: Final = 0x0B
EVENT: Final = 0x0C
BATCH: Final = 0x0D
AUTH_CHALLENGE: Final = 0x0E
AUTH_RESPONSE: Final = 0x0F
AUTH_SUCCESS: Final = 0x10

OPCODE_NAMES: Final = {int(opcode): opcode.name for opcode in Opcode}
REQUEST_OPCODES: Final = frozenset(
    (STARTUP, OPTIONS, QUERY, PREPARE, EXECUTE, REGISTER, BATCH, AUTH_RESPONSE)
)

# Flags of the envelope header.
FLAG_COMPRESSED: Final = 0x01
FLAG_TRACING: Final = 0x02
FLAG_CUSTOM_PAYLOAD: Final = 0x04
FLAG_WARNING: Final = 0x08
FLAG_USE_BETA: Final = 0x10


class Consistency(IntEnum):
    """Consistency levels, by wire code."""

    ANY = 0x0
    ONE = 0x1
    TWO = 0x2
    THREE = 0x3
    QUORUM = 0x4
    ALL = 0x5
    LOCAL_QUORUM = 0x6
    EACH_QUORUM = 0x7
    SERIAL = 0x8
    LOCAL_SERIAL = 0x9
    LOCAL_ONE = 0xA


CONSISTENCY_MAX: Final = 0xA
CONSISTENCY_NAMES: Final = {int(level): level.name for level in Consistency}
SERIAL: Final = 0x8
LOCAL_SERIAL: Final = 0x9

# Flags of the parameters of QUERY, EXECUTE and BATCH.
QUERY_VALUES: Final = 0x01
QUERY_SKIP_METADATA: Final = 0x02
QUERY_PAGE_SIZE: Final = 0x04
QUERY_PAGING_STATE: Final = 0x08
QUERY_SERIAL_CONSISTENCY: Final = 0x10
QUERY_TIMESTAMP: Final = 0x20
QUERY_NAMES: Final = 0x40
QUERY_KEYSPACE: Final = 0x80
QUERY_NOW: Final = 0x100

# Kinds of RESULT.
RESULT_VOID: Final = 1
RESULT_ROWS: Final = 2
RESULT_SET_KEYSPACE: Final = 3
RESULT_PREPARED: Final = 4
RESULT_SCHEMA_CHANGE: Final = 5

# Flags of the metadata of a result.
ROWS_GLOBAL_SPEC: Final = 0x01
ROWS_MORE_PAGES: Final = 0x02
ROWS_NO_METADATA: Final = 0x04
ROWS_METADATA_CHANGED: Final = 0x08

# Kinds of BATCH.
BATCH_LOGGED: Final = 0
BATCH_UNLOGGED: Final = 1
BATCH_COUNTER: Final = 2
