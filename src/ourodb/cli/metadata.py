"""``ouro metadata``: who decides on schema and members, and what was decided last; and the way out when a majority of
those who decide is lost for good."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ourodb.cli.admin import AdminError, ask, call, first_up
from ourodb.cli.console import console, plain_table


def metadata(addresses: Sequence[str], *, as_json: bool) -> int:
    """Ask and show; returns the exit code.

    Raises:
        AdminError: nobody answers.
    """
    report = ask(addresses, "/metadata")
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        console().print(rendered(report))
    return 0


def rendered(report: Mapping[str, Any]) -> RenderableType:
    """A node's answer to /metadata, for people."""
    nodes = report["nodes"]
    voters = plain_table("voter", "address", "state", "", right=("voter",))
    for id in report["voters"]:
        node = nodes.get(str(id), {"cql": "?", "up": False})
        voters.add_row(
            str(id),
            node["cql"],
            Text("UP", style="green") if node["up"] else Text("DOWN", style="bold red"),
            "leader" if id == report["leader"] else "",
        )
    entries = plain_table("entry", "term", "what", "", right=("entry", "term"))
    for entry in report["entries"]:
        entries.add_row(
            str(entry["index"]),
            str(entry["term"]),
            Text(entry["text"]),
            "" if entry["is_applied"] else Text("not applied yet", style="yellow"),
        )
    leader = f"node {report['leader']} leads" if report["leader"] else "nobody leads"
    head = [Text(f"epoch {report['epoch']}, term {report['term']}, {leader}")]
    if report["recoveries"]:
        head.append(Text(f"a lost majority was given up {report['recoveries']} times", style="yellow"))
    if report["fault"]:
        head.append(Text(f"this node can't follow any more: {report['fault']}", style="bold red"))
    return Group(*head, Text(""), voters, Text(""), entries)


def recover(addresses: Sequence[str], *, yes: bool, as_json: bool) -> int:
    """Give up a majority that is lost for good, after a confirmation; returns the exit code.

    Raises:
        AdminError: nobody answers, there is nothing to recover, or it isn't confirmed.
    """
    address = first_up(addresses)
    known = call(address, "/metadata")
    leader = str(known["leader"])
    if known["nodes"].get(leader, {}).get("up"):
        raise AdminError(f"node {leader} leads the metadata log: there is nothing to recover")
    if not yes:
        # Without a confirmation the node says what may be lost.
        try:
            call(address, "/metadata/recover", {})
        except AdminError as error:
            if not sys.stdin.isatty():
                raise AdminError(f"{error} with --yes") from error
            sys.stderr.write(f"{error}\n\nType yes to go on: ")
            sys.stderr.flush()
            if sys.stdin.readline().strip().lower() != "yes":
                raise AdminError("nothing was done") from error
    report = call(address, "/metadata/recover", {"confirm": True})
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        voters = ", ".join(map(str, report["voters"]))
        console().print(f"node {voters} decides from now on, at epoch {report['epoch']}")
    return 0
