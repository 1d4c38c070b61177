"""``ouro restore``: a snapshot becomes a node's data folder, or comes into a running cluster.

Into a cluster, the order is: every file is held against its manifest; the cluster is asked whether it could take the
keyspaces; every record is read once, which counts them and finds what damage checksums of files don't; then the
keyspaces are made; then the rows are sent. So whatever is wrong with a snapshot, or doesn't fit the cluster, is told
before anything is changed.

Several snapshots of one cluster are read side by side, as one. Where they differ in what tables there are, the newest
one counts: rows of a table that was dropped or truncated since don't come back.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ourodb import limits
from ourodb.cli.admin import AdminError, NoAnswerError, call, split
from ourodb.cli.console import console, size
from ourodb.cli.delivery import Batch, Courier, Delivery, RetryError
from ourodb.cli.local.layout import LayoutError, is_there, load
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.placement import Ring
from ourodb.config import expanded
from ourodb.cql.syntax import ast
from ourodb.cql.syntax.parser import parse
from ourodb.daemon import raise_file_limit
from ourodb.errors import OuroError, RequestError, StoreError
from ourodb.ports import NodeId
from ourodb.restoring import BringKeyspace, encode_keyspace, encode_rows, level_of
from ourodb.schema.model import Keyspace, Schema, Table
from ourodb.schema.names import is_system_keyspace, qualified
from ourodb.schema.restoration import definition_of
from ourodb.storage import snapshot
from ourodb.storage.keys import TableKeys, token_of, token_start
from ourodb.storage.snapshot import Manifest, SnapshotStore
from ourodb.storage.unload import Piece, merged, pieces, unshadowed

PATIENCE_S = 60.0
"""How long the cluster may take nothing before a restore gives up."""


RECORDS_PER_STEP = 10_000
"""Records that are read between two steps of the bar."""

TOKEN: Final = re.compile(r"-?[0-9]{1,19}")


class RestoreError(Exception):
    """One line for whoever restores."""


def into_folder(path: str, data: str) -> int:
    """Restore a snapshot into an empty data folder; returns the exit code."""
    source, target = expanded(path), expanded(data)
    try:
        manifest = snapshot.read_manifest(source)
        total = sum(entry.size for entry in manifest.files)
        with _progress() as bar:
            tasks = {what: bar.add_task(what, total=total, figures="") for what in ("checking", "copying")}
            snapshot.restore(source, target, lambda what, count: bar.advance(tasks[what], count))
            for task in tasks.values():
                bar.update(task, completed=total)
    except StoreError as error:
        sys.stderr.write(f"ouro restore: {error}\n")
        return 2
    console().print(f"restored {manifest.name} into {target}; start it with: ouro serve --data {target}")
    return 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What ``ouro restore --into`` was told.

    Attributes:
        into: HOST:PORT of admin APIs, or folders of rings that ``ouro up`` made.
        keyspaces: NAME or NAME=NEW; none: all of them.
        replication: a factor, or the map of CREATE KEYSPACE.
        add: keyspaces that are there from an earlier restore are added to.
        resume_at: KEYSPACE.TABLE:TOKEN, where an earlier restore ended.
        patience_s: how long nothing may arrive.
    """

    snapshots: Sequence[str]
    into: Sequence[str]
    keyspaces: Sequence[str] = ()
    replication: str | None = None
    consistency: str = "QUORUM"
    add: bool = False
    resume_at: str | None = None
    patience_s: float = PATIENCE_S
    as_json: bool = False


def into_cluster(asked: Asked) -> int:
    """Restore snapshots into a running cluster; returns the exit code."""
    raise_file_limit()
    try:
        with ExitStack() as open_stores:
            report = _Restore(asked, open_stores).run()
    except (RestoreError, AdminError, LayoutError, OuroError, OSError) as error:
        sys.stderr.write(f"ouro restore: {error}\n")
        return 2
    if asked.as_json:
        sys.stdout.write(json.dumps(report) + "\n")
        return 0
    out = console()
    for warning in report["warnings"]:
        out.print(f"! {warning}")
    names = ", ".join(report["keyspaces"]) or "no keyspace"
    read = f"{report['records']:,} records, {size(report['bytes'])}"
    out.print(f"restored {names}: sent {report['sent']:,} of {read}, in {report['seconds']:.1f} s")
    return 0


