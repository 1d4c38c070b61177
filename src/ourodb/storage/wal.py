"""Looks over RocksDB's write-ahead logs before RocksDB does.

With ``tolerate_corrupted_tail_records`` RocksDB 9.8 cuts a torn tail and refuses a record whose checksum is wrong, as
it should. It gets three kinds of damage wrong (measured by flipping single bits):

- A flipped bit in a *length* in the last block makes the record run past the end of the file. That looks like a
  torn tail: the record and all behind it in the block, at most 32 KiB, are dropped without a word, also when they
  were synced.
- The same in a log that isn't the last one leaves a hole: later records are applied, those in the hole are gone.
- A flipped bit in a *type* that makes it one of the recyclable types (1 -> 5) sends RocksDB into an endless loop.

All three show in the headers alone, without checksums: every record begins with the sequence number of its first
write and the count of its writes, so the records of all logs together must be contiguous, and must reach the number
that was current when the last sync began (``rocks.SYNCED``). ``inspect`` walks the headers; what is inside the
records is left to RocksDB and its checksums. A log of 64 MiB takes about a tenth of a second, and is there only
after a crash.

Source: RocksDB, db/log_format.h: blocks of 32 KiB; header crc32c (4), length (2), type (1); FULL, FIRST, MIDDLE,
LAST. A record is a write batch: sequence (8), count (4), all little-endian.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final

BLOCK_BYTES: Final = 32 * 1024
HEADER: Final = Struct("<IHB")
BATCH: Final = Struct("<QI")

FULL: Final = 1
FIRST: Final = 2
MIDDLE: Final = 3
LAST: Final = 4


@dataclass(frozen=True, slots=True)
class Walk:
    """What the headers of one log say.

    Attributes:
        first: sequence number of the first write in it; 0 when it holds none.
        next: the one after its last write.
        gap: offset of the first record that doesn't continue the one before it; -1 when all do.
        gap_sequence: the sequence number missing there.
        end: offset behind the last whole record.
        size: bytes in the file.
        torn: what is behind ``end`` looks like a write that a crash cut short.
        broken: why the walk could not go on although it doesn't look like a torn tail; empty when it could.
    """

    path: Path
    first: int
    next: int
    gap: int
    gap_sequence: int
    end: int
    size: int
    torn: bool
    broken: str


def logs_of(folder: Path) -> list[Path]:
    """The write-ahead logs in an engine's folder, oldest first."""
    return sorted(
        (path for path in folder.glob("*.log") if path.stem.isdigit()), key=lambda path: int(path.stem)
    )


def inspect(path: Path) -> Walk:
    """Walk the headers of a log."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return Walk(path, 0, 0, -1, 0, 0, 0, False, "")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _walk(path, content, size)


def _walk(path: Path, content: mmap.mmap, size: int) -> Walk:
    unpack = HEADER.unpack_from
    header_bytes = HEADER.size
    first = following = end = at = gap_sequence = 0
    gap = -1
    torn, broken = False, ""
    head = b""
    start = 0
    inside = False
    while at < size:
        left = BLOCK_BYTES - at % BLOCK_BYTES
        if left < header_bytes:
            at += left
            continue
        if at + header_bytes > size:
            torn = True
            break
        _, length, kind = unpack(content, at)
        if kind == 0 and length == 0:
            torn = not any(content[at:size])
            broken = "" if torn else "a header of zeros"
            break
        if not FULL <= kind <= LAST:
            broken = f"a record of unknown type {kind}"
            break
        if inside != (kind in (MIDDLE, LAST)):
            broken = "a fragment out of place"
            break
        body = at + header_bytes
        if body + length > size and size // BLOCK_BYTES == at // BLOCK_BYTES:
            torn = True
            break
        if header_bytes + length > left:
            broken = "a record longer than its block"
            break
        if not inside:
            start, head = at, b""
        if len(head) < BATCH.size:
            head += content[body : min(body + length, body + BATCH.size - len(head))]
        at = body + length
        inside = kind in (FIRST, MIDDLE)
        if inside:
            continue
        if len(head) < BATCH.size:
            broken = "a record without a batch"
            at = start
            break
        sequence, count = BATCH.unpack(head)
        if not first:
            first = following = sequence
        elif sequence != following:
            gap, gap_sequence = start, following
            break
        following = sequence + count
        end = at
    else:
        torn = inside
    return Walk(path, first, following, gap, gap_sequence, end, size, torn, broken)


def check(walks: list[Walk], synced: int) -> str:
    """What is wrong with the logs of a store: empty when RocksDB may replay them.

    What was never synced may be missing after a crash of the machine, even in the middle: logs reach the disk in
    any order.

    Args:
        walks: of all logs, oldest first.
        synced: the sequence number that the last sync is known to have reached.
    """
    following = 0
    for walk in walks:
        if walk.broken:
            return f"{walk.path} has {walk.broken} after offset {walk.end}"
        if walk.gap >= 0:
            return f"{walk.path} misses writes from sequence {walk.gap_sequence} at offset {walk.gap}"
        if not walk.first:
            continue
        if following and walk.first != following and following <= synced:
            return f"acknowledged writes are lost: {following} to {walk.first - 1}, before {walk.path}"
        following = walk.next
    if following and following <= synced:
        last = next(walk for walk in reversed(walks) if walk.first)
        return (
            f"{last.path} can be read up to offset {last.end} of {last.size}, sequence {following - 1}, but sequence"
            f" {synced} was synced: acknowledged writes are lost"
        )
    return ""
