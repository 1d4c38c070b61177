"""Clocks of nodes that are set while they run, by libfaketime (Debian's package ``faketime``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

PLACES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")
READ_AGAIN_SECONDS = 1
"""How soon a node sees that its clock was set."""


def need_libfaketime() -> str:
    """Its path; the test is skipped where there is none."""
    for place in PLACES:
        for path in Path("/").glob(place.lstrip("/")):
            return str(path)
    pytest.skip("no libfaketime here (package faketime), so the clocks of nodes can't be set")


class Clocks:
    """How far the clock of each node is ahead of this machine's."""

    def __init__(self, folder: Path) -> None:
        self._library = need_libfaketime()
        self._folder = folder

    def environment(self, number: int) -> Mapping[str, str]:
        """For a node, by its number from 1 on."""
        self.set(number, 0)
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file(number)),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Else waits with a deadline, of which the interpreter's own lock is one, end at once or late.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            "FAKETIME_CACHE_DURATION": str(READ_AGAIN_SECONDS),
        }

    def set(self, number: int, ahead_s: int) -> None:
        """Set the clock of a node."""
        new = self._file(number).with_suffix(".new")
        new.write_text(f"{ahead_s:+d}s\n")
        new.replace(self._file(number))

    def _file(self, number: int) -> Path:
        return self._folder / f"clock{number}"