@dataclass(slots=True)
class _Source:
    """A snapshot that was checked."""

    path: Path
    manifest: Manifest
    schema: Schema
    store: SnapshotStore


@dataclass(slots=True)
class _TableWork:
    """A table whose rows are to be sent.

    Attributes:
        keyspace: as it is called in the cluster.
        sources: stores and the table's incarnation there.
        incarnation: in the cluster.
        rename_shards: see ``storage.unload``.
        start: bound of positions from which on.
        records, record_bytes: how many there are, and what they take.
    """

    keyspace: str
    table: Table
    sources: list[tuple[SnapshotStore, int]]
    incarnation: int = 0
    rename_shards: bool = False
    start: bytes = b""
    records: int = 0
    record_bytes: int = 0

    def scans(self) -> list[Iterator[tuple[bytes, bytes]]]:
        return [store.scan(incarnation, self.start) for store, incarnation in self.sources]

    @property
    def name(self) -> str:
        return qualified(self.keyspace, self.table.name)


@dataclass(slots=True)
class _Restore:
    """One run of ``ouro restore --into``."""

    asked: Asked
    open_stores: ExitStack
    warnings: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        began_s = time.monotonic()
        asked = self.asked
        level = level_of(asked.consistency)
        replication = parse_replication(asked.replication)
        resume_at = parse_place(asked.resume_at)
        addresses = _addresses(asked.into)
        with _progress() as bar:
            sources = self._open(bar)
            chosen = self._choose(sources)
            work = self._plan(sources, chosen)
            if resume_at is not None:
                work = _resumed(work, *resume_at)
            addresses, cluster = self._cluster(addresses)
            courier = Courier(addresses)
            self._bring(courier, chosen, replication, check_only=True)
            self._count(bar, work)
            created, incarnations = self._bring(courier, chosen, replication, check_only=False)
            for one in work:
                incarnation = incarnations[one.keyspace].get(one.table.name)
                if incarnation is None:
                    raise RestoreError(f"the table {one.name} was dropped just now")
                one.incarnation = incarnation
                one.rename_shards = one.table.is_counter and not (
                    one.incarnation == one.table.incarnation and _is_of(sources, cluster)
                )
            sent, retries = self._send(bar, addresses, level, work)
        report: dict[str, Any] = {
            "keyspaces": {
                target: {"from": keyspace.name, "created": created[target], "tables": {}}
                for target, keyspace in chosen.items()
            },
            "sent": sent,
            "records": sum(one.records for one in work),
            "bytes": sum(one.record_bytes for one in work),
            "seconds": round(time.monotonic() - began_s, 3),
            "retries": retries,
            "warnings": list(dict.fromkeys(self.warnings)),
        }
        for one in work:
            tables = report["keyspaces"][one.keyspace]["tables"]
            tables[one.table.name] = {"records": one.records, "bytes": one.record_bytes}
        return report

    # The snapshots

    def _open(self, bar: Progress) -> list[_Source]:
        """Hold every file of every snapshot against its manifest, then open them."""
        paths = [expanded(path) for path in self.asked.snapshots]
        manifests = [snapshot.read_manifest(path) for path in paths]
        first = manifests[0]
        for path, manifest in zip(paths, manifests, strict=True):
            if _cluster_of(manifest) != _cluster_of(first):
                raise RestoreError(
                    f"{paths[0]} and {path} are snapshots of different clusters; restore one after the other"
                )
        total = sum(entry.size for manifest in manifests for entry in manifest.files)
        task = bar.add_task("checking", total=total, figures="")
        for path, manifest in zip(paths, manifests, strict=True):
            snapshot.verify(path, manifest, lambda what, count: bar.advance(task, count))
        files_open_max = limits.OPEN_DATA_FILES_MAX // len(paths)
        return [
            _Source(
                path,
                manifest,
                snapshot.read_schema(path),
                self.open_stores.enter_context(SnapshotStore(path, files_open_max)),
            )
            for path, manifest in zip(paths, manifests, strict=True)
        ]

    def _choose(self, sources: Sequence[_Source]) -> dict[str, Keyspace]:
        """The keyspaces to restore, as the newest snapshot has them, by the name that each gets."""
        newest = max(sources, key=lambda source: source.schema.epoch)
        there = {
            name: keyspace
            for name, keyspace in newest.schema.keyspaces.items()
            if not is_system_keyspace(name)
        }
        if not self.asked.keyspaces:
            return dict(sorted(there.items()))
        chosen: dict[str, Keyspace] = {}
        for text in self.asked.keyspaces:
            name, equals, new = text.partition("=")
            target = new if equals else name
            if name not in there:
                names = ", ".join(sorted(there)) or "none"
                raise RestoreError(f"the snapshot has no keyspace {name}; it has {names}")
            if is_system_keyspace(target):
                raise RestoreError(f"keyspace {target} belongs to the system")
            if target in chosen:
                raise RestoreError(f"two keyspaces can't both be called {target}")
            chosen[target] = there[name]
        return dict(sorted(chosen.items()))

    def _plan(self, sources: Sequence[_Source], chosen: Mapping[str, Keyspace]) -> list[_TableWork]:
        """The tables in the order in which they are sent, and which snapshots have rows of each."""
        work = []
        for target, keyspace in chosen.items():
            self._warn_of_gaps(sources, keyspace)
            for name, table in sorted(keyspace.tables.items()):
                one = _TableWork(target, table, [])
                for source in sources:
                    older = source.schema.table(keyspace.name, name)
                    if older is None or older.id != table.id or older.incarnation != table.incarnation:
                        if older is not None:
                            self.warnings.append(
                                f"rows of {qualified(keyspace.name, name)} in {source.path} are left out: the table was"
                                " truncated or made anew since"
                            )
                        continue
                    one.sources.append((source.store, older.incarnation))
                work.append(one)
        return work

    def _warn_of_gaps(self, sources: Sequence[_Source], keyspace: Keyspace) -> None:
        """A snapshot has what its node held: of a ring, all nodes' may be needed."""
        members = [member for member in _members_of(sources) if member.tokens]
        if not members:
            return
        have = {str(source.manifest.facts.get("host_id")) for source in sources}
        nodes = {member.id for member in members if str(member.host_id) in have}
        placement = Ring(members).placement(keyspace.replication)
        missing = sum(
            one.share for one in placement.token_ranges() if not nodes.intersection(one.replicas.nodes)
        )
        if missing > 0:
            count = "one node" if len(nodes) == 1 else f"{len(nodes)} nodes"
            self.warnings.append(
                f"{missing:.0%} of the rows of keyspace {keyspace.name} aren't in what is restored: they were on other"
                f" nodes of the ring of {len(members)} than the {count} of which snapshots were given"
            )

    # The cluster

    def _cluster(self, addresses: Sequence[str]) -> tuple[list[str], Mapping[str, Any]]:
        """Those addresses at which a node answers, and what the first one says of the cluster.

        Raises:
            AdminError: nobody answers.
            RestoreError: they are of different clusters.
        """
        found: dict[str, Mapping[str, Any]] = {}
        failures = []
        for address in addresses:
            try:
                found[address] = call(address, "/status")
            except NoAnswerError as error:
                failures.append(error)
        if not found:
            raise failures[0]
        self.warnings += map(str, failures)
        first, *others = found
        for address in others:
            if found[address]["cluster_id"] != found[first]["cluster_id"]:
                raise RestoreError(f"{first} and {address} are nodes of different clusters")
        return [*found], found[first]

    def _bring(
        self,
        courier: Courier,
        chosen: Mapping[str, Keyspace],
        replication: dict[str, str] | None,
        *,
        check_only: bool,
    ) -> tuple[dict[str, bool], dict[str, dict[str, int]]]:
        """Have the keyspaces made, or ask whether they could be; created or not, and incarnations by table."""
        created, incarnations = {}, {}
        asked = self.asked
        for target, keyspace in chosen.items():
            body = BringKeyspace(
                definition_of(keyspace, target),
                asked.consistency,
                replication,
                add=asked.add or asked.resume_at is not None,
                check_only=check_only,
            )
            try:
                answer = courier.send("/restore/keyspace", encode_keyspace(body))
            except RetryError as error:
                raise RestoreError(str(error)) from error
            if check_only and asked.resume_at is not None and not answer["exists"]:
                raise RestoreError(
                    f"--resume-at: the cluster has no keyspace {target}, so what came before that place isn't there;"
                    " restore from the beginning"
                )
            created[target] = answer["created"]
            incarnations[target] = answer["incarnations"]
            self.warnings += answer["warnings"]
        return created, incarnations

    # The rows

    def _count(self, bar: Progress, work: Sequence[_TableWork]) -> None:
        task = bar.add_task("reading", total=None, figures="")
        for one in work:
            for scan in one.scans():
                for key, record in scan:
                    one.records += 1
                    one.record_bytes += len(key) + len(record)
                    if not one.records % RECORDS_PER_STEP:
                        bar.update(task, completed=sum(other.record_bytes for other in work))
        total = sum(one.record_bytes for one in work)
        bar.update(task, total=total, completed=total)

    def _send(
        self, bar: Progress, addresses: Sequence[str], level: int, work: Sequence[_TableWork]
    ) -> tuple[int, int]:
        """Send all rows; returns how many records that made, and how many batches were sent again.

        Fewer records than were read: copies of one are merged, and what is deleted isn't sent.
        """
        sent = 0
        # Where to go on if all that was put in has arrived, but there is more to read.
        place = self.asked.resume_at
        figures = _Figures(bar, work)
        delivery = Delivery(addresses, "/restore/rows", figures.add, patience_s=self.asked.patience_s)
        try:
            for batch in batches(work, level):
                place = batch.place
                delivery.put(batch)
                sent += batch.written
            delivery.finish()
        except KeyboardInterrupt:
            raise RestoreError(f"interrupted{_how_to_go_on(delivery.resume_at or place)}") from None
        except (AdminError, OuroError) as error:
            raise RestoreError(f"{error}{_how_to_go_on(delivery.resume_at or place)}") from error
        finally:
            delivery.stop()
        return sent, delivery.retries


