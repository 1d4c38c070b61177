"""Somebody at a node's peer port who isn't a node: with or without the secret, honest about who he is or not."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from uuid import UUID

from ourodb.peer.connection import PeerConnection, State
from ourodb.peer.handshake import NONCE_BYTES, PeerIdentity, Role
from ourodb.peer.messages import HEADER
from ourodb.ports import URGENT, Address

CLUSTER = "OuroDB"
SECONDS_MAX = 10


class Impostor:
    """One connection to a peer port.

    Attributes:
        connection: the protocol's state; its ``error`` says why it ended.
        received: all bytes that came.
    """

    def __init__(
        self,
        to: Address,
        secret: str,
        host_id: UUID,
        address: Address,
        *,
        cluster_id: UUID | None = None,
        cluster_name: str = CLUSTER,
        lane: int = URGENT,
    ) -> None:
        """Connect, and shake hands as far as the other end lets it.

        Args:
            address: that it claims to listen at, and comes from.
        """
        identity = PeerIdentity(host_id, address, cluster_name, cluster_id)
        self.connection = PeerConnection(
            Role.INITIATOR, identity, secret.encode(), os.urandom(NONCE_BYTES), lane=lane
        )
        self.received = b""
        self._socket = socket.create_connection(to, timeout=SECONDS_MAX, source_address=(address[0], 0))
        while self.connection.state < State.READY:
            self._socket.sendall(self.connection.take_outgoing())
            data = self._socket.recv(1 << 16)
            self.received += data
            if data:
                self.connection.receive(data)
            else:
                self.connection.receive_eof()

    @property
    def is_welcome(self) -> bool:
        return self.connection.state is State.READY

    def send(self, verb: int, bodies: Sequence[bytes], *, clock_us: int = 0, epoch: int = 0) -> None:
        """Messages in one frame."""
        frame = self.connection.encode([HEADER.pack(verb, 0, 1, clock_us, epoch) + body for body in bodies])
        self._socket.sendall(frame)

    def close(self) -> None:
        self._socket.close()


def exchange(to: Address, data: bytes, *, close_after: bool = False) -> bytes:
    """Send bytes; returns all that comes until the other end closes, or falls silent."""
    with socket.create_connection(to, timeout=SECONDS_MAX) as connection:
        received = b""
        try:
            connection.sendall(data)
            if close_after:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(1 << 16):
                received += part
        except OSError:
            pass
        return received
