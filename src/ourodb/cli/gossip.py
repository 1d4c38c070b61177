"""``ouro gossip``: what one node has heard of the others, and how sure it is that they live."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ourodb.cli.admin import ask
from ourodb.cli.console import console, plain_table, size


def gossip(addresses: Sequence[str], *, as_json: bool) -> int:
    """Ask and show; returns the exit code.

    Raises:
        AdminError: nobody answers.
    """
    report = ask(addresses, "/gossip")
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        console().print(rendered(report))
    return 0


def rendered(report: Mapping[str, Any]) -> RenderableType:
    """A node's answer to /gossip, for people."""
    numbers = ("id", "heartbeat", "phi", "epoch")
    table = plain_table(
        "id", "address", "state", "process since (UTC)", "heartbeat", "phi", "epoch", right=numbers
    )
    for node in report["nodes"]:
        table.add_row(
            str(node["id"]),
            node["address"],
            Text("UP", style="green") if node["up"] else Text("DOWN", style="bold red"),
            _since(node["generation"]),
            f"{node['heartbeat']:,}",
            f"{node['phi']:.2f}",
            str(node["epoch"]),
        )
    sent = size(report["bytes_sent"])
    received = f"{report['messages_received']:,} received"
    lines = [f"{report['rounds']:,} rounds, {report['messages_sent']:,} messages sent ({sent}), {received}"]
    lines += [f"refused {count:,} times: {reason}" for reason, count in report["refusals"].items()]
    return Group(table, Text(""), *(Text(line, style="dim") for line in lines))


def _since(generation: int) -> str:
    return f"{datetime.fromtimestamp(generation, UTC):%Y-%m-%d %H:%M:%S}" if generation else "never heard of"
