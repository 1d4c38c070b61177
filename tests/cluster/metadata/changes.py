"""Changes and members for the tests of the metadata log."""

from __future__ import annotations

from uuid import UUID

from ourodb.cluster.metadata.commands import (
    AddMember,
    ChangeSchema,
    Command,
    FoundCluster,
    NewMember,
    Proposal,
    encode_proposal,
)
from ourodb.cluster.metadata.evolution import Outcome, apply
from ourodb.cluster.metadata.view import ClusterView, blank_view
from ourodb.cluster.raft.messages import Entry, EntryKind
from ourodb.schema.changes import Change, ColumnSpec, CreateKeyspace, CreateTable, encode_change
from ourodb.schema.keyspaces import SIMPLE
from ourodb.schema.system import system_table_id

CLUSTER = UUID(int=77)


def keyspace(name: str, factor: int = 1) -> CreateKeyspace:
    return CreateKeyspace(name, SIMPLE, {"replication_factor": str(factor)})


def table(name: str, holder: str = "app") -> CreateTable:
    columns = (ColumnSpec("k", "int"), ColumnSpec("v", "text"))
    return CreateTable(holder, name, system_table_id(holder, name), columns, partition_key=("k",))


def newcomer(number: int, *, rack: str = "r1", data_center: str = "dc1") -> NewMember:
    address = f"10.0.0.{number}"
    return NewMember(
        UUID(int=1000 + number), (address, 7000), (address, 9042), data_center, rack, f"h{number}", 4
    )


def founded(member: NewMember | None = None) -> ClusterView:
    view, outcome = applied(blank_view(), FoundCluster(CLUSTER, "ring", member or newcomer(1)))
    assert outcome.error is None
    return view


def ring_of(count: int) -> ClusterView:
    view = founded()
    for number in range(2, count + 1):
        view, outcome = applied(view, AddMember(newcomer(number)))
        assert outcome.error is None
    return view


def schema_change(change: Change) -> ChangeSchema:
    return ChangeSchema(encode_change(change))


def applied(
    view: ClusterView, command: Command, *, proposal: bytes | None = None, since: int | None = None
) -> tuple[ClusterView, Outcome]:
    """The view after a command as the next entry; each has an id of its own unless one is given."""
    index = view.epoch + 1
    said = Proposal(proposal or b"p%015d" % index, view.epoch if since is None else since, command)
    return apply(view, Entry(index, 1, EntryKind.COMMAND, encode_proposal(said)))
