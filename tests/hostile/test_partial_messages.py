"""Were these to fail, clients that leave large messages half sent would take the memory, or keep others waiting."""

from __future__ import annotations

import socket
import struct

import pytest
from tests.nodes import NodeProcess

from ourodb import limits
from ourodb.bench.client import Client

CLIENTS = 30
SENT_BYTES = 15 << 20
GROWTH_MIB_MAX = 3 * (limits.PARTIAL_MESSAGES_BYTES_MAX >> 20)


def startup() -> bytes:
    body = struct.pack(">H", 1) + b"\x00\x0bCQL_VERSION\x00\x053.0.0"
    return struct.pack(">BBhBi", 4, 0, 0, 1, len(body)) + body


@pytest.mark.usefixtures("own_node")
def test_half_sent_messages_of_many_clients_are_bounded(own_node: NodeProcess) -> None:
    own_node.start()
    before = own_node.memory_mib()
    sockets = []
    for _ in range(CLIENTS):
        client = socket.create_connection((own_node.host, own_node.port))
        client.sendall(startup())
        assert client.recv(9)[4] == 2
        client.setblocking(False)
        sockets.append(client)
    head = struct.pack(">BBhBi", 4, 0, 1, 7, limits.FRAME_BYTES_MAX)
    left = {client: head + bytes(SENT_BYTES) for client in sockets}
    stuck = 0
    while left and stuck < 200:
        stuck += 1
        for client in list(left):
            try:
                sent = client.send(left[client][: 1 << 20])
            except BlockingIOError:
                continue
            stuck = 0
            left[client] = left[client][sent:]
            if not left[client]:
                del left[client]
        other = Client((own_node.host, own_node.port))
        other.query("SELECT release_version FROM system.local")
        other.close()
    assert left, "all was read: nothing is bounded"
    assert own_node.memory_mib() - before < GROWTH_MIB_MAX
    for client in sockets:
        client.close()
    own_node.stop()
