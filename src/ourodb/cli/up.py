"""``ouro up`` and ``ouro down``: a ring on this machine, in the background.

``up`` starts every node of the ring that doesn't run, waits until all see each other and have agreed, and leaves them
to themselves. What it started for a ring that couldn't be formed it stops again, so that the next try begins afresh;
nodes of a ring that was formed before go on without the one that can't, as the ring does when a node dies. A node
without which the cluster has gone on says so by its exit code, and is started no more.

Exit codes: 0; 1 when nodes didn't come up, or didn't go down; 2 when it couldn't begin.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NoReturn

from rich.live import Live
from rich.table import Table
from rich.text import Text

from ourodb.cli.console import console, plain_table
from ourodb.cli.local import layout
from ourodb.cli.local.agreement import disagreement, look
from ourodb.cli.local.layout import DEFAULT_FOLDER, LayoutError, NodePlan, RingPlan
from ourodb.cli.local.ring import LocalRing, shown
from ourodb.cli.serve import WAS_REMOVED, parser
from ourodb.config import expanded, load
from ourodb.errors import ConfigurationProblem

UP_SECONDS_MAX: Final = 120.0
DOWN_SECONDS_MAX: Final = 60.0
PORT_MAX: Final = 65535
LOOK_EVERY_S: Final = 0.05
LOG_LINES: Final = 3

OWN_OPTIONS: Final = (
    "data", "listen", "advertise", "cql_port", "peer_port", "admin_port", "dc", "rack", "host_id", "secret", "join",
    "replace", "cores",
)  # fmt: skip
"""Of ``ouro serve``: those that each node has for itself."""


class UpError(Exception):
    """The ring isn't up; the text says why, in as many lines as it takes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line said; None where it said nothing.

    Attributes:
        options: for every node's ``ouro serve``.
    """

    nodes: int | None = None
    dcs: int | None = None
    racks: int | None = None
    cql_port: int | None = None
    peer_port: int | None = None
    admin_port: int | None = None
    options: tuple[str, ...] = ()


def up(folder: Path, asked: Asked) -> int:
    """Start the ring of a folder; returns the exit code."""
    started_s = time.monotonic()
    ring: LocalRing | None = None
    try:
        ring = LocalRing(folder, planned(expanded(folder), asked))
        with ring.held():
            running = [node for node in ring.nodes if ring.pid(node) is not None]
            bring_up(ring)
    except LayoutError as error:
        sys.stderr.write(f"ouro up: {error}\n")
        return 2
    except UpError as error:
        sys.stderr.write(f"ouro up: {error}\n")
        return 1
    except KeyboardInterrupt:
        if ring is not None and any(ring.pid(node) is not None for node in ring.nodes):
            what = f"not waited for; stop the nodes with: ouro down --data {shown(folder)}"
        else:
            what = "interrupted; no node runs"
        sys.stderr.write(f"ouro up: {what}\n")
        return 130
    tell(ring, running, time.monotonic() - started_s)
    if asked.options and running:
        console().print("What stands after -- is for nodes that start from now on.")
    return 0


def planned(folder: Path, asked: Asked) -> RingPlan:
    """The ring's layout: the one it has, with what may be added to it, or a new one.

    Raises:
        LayoutError: what is asked contradicts the layout that is there.
    """
    for name, number, greatest in (
        ("--nodes", asked.nodes, None),
        ("--dcs", asked.dcs, None),
        ("--racks", asked.racks, None),
        ("--cql-port", asked.cql_port, PORT_MAX),
        ("--peer-port", asked.peer_port, PORT_MAX),
        ("--admin-port", asked.admin_port, PORT_MAX),
    ):
        if number is not None and not 1 <= number <= (greatest or number):
            raise LayoutError(
                f"{name} {number}: it takes 1 or more{f', up to {greatest}' if greatest else ''}"
            )
    ports = (asked.cql_port or 9042, asked.peer_port or 7000, asked.admin_port or 7070)
    if len(set(ports)) < len(ports):
        raise LayoutError("--cql-port, --peer-port and --admin-port have to differ")
    check_options(asked.options)
    if not layout.is_there(folder):
        dcs, racks = asked.dcs or 1, asked.racks or 1
        count = asked.nodes or max(3, dcs * racks)
        return layout.spread(count, dcs=dcs, racks=racks, ports=ports, options=asked.options)
    plan = layout.load(folder).with_those_back(folder)
    first = plan.nodes[0]
    for name, value, present in (
        ("--dcs", asked.dcs, plan.dcs),
        ("--racks", asked.racks, plan.racks),
        ("--cql-port", asked.cql_port, first.cql_port),
        ("--peer-port", asked.peer_port, first.peer_port),
        ("--admin-port", asked.admin_port, first.admin_port),
    ):
        if value not in (None, present):
            raise LayoutError(
                f"the ring in {shown(folder)} was made with {name} {present}, which can't be changed"
            )
    if asked.options:
        plan = replace(plan, options=asked.options)
    count = len(plan.members)
    if asked.nodes is None and not count:
        raise LayoutError(layout.all_left(folder))
    more = 0 if asked.nodes is None else asked.nodes - count
    if more < 0:
        raise LayoutError(
            f"the ring in {shown(folder)} has {count} nodes; to have fewer, let one leave: ouro decommission"
        )
    return plan.grown(more) if more else plan


class _Parser(argparse.ArgumentParser):
    """Of what stands after --."""

    def error(self, message: str) -> NoReturn:
        raise LayoutError(f"after --: {message}")


def check_options(options: Sequence[str]) -> None:
    """Whether ``ouro serve`` takes these, before anything is written down or started.

    Raises:
        LayoutError: it doesn't, or they are those by which nodes differ.
    """
    given = vars(parser(_Parser).parse_args(options))
    for name in OWN_OPTIONS:
        if given.get(name) is not None:
            raise LayoutError(
                f"after --: --{name.replace('_', '-')} is what ouro up says to each node by itself"
            )
    file = given.pop("config")
    try:
        load(given, {}, file)
    except ConfigurationProblem as error:
        raise LayoutError(f"after --: {error}") from error


def bring_up(ring: LocalRing, *, quiet: bool = False) -> None:
    """Start the nodes that don't run, and wait until all have agreed.

    Args:
        quiet: show no progress.
    Raises:
        LayoutError: a port is taken, or the folder can't be written.
        UpError: a node ended, or they don't agree.
    """
    absent = [node for node in ring.nodes if ring.pid(node) is None]
    taken = ring.taken_ports(absent)
    if taken:
        raise LayoutError("; ".join(taken))
    before = layout.load(ring.folder) if layout.is_there(ring.folder) else None
    ring.prepare()
    try:
        for node in absent:
            ring.start(node)
        _wait(ring, absent, quiet=quiet)
    except (UpError, LayoutError, KeyboardInterrupt):
        if not ring.plan.is_formed:
            ring.stop(absent, kill=True, timeout_s=DOWN_SECONDS_MAX)
            if not any((ring.folder / node.name).exists() for node in ring.nodes):
                # Nothing has begun: the next try may ask for something else.
                ring.forget()
        elif before is not None and before.nodes != ring.plan.nodes:
            # Nodes that the ring was to have in addition: without them it is the one that it was.
            known = {node.name for node in before.nodes}
            news = [node for node in absent if node.name not in known]
            ring.stop(news, kill=True, timeout_s=DOWN_SECONDS_MAX)
            layout.save(ring.folder, before)
        raise
    ring.formed()


def _wait(ring: LocalRing, started: Sequence[NodePlan], *, quiet: bool) -> None:
    output = console()
    until = time.monotonic() + UP_SECONDS_MAX
    missing = {node.name: "starts" for node in ring.nodes}
    with (
        Live(
            _progress(ring, missing),
            console=output,
            transient=True,
            refresh_per_second=10,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        if not quiet and output.is_terminal
        else _Silent() as live
    ):
        while True:
            missing = disagreement(ring.nodes, look(ring.nodes))
            if not missing:
                return
            live.update(_progress(ring, missing))
            ended = [(node, code) for node in started if (code := ring.exit_code(node)) is not None]
            gone = [node for node, code in ended if code == WAS_REMOVED]
            if gone and ring.plan.is_formed:
                ring.left(gone)
                started = [node for node in started if node not in gone]
                if not ring.nodes:
                    raise UpError(layout.all_left(ring.folder))
                continue
            if ended:
                raise UpError(_why_ended(ring, ended))
            if time.monotonic() > until:
                raise UpError(
                    f"after {UP_SECONDS_MAX:.0f} s "
                    + "; ".join(
                        f"{name} {what} (log: {ring.folder / name}.log)" for name, what in missing.items()
                    )
                )
            time.sleep(LOOK_EVERY_S)


class _Silent:
    """In place of ``Live`` where nobody looks."""

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def update(self, table: Table) -> None:
        pass


def _progress(ring: LocalRing, missing: Mapping[str, str]) -> Table:
    table = plain_table("node", "CQL", "")
    for node in ring.nodes:
        what = missing.get(node.name)
        if what == "starts" and any("joining" in line for line in ring.last_words(node)):
            what = "joins"
        state = Text("up", style="green") if what is None else Text(what, style="yellow")
        table.add_row(node.name, node.cql, state)
    return table


def _why_ended(ring: LocalRing, ended: Sequence[tuple[NodePlan, int]]) -> str:
    lines = []
    for node, code in ended:
        words = ring.last_words(node)[-LOG_LINES:] or ["it said nothing"]
        lines.append(f"{node.name} ended ({_how(code)}); the end of {shown(ring.log(node))}:")
        lines += [f"    {line}" for line in words]
    return "\n".join(lines)


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def tell(ring: LocalRing, running: Sequence[NodePlan], seconds: float) -> None:
    """What there is now, and how to go on."""
    output = console()
    folder = shown(ring.folder)
    option = "" if folder == DEFAULT_FOLDER else f" --data {folder}"
    count = len(ring.nodes)
    nodes = "1 node is" if count == 1 else f"{count} nodes are"
    if len(running) == count:
        output.print(f"{nodes} up; all ran already.")
    else:
        output.print(f"{nodes} up and agreed, after {seconds:.1f} s.")
    table = plain_table("node", "CQL", "data centre", "rack", "process", "")
    for node in ring.nodes:
        already = "ran already" if node in running and len(running) < count else ""
        table.add_row(node.name, node.cql, node.dc, node.rack, str(ring.pid(node) or "-"), already)
    output.print(table)
    left = [node.name for node in ring.plan.nodes if node.has_left]
    if left:
        output.print(
            f"Not started, since the cluster has gone on without: {', '.join(left)}"
            " (once its folder is deleted, a node joins afresh)"
        )
    first = ring.nodes[0]
    points = ",".join(dict.fromkeys(node.address for node in ring.nodes[:3]))
    output.print(f"\nContact points  {points}, port {first.cql_port}")
    connect = f"{cqlsh()} {first.address} {first.cql_port}"
    output.print(Text.assemble("Connect with    ", (connect, "bold")))
    look, stop = f"ouro status{option}", f"ouro down{option}"
    output.print(Text.assemble("Look at it with ", (look, "bold"), ", stop it with ", (stop, "bold")))


def cqlsh() -> str:
    """The command, as one would type it here."""
    beside = Path(sys.executable).with_name("cqlsh")
    if shutil.which("cqlsh") is None and beside.exists():
        return shown(beside)
    return "cqlsh"


def down(folder: Path, *, kill: bool, number: int | None) -> int:
    """Stop the ring of a folder, or one node of it; returns the exit code.

    Args:
        kill: with SIGKILL.
        number: of the node, from 1 on; None stops all.
    """
    output = console()
    try:
        ring = LocalRing.load(folder)
        laid_out = ring.plan.nodes
        if number is not None and not 0 < number <= len(laid_out):
            raise LayoutError(
                f"the ring in {shown(folder)} has nodes 1 to {len(laid_out)}, and no node {number}"
            )
        with ring.held():
            nodes = list(laid_out) if number is None else [laid_out[number - 1]]
            running = [node for node in nodes if ring.pid(node) is not None]
            with output.status("stopping") if output.is_terminal else _Silent():
                left = ring.stop(running, kill=kill, timeout_s=DOWN_SECONDS_MAX)
    except LayoutError as error:
        sys.stderr.write(f"ouro down: {error}\n")
        return 2
    if left:
        names = ", ".join(f"{node.name} (process {ring.pid(node)})" for node in left)
        sys.stderr.write(
            f"ouro down: after {DOWN_SECONDS_MAX:.0f} s these still run: {names}; end them with --kill\n"
        )
        return 1
    names = ", ".join(node.name for node in running)
    how = "killed" if kill else "stopped"
    output.print(f"{how} {names}" if names else "nothing ran")
    return 0
