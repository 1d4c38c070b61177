"""Where the demo prints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.rule import Rule

console = Console(highlight=False)

PATIENCE_S = 60


def heading(text: str) -> None:
    """An act begins."""
    console.print()
    console.print(Rule(f"[bold]{text}[/]", align="left", style="dim"))


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show that something is waited for, on a terminal."""
    with console.status(text):
        yield


def wait_until(text: str, condition: Callable[[], object]) -> float:
    """Wait until it is so; returns how many seconds that took.

    Raises:
        TimeoutError: it takes too long.
    """
    started = time.monotonic()
    with waiting(text):
        while not condition():
            if time.monotonic() - started > PATIENCE_S:
                raise TimeoutError(f"after {PATIENCE_S} s: {text}")
            time.sleep(0.05)
    return time.monotonic() - started
