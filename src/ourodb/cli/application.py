"""The commands of ``ouro`` other than ``serve``: what they are called and what they take.

Each command imports what it needs when it runs, so that one command's libraries don't slow down another.
"""

from __future__ import annotations

import enum
import sys
from typing import Annotated

import typer

application = typer.Typer(
    name="ouro",
    help="OuroDB, a distributed database that speaks CQL. `ouro serve` starts a node (`ouro serve --help`).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@application.callback()
def _about() -> None:
    """A callback, so that commands are named even while there is only one."""


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
    admin: Annotated[str, typer.Option(help="The node's admin address.")] = "127.0.0.1:7070",
    json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """Copy a running node's data as they are now, into its data folder's `snapshots`."""
    from ourodb.cli.snapshot import make

    sys.exit(make(name, admin, as_json=json))


@application.command()
def snapshots(
    admin: Annotated[str, typer.Option(help="The node's admin address.")] = "127.0.0.1:7070",
    json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """List a running node's snapshots."""
    from ourodb.cli.snapshot import show

    sys.exit(show(admin, as_json=json))


@application.command()
def restore(
    path: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="Folder of the snapshot.")],
    data: Annotated[str, typer.Option(help="Empty folder that becomes the node's data.")],
) -> None:
    """Check a snapshot and put it into an empty data folder, from which `ouro serve --data` starts."""
    from ourodb.cli.snapshot import bring_back

    sys.exit(bring_back(path, data))
