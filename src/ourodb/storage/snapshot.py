"""Snapshots: a node's store as it was at one moment, with what is needed to understand it.

A snapshot is a folder::

    store/         the engine's files: a checkpoint, linked to the node's own files where the disk allows
    schema.bin     the schema, as the node keeps it
    schema.cql     the same as statements, for people
    snapshot.json  format, names, and the size and SHA-256 of every file

It is made under a temporary name and renamed when it is whole and on disk. ``restore`` checks every file against the
manifest before it copies the first, and copies ``CURRENT``, without which no store opens, once all others are on disk:
a restore that was cut short is refused at the start, not served. The restored store is the node that was copied: same
host id, same tokens.

``SnapshotStore`` reads the rows of a snapshot where it lies, for a cluster of another shape. Nothing of the snapshot is
ever written to.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec
from rocksdict import AccessType, Options, Rdict

from ourodb import limits
from ourodb.errors import InvalidRequest, StoreDamaged, StoreError
from ourodb.schema.model import Schema
from ourodb.schema.snapshot import decode_schema
from ourodb.storage.families import DATA, METADATA, NAMES
from ourodb.storage.rocks import FORMAT as STORE_FORMAT
from ourodb.storage.rocks import FORMAT_KEY

FORMAT: Final = 1
MANIFEST: Final = "snapshot.json"
STORE: Final = "store"
SCHEMA: Final = "schema.bin"
LAST_FILE: Final = "CURRENT"
PARTIAL: Final = ".{}.partial"
"""How a snapshot is called until it is whole; no name of one begins with a dot."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
CHUNK_BYTES: Final = 1 << 20
DATA_FILES: Final = ".sst"
"""What the engine writes once and then only reads."""

_INCARNATION = struct.Struct(">I")

Progress = Callable[[str, int], None]
"""(what is being done, bytes of it since the last call)."""


class _Format(msgspec.Struct, frozen=True):
    """What manifests of all formats say."""

    format: int


class FileEntry(msgspec.Struct, frozen=True):
    """One file. ``path`` is relative to the snapshot, with slashes."""

    path: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a snapshot holds.

    Attributes:
        created_us: microseconds since the epoch.
        facts: of the node: version, host id, tokens, ...
    """

    format: int
    name: str
    created_us: int
    facts: dict[str, Any]
    files: list[FileEntry]


def check_name(name: object) -> str:
    """A name that may become a folder's.

    Raises:
        InvalidRequest: it may not.
    """
    if (
        not isinstance(name, str)
        or not NAME.fullmatch(name)
        or len(name) > limits.SNAPSHOT_NAME_LENGTH_MAX
        or ".." in name
    ):
        raise InvalidRequest(
            "a snapshot's name is made of letters, digits, '.', '_' and '-', begins with a letter or a digit, and"
            f" has at most {limits.SNAPSHOT_NAME_LENGTH_MAX} characters"
        )
    return name


def seal(partial: Path, final: Path, name: str, created_us: int, facts: Mapping[str, Any]) -> Manifest:
    """Make a snapshot of a folder in which the store and the schema lie already: list its files, then rename it.

    When it has its name, all of it is on disk.
    """
    paths = sorted(partial.rglob("*"))
    files = [
        FileEntry(path.relative_to(partial).as_posix(), path.stat().st_size, digest(path))
        for path in paths
        if path.is_file()
    ]
    manifest = Manifest(FORMAT, name, created_us, dict(facts), files)
    (partial / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    _sync([*paths, partial / MANIFEST, partial])
    partial.rename(final)
    # The folder of snapshots may be new as well.
    _sync([final.parent, final.parent.parent])
    return manifest


def read_manifest(snapshot: Path) -> Manifest:
    """The manifest of a snapshot.

    Raises:
        StoreError: there is none, or it is of a newer format.
        StoreDamaged: it can't be read.
    """
    path = snapshot / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"{snapshot} is no snapshot: {path.name} can't be read ({error.strerror})"
        ) from error
    try:
        found = msgspec.json.decode(content, type=_Format).format
        if found > FORMAT:
            raise StoreError(
                f"the snapshot {snapshot} has format {found}, this version of OuroDB reads up to {FORMAT}"
            )
        return msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise StoreDamaged(f"the snapshot {snapshot} is damaged: {path.name}: {error}") from error


def verify(snapshot: Path, manifest: Manifest, progress: Progress = lambda what, count: None) -> None:
    """Hold every file against the manifest, and the manifest against the files of the store.

    Raises:
        StoreDamaged: a file is missing, isn't what it was, or wasn't there.
        StoreError: one can't be read.
    """
    listed = {entry.path for entry in manifest.files}
    for needed in (f"{STORE}/{LAST_FILE}", SCHEMA):
        if needed not in listed:
            raise StoreDamaged(f"the snapshot {snapshot} is damaged: {MANIFEST} doesn't list {needed}")
    try:
        for entry in manifest.files:
            path = snapshot / entry.path
            if not path.resolve().is_relative_to(snapshot.resolve()):
                raise StoreDamaged(f"the snapshot {snapshot} names a file outside of itself: {entry.path}")
            if not path.is_file():
                raise StoreDamaged(f"the snapshot {snapshot} is damaged: {entry.path} is missing")
            if path.stat().st_size != entry.size or digest(path, progress) != entry.sha256:
                raise StoreDamaged(f"the snapshot {snapshot} is damaged: {entry.path} isn't what was copied")
        for file in sorted((snapshot / STORE).iterdir()):
            if f"{STORE}/{file.name}" not in listed:
                raise StoreDamaged(
                    f"the snapshot {snapshot} is damaged: {STORE}/{file.name} isn't a file that was copied"
                )
    except OSError as error:
        raise StoreError(f"the snapshot {snapshot} can't be read: {error}") from error


def restore(snapshot: Path, data: Path, progress: Progress = lambda what, count: None) -> Manifest:
    """Put a snapshot's store into an empty data folder.

    Raises:
        StoreError: it is no snapshot, the folder isn't empty, or files can't be copied; what was is removed.
        StoreDamaged: a file isn't what it was; nothing has been copied.
    """
    manifest = read_manifest(snapshot)
    try:
        if data.exists() and any(data.iterdir()):
            raise StoreError(
                f"the data folder {data} isn't empty; name another one, or move away what is in it"
            )
        verify(snapshot, manifest, progress)
        _copy(snapshot / STORE, data, progress)
    except OSError as error:
        raise StoreError(f"the snapshot {snapshot} can't be copied to {data}: {error}") from error
    return manifest


def _copy(store: Path, data: Path, progress: Progress) -> None:
    names = sorted((path.name for path in store.iterdir()), key=lambda name: (name == LAST_FILE, name))
    new = [folder for folder in (data, *data.parents) if not folder.exists()]
    data.mkdir(parents=True, exist_ok=True)
    try:
        for name in names:
            if name == LAST_FILE:
                _sync([data])
            shutil.copyfile(store / name, data / name)
            _sync([data / name])
            progress("copying", (data / name).stat().st_size)
        _sync([data, *(folder.parent for folder in new)])
    except BaseException:
        # Whoever tries again finds the folder empty. CURRENT goes first, as it came last.
        for name in reversed(names):
            with suppress(OSError):
                (data / name).unlink(missing_ok=True)
        raise


def _sync(paths: Iterable[Path]) -> None:
    """Wait until files, and what folders list, are on disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_schema(snapshot: Path) -> Schema:
    """The schema of a snapshot.

    Raises:
        StoreDamaged: it can't be read.
    """
    try:
        return decode_schema((snapshot / SCHEMA).read_bytes())
    except OSError as error:
        raise StoreDamaged(f"the snapshot {snapshot} is damaged: {SCHEMA}: {error.strerror}") from error


