"""The metadata log of a node: changes in order, each on disk before anyone sees what it leads to.

An entry is a change (``schema.changes``) under its index, which is the epoch of the schema after it. ``submit`` applies
the change to the newest schema, appends the entry, and once the store has synced it makes the new ``NodeView`` the
current one, tells the listeners, then the one who submitted. A change that doesn't fit is answered with its error and
never appended, so that every entry on disk applies.

From time to time the schema is written whole and the entries before it are dropped. At start the log reads that
snapshot and applies the entries after it.

On disk:

=========================================  ==================================================
METADATA ``cluster/schema``                the snapshot (``schema.snapshot``)
LOG ``metadata/`` + epoch (u64)            format byte, the change (``schema.changes``)
=========================================  ==================================================

One node alone decides what is appended. In a ring the same entries come out of consensus, in the same order
everywhere, and everything from ``apply`` on stays as it is.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ourodb import limits
from ourodb.errors import OuroError, RequestError, StoreDamaged, StoreError
from ourodb.ports import Store, Write
from ourodb.schema.changes import Change, SchemaChangeEvent, decode_change, encode_change
from ourodb.schema.evolution import apply
from ourodb.schema.model import Schema
from ourodb.schema.node_info import NodeInfo
from ourodb.schema.snapshot import decode_schema, encode_schema
from ourodb.schema.system import initial_schema
from ourodb.storage.families import LOG, METADATA

SNAPSHOT_KEY: Final = b"cluster/schema"
ENTRY_PREFIX: Final = b"metadata/"
ENTRY_FORMAT: Final = 1

_EPOCH: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class NodeView:
    """Schema and this node as of one epoch, which is the schema's.

    Attributes:
        peers: the others.
    """

    schema: Schema
    node: NodeInfo
    peers: tuple[NodeInfo, ...] = ()

    @property
    def epoch(self) -> int:
        """Index of the last change that this view has applied."""
        return self.schema.epoch


@dataclass(frozen=True, slots=True)
class Applied:
    """A change is on disk and in force.

    Attributes:
        events: what clients are told, the statement's own event last; empty for a change that changed nothing, and for
            TRUNCATE.
    """

    view: NodeView
    events: tuple[SchemaChangeEvent, ...]


Done = Callable[[Applied | OuroError], None]
Listener = Callable[[NodeView, tuple[SchemaChangeEvent, ...]], None]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An entry that was appended and isn't known to be on disk yet."""

    schema: Schema
    events: tuple[SchemaChangeEvent, ...]
    done: Done


