"""``ouro ring``: who holds which tokens, and where one key is and why.

The ring is drawn as a band for each node, from the least token to the greatest: full where the node is the primary
replica, half where it holds another copy, and striped where it acts for a primary that is down.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ourodb.cli.admin import AdminError, ask
from ourodb.cli.console import console, plain_table

TOKENS: Final = 1 << 64
TOKEN_MIN: Final = -(1 << 63)

PRIMARY, ACTING, SECONDARY, NOTHING = "█", "▓", "░", " "
COLOURS: Final = ("cyan", "magenta", "yellow", "green", "blue", "red")
BAND_CELLS_MIN: Final = 24
BAND_CELLS_MAX: Final = 64


def ring(
    addresses: Sequence[str],
    keyspace: str | None,
    table: str | None,
    key: Sequence[str],
    *,
    as_json: bool,
) -> int:
    """Ask and show; returns the exit code.

    Raises:
        AdminError: nobody answers, or what is asked for isn't there.
    """
    if table is not None and not key:
        raise AdminError(f"which key of {keyspace}.{table}? One value for each column of its partition key")
    asked: dict[str, Any] = {}
    if keyspace is not None:
        asked["keyspace"] = keyspace
    if table is not None:
        asked |= {"table": table, "key": list(key)}
    report = ask(addresses, "/ring", asked)
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    elif table is None:
        output = console()
        output.print(ranges(report))
        output.print()
        output.print(drawn(report, output.width))
    else:
        console().print(explained(report, f"{keyspace}.{table}", key))
    return 0


def drawn(report: Mapping[str, Any], width: int) -> RenderableType:
    """The bands of a ring.

    Args:
        width: of the terminal, in characters.
    """
    names = {id: id if node["up"] else f"{id} DOWN" for id, node in report["nodes"].items()}
    beside = max(map(len, (*names.values(), "node"))) + max(
        len(node["cql"]) for node in report["nodes"].values()
    )
    cells = min(max(width - beside - len("primary") - len("copies") - 2 * 5, BAND_CELLS_MIN), BAND_CELLS_MAX)
    owners = _owners(report, cells)
    table = plain_table("node", "address", "tokens", "primary", "copies", right=("primary", "copies"))
    shares = _shares(report)
    for number, (id, node) in enumerate(report["nodes"].items()):
        colour = COLOURS[number % len(COLOURS)]
        band = Text("".join(_cell(int(id), one) for one in owners), style=colour)
        primary, copies = shares[int(id)]
        name = Text(names[id], style=colour if node["up"] else "bold red")
        table.add_row(name, node["cql"], band, f"{primary:.1%}", f"{copies:.1%}")
    legend = f"{PRIMARY} primary   {SECONDARY} secondary   {ACTING} acts for a primary that is down"
    return Group(_head(report), Text(""), table, Text(legend, style="dim"))


def ranges(report: Mapping[str, Any]) -> Table:
    """Every token range and who holds it."""
    table = plain_table("tokens after", "up to", "share", "primary", "acting primary", "secondaries",
                        right=("tokens after", "up to", "share"))  # fmt: skip
    for one in report["ranges"]:
        table.add_row(
            one["start"],
            one["end"],
            f"{one['share']:.2%}",
            _shown(report, one["primary"]),
            _acting(one),
            Text(", ").join(_shown(report, id) for id in one["secondaries"]),
        )
    return table


def explained(report: Mapping[str, Any], table: str, key: Sequence[str]) -> RenderableType:
    """Where one key is, and why."""
    one = report["key"]
    columns = one["columns"]
    values = ", ".join(f"{name} = {text}" for name, text in zip(columns, key, strict=True))
    facts = plain_table("", "")
    facts.show_header = False
    facts.add_row(Text("key", style="dim"), f"{values}   of {table}")
    facts.add_row(Text("as bytes", style="dim"), f"0x{one['partition_key']}")
    facts.add_row(Text("Murmur3 hash", style="dim"), f"token {one['token']}")
    facts.add_row(
        Text("token range", style="dim"),
        f"after {one['start']}, up to {one['end']}, which is a token of node {one['primary']}",
    )
    facts.add_row(Text("replication", style="dim"), _replication(report))
    nodes = plain_table("replica", "node", "address", "data centre", "rack", "host", "state")
    for number, id in enumerate([one["primary"], *one["secondaries"]]):
        node = report["nodes"][str(id)]
        role = "primary" if not number else f"secondary {number}"
        if id == one["acting_primary"] and number:
            role += ", acting primary"
        state = Text("UP", style="green") if node["up"] else Text("DOWN", style="bold red")
        nodes.add_row(role, str(id), node["cql"], node["dc"], node["rack"], node["host"], state)
    return Group(facts, Text(""), nodes)


def _head(report: Mapping[str, Any]) -> Text:
    nodes = report["nodes"]
    up = sum(node["up"] for node in nodes.values())
    name = report["keyspace"]
    what = "each token's primary replica" if name is None else f"keyspace {name}, {_replication(report)}"
    count = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    return Text(f"{count}, {up} up, {len(report['ranges'])} ranges: {what}")


def _replication(report: Mapping[str, Any]) -> str:
    options = dict(report["replication"])
    strategy = options.pop("class").rpartition(".")[2]
    return f"{strategy}, " + ", ".join(
        f"{count} copies" if name == "replication_factor" else f"{count} in {name}"
        for name, count in options.items()
    )


def _owners(report: Mapping[str, Any], cells: int) -> list[Mapping[str, Any]]:
    """The range in the middle of each of so many equal parts of the ring."""
    found = sorted(report["ranges"], key=lambda one: int(one["end"]))
    ends = [int(one["end"]) for one in found]
    middles = (TOKEN_MIN + TOKENS * (2 * cell + 1) // (2 * cells) for cell in range(cells))
    return [found[bisect_left(ends, middle) % len(found)] for middle in middles]


def _shares(report: Mapping[str, Any]) -> dict[int, tuple[float, float]]:
    """By node: of how much it is the primary, and of how much it has a copy."""
    shares = {int(id): (0.0, 0.0) for id in report["nodes"]}
    for one in report["ranges"]:
        for id in (one["primary"], *one["secondaries"]):
            if id in shares:
                primary, copies = shares[id]
                shares[id] = (primary + one["share"] * (id == one["primary"]), copies + one["share"])
    return shares


def _cell(id: int, one: Mapping[str, Any]) -> str:
    if id == one["primary"]:
        return PRIMARY
    if id == one["acting_primary"]:
        return ACTING
    return SECONDARY if id in one["secondaries"] else NOTHING


def _shown(report: Mapping[str, Any], id: int) -> Text:
    node = report["nodes"].get(str(id))
    if node is None:
        return Text("nobody", style="bold red")
    return Text(str(id)) if node["up"] else Text(f"{id} DOWN", style="bold red")


def _acting(one: Mapping[str, Any]) -> Text:
    acting = one["acting_primary"]
    if acting is None:
        return Text("nobody", style="bold red")
    return Text("" if acting == one["primary"] else str(acting), style="yellow")
