"""The node's side of ``ouro restore --into``: a snapshot comes into a running cluster, of whatever shape.

First each keyspace (``bring_keyspace``): a change of the schema like any other, checked like CREATE KEYSPACE; the
answer says which incarnations its tables have here. Then their rows (``write_rows``), in batches of mutations that the
sender addressed to these incarnations. This node coordinates each mutation at the consistency level asked for through
the ordinary path of writes, so that hints, timeouts and refusals are those of any write; what couldn't be read
afterwards is refused before (``storage.arrival``).

Rows keep their timestamps, so a batch may come twice, or late: merging it again changes nothing. What fails is told
with whether trying again makes sense. A node gives restoring a bounded part of itself: so many mutations in flight, and
so many bytes in one pass of its loop, between which clients and peers are heard.

Bodies are msgpack for a keyspace (``BringKeyspace``), and for rows ``u8 format = 1 | u8 consistency level | u32 CRC-32
of what follows | mutations``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from ourodb import limits
from ourodb.cluster.metadata.commands import PROPOSAL_ID_BYTES, ChangeSchema, Proposal, encode_proposal
from ourodb.cluster.metadata.evolution import check_change
from ourodb.cluster.metadata.metadata import Metadata
from ourodb.cluster.metadata.submissions import Applied
from ourodb.cluster.metadata.view import ClusterView
from ourodb.cql.analysis.ddl_keyspaces import create_keyspace
from ourodb.cql.syntax import ast
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import (
    AlreadyExists,
    InvalidRequest,
    OuroError,
    Overloaded,
    RequestError,
    StoreDamaged,
    Unavailable,
    WriteFailure,
)
from ourodb.ports import Clock, Scheduler
from ourodb.replication.coordinator.coordinator import Coordinator
from ourodb.replication.peers import Peers
from ourodb.replication.routes import KeyspaceRoutes
from ourodb.schema.changes import CreateKeyspace, RestoreKeyspace, encode_change
from ourodb.schema.model import Keyspace, Replication, frozen_map
from ourodb.schema.names import is_system_keyspace
from ourodb.schema.restoration import check_same, definition_of, keyspace_of
from ourodb.storage.apply import UnknownIncarnation
from ourodb.storage.arrival import arriving
from ourodb.storage.mutation import Mutation, decode_mutation
from ourodb.storage.record import CorruptRecord
from ourodb.storage.rows import Rows, TableRows

MICROS = 1_000_000

ROWS_FORMAT: Final = 1
_HEAD = struct.Struct(">BBI")

Outcome = dict[str, Any] | OuroError
Done = Callable[[Outcome], None]
"""What is called, exactly once, with the answer, or with why there is none."""


class BringKeyspace(msgspec.Struct, frozen=True):
    """The body by which a keyspace is asked for.

    Attributes:
        definition: see ``schema.restoration``.
        consistency: name of the level at which its rows will come.
        replication: instead of its own, ``class`` included.
        add: it exists already, from an earlier restore; its rows are to be added to.
        check_only: don't make it, only say whether it could be.
    """

    definition: bytes
    consistency: str
    replication: dict[str, str] | None = None
    add: bool = False
    check_only: bool = False


_decode_keyspace = msgspec.msgpack.Decoder(BringKeyspace).decode
encode_keyspace = msgspec.msgpack.Encoder().encode


def encode_rows(level: int, mutations: Iterable[bytes]) -> bytes:
    """The body by which rows are sent.

    Args:
        level: wire code.
        mutations: encoded.
    """
    content = b"".join(mutations)
    return _HEAD.pack(ROWS_FORMAT, level, zlib.crc32(content)) + content


def level_of(name: str) -> int:
    """The wire code of a consistency level.

    Raises:
        InvalidRequest: there is none of that name.
    """
    try:
        return Consistency[name.upper()]
    except KeyError:
        raise InvalidRequest(f"'{name}' is no consistency level") from None


class Restoring:
    """Restores of one node."""

    def __init__(
        self,
        metadata: Metadata,
        rows: Rows,
        coordinator: Coordinator,
        peers: Peers,
        clock: Clock,
        scheduler: Scheduler,
    ) -> None:
        self._metadata = metadata
        self._rows = rows
        self._coordinator = coordinator
        self._peers = peers
        self._clock = clock
        self._scheduler = scheduler
        self._waiting: dict[int, Done] = {}
        self._number = 0
        self._stopped = False

    def stop(self) -> None:
        """The node stops: whoever waits is told to go elsewhere."""
        self._stopped = True
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            done(Overloaded("this node is stopping"))

    # Keyspaces

    def bring_keyspace(self, body: bytes, done: Done) -> None:
        """Make a keyspace with its types and tables, or find it there.

        ``done`` hears ``created`` (bool), ``incarnations`` by table, and ``warnings``; unless it was made just now,
        also ``exists`` (bool).
        """
        done = self._awaited(done)
        try:
            asked = _decode_keyspace(body)
            keyspace, warnings = self._as_here(keyspace_of(asked.definition), asked)
            self._check_level(keyspace, level_of(asked.consistency))
        except (msgspec.DecodeError, StoreDamaged) as error:
            done(InvalidRequest(f"the keyspace can't be read: {error}"))
            return
        except OuroError as error:
            done(error)
            return
        exists = keyspace.name in self._metadata.view.schema.keyspaces
        if asked.check_only or exists:
            done({**_answer(keyspace, created=False, warnings=warnings), "exists": exists})
            return

        def submitted(outcome: Applied | OuroError) -> None:
            if isinstance(outcome, OuroError):
                done(outcome)
                return
            created = outcome.view.schema.keyspaces.get(keyspace.name)
            if created is None:
                done(InvalidRequest(f"keyspace {keyspace.name} was dropped as soon as it was made"))
                return
            done(_answer(created, created=True, warnings=[*warnings, *outcome.warnings]))

        self._metadata.submit(RestoreKeyspace(keyspace.name, definition_of(keyspace)), submitted)

    def _as_here(self, keyspace: Keyspace, asked: BringKeyspace) -> tuple[Keyspace, list[str]]:
        """The keyspace as it is here, or would be, and warnings.

        Raises:
            RequestError: it can't be.
        """
        view = self._metadata.view
        if is_system_keyspace(keyspace.name):
            raise InvalidRequest(f"keyspace {keyspace.name} belongs to the system")
        present = view.schema.keyspaces.get(keyspace.name)
        if present is None:
            replication, warnings = resolved_replication(keyspace, asked.replication, view)
            made = replace(keyspace, replication=replication)
            self._check_made(made)
            return made, warnings
        if not asked.add:
            raise AlreadyExists(
                keyspace.name,
                message=f"the cluster has a keyspace {keyspace.name}; drop it, or restore under another name with"
                f" --keyspace {keyspace.name}=NEW, or, if an earlier restore made it, add to it with --merge",
            )
        check_same(present, keyspace)
        if asked.replication is None:
            return present, []
        return present, [f"keyspace {keyspace.name} exists; its replication stays as it is"]

    def _check_made(self, keyspace: Keyspace) -> None:
        """Raises what making the keyspace would, so that a restore which can't end doesn't begin."""
        view = self._metadata.view
        change = RestoreKeyspace(keyspace.name, definition_of(keyspace))
        check_change(view, change)
        proposal = Proposal(bytes(PROPOSAL_ID_BYTES), view.epoch, ChangeSchema(encode_change(change)))
        size = len(encode_proposal(proposal))
        if size > limits.RAFT_ENTRY_BYTES_MAX:
            raise InvalidRequest(f"keyspace {keyspace.name}: a definition of {size} bytes is too large")

    def _check_level(self, keyspace: Keyspace, level: int) -> None:
        """Raises what a write of any of the keyspace's partitions would now."""
        view = self._metadata.view
        placement, after = view.placements(keyspace)
        here = view.members[self._peers.me].data_center
        routes = KeyspaceRoutes(keyspace, placement, self._peers, here, lambda node: 0.0, after)
        try:
            for route in routes.all():
                route.write_need(level)
        except Unavailable as error:
            raise InvalidRequest(
                f"keyspace {keyspace.name}: {error.message}, {error.alive} of {error.required} replicas are up; start"
                " the others, or restore with another --consistency or --replication"
            ) from error

    # Rows

    def write_rows(self, body: bytes, done: Done) -> None:
        """Write a batch of mutations; ``done`` hears how many, once all are acknowledged."""
        done = self._awaited(done)
        if len(body) < _HEAD.size or body[0] != ROWS_FORMAT:
            done(InvalidRequest("the body isn't a batch of rows that this version of OuroDB reads"))
            return
        _, level, checksum = _HEAD.unpack_from(body)
        if zlib.crc32(memoryview(body)[_HEAD.size :]) != checksum:
            done(InvalidRequest("the batch was damaged on its way"))
            return
        _Batch(self, body, level, done).step()

    def rows_of(self, mutation: Mutation) -> TableRows:
        """The rows of the table that a mutation is for.

        Raises:
            Overloaded: this node doesn't know its table yet.
            InvalidRequest: the table is gone, or belongs to the system.
        """
        try:
            rows = self._rows.known(mutation.incarnation)
        except UnknownIncarnation:
            if mutation.incarnation >= self._metadata.view.schema.next_incarnation:
                raise Overloaded("this node hasn't heard of the table yet") from None
            raise InvalidRequest(
                "a table was dropped or truncated while its rows were being restored"
            ) from None
        if is_system_keyspace(rows.table.keyspace):
            raise InvalidRequest(f"keyspace {rows.table.keyspace} belongs to the system")
        return rows

    def write(self, mutation: Mutation, level: int, done: Callable[[RequestError | None], None]) -> None:
        """Coordinate one mutation; raises as ``Coordinator.write``, ``rows_of`` and ``arriving``."""

        def written(error: RequestError | None) -> None:
            # A replica that has too much to do may refuse what others took; rows of a snapshot may be sent again.
            done(Overloaded(error.message) if isinstance(error, WriteFailure) else error)

        rows, now_s = self.rows_of(mutation), self._clock.wall_us() // MICROS
        arrived = arriving(mutation, rows, now_s)
        self._coordinator.write(rows.table.keyspace, arrived, level, now_s, written)

    def soon(self, callback: Callable[[], None]) -> None:
        """Run after others had their turn."""
        self._scheduler.soon(callback)

    def _awaited(self, done: Done) -> Done:
        """``done``, which ``stop`` calls if nobody did.

        Raises:
            Overloaded: it has been called.
        """
        if self._stopped:
            raise Overloaded("this node is stopping")
        self._number += 1
        number = self._number
        self._waiting[number] = done

        def once(outcome: Outcome) -> None:
            if self._waiting.pop(number, None) is not None:
                done(outcome)

        return once


