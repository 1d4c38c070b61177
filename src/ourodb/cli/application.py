"""The commands of ``ouro`` other than ``serve``: what they are called and what they take.

Each command imports what it needs when it runs, so that one command's libraries don't slow down another.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

application = typer.Typer(
    name="ouro",
    help="OuroDB, a distributed database that speaks CQL. `ouro serve` starts a node (`ouro serve --help`).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


Admin = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="Admin address of the node to ask.", show_default="127.0.0.1:7070"
    ),
]
Data = Annotated[
    str | None, typer.Option(metavar="DIR", help="Ask a node of the ring that `ouro up` made there.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]
Folder = Annotated[str, typer.Option(metavar="DIR", help="Folder of the ring.")]


@application.command()
def up(
    serve_options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- OPTION...]", help="Options for every node's `ouro serve`, after --."),
    ] = None,
    nodes: Annotated[int | None, typer.Option(help="How many.", show_default="3")] = None,
    data: Folder = "ouro-ring",
    dcs: Annotated[
        int | None, typer.Option(help="Data centres to spread them over.", show_default="1")
    ] = None,
    racks: Annotated[int | None, typer.Option(help="Racks in each data centre.", show_default="1")] = None,
    cql_port: Annotated[int | None, typer.Option(help="For clients.", show_default="9042")] = None,
    peer_port: Annotated[int | None, typer.Option(help="For the other nodes.", show_default="7000")] = None,
    admin_port: Annotated[
        int | None, typer.Option(help="For the admin API and metrics.", show_default="7070")
    ] = None,
) -> None:
    """Start a ring on this machine, in the background: nodes on 127.0.0.1, 127.0.0.2, ...

    The folder keeps the ring: run again, the command starts those of its nodes that don't run.
    """
    from ourodb.cli.up import Asked
    from ourodb.cli.up import up as bring_up

    asked = Asked(nodes, dcs, racks, cql_port, peer_port, admin_port, tuple(serve_options or ()))
    raise typer.Exit(bring_up(Path(data), asked))


@application.command()
def down(
    data: Folder = "ouro-ring",
    node: Annotated[int | None, typer.Option(help="Only this one: 1, 2, ...")] = None,
    kill: Annotated[bool, typer.Option("--kill", help="At once, with SIGKILL.")] = False,
) -> None:
    """Stop a ring that `ouro up` started, or one of its nodes."""
    from ourodb.cli.up import down as bring_down

    raise typer.Exit(bring_down(Path(data), kill=kill, number=node))


def _asking(admin: str | None, data: str | None, command: Callable[[list[str]], int]) -> None:
    """Run a command that asks a node, and end with its exit code; what is wrong takes one line."""
    from ourodb.cli.admin import AdminError, candidates

    try:
        code = command(list(candidates(admin, data)))
    except AdminError as error:
        sys.stderr.write(f"ouro: {error}\n")
        code = 2
    raise typer.Exit(code)


@application.command()
def status(
    keyspace: Annotated[str | None, typer.Argument(help="Show how much of its rows each node has.")] = None,
    admin: Admin = None,
    data: Data = None,
    json: AsJson = False,
) -> None:
    """Show the nodes of the ring, and what needs attention."""
    from ourodb.cli.status import status as show

    _asking(admin, data, lambda addresses: show(addresses, keyspace, as_json=json))


@application.command(context_settings={"ignore_unknown_options": True})
def ring(
    keyspace: Annotated[str | None, typer.Argument(help="Whose replicas to show.")] = None,
    table: Annotated[str | None, typer.Argument(help="Table of the key.")] = None,
    key: Annotated[
        list[str] | None, typer.Argument(help="Where this key is, and why: each column of the partition key.")
    ] = None,
    admin: Admin = None,
    data: Data = None,
    json: AsJson = False,
) -> None:
    """Show which nodes hold which token ranges, or one key."""
    from ourodb.cli.ring import ring as show

    _asking(admin, data, lambda addresses: show(addresses, keyspace, table, key or (), as_json=json))


@application.command()
def gossip(admin: Admin = None, data: Data = None, json: AsJson = False) -> None:
    """Show what a node has heard of the others."""
    from ourodb.cli.gossip import gossip as show

    _asking(admin, data, lambda addresses: show(addresses, as_json=json))


Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is over.")]


@application.command()
def decommission(
    node: Annotated[
        int | None, typer.Argument(help="Its number; the one that is asked if none is given.")
    ] = None,
    admin: Admin = None,
    data: Data = None,
    wait: Wait = True,
    json: AsJson = False,
) -> None:
    """Have a node give its rows to others, and leave the cluster."""
    from ourodb.cli.leaving import leave

    _asking(admin, data, lambda addresses: leave(addresses, node, is_dead=False, wait=wait, as_json=json))


@application.command()
def remove(
    node: Annotated[int, typer.Argument(help="The number of a node that is down.")],
    force: Annotated[
        bool, typer.Option("--force", help="Even if it has the only copies of some rows; they are lost.")
    ] = False,
    admin: Admin = None,
    data: Data = None,
    wait: Wait = True,
    json: AsJson = False,
) -> None:
    """Remove a node that is gone for good; its rows are copied from the replicas that remain."""
    from ourodb.cli.leaving import leave

    _asking(
        admin,
        data,
        lambda addresses: leave(addresses, node, is_dead=True, wait=wait, as_json=json, is_forced=force),
    )


@application.command()
def heal(
    pause: Annotated[
        bool, typer.Option("--pause", help="Leave dead nodes alone until further notice.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on.")] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Give up those that are down now, even if all of a rack is.")
    ] = False,
    admin: Admin = None,
    data: Data = None,
    wait: Wait = True,
    json: AsJson = False,
) -> None:
    """Show what becomes of nodes that are down, or say what is to become of them."""
    from ourodb.cli.healing import heal as show

    asked = [name for name, is_asked in (("pause", pause), ("resume", resume), ("now", now)) if is_asked]
    if len(asked) > 1:
        print("ouro heal: one of --pause, --resume and --now", file=sys.stderr)
        raise typer.Exit(2)
    _asking(
        admin, data, lambda addresses: show(addresses, asked[0] if asked else None, wait=wait, as_json=json)
    )


@application.command()
def rebalance(admin: Admin = None, data: Data = None, wait: Wait = True, json: AsJson = False) -> None:
    """Give as few nodes as will do other tokens, so that all own equal shares."""
    from ourodb.cli.operations import rebalance as even

    _asking(admin, data, lambda addresses: even(addresses, wait=wait, as_json=json))


@application.command()
def operations(admin: Admin = None, data: Data = None, json: AsJson = False) -> None:
    """Show how rows change hands: what is under way, and what has ended."""
    from ourodb.cli.operations import operations as show

    _asking(admin, data, lambda addresses: show(addresses, as_json=json))


metadata_commands = typer.Typer(help="Show who decides on schema and members, and what was decided last.")
application.add_typer(metadata_commands, name="metadata", invoke_without_command=True)


@metadata_commands.callback()
def metadata(context: typer.Context, admin: Admin = None, data: Data = None, json: AsJson = False) -> None:
    """Show who decides on schema and members, and what was decided last."""
    if context.invoked_subcommand is not None:
        context.obj = (admin, data, json)
        return
    from ourodb.cli.metadata import metadata as show

    _asking(admin, data, lambda addresses: show(addresses, as_json=json))


@metadata_commands.command()
def recover(
    context: typer.Context,
    admin: Admin = None,
    data: Data = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    json: AsJson = False,
) -> None:
    """Give up a majority of voters that is lost for good: the node that is asked decides alone from then on."""
    from ourodb.cli.metadata import recover as give_up

    # What stands before the subcommand counts as well.
    outer_admin, outer_data, outer_json = context.obj
    admin, data, json = admin or outer_admin, data or outer_data, json or outer_json
    _asking(admin, data, lambda addresses: give_up(addresses, yes=yes, as_json=json))


class Workload(enum.StrEnum):
    """Names of the load generator's workloads."""

    KV = "kv"
    WIDE = "wide"
    RANGE = "range"


