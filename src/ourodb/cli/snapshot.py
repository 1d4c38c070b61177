"""``ouro snapshot`` and ``ouro snapshots``."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

REQUEST_SECONDS_MAX = 3600


def make(name: str, admin: str, *, as_json: bool) -> int:
    """Ask a node for a snapshot; returns the exit code."""
    reply = _ask(admin, "/snapshot", {"name": name})
    if reply is None:
        return 2
    if as_json:
        sys.stdout.write(json.dumps(reply) + "\n")
    else:
        mib = reply["bytes"] / (1 << 20)
        Console().print(
            f"snapshot {reply['name']}: {reply['files']} files, {mib:.1f} MiB, in {reply['path']}"
        )
    return 0


def show(admin: str, *, as_json: bool) -> int:
    """List a node's snapshots; returns the exit code."""
    reply = _ask(admin, "/snapshots", None)
    if reply is None:
        return 2
    if as_json:
        sys.stdout.write(json.dumps(reply) + "\n")
        return 0
    table = Table("name", "created (UTC)", "MiB")
    for one in reply["snapshots"]:
        created = datetime.fromtimestamp(one["created_us"] / 1_000_000, UTC)
        table.add_row(one["name"], f"{created:%Y-%m-%d %H:%M:%S}", f"{one['bytes'] / (1 << 20):.1f}")
    Console().print(table)
    return 0


def _ask(admin: str, path: str, body: dict[str, Any] | None) -> dict[str, Any] | None:
    """The node's reply; None after one line on standard error."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{admin}{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS_MAX) as reply:
            found: dict[str, Any] = json.load(reply)
            return found
    except urllib.error.HTTPError as error:
        try:
            reason = json.load(error)["error"]
        except (ValueError, KeyError):
            reason = f"{error.code} {error.reason}"
    except (OSError, ValueError) as error:
        reason = f"no node answers on {admin} ({error}); name its admin address with --admin"
    sys.stderr.write(f"ouro: {reason}\n")
    return None
