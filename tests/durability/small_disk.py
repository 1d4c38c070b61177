"""A disk of its own for a test, small enough to be filled: a file system in memory, which can shrink and grow."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ATTEMPTS = 100


class SmallDisk:
    """One file system.

    Attributes:
        path: where it is mounted.
    """

    def __init__(self, path: Path, size_mib: int) -> None:
        """
        Raises:
            OSError: nothing can be mounted here.
        """
        self.path = path
        path.mkdir()
        self._run("mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(path))

    def leave_free(self, kib: int) -> None:
        """Shrink or grow until so much is free."""
        for attempt in range(ATTEMPTS):
            used_kib = shutil.disk_usage(self.path).used >> 10
            try:
                self._run("mount", "-o", f"remount,size={used_kib + kib}k", str(self.path))
                return
            except OSError:
                # Somebody wrote between the two lines, so that it holds more than it was to have.
                if attempt == ATTEMPTS - 1:
                    raise

    def unmount(self) -> None:
        self._run("umount", "--lazy", str(self.path))

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        disk = SmallDisk(tmp_path / "disk", 64)
    except OSError as error:
        pytest.skip(f"this machine lets nobody mount a small disk: {error}")
    yield disk
    disk.unmount()
