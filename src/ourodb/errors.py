"""One tree of errors.

``RequestError`` and its children are answers to a client: each has the wire code of the native protocol's
ERROR message and, as attributes, the fields that its body carries. They are values as much as exceptions: the
front of the database raises them, operations in flight pass them along. Everything else under ``OuroError`` is
told to whoever runs the node.

Source: Apache Cassandra native_protocol_v5.spec, section 9 (error codes); the texts follow Apache Cassandra 5.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class ErrorCode(IntEnum):
    """Codes of the ERROR message."""

    SERVER_ERROR = 0x0000
    PROTOCOL_ERROR = 0x000A
    BAD_CREDENTIALS = 0x0100
    UNAVAILABLE = 0x1000
    OVERLOADED = 0x1001
    IS_BOOTSTRAPPING = 0x1002
    TRUNCATE_ERROR = 0x1003
    WRITE_TIMEOUT = 0x1100
    READ_TIMEOUT = 0x1200
    READ_FAILURE = 0x1300
    FUNCTION_FAILURE = 0x1400
    WRITE_FAILURE = 0x1500
    CDC_WRITE_FAILURE = 0x1600
    CAS_WRITE_UNKNOWN = 0x1700
    SYNTAX_ERROR = 0x2000
    UNAUTHORIZED = 0x2100
    INVALID = 0x2200
    CONFIG_ERROR = 0x2300
    ALREADY_EXISTS = 0x2400
    UNPREPARED = 0x2500


class OuroError(Exception):
    """Root of every error that OuroDB raises on purpose."""


class ConfigurationProblem(OuroError):
    """The node can't start as it was asked to; one clear line for the operator, exit code 2."""


class NodeRemoved(ConfigurationProblem):
    """The cluster has gone on without this node. Starting it again is of no use, which exit code 3 says."""


class StoreError(OuroError):
    """The store can't do what was asked."""


class StoreDamaged(StoreError):
    """A checksum or a format is wrong on disk. The message says what to do; the node refuses to serve it."""


class StoreInUse(StoreError):
    """Another process has the data folder open."""


class RequestError(OuroError):
    """An answer to a client.

    Attributes:
        message: text of the ERROR message.
    """

    code: ErrorCode = ErrorCode.SERVER_ERROR
    retryable: bool = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ServerError(RequestError):
    """A bug of ours, or something that the protocol has no better code for."""


def internal_error(error: Exception) -> ServerError:
    """What a client is told of a bug of ours; whoever caught it logs it."""
    return ServerError(f"Internal error: {type(error).__name__}; see the node's log")


