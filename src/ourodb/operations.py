"""What people ask of a node about the ring as a whole, and what it tells them: healing, evenness, the history of moves.

The admin API behind ``ouro heal``, ``ouro rebalance`` and ``ouro operations``; plain data, like ``reports``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ourodb.cluster.metadata.commands import Command, Heal, PauseHealing, Rebalance
from ourodb.cluster.metadata.healing import PAUSED, Prospect, plan
from ourodb.cluster.metadata.operations import Operation
from ourodb.cluster.metadata.submissions import Applied
from ourodb.cluster.ring.rebalancing import evened, unevenness
from ourodb.errors import InvalidRequest, OuroError
from ourodb.node import Node
from ourodb.ports import NodeId
from ourodb.reports import moves_report

Done = Callable[[dict[str, Any] | OuroError], None]

RESUME: Final = "ouro heal --resume"


def heal(node: Node, asked: Mapping[str, Any], done: Done) -> None:
    """Pause healing, go on with it, or give up at once those that are down; ``done`` is called once.

    Args:
        asked: one of "pause", "resume" and "now", true.
    """
    wanted = [name for name in ("pause", "resume", "now") if asked.get(name) is True]
    if len(wanted) != 1:
        done(InvalidRequest('one of "pause", "resume" and "now" is asked for'))
    elif wanted == ["now"]:
        _heal_now(node, done)
    else:
        _carry_out(node, PauseHealing(wanted == ["pause"]), done, lambda: healing_report(node))


def _heal_now(node: Node, done: Done) -> None:
    view = node.view
    down = [id for id, member in view.members.items() if member.tokens and not node.peers.up.get(id)]
    found = plan(view, down, down, is_asked=True)
    answer = {
        "nodes": list(found.nodes),
        "obstacles": {str(id): obstacle for id, obstacle in found.obstacles.items()},
    }
    if found.nodes:
        _carry_out(node, Heal(found.nodes, is_asked=True), done, lambda: answer)
    else:
        done(answer)


def rebalance(node: Node, done: Done) -> None:
    """Give some members other tokens, if that makes the ring more even; ``done`` is called once."""
    members = tuple(node.view.members.values())
    down = [member.id for member in members if member.tokens and not node.peers.up.get(member.id)]
    if down:
        done(
            InvalidRequest(
                f"node {down[0]} is down: all must be up, since any may get ranges of others; start it, or remove it"
            )
        )
        return
    tokens = evened(members)
    answer = {"nodes": list(tokens), "ratio": unevenness(members)}
    if tokens:
        _carry_out(node, Rebalance(), done, lambda: answer)
    else:
        done(answer)


def _carry_out(node: Node, command: Command, done: Done, answer: Callable[[], dict[str, Any]]) -> None:
    """Have a command decided on, and answer once it is in force."""

    def decided(outcome: Applied | OuroError) -> None:
        done(outcome if isinstance(outcome, OuroError) else answer())

    node.metadata.submit_member(command, decided)


def healing_report(node: Node) -> dict[str, Any]:
    """What is to become of the members that are down, and why nothing does."""
    found = node.metadata.prospects()
    return {
        "is_paused": node.view.is_healing_paused,
        "heal_after_s": node.config.heal_after,
        "nodes": [
            {
                "node": prospect.node,
                "down_s": prospect.down_ms // 1000,
                "due_s": None if prospect.due_ms is None else -(-prospect.due_ms // 1000),
                "is_under_way": prospect.is_under_way,
                "obstacle": prospect.obstacle or None,
                "text": _told(node, prospect),
            }
            for prospect in found
        ],
    }


def _told(node: Node, prospect: Prospect) -> str:
    """A prospect in one sentence."""
    member = node.view.members[prospect.node]
    seconds = f"{prospect.down_ms // 1000:,}"
    who = f"node {prospect.node} at {member.peer[0]} has been down for {seconds} s"
    if prospect.is_under_way:
        return f"{who}; its ranges are getting new replicas"
    if prospect.obstacle:
        how = f" ({RESUME})" if prospect.obstacle == PAUSED else ""
        return f"{who}, and isn't healed: {prospect.obstacle}{how}"
    if prospect.due_ms is None:
        return f"{who}, and isn't healed: this node waits for ever (--heal-after 0); ouro heal --now"
    if prospect.due_ms:
        return f"{who}; its ranges get new replicas in {-(-prospect.due_ms // 1000):,} s"
    if node.view.is_taken_for_dead(prospect.node):
        return f"{who}; its ranges get new replicas now"
    return f"{who}; its ranges get new replicas as soon as most voters take it for dead"


def operations_report(node: Node) -> dict[str, Any]:
    """The move that is under way with how far it is, those that wait, and those that have ended, newest first."""
    moves = moves_report(node)
    now_ms = node.ports.clock.wall_us() // 1000
    ended = [operation for operation in node.view.operations if operation.is_over]
    return {
        "under_way": [
            _under_way(operation, moves["move"], now_ms)
            for operation in node.view.operations
            if not operation.is_over and moves["move"] is not None
        ],
        "waiting": moves["wishes"],
        "ended": [
            {
                **_named(operation),
                "ended_ms": operation.ended_ms or None,
                "is_done": operation.is_done,
                "reason": operation.reason or None,
                "rows": operation.rows,
                "bytes": operation.bytes,
            }
            for operation in reversed(ended)
        ],
    }


def _named(operation: Operation) -> dict[str, Any]:
    nodes: tuple[NodeId, ...] = operation.nodes
    return {
        "id": operation.move,
        "kind": operation.kind,
        "nodes": list(nodes),
        "keyspace": operation.keyspace or None,
        "began_ms": operation.began_ms or None,
    }


def _under_way(operation: Operation, move: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
    copying = move["copying"].values()
    ranges, ranges_done, rows, bytes_ = (
        sum(one[name] for one in copying) for name in ("ranges", "ranges_done", "rows", "bytes")
    )
    seconds = max(0.0, (now_ms - operation.began_ms) / 1000) if operation.began_ms else None
    is_copying = move["stage"] == "copying"
    rate = bytes_ / seconds if seconds and is_copying else None
    left_s = (
        seconds * (ranges - ranges_done) / ranges_done if seconds and is_copying and ranges_done else None
    )
    return {
        **_named(operation),
        "stage": move["stage"],
        "ranges": ranges,
        "ranges_done": ranges_done,
        "rows": rows,
        "bytes": bytes_,
        "seconds": seconds,
        "bytes_per_s": rate,
        "left_s": left_s,
        "waits": next((one["waits"] for one in copying if one["waits"] and not one["is_over"]), None),
    }
