"""What a replica is asked for in a read, whoever asks: a coordinator elsewhere, or the one in this process.

A *command* is one read of stored records: it knows how to travel (``verb``, ``body``), how to run on this node's rows
(``run``), and how its reply is read. Three kinds exist: one row, slices of one partition, slices of all partitions
in a range. All give a ``Chunk``; for a row it is complete, with at most one partition in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from ourodb import limits
from ourodb.peer.messages import Verb
from ourodb.replication.messages import (
    DIGEST,
    REVERSE,
    RangeRead,
    SlicesRead,
    decode_range_read,
    decode_row_read,
    decode_slices_read,
    encode,
    encode_row_read,
)
from ourodb.replication.peers import RequestClass
from ourodb.storage.chunk import Chunk, digest, read_range, read_row, read_slices
from ourodb.storage.keys import Slice
from ourodb.storage.meaning import dropped_from
from ourodb.storage.row import Wait
from ourodb.storage.rows import Rows, TableRows

DIGEST_WORTH_BYTES: Final = 512
"""Up to so many bytes a chunk is sent where a digest was asked for: it is as quickly compared, and spares a round."""

SMALL_RECORDS_MAX: Final = 4
"""Records that such a chunk may have at most."""


class ReadCommand(Protocol):
    """A read of records.

    Attributes:
        verb: of the message.
        kind: how long its replies are waited for.
        rows: of the table, on this node.
        now_s: the coordinator's time.
        reverse: chunks cover the partition from its end.
        position: of the partition; for a range, where it starts.
    """

    verb: Verb
    kind: RequestClass
    rows: TableRows
    now_s: int
    reverse: bool

    @property
    def position(self) -> bytes: ...

    def body(self, *, digest: bool) -> bytes:
        """The message's body."""
        ...

    def run(self) -> Chunk | Wait:
        """Read this node's rows."""
        ...


class RowCommand:
    """One row by its whole key."""

    __slots__ = ("clustering_key", "now_s", "position", "reverse", "rows")

    verb = Verb.READ_ROW
    kind = RequestClass.READ

    def __init__(self, rows: TableRows, position: bytes, clustering_key: bytes, now_s: int) -> None:
        self.rows = rows
        self.position = position
        self.clustering_key = clustering_key
        self.now_s = now_s
        self.reverse = False

    def body(self, *, digest: bool) -> bytes:
        return encode_row_read(
            DIGEST if digest else 0,
            self.now_s,
            self.rows.table.incarnation,
            self.position,
            self.clustering_key,
        )

    def run(self) -> Chunk | Wait:
        found = read_row(self.rows, self.position, self.clustering_key)
        if found is None:
            return Chunk([])
        return found if isinstance(found, Wait) else Chunk([found])


class SlicesCommand:
    """Some slices of one partition."""

    __slots__ = ("now_s", "position", "reverse", "rows", "rows_max", "slices")

    verb = Verb.READ_SLICES
    kind = RequestClass.READ

    def __init__(
        self,
        rows: TableRows,
        position: bytes,
        slices: Sequence[Slice],
        now_s: int,
        *,
        reverse: bool = False,
        rows_max: int = limits.CHUNK_ROWS_MAX,
    ) -> None:
        self.rows = rows
        self.position = position
        self.slices = slices
        self.now_s = now_s
        self.reverse = reverse
        self.rows_max = rows_max

    def body(self, *, digest: bool) -> bytes:
        flags = (DIGEST if digest else 0) | (REVERSE if self.reverse else 0)
        incarnation = self.rows.table.incarnation
        return encode(SlicesRead(flags, self.now_s, incarnation, self.position, self.slices, self.rows_max))

    def run(self) -> Chunk | Wait:
        return read_slices(
            self.rows,
            self.position,
            self.slices,
            reverse=self.reverse,
            now_s=self.now_s,
            rows_max=min(self.rows_max, limits.CHUNK_ROWS_MAX),
            bytes_max=limits.CHUNK_BYTES_MAX,
            keys_max=limits.CHUNK_KEYS_PER_PASS,
        )


class RangeCommand:
    """Some slices of each partition between two positions."""

    __slots__ = ("end", "now_s", "resume_after", "reverse", "rows", "rows_max", "slices", "start")

    verb = Verb.READ_RANGE
    kind = RequestClass.RANGE

    def __init__(
        self,
        rows: TableRows,
        start: bytes,
        end: bytes | None,
        slices: Sequence[Slice],
        now_s: int,
        *,
        resume_after: bytes | None = None,
        rows_max: int = limits.CHUNK_ROWS_MAX,
    ) -> None:
        self.rows = rows
        self.start = start
        self.end = end
        self.slices = slices
        self.now_s = now_s
        self.resume_after = resume_after
        self.rows_max = rows_max
        self.reverse = False

    @property
    def position(self) -> bytes:
        return self.start

    def body(self, *, digest: bool) -> bytes:
        return encode(
            RangeRead(
                DIGEST if digest else 0,
                self.now_s,
                self.rows.table.incarnation,
                self.start,
                self.end,
                self.slices,
                self.rows_max,
                self.resume_after,
            )
        )

    def run(self) -> Chunk | Wait:
        return read_range(
            self.rows,
            self.start,
            self.end,
            self.slices,
            resume_after=self.resume_after,
            now_s=self.now_s,
            rows_max=min(self.rows_max, limits.CHUNK_ROWS_MAX),
            bytes_max=limits.CHUNK_BYTES_MAX,
            keys_max=limits.CHUNK_KEYS_PER_PASS,
        )


def decode_command(verb: int, body: bytes, rows: Rows) -> tuple[ReadCommand, bool]:
    """The command of a message, and whether its digest is enough.

    Raises:
        CorruptRecord, msgspec.DecodeError, msgspec.ValidationError: it is none.
        UnknownIncarnation: this node has no such table.
    """
    command: ReadCommand
    if verb == Verb.READ_ROW:
        flags, now_s, incarnation, position, clustering_key = decode_row_read(body)
        command = RowCommand(rows.known(incarnation), position, clustering_key, now_s)
    elif verb == Verb.READ_SLICES:
        slices = decode_slices_read(body)
        flags = slices.flags
        command = SlicesCommand(
            rows.known(slices.incarnation),
            slices.position,
            slices.slices,
            slices.now_s,
            reverse=bool(flags & REVERSE),
            rows_max=slices.rows_max,
        )
    else:
        ranged = decode_range_read(body)
        flags = ranged.flags
        command = RangeCommand(
            rows.known(ranged.incarnation),
            ranged.start,
            ranged.end,
            ranged.slices,
            ranged.now_s,
            resume_after=ranged.resume_after,
            rows_max=ranged.rows_max,
        )
    return command, bool(flags & DIGEST)


def digest_of(command: ReadCommand, chunk: Chunk) -> bytes:
    """What a replica answers where a digest is enough: that, or the chunk where it is no longer than a hash costs."""
    if _is_small(chunk):
        encoded = chunk.encode()
        if len(encoded) <= DIGEST_WORTH_BYTES:
            return encoded
    return true_digest(command, chunk)


def _is_small(chunk: Chunk) -> bool:
    """Whether it is worth encoding to see how long it is."""
    partitions = chunk.partitions
    return not partitions or (len(partitions) == 1 and len(partitions[0].writes) <= SMALL_RECORDS_MAX)


def true_digest(command: ReadCommand, chunk: Chunk) -> bytes:
    """The digest of a chunk."""
    return digest(
        chunk.partitions,
        chunk.end,
        command.now_s,
        command.rows.table.options.gc_grace_seconds,
        dropped_from(command.rows.keys),
    )
