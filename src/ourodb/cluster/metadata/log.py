"""The metadata log of a node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ourodb.cluster.metadata.view import ClusterView
from ourodb.errors import OuroError
from ourodb.ports import Store
from ourodb.schema.changes import Change, SchemaChangeEvent
from ourodb.schema.node_info import NodeInfo


@dataclass(frozen=True, slots=True)
class Applied:
    """A change is on disk and in force.

    Attributes:
        events: what clients are told, the statement's own event last; empty for a change that changed nothing.
    """

    view: ClusterView
    events: tuple[SchemaChangeEvent, ...]


Done = Callable[[Applied | OuroError], None]
Listener = Callable[[ClusterView, tuple[SchemaChangeEvent, ...]], None]


class MetadataLog:
    """Entries in order, the view they amount to, and who wants to know."""

    def __init__(self, store: Store, node: NodeInfo) -> None:
        raise NotImplementedError

    @property
    def view(self) -> ClusterView:
        """The view after the last entry that is on disk."""
        raise NotImplementedError

    def recover(self) -> ClusterView:
        """Read the snapshot and the entries after it; the first thing to do.

        Raises:
            StoreDamaged: entries are missing, can't be read or can't be applied.
        """
        raise NotImplementedError

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` after each change that is on disk, before the one who submitted it hears of it."""
        raise NotImplementedError

    def submit(self, change: Change, done: Done) -> None:
        """Append a change; ``done`` is called exactly once."""
        raise NotImplementedError
