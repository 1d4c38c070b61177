"""Once the faults have stopped, all replicas of everything are equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TOLD_MAX: Final = 5
"""Differences that are told one by one."""


def check_convergence(copies: Mapping[str, Mapping[bytes, bytes]], what: str = "key") -> list[str]:
    """
    Args:
        copies: what each replica of the same data has.
    Returns:
        what was wrong.
    """
    keys = sorted({key for copy in copies.values() for key in copy})
    different = [key for key in keys if len({copy.get(key) for copy in copies.values()}) > 1]
    problems = [
        f"replicas differ in {what} {key.hex()}: "
        + ", ".join(f"{name} has {_shown(copy.get(key))}" for name, copy in copies.items())
        for key in different[:TOLD_MAX]
    ]
    if len(different) > TOLD_MAX:
        problems.append(f"and in {len(different) - TOLD_MAX} more")
    return problems


def _shown(value: bytes | None) -> str:
    return "nothing" if value is None else value.hex()
