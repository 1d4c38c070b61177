"""``ouro status``: every node as the one that is asked sees it, and what needs attention."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ourodb.cli.admin import ask
from ourodb.cli.console import console, known, plain_table, size

MOVEMENTS: Final = {
    "join": "joining",
    "leave": "leaving",
    "remove": "removed",
    "replace": "replaced",
    "heal": "given up",
    "rebalance": "rebalancing",
}

LESS_NEEDED: Final = ("host", "tokens", "rack", "metadata", "epoch", "load", "data centre")
"""Columns that a narrow terminal does without, in this order."""


def status(addresses: Sequence[str], keyspace: str | None, *, as_json: bool) -> int:
    """Ask and show; returns the exit code.

    Raises:
        AdminError: nobody answers, or there is no such keyspace.
    """
    report = ask(addresses, "/status", None if keyspace is None else {"keyspace": keyspace})
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        output = console()
        output.print(rendered(report, output.width))
    return 0


def rendered(report: Mapping[str, Any], width: int) -> RenderableType:
    """A node's answer to /status, for people.

    Args:
        width: of the terminal, in characters.
    """
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
    warnings = [Text.assemble(("! ", "bold yellow"), warning) for warning in report["warnings"]]
    table = _table(report, width)
    move = [Text(""), Text(told(report["move"]))] if report.get("move") else []
    healing = [Text(""), *map(Text, told_of_healing(report))] if told_of_healing(report) else []
    return Group(head, Text(""), table, *move, *healing, *([Text(""), *warnings] if warnings else []))


def told_of_healing(report: Mapping[str, Any]) -> list[str]:
    """What the healer does about those that are down, and why it waits; a sentence each."""
    healing = report.get("healing")
    if healing is None:
        return []
    texts = [node["text"] for node in healing["nodes"]]
    return texts or (["healing is paused (ouro heal --resume)"] if healing["is_paused"] else [])


def told(move: Mapping[str, Any]) -> str:
    """A move in one line: who, and how far."""
    what = {
        "join": "joining",
        "leave": "leaving",
        "remove": "being removed",
        "replace": "being replaced",
        "heal": "given up",
        "rebalance": "getting other tokens",
    }.get(move["kind"])
    nodes = ", ".join(map(str, move["nodes"]))
    copying = move["copying"].values()
    done, ranges = (sum(one[name] for one in copying) for name in ("ranges_done", "ranges"))
    rows, bytes_ = (sum(one[name] for one in copying) for name in ("rows", "bytes"))
    if move["keyspace"] is not None:
        who = f"keyspace {move['keyspace']} gets another replication"
    elif move["kind"] == "alter":
        who = "a keyspace that was dropped meanwhile gets no other replication"
    else:
        who = f"node {nodes} is {what}" if len(move["nodes"]) == 1 else f"nodes {nodes} are {what}"
    waits = next((one["waits"] for one in copying if one["waits"] and not one["is_over"]), "")
    if move["stage"] != "copying":
        return f"{who}: all is copied, reads go to the new replicas"
    told = f"{who}: {done} of {ranges} ranges, {rows:,} rows, {size(bytes_)} copied"
    return f"{told}; waits: {waits}" if waits else told


def _table(report: Mapping[str, Any], width: int) -> Table:
    owns = "owns" if report.get("keyspace") is None else f"owns of {report['keyspace']}"
    rows = [_row(member, owns) for member in report["members"]]
    columns = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    for name in LESS_NEEDED:
        if sum(columns.values()) + 2 * len(columns) <= width:
            break
        del columns[name]
    table = plain_table(*columns, right=("id", "tokens", owns, "load", "epoch", "clock", "hints"))
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    return table


def _row(member: Mapping[str, Any], owns: str) -> dict[str, Text]:
    is_up = member["state"] == "UP"
    hints = member["hints_waiting"]
    return {
        "id": Text(str(member["id"])),
        "state": Text(
            f"{member['state']} {MOVEMENTS[member['movement']]}"
            if member.get("movement")
            else member["state"],
            style="green" if is_up else "bold red",
        ),
        "address": Text(member["cql"]),
        "data centre": Text(member["dc"]),
        "rack": Text(member["rack"]),
        "host": Text(member["host"]),
        "tokens": Text(str(member["tokens"])),
        owns: Text(f"{member['owns']:.1%}"),
        "load": Text(size(member["load_bytes"])),
        "epoch": Text(known(member["epoch"])),
        "clock": Text(_skew(member)),
        "hints": Text(f"{hints:,}", style="yellow" if hints else ""),
        "metadata": Text("leader" if member["is_leader"] else "voter" if member["is_voter"] else ""),
    }


def _skew(member: Mapping[str, Any]) -> str:
    if member["is_this_node"]:
        return ""
    skew_ms = member["skew_ms"]
    if skew_ms is None:
        return "?"
    return f"{skew_ms / 1000:+.1f} s" if abs(skew_ms) >= 1000 else f"{skew_ms:+.0f} ms"
