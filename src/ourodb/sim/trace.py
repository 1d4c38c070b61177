"""What happened, as a hash for machines and a story for people.

Every event that a node can notice goes into the hash: when, who, what kind, and its bytes. Two runs with one
hash were the same run. The story is made of lines, the last ``STORY_LINES_MAX`` of which are kept; it costs
nothing unless somebody wants it.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from enum import IntEnum
from typing import Final

from ourodb.limits import SIM_STORY_LINES_MAX

WORLD: Final = -1
"""Who, when it is nobody's event."""

FLUSH_BYTES: Final = 1 << 16
pack_event = struct.Struct("<QiBI").pack
"""Time, who, kind, bytes of what follows."""


class Kind(IntEnum):
    """What happened."""

    START = 1
    STOP = 2
    KILL = 3
    POWER_LOSS = 4
    PAUSE = 5
    RESUME = 6
    SOON = 7
    TIMER = 8
    RECEIVE = 9
    CONNECTED = 10
    DISCONNECTED = 11
    APPLY = 13
    SYNCED = 14
    FETCHED = 15
    OPENED = 16
    REQUESTED = 17
    ANSWERED = 18
    CLOSED = 19
    CLOCK = 20
    CUT = 21
    HEALED = 22
    OPERATION = 23
    CALLED = 24
    IMPAIRED = 25
    MENDED = 26


class Trace:
    """The running hash, and the story.

    Attributes:
        buffer: what isn't in the hash yet. Those who have much to note write to it, as ``note`` does, and then call
            ``flush`` if it has ``FLUSH_BYTES``.
        lines: the story's, or None when nobody wants it.
    """

    __slots__ = ("_hash", "buffer", "lines")

    def __init__(self, *, story: bool = False) -> None:
        self.buffer = bytearray()
        self._hash = hashlib.blake2b(digest_size=8)
        self.lines: deque[str] | None = deque(maxlen=SIM_STORY_LINES_MAX) if story else None

    def note(self, time_ns: int, who: int, kind: int, data: bytes = b"") -> None:
        """Something happened.

        Args:
            who: index of the machine, or WORLD.
            data: what tells this event from another of its kind.
        """
        buffer = self.buffer
        buffer += pack_event(time_ns, who, kind, len(data))
        buffer += data
        if len(buffer) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        self._hash.update(self.buffer)
        self.buffer.clear()

    def tell(self, time_ns: int, who: str, text: str) -> None:
        """A line of the story; callers look at ``lines`` first where making the text costs something."""
        if self.lines is not None:
            seconds, rest = divmod(time_ns, 1_000_000_000)
            self.lines.append(f"{seconds:>6}.{rest // 1000:06} {who:<8} {text}")

    def digest(self) -> str:
        """The hash of all that was noted so far."""
        self.flush()
        return self._hash.hexdigest()
