"""``ouro operations`` and ``ouro rebalance``: moves of rows that are under way, and those that have ended."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ourodb.cli.admin import AdminError, ask, call, first_up
from ourodb.cli.console import console, plain_table, size
from ourodb.cli.move_bar import MoveBar

ANSWER_SECONDS_MAX = 30.0
POLL_SECONDS = 0.5


def operations(addresses: Sequence[str], *, as_json: bool) -> int:
    """Ask and show; returns the exit code.

    Raises:
        AdminError: nobody answers.
    """
    report = ask(addresses, "/operations")
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        console().print(rendered(report))
    return 0


def rendered(report: Mapping[str, Any]) -> RenderableType:
    """A node's answer to /operations, for people."""
    rows = [
        *map(_under_way, report["under_way"]),
        *map(_waiting, report["waiting"]),
        *map(_ended, report["ended"]),
    ]
    if not rows:
        return Text("no rows have moved")
    table = plain_table(
        "id", "what", "of", "began", "took", "rows", "bytes", "how it stands", right=("id", "rows")
    )
    for row in rows:
        table.add_row(*row)
    return Group(table)


def _under_way(one: Mapping[str, Any]) -> list[str]:
    if one["stage"] == "copying":
        how = f"{one['ranges_done']} of {one['ranges']} ranges"
        if one["bytes_per_s"] is not None:
            how += f", {size(one['bytes_per_s'])}/s"
        if one["left_s"] is not None:
            how += f", {_seconds(one['left_s'])} left"
        if one["waits"]:
            how += f"; waits: {one['waits']}"
    else:
        how = "all is copied, reads go to the new replicas"
    return [*_named(one), _seconds(one["seconds"]), f"{one['rows']:,}", size(one["bytes"]), how]


def _waiting(wish: Mapping[str, Any]) -> list[str]:
    whose = wish.get("keyspace") or str(wish["node"] or "")
    return ["", wish["kind"], whose, "", "", "", "", "waits for its turn"]


def _ended(one: Mapping[str, Any]) -> list[str]:
    took = (one["ended_ms"] - one["began_ms"]) / 1000 if one["ended_ms"] and one["began_ms"] else None
    how = "done" if one["is_done"] else f"undone: {one['reason']}"
    return [*_named(one), _seconds(took), f"{one['rows']:,}", size(one["bytes"]), how]


def _named(one: Mapping[str, Any]) -> list[str]:
    began = one["began_ms"]
    shown = (
        "?"
        if began is None
        else f"{datetime.fromtimestamp(began / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    )
    whose = one.get("keyspace") or ", ".join(map(str, one["nodes"]))
    return [str(one["id"]), one["kind"], whose, shown]


def _seconds(count: float | None) -> str:
    if count is None:
        return "?"
    return f"{count:.0f} s" if count < 600 else f"{count / 60:.0f} min"


def rebalance(addresses: Sequence[str], *, wait: bool, as_json: bool) -> int:
    """Have members get other tokens, and wait until they have; returns the exit code.

    Raises:
        AdminError: nobody answers, or the change can't be decided on.
    """
    answer = call(first_up(addresses), "/rebalance", {}, timeout_s=ANSWER_SECONDS_MAX)
    nodes = answer["nodes"]
    is_done = not (nodes and wait) or _watch(addresses)
    if as_json:
        sys.stdout.write(json.dumps({**answer, "is_done": bool(nodes) and wait and is_done}) + "\n")
        return 0 if is_done else 1
    ratio = f"the node that owns most has {answer['ratio']:.2f} times its fair share"
    if not nodes:
        console().print(f"nothing to do: {ratio}")
    elif not wait:
        console().print(f"{ratio}; nodes {', '.join(map(str, nodes))} get other tokens")
    elif is_done:
        console().print(f"nodes {', '.join(map(str, nodes))} have other tokens; before, {ratio}")
    else:
        console().print("undone; ouro operations says why")
    return 0 if is_done else 1


def _watch(addresses: Sequence[str]) -> bool:
    """Draw a bar until the rebalancing is over; whether it was done."""
    with MoveBar("waits for its turn") as bar:
        while True:
            try:
                report = ask(addresses, "/moves")
                move = report["move"]
                if move is not None and move["kind"] == "rebalance":
                    bar.show(move)
                elif all(wish["kind"] != "rebalance" for wish in report["wishes"]):
                    ended = ask(addresses, "/operations")["ended"]
                    last = next((one for one in ended if one["kind"] == "rebalance"), None)
                    return last is None or bool(last["is_done"])
            except AdminError:
                # It is busy, or away; the move goes on without it.
                pass
            time.sleep(POLL_SECONDS)
