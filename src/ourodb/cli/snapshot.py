"""``ouro snapshot`` and ``ouro snapshots``.

Each node makes its own snapshot, of what it holds at that moment. Those of a ring that are asked for together are made
at about the same time: a write under way may be in some of them only, as it may be on some of the nodes only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from ourodb.cli.admin import AdminError, ask, call
from ourodb.cli.console import console, size

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
        console().print(
            f"snapshot {reply['name']}: {reply['files']} files, {mib:.1f} MiB, in {reply['path']}"
        )
    return 0


def make_all(addresses: Sequence[str], name: str, *, as_json: bool) -> int:
    """Ask several nodes at a time; returns the exit code, 2 if one of them couldn't."""

    def make_one(address: str) -> dict[str, Any] | AdminError:
        try:
            return call(address, "/snapshot", {"name": name}, timeout_s=REQUEST_SECONDS_MAX)
        except AdminError as error:
            return error

    with ThreadPoolExecutor(len(addresses)) as pool:
        outcomes = dict(zip(addresses, pool.map(make_one, addresses), strict=True))
    made = {address: one for address, one in outcomes.items() if isinstance(one, dict)}
    if as_json:
        several = [{"admin": address, **one} for address, one in made.items()]
        sys.stdout.write(json.dumps({"snapshots": several}) + "\n")
    for address, one in outcomes.items():
        if isinstance(one, AdminError):
            sys.stderr.write(f"ouro: {address}: {one}\n")
        elif not as_json:
            print(f"{address}: {one['files']} files, {size(one['bytes'])}, in {one['path']}")
    return 0 if len(made) == len(addresses) else 2


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
        if "error" in one:
            table.add_row(one["name"], "?", "?")
            continue
        created = datetime.fromtimestamp(one["created_us"] / 1_000_000, UTC)
        table.add_row(one["name"], f"{created:%Y-%m-%d %H:%M:%S}", f"{one['bytes'] / (1 << 20):.1f}")
    out = console()
    out.print(table)
    for one in reply["snapshots"]:
        if "error" in one:
            out.print(f"! {one['error']}")
    return 0