class Distribution(enum.StrEnum):
    """Names of the load generator's key distributions."""

    UNIFORM = "uniform"
    ZIPF = "zipf"


class Compression(enum.StrEnum):
    """Names of the load generator's compressions."""

    NONE = "none"
    LZ4 = "lz4"


@application.command()
def bench(
    workload: Annotated[
        Workload,
        typer.Argument(
            help="kv: rows by key. wide: rows of wide partitions. range: slices of wide partitions."
        ),
    ] = Workload.KV,
    hosts: Annotated[
        str, typer.Option(help="Where the servers are: host[:port],... Connections are spread over them.")
    ] = "127.0.0.1:9042",
    keys: Annotated[int, typer.Option(help="Rows that the table holds.")] = 100_000,
    distribution: Annotated[Distribution, typer.Option(help="How keys are drawn.")] = Distribution.UNIFORM,
    zipf_exponent: Annotated[float, typer.Option(help="Skew of --distribution zipf.")] = 0.99,
    rows_per_partition: Annotated[int, typer.Option(help="Rows of a wide partition.")] = 1_000,
    slice_rows: Annotated[int, typer.Option("--slice", help="Rows that a range read returns.")] = 100,
    row_size: Annotated[int, typer.Option(help="Bytes of a row's value columns together.")] = 128,
    columns: Annotated[int, typer.Option(help="Value columns of a row.")] = 1,
    reads: Annotated[float, typer.Option(help="Share of requests that read, 0 to 1.")] = 0.5,
    rate: Annotated[float, typer.Option(help="Requests a second in all; 0: as fast as possible.")] = 0.0,
    duration: Annotated[
        float | None, typer.Option(help="Seconds to measure; 30, unless --operations says when to stop.")
    ] = None,
    operations: Annotated[int, typer.Option(help="Requests to measure; 0: until the duration is over.")] = 0,
    warm_up: Annotated[float, typer.Option(help="Seconds before the measurement that aren't counted.")] = 5.0,
    preload: Annotated[bool, typer.Option(help="Insert every key once before measuring.")] = True,
    processes: Annotated[int, typer.Option(help="Client processes; one keeps a core busy.")] = 1,
    connections: Annotated[int, typer.Option(help="Connections of each process.")] = 4,
    in_flight: Annotated[int, typer.Option(help="Requests in flight on each connection.")] = 128,
    protocol: Annotated[int, typer.Option(help="Version of the native protocol: 3, 4 or 5.")] = 5,
    compression: Annotated[
        Compression, typer.Option(help="Compression of the connection.")
    ] = Compression.NONE,
    consistency: Annotated[str, typer.Option(help="Consistency level of all requests.")] = "ONE",
    keyspace: Annotated[str, typer.Option(help="Keyspace; made when it doesn't exist.")] = "ouro_bench",
    replication: Annotated[
        str,
        typer.Option(help="Replication of a new keyspace: a factor, or the whole map of CREATE KEYSPACE."),
    ] = "1",
    drop: Annotated[bool, typer.Option("--drop", help="Drop the keyspace first.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check that reads return what was written.")
    ] = False,
    user: Annotated[str, typer.Option(help="User, where the server asks for one.")] = "",
    password: Annotated[str, typer.Option(envvar="OURO_BENCH_PASSWORD", help="The user's password.")] = "",
    seed: Annotated[int, typer.Option(help="Same seed, same keys and values.")] = 1,
    timeout: Annotated[float, typer.Option(help="Seconds without any answer after which to give up.")] = 10.0,
    json: Annotated[str, typer.Option(help="File for the report as JSON; - for standard output.")] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Put load on a CQL server, Cassandra included, and measure throughput and latency."""
    from ourodb.bench.options import BenchError, Options
    from ourodb.cli.bench import bench as run_bench
    from ourodb.cli.bench import parse_hosts, parse_replication

    try:
        options = Options(
            workload=workload.value,
            hosts=parse_hosts(hosts),
            keys=keys,
            distribution=distribution.value,
            zipf_exponent=zipf_exponent,
            rows_per_partition=rows_per_partition,
            slice_rows=slice_rows,
            row_bytes=row_size,
            columns=columns,
            reads=reads,
            rate=rate,
            duration_s=(0.0 if operations else 30.0) if duration is None else duration,
            operations=operations,
            warm_up_s=warm_up,
            preload=preload,
            processes=processes,
            connections=connections,
            in_flight=in_flight,
            protocol=protocol,
            compression=compression.value,
            consistency=consistency.upper(),
            keyspace=keyspace,
            replication=parse_replication(replication),
            drop=drop,
            verify=verify,
            user=user,
            password=password,
            seed=seed,
            timeout_s=timeout,
        )
        options.check()
    except BenchError as error:
        print(f"ouro bench: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    raise typer.Exit(run_bench(options, json, quiet))


@application.command()
def snapshot(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    admin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Admin address of the node; given several times, of each.",
            show_default="127.0.0.1:7070",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Ask every node of the ring that `ouro up` made there.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Copy what a running node holds now into its data folder's `snapshots`; of a ring, of every node."""
    from ourodb.cli.admin import DEFAULT_ADMIN
    from ourodb.cli.snapshot import make, make_all

    named = admin or ([] if data is not None else [DEFAULT_ADMIN])
    if data is None and len(named) == 1:
        _asking(named[0], None, lambda addresses: make(addresses, name, as_json=json))
    else:
        _asking(
            named[0] if data is None else None,
            data,
            lambda ring: make_all(list(dict.fromkeys([*named, *ring])), name, as_json=json),
        )


@application.command()
def snapshots(
    admin: Annotated[str, typer.Option(help="The node's admin address.")] = "127.0.0.1:7070",
    json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """List a running node's snapshots."""
    from ourodb.cli.snapshot import show

    _asking(admin, None, lambda addresses: show(addresses, as_json=json))


@application.command()
def restore(
    snapshots: Annotated[
        list[str],
        typer.Argument(metavar="SNAPSHOT...", help="Folder of the snapshot; of each node's, into a cluster."),
    ],
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Empty folder that becomes the data of the same node.")
    ] = None,
    into: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Admin address of a node of a running cluster, or the folder of a ring that `ouro up` made; given"
            " several times, all of them do the work.",
        ),
    ] = None,
    keyspace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=NEW]", help="Only this keyspace, or under another name. May be repeated."
        ),
    ] = None,
    replication: Annotated[
        str | None,
        typer.Option(help="Instead of the keyspaces' own: a factor, or the map of CREATE KEYSPACE."),
    ] = None,
    consistency: Annotated[str, typer.Option(help="Level at which rows are written.")] = "QUORUM",
    merge: Annotated[
        bool, typer.Option("--merge", help="Add to keyspaces that an earlier restore has made.")
    ] = False,
    resume_at: Annotated[
        str | None,
        typer.Option(
            metavar="KEYSPACE.TABLE:TOKEN", help="Go on where an earlier restore says that it ended."
        ),
    ] = None,
    patience: Annotated[
        float, typer.Option(help="Seconds for which the cluster may take nothing before this gives up.")
    ] = 60.0,
    json: AsJson = False,
) -> None:
    """Bring snapshots back: one into an empty data folder, or any into a running cluster of any shape.

    Into a cluster, rows keep their timestamps and TTLs: sending them again changes nothing, so a restore that was
    interrupted can be repeated with --merge, or resumed.
    """
    from ourodb.cli.restore import Asked, into_cluster, into_folder

    if (data is None) == (not into):
        print("ouro restore: say where to, with --data DIR or with --into HOST:PORT", file=sys.stderr)
        raise typer.Exit(2)
    if data is not None:
        if len(snapshots) > 1:
            print("ouro restore: one data folder takes one snapshot", file=sys.stderr)
            raise typer.Exit(2)
        raise typer.Exit(into_folder(snapshots[0], data))
    asked = Asked(
        snapshots,
        into or [],
        keyspace or (),
        replication,
        consistency,
        add=merge,
        resume_at=resume_at,
        patience_s=patience,
        as_json=json,
    )
    raise typer.Exit(into_cluster(asked))
