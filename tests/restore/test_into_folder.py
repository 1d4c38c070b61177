"""A snapshot that becomes the data folder of a node: what is copied, what is refused, and what a crash leaves."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.durability.folders import copy, data_files, logs, open_store
from tests.restore.commands import ouro_here, refusal

from ourodb.errors import StoreDamaged, StoreError
from ourodb.storage import snapshot
from ourodb.storage.families import DATA
from ourodb.storage.snapshot import LAST_FILE, MANIFEST, PARTIAL, SCHEMA, STORE, read_manifest, seal

ROWS = 500


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A snapshot whose first data file is older than its log, as that of a node that has run for a while."""
    store = open_store(tmp_path / "source")
    for part in range(2):
        store.apply([(DATA, b"%d %05d" % (part, n), b"v" * 100) for n in range(ROWS)])
        partial = tmp_path / PARTIAL.format(part)
        partial.mkdir()
        store.checkpoint(partial / STORE)
    store.close()
    (partial / SCHEMA).write_bytes(b"schema")
    seal(partial, tmp_path / "snapshot", "s", 1, {"cluster_id": "c"})
    found = tmp_path / "snapshot"
    assert min(data_files(found / STORE)).name < logs(found / STORE)[0].name
    return found


@pytest.mark.parametrize("name", ["data", "[old]", "a[/b]"])
def test_a_snapshot_becomes_a_store(made: Path, tmp_path: Path, name: str) -> None:
    """Broken, a backup can't be used, or the folder that is named to the operator isn't the one that was made."""
    target = tmp_path / name
    done = ouro_here("restore", str(made), "--data", str(target))
    assert done.returncode == 0, done.stderr
    assert str(target) in done.stdout.replace("\n", "")
    store = open_store(target)
    assert len(list(store.scan(DATA, b"", b"\xff"))) == 2 * ROWS
    store.close()


def test_a_restore_that_was_killed_is_refused_at_the_start(made: Path, tmp_path: Path) -> None:
    """Broken, half of a backup is served as a new, empty store."""
    names = sorted(path.name for path in (made / STORE).iterdir() if path.name != LAST_FILE)
    for count in range(1, len(names) + 1):
        killed = copy(made / STORE, tmp_path / "killed")
        for name in [*names[count:], LAST_FILE]:
            (killed / name).unlink()
        with pytest.raises(StoreDamaged, match="CURRENT is missing"):
            open_store(killed).close()


def test_a_first_start_that_was_killed_is_no_damage(made: Path, tmp_path: Path) -> None:
    """Broken, a node that was killed as soon as it was started can't be started again."""
    (manifest,) = (made / STORE).glob("MANIFEST-*")
    (tmp_path / "data").mkdir()
    shutil.copyfile(manifest, tmp_path / "data" / "MANIFEST-000001")
    (tmp_path / "data" / "output.log").write_text("of whoever started it")
    open_store(tmp_path / "data").close()


def test_a_copy_that_fails_leaves_nothing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken, a full disk ends in a traceback, or the next attempt is refused since the folder isn't empty."""
    copyfile, copied = shutil.copyfile, []

    def two_then_full(source: Path, to: Path) -> None:
        copyfile(source, to)
        copied.append(to)
        if len(copied) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(to))

    command = ["restore", str(made), "--data", str(tmp_path / "data")]
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", two_then_full)
        assert "No space left" in refusal(ouro_here(*command))
    assert list((tmp_path / "data").iterdir()) == []
    assert ouro_here(*command).returncode == 0


@pytest.mark.parametrize("where", ["--data", "--into"])
def test_a_file_that_cannot_be_read(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Broken, a bad disk under a backup is told by a traceback."""

    def fail(path: Path, progress: object) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(snapshot, "digest", fail)
    to = str(tmp_path / "data") if where == "--data" else "127.0.0.1:1"
    assert "Input/output error" in refusal(ouro_here("restore", str(made), where, to))


def test_a_data_folder_that_is_a_file(made: Path, tmp_path: Path) -> None:
    """Broken, a mistake in a path is told by a traceback."""
    (tmp_path / "data").write_text("")
    assert "Not a directory" in refusal(ouro_here("restore", str(made), "--data", str(tmp_path / "data")))


def list_nothing_of_the_store(folder: Path) -> None:
    relist(folder, lambda path: not path.startswith(STORE))


def list_no_schema(folder: Path) -> None:
    relist(folder, lambda path: path != SCHEMA)


def list_no_data(folder: Path) -> None:
    relist(folder, lambda path: not path.endswith(".sst"))


def add_a_log(folder: Path) -> None:
    (folder / STORE / "009999.log").write_bytes(b"garbage" * 100)


def relist(folder: Path, keep: Callable[[str], bool]) -> None:
    manifest = read_manifest(folder)
    files = [entry for entry in manifest.files if keep(entry.path)]
    (folder / MANIFEST).write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, files=files)))


@pytest.mark.parametrize("change", [list_nothing_of_the_store, list_no_schema, list_no_data, add_a_log])
def test_what_the_manifest_does_not_list_is_not_restored(
    made: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Broken, files that nobody has checked become a node's data."""
    change(made)
    assert "is damaged" in refusal(ouro_here("restore", str(made), "--data", str(tmp_path / "data")))
    assert not (tmp_path / "data").exists()


def test_a_newer_format_is_told_as_newer(made: Path) -> None:
    """Broken, a good backup is thrown away as damaged: a later version may have another manifest."""
    (made / MANIFEST).write_text('{"format": 2, "title": "s", "files": {}}')
    with pytest.raises(StoreError, match="has format 2"):
        read_manifest(made)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What has been synced, in this order."""
    found: list[Path] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fsync", watched)
    return found


def test_restored_files_are_on_disk(made: Path, tmp_path: Path, synced: list[Path]) -> None:
    """Broken, a power cut takes a restore that was told as done, or leaves a store that opens with a part of it."""
    target = tmp_path / "new" / "data"
    snapshot.restore(made, target)
    *others, anchor, folder, parent, above = synced
    assert (anchor, folder, parent, above) == (target / LAST_FILE, target, target.parent, tmp_path)
    assert others[-1] == target
    assert {*others, anchor} == {*target.iterdir(), target}


def test_a_snapshot_is_on_disk_before_it_has_its_name(tmp_path: Path, synced: list[Path]) -> None:
    """Broken, a power cut leaves a snapshot that is listed and can't be restored."""
    partial, final = tmp_path / ".s.partial", tmp_path / "s"
    (partial / STORE).mkdir(parents=True)
    (partial / STORE / LAST_FILE).write_bytes(b"x")
    seal(partial, final, "s", 1, {})
    *before, folder, above = synced
    assert (folder, above) == (tmp_path, tmp_path.parent)
    assert set(before) == {partial, partial / STORE, partial / STORE / LAST_FILE, partial / MANIFEST}
