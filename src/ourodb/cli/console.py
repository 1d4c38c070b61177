"""How commands print: tables that fit a terminal, and lines of any length where there is none."""

from __future__ import annotations

import sys
from typing import IO, Any

from rich.console import Console
from rich.table import Table

PIPED_WIDTH = 200
"""Of what isn't a terminal: nobody wants rows that are folded for a screen which isn't there."""


def console(file: IO[str] | None = None) -> Console:
    """A console on standard output, or on ``file``; text is shown as it is, whatever brackets it has."""
    file = file or sys.stdout
    width = None if file.isatty() else PIPED_WIDTH
    return Console(file=file, highlight=False, markup=False, emoji=False, width=width)


def plain_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table without lines.

    Args:
        right: columns of numbers.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    return table


def size(count: float | None) -> str:
    """Bytes for people."""
    if count is None:
        return "?"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def known(value: Any) -> str:
    """A value, or a question mark."""
    return "?" if value is None else str(value)
