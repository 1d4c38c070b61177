"""A node that is told to stop while it is restored into."""

from __future__ import annotations

import http.client
import json
import time

from tests.nodes import NodeProcess

from ourodb import limits


def begin(node: NodeProcess, length: int) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(node.host, node.admin_port, timeout=60)
    connection.putrequest("POST", "/restore/rows")
    connection.putheader("Content-Length", str(length))
    connection.endheaders()
    return connection


def test_bodies_that_are_half_there_are_not_waited_for(own_node: NodeProcess) -> None:
    """Broken, one slow restore keeps a node from stopping until the time for its body is up."""
    own_node.start()
    waiting = [begin(own_node, 100) for _ in range(limits.RESTORE_UPLOADS_MAX)]
    # One more is refused once the node has begun to read them.
    status = 0
    while status != 503:
        time.sleep(0.05)
        one_more = begin(own_node, 0)
        status = one_more.getresponse().status
        one_more.close()
    assert own_node.stop() == 0
    for connection in waiting:
        reply = connection.getresponse()
        assert (reply.status, json.loads(reply.read())) == (503, {"error": "this node is stopping"})
        connection.close()
