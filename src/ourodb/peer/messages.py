"""What stands before every message between nodes, and the verbs.

    u8 verb | u8 flags | u32 request | u64 clock (microseconds) | u32 epoch | body

``request`` is the sender's own number; a reply carries that of the request and REPLY in its flags. ``clock`` is the
sender's hybrid logical clock, ``epoch`` the last entry of the metadata log that it has applied. A verb or a flag that a
node doesn't know is skipped, and bodies that may grow are msgpack maps, so that versions can mix.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

HEADER: Final = struct.Struct(">BBIQI")
HEADER_BYTES: Final = HEADER.size

REPLY: Final = 0x01
"""Flag: this answers a request."""
FAILED: Final = 0x02
"""Flag of a reply: the body is an error."""


class Verb(IntEnum):
    """What a message is about. Numbers are for ever."""

    # The data plane
    WRITE = 1
    """A mutation for the receiver's rows."""
    READ_ROW = 2
    """One row by its whole key."""
    READ_SLICES = 3
    """Rows of one partition."""
    READ_RANGE = 4
    """Rows of the partitions between two positions."""
    COUNTER = 5
    """Increments for the receiver to lead."""
    PAXOS_PREPARE = 6
    PAXOS_PROPOSE = 7
    PAXOS_COMMIT = 8
    BATCH_STORE = 9
    BATCH_REMOVE = 10
    HINT = 11
    """Mutations that the receiver missed."""
    WRITE_ALL = 12
    """Several mutations, applied all or none."""
    REPAIR = 13
    """As WRITE_ALL; but what was deleted is as old as the sender's record says, not as old as its arrival here."""

    STREAM = 14
    """What of a range that moves: rows, or what is known of conditional statements."""

    # The control plane
    GOSSIP = 32
    RAFT = 33
    PROPOSE = 34
    """A command for the metadata log, sent to its leader."""
    PULL = 35
    """Entries of the metadata log after an epoch."""
    AWAIT_EPOCH = 36
    """Answer once you have applied this epoch."""
    JOIN = 37
    PING = 38
    """Answered at once with the receiver's wall clock: measures skew and latency."""


VERBS: Final = {int(verb): verb for verb in Verb}