class _Figures:
    """The bar of rows that have arrived."""

    def __init__(self, bar: Progress, work: Sequence[_TableWork]) -> None:
        self._bar = bar
        self._total = sum(one.records for one in work)
        self._records = 0
        self._lock = threading.Lock()
        total_bytes = sum(one.record_bytes for one in work)
        self._task: TaskID = bar.add_task("sending", total=total_bytes, figures=self._text())

    def add(self, batch: Batch) -> None:
        """Called on any thread."""
        with self._lock:
            self._records += batch.records
            self._bar.update(self._task, advance=batch.bytes, figures=self._text())

    def _text(self) -> str:
        return f"{self._records:,} of {self._total:,} records"


def batches(work: Sequence[_TableWork], level: int) -> Iterator[Batch]:
    """The rows as bodies for the nodes."""
    gathered: list[Piece] = []
    encoded: list[bytes] = []
    size = 0
    place = ""
    for one in work:
        records = unshadowed(merged(one.scans()), TableKeys(one.table))
        counted_in = one.table.incarnation if one.rename_shards else None
        for piece in pieces(records, one.incarnation, counted_in=counted_in):
            body = piece.mutation.encode() if piece.mutation.writes else b""
            if gathered and size + len(body) > limits.RESTORE_BATCH_BYTES:
                yield _batch(level, encoded, place, gathered)
                gathered, encoded, size = [], [], 0
            if not gathered:
                place = f"{one.keyspace}.{one.table.name}:{token_of(piece.mutation.position)}"
            gathered.append(piece)
            encoded.append(body)
            size += len(body)
    if gathered:
        yield _batch(level, encoded, place, gathered)


