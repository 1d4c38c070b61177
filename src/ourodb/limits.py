"""Every bound in the system, with its unit last in its name.

A queue, a frame, a batch or a page without a bound here is a bug. Bounds that depend on each other are asserted
together at the end of their section. Plain constants, so that hot code can read them as module globals; what an
operator may change has its default here and its name in ``config``.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- Client protocol -------------------------------------------------------------------------------------------

FRAME_BYTES_MAX: Final = 16 * MIB
"""Body of one message, before and after decompression; Cassandra's ``native_transport_max_frame_size``."""

UNAUTHENTICATED_MESSAGE_BYTES_MAX: Final = 64 * KIB
"""Body of one message from a client that has not passed STARTUP and authentication."""

SEGMENT_PAYLOAD_BYTES_MAX: Final = 128 * KIB - 1
"""Payload of one v5 segment: 17 bits of length. Fixed by the protocol."""

STARTUP_KEYS_MAX: Final = 64
"""Options in one STARTUP. Drivers send fewer than ten."""

REGISTER_EVENTS_MAX: Final = 16
"""Event types in one REGISTER. Three exist."""

BATCH_STATEMENTS_MAX: Final = 65_535
"""Statements in one BATCH: its [short] count. Fixed by the protocol."""

BIND_VALUES_MAX: Final = 65_535
"""Values bound to one statement: their [short] count. Fixed by the protocol."""

CUSTOM_PAYLOAD_KEYS_MAX: Final = 256
"""Entries in the custom payload of one message."""

COMPRESS_BYTES_MIN: Final = 128
"""A v3/v4 response body below this is sent as it is: compressing it costs more than it saves."""

assert UNAUTHENTICATED_MESSAGE_BYTES_MAX <= SEGMENT_PAYLOAD_BYTES_MAX <= FRAME_BYTES_MAX
