"""A store's folder: what is in it, who has it open, which format it has, how far it was synced.

==============  =====================================================================================
``FORMAT``      one line, ``ourodb store format 1``; written once, before the engine's first file
``LOCK``        held (``flock``) by the process that has the store open, whose number is in it
``SYNCED``      the sequence number that the last fsync reached: see ``SyncMark``
``rocksdb/``    the engine's files
``snapshots/``  a folder for each snapshot: see ``snapshot``
==============  =====================================================================================

A newer node reads an older one's format; an older node refuses a newer one's.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from struct import Struct
from typing import Final
from zlib import crc32

from ourodb.errors import StoreDamaged, StoreError, StoreInUse
from ourodb.storage.rocksdb.faults import damaged

FORMAT: Final = 1
FORMAT_FILE: Final = "FORMAT"
LOCK_FILE: Final = "LOCK"
SYNCED_FILE: Final = "SYNCED"
ENGINE_FOLDER: Final = "rocksdb"
SNAPSHOTS_FOLDER: Final = "snapshots"

_FORMAT_LINE: Final = "ourodb store format "


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent, whenever the machine stops."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


class FolderLock:
    """Keeps other processes out of a store's folder for as long as it isn't released."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            StoreInUse: another process, or another store of this one, has it.
        """
        self._descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise StoreInUse(
                f"the data folder {folder} is in use by another process (pid {owner or 'unknown'});"
                " stop it, or give this node a folder of its own with --data"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def check_format(folder: Path) -> None:
    """Make sure that this version can read what is in the folder; mark an empty one as ours.

    Raises:
        StoreDamaged: it is a newer version's, or nobody's that we know.
    """
    path = folder / FORMAT_FILE
    try:
        line = path.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        if (folder / ENGINE_FOLDER).exists() or (folder / SYNCED_FILE).exists():
            raise damaged(folder, f"{path} is missing") from None
        write_durably(path, f"{_FORMAT_LINE}{FORMAT}\n".encode())
        return
    number = line.removeprefix(_FORMAT_LINE)
    if not line.startswith(_FORMAT_LINE) or not number.isdecimal():
        raise damaged(folder, f"{path} doesn't say which format the store has")
    if int(number) > FORMAT:
        raise StoreDamaged(
            f"the store in {folder} has format {number}; this version reads formats up to {FORMAT}. Start it with the"
            " version that wrote it, or a newer one"
        )


class SyncMark:
    """How far the write-ahead log is known to have been synced: a sequence number in a small file.

    It is written after each fsync and before the acknowledgements, and not synced itself: it is exact after a crash
    of the process, and at most some seconds old after a crash of the machine. It never says more than is true, so a
    store that holds less than it says is damaged. Two slots are written in turn, each with a checksum, so that one
    is always whole.
    """

    _SLOT: Final = Struct("<QI")

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            StoreDamaged: neither slot can be read.
        """
        path = folder / SYNCED_FILE
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._slot = 0
        content = os.pread(self._descriptor, 2 * self._SLOT.size, 0).ljust(2 * self._SLOT.size, b"\0")
        numbers = [
            number
            for number, checksum in self._SLOT.iter_unpack(content)
            if checksum == self._checksum(number)
        ]
        if any(content) and not numbers:
            os.close(self._descriptor)
            raise damaged(folder, f"{path} can't be read")
        self.sequence = max(numbers, default=0)

    def advance(self, sequence: int) -> None:
        """All writes up to this number are on disk."""
        if sequence > self.sequence and self._descriptor >= 0:
            self.sequence = sequence
            self._slot ^= 1
            os.pwrite(
                self._descriptor,
                self._SLOT.pack(sequence, self._checksum(sequence)),
                self._slot * self._SLOT.size,
            )

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @staticmethod
    def _checksum(sequence: int) -> int:
        return crc32(b"synced %d" % sequence)


def make_folder(folder: Path) -> None:
    """Make the store's folder if there is none yet.

    Raises:
        StoreError: it can't be made or isn't a folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOCK_FILE).touch()
    except OSError as error:
        raise StoreError(f"the data folder {folder} can't be used: {error.strerror or error}") from error
