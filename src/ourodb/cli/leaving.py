"""``ouro decommission`` and ``ouro remove``: a node gives its rows to others, or is gone for good; with a bar."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from ourodb.cli.admin import AdminError, NoAnswerError, ask, call, first_up
from ourodb.cli.console import console
from ourodb.cli.move_bar import MoveBar

POLL_SECONDS = 0.5

CHANGE_SECONDS_MAX = 30.0
"""After which a node that was told to leave has said something."""

IDLE_SECONDS_MAX = 15.0
"""For so long nothing moves before it is taken for undone: a change that can't be decided on is given up sooner."""

SILENCE_SECONDS_MAX = 60.0
"""For so long nobody may answer before one stops to watch."""


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
    if node is None and len(addresses) > 1:
        raise AdminError(
            "which node is to leave? Say its number (ouro status shows them), or name it with --admin HOST:PORT"
        )
    path = "/remove" if is_dead else "/decommission"
    asked = {} if node is None else {"node": node, **({"force": True} if is_forced else {})}
    going = call(first_up(addresses), path, asked, timeout_s=CHANGE_SECONDS_MAX)["node"]
    done = not wait or watch(addresses, going, is_asked=node is None)
    if as_json:
        sys.stdout.write(json.dumps({"node": going, "is_gone": wait and done}) + "\n")
    elif not wait:
        console().print(f"node {going} is leaving; ouro status shows how far it is")
    elif done:
        console().print(f"node {going} is no member any more")
    else:
        console().print(
            f"node {going} stays: that was undone, or couldn't be decided; ouro operations says why"
        )
    return 0 if done else 1


def watch(addresses: Sequence[str], node: int, *, is_asked: bool = False) -> bool:
    """Draw a bar until the node is gone; False: it stays, since its move was undone, or never begun.

    Args:
        is_asked: it is the one that answers: when it doesn't any more, it has left.
    Raises:
        AdminError: nobody answers for a while, so that nobody knows.
    """
    has_begun = False
    idle_since = answered = time.monotonic()
    with MoveBar(f"node {node} waits for its turn") as bar:
        while True:
            try:
                report = ask(addresses, "/status")
            except NoAnswerError as error:
                if is_asked:
                    return True
                if time.monotonic() - answered > SILENCE_SECONDS_MAX:
                    raise AdminError(f"whether node {node} has left can't be told: {error}") from error
                time.sleep(POLL_SECONDS)
                continue
            except AdminError:
                time.sleep(POLL_SECONDS)
                continue
            now = answered = time.monotonic()
            member = next((one for one in report["members"] if one["id"] == node), None)
            if member is None:
                return True
            is_asked = len(addresses) == 1 and bool(member.get("is_this_node"))
            move: dict[str, Any] | None = report["move"]
            if member["movement"] is not None or move is not None:
                idle_since = now
                has_begun |= member["movement"] is not None
            if member["movement"] is None and (has_begun or now - idle_since > IDLE_SECONDS_MAX):
                return False
            if move is not None and node in move["nodes"]:
                bar.show(move)
            time.sleep(POLL_SECONDS)