def _batch(level: int, encoded: list[bytes], place: str, gathered: list[Piece]) -> Batch:
    body = encode_rows(level, encoded)
    return Batch(
        body,
        place,
        records=sum(one.records for one in gathered),
        bytes=sum(one.bytes for one in gathered),
        written=sum(len(one.mutation.writes) for one in gathered),
    )


def _how_to_go_on(place: str | None) -> str:
    return "" if place is None else f"; go on from there with the same command and --resume-at {place}"


def _resumed(work: Sequence[_TableWork], keyspace: str, table: str, token: int) -> list[_TableWork]:
    """What is left from a place on."""
    for index, one in enumerate(work):
        if (one.keyspace, one.table.name) == (keyspace, table):
            one.start = token_start(token)
            return list(work[index:])
    raise RestoreError(f"--resume-at: what is restored has no table {keyspace}.{table}")


def parse_place(text: str | None) -> tuple[str, str, int] | None:
    """Keyspace, table and token of ``KEYSPACE.TABLE:TOKEN``.

    Raises:
        RestoreError: it isn't that.
    """
    if text is None:
        return None
    names, _, token = text.rpartition(":")
    keyspace, _, table = names.partition(".")
    if not keyspace or not table or not TOKEN.fullmatch(token) or not -1 << 63 <= int(token) < 1 << 63:
        raise RestoreError(f"--resume-at {text} isn't KEYSPACE.TABLE:TOKEN")
    return keyspace, table, int(token)


