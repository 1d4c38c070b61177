"""What one execution of a statement brings with it, beside the values that are bound.

The session fills an ``ExecuteOptions`` from the request and hands it to ``bind`` of a plan. It is one slotted object
per request (or one per connection, filled anew: plans read it, they don't keep it).
"""

from __future__ import annotations

from ourodb.cql.wire.codes import SERIAL, VERSION_MAX, Consistency
from ourodb.ports import Clock, Random

_ONE = int(Consistency.ONE)


class ExecuteOptions:
    """Everything that isn't in the statement's text or its values.

    Attributes:
        clock, random: the ports, for now(), uuid() and their like.
        consistency, serial_consistency: wire codes.
        timestamp_us: the write timestamp, already resolved (the client's, or the server's stamp).
        now_s: the moment at which TTLs expire, seconds since the epoch, already resolved.
        page_size: rows a page; 0 or less: not paged.
        paging_state: as the client gave it back, or None.
        keyspace: for names that have none, or None.
        version: of the protocol.
    """

    __slots__ = (
        "clock",
        "consistency",
        "keyspace",
        "now_s",
        "page_size",
        "paging_state",
        "random",
        "serial_consistency",
        "timestamp_us",
        "version",
    )

    def __init__(
        self,
        clock: Clock,
        random: Random,
        timestamp_us: int,
        now_s: int,
        *,
        consistency: int = _ONE,
        serial_consistency: int = SERIAL,
        page_size: int = 0,
        paging_state: bytes | None = None,
        keyspace: str | None = None,
        version: int = VERSION_MAX,
    ) -> None:
        self.clock = clock
        self.random = random
        self.timestamp_us = timestamp_us
        self.now_s = now_s
        self.consistency = consistency
        self.serial_consistency = serial_consistency
        self.page_size = page_size
        self.paging_state = paging_state
        self.keyspace = keyspace
        self.version = version
