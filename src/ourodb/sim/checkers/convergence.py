"""Once the faults have stopped, all replicas of everything are equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TOLD_MAX: Final = 5
"""Differences that are told one by one."""


def check_convergence(copies: Mapping[str, Mapping[bytes, bytes]], what: str = "key") -> list[str]:
    """
    Args:
        copies: what each node has of each key that it is a replica of. A key that it should have and doesn't must be
            there as well, with some value that says so.
        what: the keys are, for people.
    Returns:
        what was wrong.
    """
    keys = sorted({key for copy in copies.values() for key in copy})
    different = [key for key in keys if len({copy[key] for copy in copies.values() if key in copy}) > 1]
    problems = [
        f"replicas differ in {what} {key.hex()}: "
        + ", ".join(f"{name} has {copy[key].hex()}" for name, copy in copies.items() if key in copy)
        for key in different[:TOLD_MAX]
    ]
    if len(different) > TOLD_MAX:
        problems.append(f"and in {len(different) - TOLD_MAX} more")
    return problems