def parse_replication(text: str | None) -> dict[str, str] | None:
    """The map of CREATE KEYSPACE; a plain number is SimpleStrategy's factor.

    Raises:
        RestoreError: it isn't one.
    """
    if text is None:
        return None
    if text.isdecimal():
        return {"class": "SimpleStrategy", "replication_factor": text}
    try:
        statement = parse(f"CREATE KEYSPACE k WITH replication = {text}")
    except RequestError as error:
        raise RestoreError(f"--replication {text} isn't a map of CREATE KEYSPACE: {error}") from error
    properties = statement.properties if isinstance(statement, ast.CreateKeyspace) else {}
    found = properties.get("replication")
    if not isinstance(found, dict) or len(properties) > 1:
        raise RestoreError(f"--replication {text} isn't a map of CREATE KEYSPACE")
    return found


def _addresses(into: Sequence[str]) -> list[str]:
    """Admin addresses; a folder of a ring stands for all its nodes."""
    found = []
    for text in into:
        folder = expanded(text)
        if is_there(folder):
            found += [node.admin for node in load(folder).members]
        else:
            split(text)
            found.append(text)
    return list(dict.fromkeys(found))


def _cluster_of(manifest: Manifest) -> object:
    return manifest.facts.get("cluster_id") or manifest.facts.get("cluster_name")


def _is_of(sources: Sequence[_Source], cluster: Mapping[str, Any]) -> bool:
    """Whether the snapshots were made in this very cluster."""
    facts = sources[0].manifest.facts
    known = facts.get("cluster_id")
    if known is None:
        return facts.get("host_id") in [member["host_id"] for member in cluster["members"]]
    return bool(known == cluster["cluster_id"])


def _members_of(sources: Sequence[_Source]) -> list[Member]:
    """The ring as the newest snapshot knew it; empty where it didn't say."""
    newest = max(sources, key=lambda source: source.manifest.created_us)
    return [
        Member(
            NodeId(number),
            UUID(one["host_id"]),
            ("", 0),
            ("", 0),
            one["data_center"],
            one["rack"],
            one["host"],
            tuple(one["tokens"]),
        )
        for number, one in enumerate(newest.manifest.facts.get("members", ()), 1)
    ]


def _progress() -> Progress:
    """On a terminal only: what isn't one gets the result, or one line of error."""
    shown = console(sys.stderr)
    return Progress(
        TextColumn("{task.description:>9}"),
        BarColumn(30),
        TaskProgressColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=shown,
        disable=not shown.is_terminal,
    )
