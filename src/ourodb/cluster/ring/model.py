"""A member of the cluster, as the metadata log knows it.

Three nested failure domains say where a member runs: its data centre, its rack within that, its host within that. The
names are only compared within each other: rack ``r1`` of one data centre has nothing to do with ``r1`` of another.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ourodb.ports import Address, NodeId


@dataclass(frozen=True, slots=True)
class Member:
    """One node of the ring.

    Attributes:
        id: handed out by the metadata log.
        host_id: the node's own, for ever.
        peer: where other nodes connect.
        native: where clients connect.
        host: the machine it runs on; members with the same one fail together.
        tokens: signed 64-bit, ascending; the range that ends at a token belongs to its node first. No two members
            have one in common. None at all: the member owns nothing (yet, or any more).
    """

    id: NodeId
    host_id: UUID
    peer: Address
    native: Address
    data_center: str
    rack: str
    host: str
    tokens: tuple[int, ...]
