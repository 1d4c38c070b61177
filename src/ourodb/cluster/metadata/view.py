"""What a node knows of the cluster at one epoch, as one immutable object."""

from __future__ import annotations

from dataclasses import dataclass

from ourodb.schema.model import Schema
from ourodb.schema.node_info import NodeInfo


@dataclass(frozen=True, slots=True)
class ClusterView:
    """Schema and members as of one epoch.

    Attributes:
        schema: its epoch is the view's.
        node: this node.
        peers: the others, by host id.
    """

    schema: Schema
    node: NodeInfo
    peers: tuple[NodeInfo, ...] = ()

    @property
    def epoch(self) -> int:
        """Index of the last entry of the metadata log that this view has applied."""
        return self.schema.epoch
