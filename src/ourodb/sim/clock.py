"""A machine's own idea of time.

Its oscillator runs too fast or too slow by some parts per million, which moves both of its clocks and all its
timers. Its wall clock is off by some offset besides and may be set forward or back; the monotonic one is not
touched by that, starts anew when the machine boots, and never goes back.
"""

from __future__ import annotations

from typing import Final

from ourodb.sim.loop import Loop

MILLION: Final = 1_000_000

EPOCH_US: Final = 1_767_225_600_000_000
"""When a run begins by the clock on the wall: 2026-01-01T00:00:00Z."""


class SimClock:
    """Implements ``ports.Clock``.

    Attributes:
        drift_ppm: how many parts per million it runs too fast; below 0 too slow.
    """

    __slots__ = (
        "_local_ns",
        "_loop",
        "_mark_local_ns",
        "_mark_ns",
        "_read_ns",
        "_wall_ahead_us",
        "drift_ppm",
    )

    def __init__(self, loop: Loop, *, drift_ppm: int = 0, offset_us: int = 0, uptime_ns: int = 0) -> None:
        """
        Args:
            offset_us: by how much the clock on the wall is wrong.
            uptime_ns: what the monotonic clock shows at first.
        """
        self._loop = loop
        self._mark_ns = self._read_ns = loop.now_ns
        self._mark_local_ns = self._local_ns = uptime_ns
        self._wall_ahead_us = EPOCH_US + offset_us + (loop.now_ns - uptime_ns) // 1000
        self.drift_ppm = drift_ppm

    def monotonic_ns(self) -> int:
        now_ns = self._loop.now_ns
        if now_ns != self._read_ns:
            self._read_ns = now_ns
            elapsed_ns = now_ns - self._mark_ns
            self._local_ns = self._mark_local_ns + elapsed_ns * (MILLION + self.drift_ppm) // MILLION
        return self._local_ns

    def wall_us(self) -> int:
        if self._loop.now_ns == self._read_ns:
            return self._wall_ahead_us + self._local_ns // 1000
        return self._wall_ahead_us + self.monotonic_ns() // 1000

    @property
    def offset_us(self) -> int:
        """By how much the clock on the wall is wrong now."""
        return self.wall_us() - EPOCH_US - self._loop.now_ns // 1000

    def real_ns(self, local_ns: int) -> int:
        """How long it takes until this clock has moved on by so much."""
        return -(-local_ns * MILLION // (MILLION + self.drift_ppm))

    def drift(self, ppm: int) -> None:
        """Run so much too fast from now on."""
        self._mark_local_ns = self.monotonic_ns()
        self._mark_ns = self._loop.now_ns
        self.drift_ppm = ppm

    def jump(self, by_us: int) -> None:
        """Set the clock on the wall."""
        self._wall_ahead_us += by_us

    def reboot(self, uptime_ns: int) -> None:
        """The monotonic clock begins anew; the one on the wall doesn't notice."""
        wall_us = self.wall_us()
        self._mark_ns = self._read_ns = self._loop.now_ns
        self._mark_local_ns = self._local_ns = uptime_ns
        self._wall_ahead_us += wall_us - self.wall_us()
