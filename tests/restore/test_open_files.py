"""Snapshots with more data files than a process may have open."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from ourodb.errors import StoreDamaged, StoreError
from ourodb.storage.families import DATA, METADATA, NAMES
from ourodb.storage.rocks import FORMAT, FORMAT_KEY
from ourodb.storage.snapshot import STORE, SnapshotStore

ROWS = 240
FILES_MIN = 100
KEPT_OPEN = 20
TOO_FEW = 8
PREFIX = (1).to_bytes(4, "big")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a snapshot, of many small data files that don't overlap."""
    folder = tmp_path_factory.mktemp("many")
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_target_file_size_base(4096)
    db = Rdict(str(folder / STORE), options, column_families=dict.fromkeys(NAMES, options))
    db.get_column_family(NAMES[METADATA]).put(FORMAT_KEY, str(FORMAT).encode())
    data = db.get_column_family(NAMES[DATA])
    for _ in range(2):
        for number in range(ROWS):
            data.put(PREFIX + number.to_bytes(4, "big"), os.urandom(8192))
        data.flush(True)
    data.compact_range(None, None)
    del data
    db.close()
    assert len(list((folder / STORE).glob("*.sst"))) >= FILES_MIN
    return folder


def files_open() -> list[int]:
    return [int(path.name) for path in Path("/proc/self/fd").iterdir()]


def test_a_few_are_open_at_a_time(many: Path) -> None:
    """Broken, a large snapshot, or a few beside each other, can't be read where the system lets a process open few."""
    before = len(files_open())
    with SnapshotStore(many, KEPT_OPEN) as store:
        opened = [len(files_open()) - before for _ in store.scan(1)]
    assert len(opened) == ROWS
    assert max(opened) < 2 * KEPT_OPEN


@contextmanager
def only(more: int) -> Iterator[None]:
    """Let this process open only so many files more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = files_open()
    first_refused = [number for number in range(len(taken) + more + 1) if number not in taken][more]
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_refused, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_too_few_are_no_damage(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken, a good backup is thrown away since the machine is short of something."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    refused = pytest.raises(StoreError, match="Too many open files")
    with only(TOO_FEW), refused as info, SnapshotStore(many) as store:
        list(store.scan(1))
    assert not isinstance(info.value, StoreDamaged)
