"""``ouro heal``: what is done about nodes that are gone for good, and whether."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from ourodb.cli.admin import call, first_up
from ourodb.cli.console import console
from ourodb.cli.leaving import watch

ANSWER_SECONDS_MAX = 30.0
"""A change is in force everywhere, or it is known where it isn't."""


def heal(addresses: Sequence[str], asked: str | None, *, wait: bool, as_json: bool) -> int:
    """Pause healing, go on with it, heal at once, or tell how it stands; returns the exit code.

    Args:
        asked: "pause", "resume" or "now"; None: nothing.
        wait: for what is healed now.
    Raises:
        AdminError: nobody answers, or the change can't be decided on.
    """
    body = None if asked is None else {asked: True}
    report = call(first_up(addresses), "/heal", body, timeout_s=ANSWER_SECONDS_MAX)
    healed = report["nodes"] if asked == "now" and wait else []
    stayed = [node for node in healed if not watch(addresses, node)]
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        for line in _now(report, is_over=wait and not stayed) if asked == "now" else _standing(report):
            console().print(line)
    is_refused = asked == "now" and report["obstacles"] and not report["nodes"]
    return 1 if stayed or is_refused else 0


def _standing(report: dict[str, Any]) -> list[str]:
    after = report["heal_after_s"]
    if report["is_paused"]:
        first = "healing is paused (ouro heal --resume)"
    elif after:
        first = f"a node that has been down for {after:,} s is given up, and its ranges get new replicas"
    else:
        first = "this node takes nobody for dead (--heal-after 0)"
    return [first, *(node["text"] for node in report["nodes"])]


def _now(report: dict[str, Any], *, is_over: bool) -> list[str]:
    nodes, obstacles = report["nodes"], report["obstacles"]
    lines = []
    if nodes:
        names = ", ".join(map(str, nodes))
        which, whose, are = ("node", "its", "is") if len(nodes) == 1 else ("nodes", "their", "are")
        if is_over:
            lines.append(f"{which} {names} {are} no member any more; {whose} ranges have other replicas")
        else:
            lines.append(f"{which} {names} {are} given up; ouro operations shows how far it is")
    lines += [f"node {node} isn't healed: {obstacle}" for node, obstacle in obstacles.items()]
    return lines or ["no node is down"]
