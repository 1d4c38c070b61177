"""Snapshots: a node's store as it was at one moment, with what is needed to understand it.

A snapshot is a folder::

    store/         the engine's files: a checkpoint, linked to the node's own files where the disk allows
    schema.bin     the schema, as the node keeps it
    schema.cql     the same as statements, for people
    snapshot.json  format, names, and the size and SHA-256 of every file

It is made under a temporary name and renamed when it is whole. ``restore`` checks every file against the manifest
before it copies the first, and copies ``CURRENT``, without which no store opens, last: a restore that was cut short is
refused at the start, not served. The restored store is the node that was copied: same host id, same tokens.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from ourodb import limits
from ourodb.errors import InvalidRequest, StoreDamaged, StoreError

FORMAT: Final = 1
MANIFEST: Final = "snapshot.json"
STORE: Final = "store"
LAST_FILE: Final = "CURRENT"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
CHUNK_BYTES: Final = 1 << 20

Progress = Callable[[str, int], None]
"""(what is being done, bytes of it since the last call)."""


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
    """Make a snapshot of a folder in which the store and the schema lie already: list its files, then rename it."""
    files = [
        FileEntry(path.relative_to(partial).as_posix(), path.stat().st_size, digest(path))
        for path in sorted(partial.rglob("*"))
        if path.is_file()
    ]
    manifest = Manifest(FORMAT, name, created_us, dict(facts), files)
    (partial / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    partial.rename(final)
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
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise StoreDamaged(f"the snapshot {snapshot} is damaged: {path.name}: {error}") from error
    if manifest.format > FORMAT:
        raise StoreError(
            f"the snapshot {snapshot} has format {manifest.format}, this version of OuroDB reads up to {FORMAT}"
        )
    return manifest


def verify(snapshot: Path, manifest: Manifest, progress: Progress = lambda what, count: None) -> None:
    """Hold every file against the manifest.

    Raises:
        StoreDamaged: a file is missing, or isn't what it was.
    """
    for entry in manifest.files:
        path = snapshot / entry.path
        if not path.resolve().is_relative_to(snapshot.resolve()):
            raise StoreDamaged(f"the snapshot {snapshot} names a file outside of itself: {entry.path}")
        if not path.is_file():
            raise StoreDamaged(f"the snapshot {snapshot} is damaged: {entry.path} is missing")
        if path.stat().st_size != entry.size or digest(path, progress) != entry.sha256:
            raise StoreDamaged(f"the snapshot {snapshot} is damaged: {entry.path} isn't what was copied")


def restore(snapshot: Path, data: Path, progress: Progress = lambda what, count: None) -> Manifest:
    """Put a snapshot's store into an empty data folder.

    Raises:
        StoreError: it is no snapshot, or the folder isn't empty.
        StoreDamaged: a file isn't what it was; nothing has been copied.
    """
    manifest = read_manifest(snapshot)
    if data.exists() and any(data.iterdir()):
        raise StoreError(f"the data folder {data} isn't empty; name another one, or move away what is in it")
    verify(snapshot, manifest, progress)
    data.mkdir(parents=True, exist_ok=True)
    store = snapshot / STORE
    for path in sorted(store.iterdir(), key=lambda path: (path.name == LAST_FILE, path.name)):
        shutil.copyfile(path, data / path.name)
        progress("copying", path.stat().st_size)
    return manifest


def digest(path: Path, progress: Progress = lambda what, count: None) -> str:
    """SHA-256 of a file, in hexadecimal."""
    running = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            running.update(chunk)
            progress("checking", len(chunk))
    return running.hexdigest()
