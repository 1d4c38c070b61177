"""``ouro decommission`` and ``ouro remove``: a node gives its rows to others, or is gone for good; with a bar."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from ourodb.cli.admin import AdminError, NoAnswerError, ask
from ourodb.cli.console import console
from ourodb.cli.move_bar import MoveBar

POLL_SECONDS = 0.5


def leave(
    addresses: Sequence[str],
    node: int | None,
    *,
    is_dead: bool,
    wait: bool,
    as_json: bool,
    is_forced: bool = False,
) -> int:
    """Have a node leave, and wait until it has; returns the exit code.

    Args:
        node: its number; None: the one that is asked.
        is_dead: it is down, and won't come back.
        is_forced: even if rows are lost.
    Raises:
        AdminError: nobody answers, or the node can't leave.
    """
    path = "/remove" if is_dead else "/decommission"
    asked = {} if node is None else {"node": node, **({"force": True} if is_forced else {})}
    going = ask(addresses, path, asked)["node"]
    done = not wait or watch(addresses, going)
    if as_json:
        sys.stdout.write(json.dumps({"node": going, "is_gone": wait and done}) + "\n")
    elif wait and done:
        console().print(f"node {going} is no member any more")
    elif not wait:
        console().print(f"node {going} is leaving; ouro status shows how far it is")
    return 0 if done else 1


def watch(addresses: Sequence[str], node: int) -> bool:
    """Draw a bar until the node is gone; False: it stays, since its move was undone."""
    has_begun = False
    with MoveBar(f"node {node} waits for its turn") as bar:
        while True:
            try:
                report = ask(addresses, "/status")
            except NoAnswerError:
                # The one that was asked was the one that left.
                return has_begun
            except AdminError:
                time.sleep(POLL_SECONDS)
                continue
            member = next((one for one in report["members"] if one["id"] == node), None)
            if member is None:
                return True
            move: dict[str, Any] | None = report["move"]
            if member["movement"] is None and has_begun:
                return False
            if move is not None and node in move["nodes"]:
                has_begun = True
                bar.show(move)
            time.sleep(POLL_SECONDS)