class MetadataLog:
    """Entries in order, the view they amount to, and who wants to know."""

    __slots__ = ("_broken", "_listeners", "_snapshot_epoch", "_store", "_tip", "_view", "_waiting")

    def __init__(self, store: Store, node: NodeInfo) -> None:
        self._store = store
        self._view = NodeView(initial_schema(), node)
        self._tip = self._view.schema
        self._snapshot_epoch = 0
        self._waiting: deque[_Waiting] = deque()
        self._listeners: list[Listener] = []
        self._broken: OuroError | None = None

    @property
    def view(self) -> NodeView:
        """The view after the last entry that is on disk."""
        return self._view

    def recover(self) -> NodeView:
        """Read the snapshot and the entries after it; the first thing to do.

        Raises:
            StoreDamaged: entries are missing, can't be read or can't be applied.
        """
        schema = initial_schema()
        for _, encoded in self._store.scan(METADATA, SNAPSHOT_KEY, SNAPSHOT_KEY + b"\x00"):
            schema = decode_schema(encoded)
        self._snapshot_epoch = schema.epoch
        start = entry_key(schema.epoch + 1)
        for key, encoded in self._store.scan(LOG, start, ENTRY_PREFIX + b"\xff" * 9):
            schema = _replayed(schema, key, encoded)
        self._tip = schema
        self._view = replace(self._view, schema=schema)
        return self._view

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` after each change that is on disk, before the one who submitted it hears of it."""
        self._listeners.append(listener)

    def update_node(self, node: NodeInfo) -> None:
        """What this node says of itself is different from now on; nothing is written."""
        self._view = replace(self._view, node=node)
        self._tell(())

    def submit(self, change: Change, done: Done) -> None:
        """Append a change.

        ``done`` is called exactly once: with ``Applied`` when the change is on disk and in force, with the error of
        Cassandra when it doesn't fit the schema, with the store's when it couldn't be written. After a failed sync
        nobody knows what is on disk, and every further change is refused until the node is started again.
        """
        if self._broken is not None:
            done(self._broken)
            return
        try:
            schema, events = apply(self._tip, change)
            if schema is not self._tip:
                self._store.apply(self._writes(schema, change))
        except (RequestError, StoreError) as error:
            done(error)
            return
        if schema is self._tip and not self._waiting:
            done(Applied(self._view, ()))
            return
        self._tip = schema
        self._waiting.append(_Waiting(schema, events, done))
        self._store.sync(lambda error: self._synced(schema.epoch, error))

    def _writes(self, schema: Schema, change: Change) -> list[Write]:
        """The entry; or, when it's time, the whole schema in place of the entries that led to it."""
        if schema.epoch - self._snapshot_epoch < limits.METADATA_ENTRIES_PER_SNAPSHOT:
            return [(LOG, entry_key(schema.epoch), bytes([ENTRY_FORMAT]) + encode_change(change))]
        writes: list[Write] = [(METADATA, SNAPSHOT_KEY, encode_schema(schema))]
        writes += [(LOG, entry_key(epoch), None) for epoch in range(self._snapshot_epoch + 1, schema.epoch)]
        self._snapshot_epoch = schema.epoch
        return writes

    def _synced(self, epoch: int, error: Exception | None) -> None:
        if error is not None:
            self._fail(error)
            return
        while self._waiting and self._waiting[0].schema.epoch <= epoch:
            entry = self._waiting.popleft()
            if entry.schema is not self._view.schema:
                self._view = replace(self._view, schema=entry.schema)
                self._tell(entry.events)
            entry.done(Applied(self._view, entry.events))

    def _tell(self, events: tuple[SchemaChangeEvent, ...]) -> None:
        for listener in self._listeners:
            listener(self._view, events)

    def _fail(self, error: Exception) -> None:
        self._broken = StoreError(
            f"The schema may or may not have changed: writing it to disk failed ({error}). Restart the node."
        )
        while self._waiting:
            self._waiting.popleft().done(self._broken)


def install(store: Store, schema: Schema) -> None:
    """Write a schema into a store that has none yet; ``recover`` then starts from it. For restoring snapshots."""
    store.apply([(METADATA, SNAPSHOT_KEY, encode_schema(schema))])


def entry_key(epoch: int) -> bytes:
    """Where the entry that leads to ``epoch`` is kept."""
    return ENTRY_PREFIX + _EPOCH.pack(epoch)


def _replayed(schema: Schema, key: bytes, encoded: bytes) -> Schema:
    if key != entry_key(schema.epoch + 1):
        raise StoreDamaged(
            f"Entry {schema.epoch + 1} of the metadata log is missing. Restore a snapshot of this node's data."
        )
    if encoded[:1] != bytes([ENTRY_FORMAT]):
        raise StoreDamaged(
            f"Entry {schema.epoch + 1} of the metadata log has format {encoded[:1].hex()}; this version of OuroDB "
            f"reads format {ENTRY_FORMAT:02x}. Start the version that wrote it."
        )
    try:
        after, _ = apply(schema, decode_change(encoded[1:]))
    except RequestError as error:
        raise StoreDamaged(
            f"Entry {schema.epoch + 1} of the metadata log can't be applied: {error}"
        ) from error
    if after is schema:
        raise StoreDamaged(f"Entry {schema.epoch + 1} of the metadata log changes nothing")
    return after
