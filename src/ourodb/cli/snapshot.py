"""``ouro snapshot`` and ``ouro snapshots``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from ourodb.cli.admin import ask

REQUEST_SECONDS_MAX = 3600


def make(addresses: Sequence[str], name: str, *, as_json: bool) -> int:
    """Ask a node for a snapshot; returns the exit code.

    Raises:
        AdminError: nobody answers, or the node can't make one.
    """
    reply = ask(addresses, "/snapshot", {"name": name}, timeout_s=REQUEST_SECONDS_MAX)
    if as_json:
        sys.stdout.write(json.dumps(reply) + "\n")
    else:
        mib = reply["bytes"] / (1 << 20)
        Console().print(
            f"snapshot {reply['name']}: {reply['files']} files, {mib:.1f} MiB, in {reply['path']}"
        )
    return 0


def show(addresses: Sequence[str], *, as_json: bool) -> int:
    """List a node's snapshots; returns the exit code.

    Raises:
        AdminError: nobody answers.
    """
    reply = ask(addresses, "/snapshots", timeout_s=REQUEST_SECONDS_MAX)
    if as_json:
        sys.stdout.write(json.dumps(reply) + "\n")
        return 0
    table = Table("name", "created (UTC)", "MiB")
    for one in reply["snapshots"]:
        created = datetime.fromtimestamp(one["created_us"] / 1_000_000, UTC)
        table.add_row(one["name"], f"{created:%Y-%m-%d %H:%M:%S}", f"{one['bytes'] / (1 << 20):.1f}")
    Console().print(table)
    return 0
