"""A node that dies with its parent: ``python -m ourodb.cli.local.offspring PARENT SIGNAL serve ...``

The kernel sends the signal when the parent ends, however it ends (Linux: PR_SET_PDEATHSIG). To be exact, when the
*thread* ends that started this process, so it should be one that lasts.

Source: the Linux manual's PR_SET_PDEATHSIG(2const).
"""

from __future__ import annotations

import ctypes
import os
import sys

from ourodb.cli.local.process import PYTHON

PR_SET_PDEATHSIG = 1


def command(signal_number: int, arguments: list[str]) -> list[str]:
    """What starts an ``ouro`` command that gets a signal when this process ends."""
    return [
        *PYTHON,
        "-m",
        "ourodb.cli.local.offspring",
        str(os.getpid()),
        str(int(signal_number)),
        *arguments,
    ]


def main() -> None:
    """Bind this process to its parent, then be ``ouro``."""
    parent, number = int(sys.argv[1]), int(sys.argv[2])
    del sys.argv[1:3]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        # It ended before the kernel knew that it matters to us.
        sys.exit(1)
    from ourodb.cli import main as ouro

    ouro()


if __name__ == "__main__":
    main()