class SnapshotStore:
    """The store of a snapshot, open for reading.

    The engine gets a folder of its own, with links to the snapshot's data files and copies of the few small ones that
    it may write to.
    """

    def __init__(self, snapshot: Path, files_open_max: int = limits.OPEN_DATA_FILES_MAX) -> None:
        """
        Args:
            files_open_max: data files that the engine keeps open.
        Raises:
            StoreDamaged, StoreError: it can't be opened.
        """
        self.snapshot = snapshot
        self._folder = tempfile.TemporaryDirectory(prefix="ouro-restore-", ignore_cleanup_errors=True)
        try:
            folder = Path(self._folder.name)
            for path in (snapshot / STORE).iterdir():
                if path.suffix == DATA_FILES:
                    (folder / path.name).symlink_to(path.resolve())
                else:
                    shutil.copyfile(path, folder / path.name)
            self._db = self._open_to_read(folder, files_open_max)
            self._data = self._db.get_column_family(NAMES[DATA])
            self._check_format()
        except BaseException as error:
            self._folder.cleanup()
            if isinstance(error, OSError):
                raise StoreError(f"the snapshot {snapshot} can't be read: {error}") from error
            raise

    def __enter__(self) -> SnapshotStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        del self._data
        self._db.close()
        self._folder.cleanup()

    def scan(self, incarnation: int, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """The records of a table in order of key, keys without the incarnation.

        Args:
            start: a bound of positions, from which on.
        Raises:
            StoreDamaged, StoreError: while iterating, a record can't be read.
        """
        prefix = _INCARNATION.pack(incarnation)
        iterator = self._data.iter()
        valid, key_of, value_of, step = iterator.valid, iterator.key, iterator.value, iterator.next
        try:
            iterator.seek(prefix + start)
            while valid():
                key = key_of()
                if not key.startswith(prefix):
                    return
                yield key[4:], value_of()
                step()
            # An iterator that ends may have met damage instead of the end.
            iterator.status()
        except Exception as error:
            raise self._told(error) from error

    def _open_to_read(self, folder: Path, files_open_max: int) -> Any:
        options = Options(raw_mode=True)
        options.set_paranoid_checks(True)
        options.set_max_open_files(files_open_max)
        # Else each part of the engine's list of open files keeps at least one, which makes 64.
        options.set_table_cache_num_shard_bits(0)
        families = dict.fromkeys(NAMES, options)
        try:
            return Rdict(str(folder), options, column_families=families, access_type=AccessType.read_only())
        except Exception as error:
            raise self._told(error) from error

    def _told(self, error: Exception) -> StoreError:
        """What an exception of the engine means."""
        text = str(error)
        if "Corruption" in text or "checksum" in text:
            return StoreDamaged(f"the snapshot {self.snapshot} is damaged: {text}")
        return StoreError(f"the store of the snapshot {self.snapshot} can't be read: {text}")

    def _check_format(self) -> None:
        found = self._db.get_column_family(NAMES[METADATA]).get(FORMAT_KEY)
        if found is None or not found.isdigit() or int(found) > STORE_FORMAT:
            text = "none" if found is None else found.decode("ascii", "replace")
            raise StoreError(
                f"the store in the snapshot {self.snapshot} has the format {text}, this version of OuroDB reads up to"
                f" {STORE_FORMAT}"
            )


def digest(path: Path, progress: Progress = lambda what, count: None) -> str:
    """SHA-256 of a file, in hexadecimal."""
    running = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            running.update(chunk)
            progress("checking", len(chunk))
    return running.hexdigest()