class ProtocolError(RequestError):
    """The bytes or the order of messages break the protocol.

    Attributes:
        fatal: the connection can't be resynchronised and is closed after the error is sent.
    """

    code = ErrorCode.PROTOCOL_ERROR

    def __init__(self, message: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.fatal = fatal


class BadCredentials(RequestError):
    code = ErrorCode.BAD_CREDENTIALS


class Unavailable(RequestError):
    """Too few live replicas for the consistency level.

    Attributes:
        consistency: the wire code of the level asked for.
        required: replicas needed.
        alive: replicas known to be alive.
    """

    code = ErrorCode.UNAVAILABLE
    retryable = True

    def __init__(self, consistency: int, required: int, alive: int, message: str | None = None) -> None:
        super().__init__(
            message or f"Cannot achieve consistency level with {alive} of {required} replicas alive"
        )
        self.consistency = consistency
        self.required = required
        self.alive = alive


class Overloaded(RequestError):
    """A bound in ``limits.py`` was reached; try again later."""

    code = ErrorCode.OVERLOADED
    retryable = True


class StoreReadOnly(Overloaded):
    """The disk is nearly full or refuses writes. Reads go on; drivers take a write to another node."""


class IsBootstrapping(RequestError):
    code = ErrorCode.IS_BOOTSTRAPPING
    retryable = True


class TruncateError(RequestError):
    code = ErrorCode.TRUNCATE_ERROR


class WriteTimeout(RequestError):
    """Too few replicas acknowledged in time; the write may have happened.

    Attributes:
        consistency: wire code of the level.
        received, required: acknowledgements.
        write_type: SIMPLE, BATCH, UNLOGGED_BATCH, COUNTER, BATCH_LOG, CAS, VIEW or CDC.
        contentions: lost ballots, for CAS (v5).
    """

    code = ErrorCode.WRITE_TIMEOUT
    retryable = True

    def __init__(
        self, consistency: int, received: int, required: int, write_type: str, contentions: int = 0
    ) -> None:
        super().__init__(f"Operation timed out - received only {received} responses.")
        self.consistency = consistency
        self.received = received
        self.required = required
        self.write_type = write_type
        self.contentions = contentions


class ReadTimeout(RequestError):
    """Too few replicas answered in time.

    Attributes:
        data_present: whether the replica asked for data (not digests) answered.
    """

    code = ErrorCode.READ_TIMEOUT
    retryable = True

    def __init__(self, consistency: int, received: int, required: int, data_present: bool) -> None:
        super().__init__(f"Operation timed out - received only {received} responses.")
        self.consistency = consistency
        self.received = received
        self.required = required
        self.data_present = data_present


class ReadFailure(RequestError):
    """Replicas answered with errors.

    Attributes:
        reasons: address of the replica (packed, 4 or 16 bytes) to its RequestFailureReason code.
    """

    code = ErrorCode.READ_FAILURE

    def __init__(
        self,
        consistency: int,
        received: int,
        required: int,
        reasons: dict[bytes, int],
        data_present: bool,
        message: str | None = None,
    ) -> None:
        super().__init__(
            message or f"Operation failed - received {received} responses and {len(reasons)} failures"
        )
        self.consistency = consistency
        self.received = received
        self.required = required
        self.reasons = reasons
        self.data_present = data_present


class FunctionFailure(RequestError):
    """A user function failed.

    Attributes:
        keyspace, function: whose.
        argument_types: CQL names.
    """

    code = ErrorCode.FUNCTION_FAILURE

    def __init__(self, keyspace: str, function: str, argument_types: list[str], message: str) -> None:
        super().__init__(message)
        self.keyspace = keyspace
        self.function = function
        self.argument_types = argument_types


class WriteFailure(RequestError):
    """Replicas refused the write. Attributes as in ``WriteTimeout`` and ``ReadFailure``."""

    code = ErrorCode.WRITE_FAILURE

    def __init__(
        self,
        consistency: int,
        received: int,
        required: int,
        reasons: dict[bytes, int],
        write_type: str,
        message: str | None = None,
    ) -> None:
        super().__init__(
            message or f"Operation failed - received {received} responses and {len(reasons)} failures"
        )
        self.consistency = consistency
        self.received = received
        self.required = required
        self.reasons = reasons
        self.write_type = write_type


class CasWriteUnknown(RequestError):
    """A conditional write timed out in a state that nobody knows (v5)."""

    code = ErrorCode.CAS_WRITE_UNKNOWN

    def __init__(self, consistency: int, received: int, required: int) -> None:
        super().__init__("CAS operation result is unknown - proposal accepted by too few replicas")
        self.consistency = consistency
        self.received = received
        self.required = required


class CqlSyntaxError(RequestError):
    """The statement can't be parsed; the message starts with ``line L:C``."""

    code = ErrorCode.SYNTAX_ERROR


class Unauthorized(RequestError):
    code = ErrorCode.UNAUTHORIZED


class InvalidRequest(RequestError):
    """The statement is well-formed but wrong."""

    code = ErrorCode.INVALID


UNDONE: Final = (InvalidRequest, Overloaded, Unavailable)
"""They say that nothing was done; a driver may repeat the request on another node."""


class NotSupported(InvalidRequest):
    """CQL that OuroDB doesn't have yet; never a silent success."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not supported yet")


class ConfigurationException(RequestError):
    """A keyspace or table option is wrong."""

    code = ErrorCode.CONFIG_ERROR


class AlreadyExists(RequestError):
    """Attributes: keyspace, table ('' when the keyspace itself exists)."""

    code = ErrorCode.ALREADY_EXISTS

    def __init__(self, keyspace: str, table: str = "", message: str | None = None) -> None:
        if message is None:
            what = f'Cannot add already existing table "{table}" to keyspace "{keyspace}"' if table else None
            message = what or f'Cannot add existing keyspace "{keyspace}"'
        super().__init__(message)
        self.keyspace = keyspace
        self.table = table


class Unprepared(RequestError):
    """Attributes: statement_id, which this node doesn't know; drivers prepare again."""

    code = ErrorCode.UNPREPARED

    def __init__(self, statement_id: bytes) -> None:
        super().__init__(f"Prepared query with ID {statement_id.hex()} not found")
        self.statement_id = statement_id