class _Batch:
    """The mutations of one body on their way."""

    __slots__ = (
        "_body",
        "_count",
        "_done",
        "_failure",
        "_in_flight",
        "_is_due",
        "_level",
        "_offset",
        "_restoring",
    )

    def __init__(self, restoring: Restoring, body: bytes, level: int, done: Done) -> None:
        self._restoring = restoring
        self._body = body
        self._level = level
        self._done = done
        self._offset = _HEAD.size
        self._count = 0
        self._in_flight = 0
        self._failure: RequestError | None = None
        self._is_due = False

    def step(self) -> None:
        """Send as much as one pass of the loop may."""
        self._is_due = False
        end = self._offset + limits.RESTORE_PASS_BYTES
        while self._may_send and self._offset < end:
            self._in_flight += 1
            try:
                mutation, self._offset = decode_mutation(self._body, self._offset)
                self._restoring.write(mutation, self._level, self._written)
            except RequestError as error:
                self._written(error)
            except CorruptRecord as error:
                self._written(InvalidRequest(f"the batch can't be read: {error}"))
        self._go_on()

    @property
    def _may_send(self) -> bool:
        return (
            self._failure is None
            and self._offset < len(self._body)
            and self._in_flight < limits.RESTORE_WRITES_IN_FLIGHT_MAX
        )

    def _written(self, error: RequestError | None) -> None:
        self._in_flight -= 1
        if error is None:
            self._count += 1
        elif self._failure is None:
            self._failure = error
        self._go_on()

    def _go_on(self) -> None:
        if self._may_send:
            if not self._is_due:
                self._is_due = True
                self._restoring.soon(self.step)
        elif not self._in_flight and not self._is_due:
            # Nothing that is under way is left behind: whoever hears of a failure may begin anew.
            self._done(self._failure if self._failure is not None else {"mutations": self._count})


