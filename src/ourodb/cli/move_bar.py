"""The bar of a move: who moves, ranges, rows and bytes copied, how fast, and how long it will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ourodb.cli.console import console, size
from ourodb.cli.status import told


class MoveBar:
    """Drawn on standard error while it is entered."""

    def __init__(self, waiting: str) -> None:
        """
        Args:
            waiting: what is shown before the move begins.
        """
        self._shown = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[pace]}"),
            TimeElapsedColumn(),
            console=console(sys.stderr),
        )
        self._bar = self._shown.add_task(waiting, total=None, pace="")
        self._first: tuple[float, int, int] | None = None

    def __enter__(self) -> MoveBar:
        self._shown.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.stop()

    def show(self, move: Mapping[str, Any]) -> None:
        """How far it is, as a node's ``/moves`` has it."""
        copying = move["copying"].values()
        total, done, copied = (
            sum(one[name] for one in copying) for name in ("ranges", "ranges_done", "bytes")
        )
        pace = self._pace(total, done, copied) if move["stage"] == "copying" else ""
        self._shown.update(self._bar, description=told(move), total=total or None, completed=done, pace=pace)

    def _pace(self, total: int, done: int, copied: int) -> str:
        """Bytes a second, and seconds left, since this bar first saw the move."""
        now_s = time.monotonic()
        if self._first is None:
            self._first = now_s, done, copied
            return ""
        start_s, done_before, copied_before = self._first
        return pace(now_s - start_s, total - done, done - done_before, copied - copied_before)


def pace(seconds: float, ranges_left: int, ranges: int, bytes_: int) -> str:
    """How fast a move is, and how long it will take if it goes on like that.

    Args:
        ranges, bytes_: copied within ``seconds``.
    """
    if seconds <= 0:
        return ""
    rate = f"{size(round(bytes_ / seconds))}/s"
    return f"{rate}, {ranges_left * seconds / ranges:,.0f} s left" if ranges else rate
