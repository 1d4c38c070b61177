"""When a ring is up: every node sees every other UP, and all are at the same epoch with the same schema.

``look`` asks all nodes at once, ``disagreement`` says what is still missing, in words for whoever waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from ourodb.cli.admin import AdminError, call
from ourodb.cli.local.layout import NodePlan

LOOK_SECONDS_MAX: Final = 2.0
THREADS_MAX: Final = 16

Reports = Mapping[str, Mapping[str, Any] | None]
"""By the node's name, its answer to /status; None when it doesn't answer."""


def look(nodes: Sequence[NodePlan]) -> Reports:
    """What each node says of the cluster now."""
    with ThreadPoolExecutor(min(len(nodes), THREADS_MAX)) as pool:
        return dict(zip((node.name for node in nodes), pool.map(_status, nodes), strict=True))


def disagreement(nodes: Sequence[NodePlan], reports: Reports) -> dict[str, str]:
    """By node, what it waits for; empty when all agree."""
    names = {node.peer: node.name for node in nodes}
    newest = max((report["epoch"] for report in reports.values() if report is not None), default=0)
    versions = {report["schema_version"] for report in reports.values() if report is not None}
    missing: dict[str, str] = {}
    for node in nodes:
        report = reports[node.name]
        if report is None:
            missing[node.name] = "starts"
            continue
        up = {member["address"] for member in report["members"] if member["state"] == "UP"}
        unseen = [name for peer, name in names.items() if peer not in up]
        if unseen:
            missing[node.name] = f"doesn't see {', '.join(unseen)} yet"
        elif report["epoch"] < newest:
            missing[node.name] = f"is at epoch {report['epoch']} of {newest}"
        elif len(versions) > 1:
            missing[node.name] = "waits until all have the same schema"
    return missing


def _status(node: NodePlan) -> Mapping[str, Any] | None:
    try:
        return call(node.admin, "/status", timeout_s=LOOK_SECONDS_MAX)
    except AdminError:
        return None
