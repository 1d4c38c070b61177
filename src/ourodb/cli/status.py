"""``ouro status``: every node as the one that is asked sees it, and what needs attention."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ourodb.cli.admin import ask
from ourodb.cli.console import console, known, plain_table, size


def status(addresses: Sequence[str], keyspace: str | None, *, as_json: bool) -> int:
    """Ask and show; returns the exit code.

    Raises:
        AdminError: nobody answers, or there is no such keyspace.
    """
    report = ask(addresses, "/status", None if keyspace is None else {"keyspace": keyspace})
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        console().print(rendered(report))
    return 0


def rendered(report: Mapping[str, Any]) -> RenderableType:
    """A node's answer to /status, for people."""
    members = report["members"]
    up = sum(member["state"] == "UP" for member in members)
    own = next(member["id"] for member in members if member["is_this_node"])
    count = "1 node" if len(members) == 1 else f"{len(members)} nodes"
    head = Text.assemble(
        ("Cluster ", "dim"),
        (report["cluster_name"], "bold"),
        f"   {count}, {up} up   epoch {report['epoch']}   ",
        (f"as node {own} at {report['address']} sees it", "dim"),
    )
    owns = "owns" if report.get("keyspace") is None else f"owns of {report['keyspace']}"
    numbers = ("id", "tokens", owns, "load", "epoch", "clock", "hints")
    table = plain_table(
        "id",
        "state",
        "address",
        "data centre",
        "rack",
        "host",
        "tokens",
        owns,
        "load",
        "epoch",
        "clock",
        "hints",
        "metadata",
        right=numbers,
    )
    for member in members:
        is_up = member["state"] == "UP"
        hints = member["hints_waiting"]
        table.add_row(
            str(member["id"]),
            Text(member["state"], style="green" if is_up else "bold red"),
            member["cql"],
            member["dc"],
            member["rack"],
            member["host"],
            str(member["tokens"]),
            f"{member['owns']:.1%}",
            size(member["load_bytes"]),
            known(member["epoch"]),
            _skew(member),
            Text(f"{hints:,}", style="yellow" if hints else ""),
            "leader" if member["is_leader"] else "voter" if member["is_voter"] else "",
        )
    warnings = [Text.assemble(("! ", "bold yellow"), warning) for warning in report["warnings"]]
    return Group(head, Text(""), table, *([Text(""), *warnings] if warnings else []))


def _skew(member: Mapping[str, Any]) -> str:
    if member["is_this_node"]:
        return ""
    skew_ms = member["skew_ms"]
    if skew_ms is None:
        return "?"
    return f"{skew_ms / 1000:+.1f} s" if abs(skew_ms) >= 1000 else f"{skew_ms:+.0f} ms"
