"""Scripts that wait: generators driven by the loop.

A script yields a ``Promise`` and is given its value once there is one; its own return value is promised by the
``Task`` that drives it. Workloads, clients and faults are scripts, and read like programs::

    reply = yield client.execute("SELECT ...")
    yield sleep(loop, 100 * MS)

Errors are values. An exception in a script is a bug of the script and ends the run.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, Generic, TypeVar

from ourodb.sim.loop import Loop

T = TypeVar("T")

US: Final = 1_000
MS: Final = 1_000_000
S: Final = 1_000_000_000
"""Nanoseconds in a microsecond, a millisecond, a second."""

Script = Generator["Promise[Any]", Any, T]


class Promise(Generic[T]):
    """A value that may be still to come.

    Attributes:
        is_kept: whether it is there.
        value: it, once it is.
    """

    __slots__ = ("_waiting", "is_kept", "value")

    value: T

    def __init__(self) -> None:
        self.is_kept = False
        self._waiting: list[Callable[[T], None]] = []

    def keep(self, value: T) -> None:
        """The value is there; those who wait get it at once."""
        assert not self.is_kept
        self.is_kept = True
        self.value = value
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback(value)

    def then(self, callback: Callable[[T], None]) -> None:
        if self.is_kept:
            callback(self.value)
        else:
            self._waiting.append(callback)


class Task(Promise[T]):
    """Drives a script; promises what it returns."""

    __slots__ = ("_script",)

    def __init__(self, script: Script[T]) -> None:
        super().__init__()
        self._script = script
        self._go_on(None)

    def _go_on(self, value: Any) -> None:
        while True:
            try:
                promise = self._script.send(value)
            except StopIteration as stop:
                self.keep(stop.value)
                return
            if not promise.is_kept:
                promise.then(self._go_on)
                return
            value = promise.value


def kept(value: T) -> Promise[T]:
    """A promise whose value is there from the beginning."""
    promise: Promise[T] = Promise()
    promise.keep(value)
    return promise


def sleep(loop: Loop, duration_ns: int) -> Promise[None]:
    promise: Promise[None] = Promise()
    loop.after(duration_ns, promise.keep)
    return promise


def gather(promises: Sequence[Promise[T]]) -> Promise[list[T]]:
    """All the values, in the order of the promises."""
    together: Promise[list[T]] = Promise()
    left = len(promises)

    def one_more(_: T) -> None:
        nonlocal left
        left -= 1
        if not left:
            together.keep([promise.value for promise in promises])

    if not promises:
        together.keep([])
    for promise in promises:
        promise.then(one_more)
    return together