def resolved_replication(
    keyspace: Keyspace, asked: Mapping[str, str] | None, view: ClusterView
) -> tuple[Replication, list[str]]:
    """The replication that a keyspace gets here, as CREATE KEYSPACE would have it, and warnings.

    Args:
        asked: with ``class``; None: the keyspace's own.
    Raises:
        RequestError: this cluster can't have it.
    """
    own = keyspace.replication
    entries = dict(asked) if asked is not None else {"class": own.strategy, **own.options}
    data_centers: dict[str, int] = {}
    for member in view.members.values():
        data_centers[member.data_center] = data_centers.get(member.data_center, 0) + 1
    statement = ast.CreateKeyspace(keyspace.name, {"replication": entries})
    others = frozen_map({name: one for name, one in view.schema.keyspaces.items() if name != keyspace.name})
    try:
        change, warnings = create_keyspace(statement, replace(view.schema, keyspaces=others), data_centers)
    except RequestError as error:
        raise InvalidRequest(
            f"keyspace {keyspace.name}: {error.message}; give another one with --replication"
        ) from error
    assert isinstance(change, CreateKeyspace)
    return Replication(change.strategy, frozen_map(change.replication)), warnings


def _answer(keyspace: Keyspace, *, created: bool, warnings: list[str]) -> dict[str, Any]:
    return {
        "created": created,
        "incarnations": {name: table.incarnation for name, table in keyspace.tables.items()},
        "warnings": warnings,
    }
