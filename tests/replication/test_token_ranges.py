"""A read of a token range needs the nodes of that range, and no others.

If this fails, an analytic connector that reads a table range by range, or anybody on one side of a cut, is refused
what can be had.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ourodb.cql.types.murmur3 import token
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import Unavailable
from ourodb.sim.client import CqlClient
from ourodb.sim.ouro import build_node
from ourodb.sim.workloads.stage import Reply
from ourodb.sim.world import World


class Ring:
    """Three nodes with one copy of each row."""

    def __init__(self) -> None:
        self.world = World(1)
        self.world.start(self.world.add_machines(3, build_node))
        self._client = CqlClient(self.world, [self.world.machines[0]], moves=False)
        self.run("CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
        self.run("CREATE TABLE ks.t (k int PRIMARY KEY, v int)")
        for k in range(60):
            self.run("INSERT INTO ks.t (k, v) VALUES (?, ?)", [number(k), number(k)])

    def ask(self, text: str, values: Sequence[bytes | None] = (), **options: Any) -> Reply:
        promise = self._client.execute(text, values, consistency=Consistency.ONE, timeout_s=30, **options)
        assert self.world.run_until(lambda: promise.is_kept, 60)
        return promise.value

    def run(self, text: str, values: Sequence[bytes | None] = (), **options: Any) -> Reply:
        reply = self.ask(text, values, **options)
        assert reply.error is None, reply.error
        return reply

    def keys(self, text: str, **options: Any) -> list[int]:
        return [int.from_bytes(row[0] or b"", "big") for row in self.run(text, **options).rows]


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def test_a_range_needs_its_own_nodes_only() -> None:
    ring = Ring()
    in_order = sorted(range(60), key=lambda k: token(number(k)))
    assert ring.keys("SELECT k FROM ks.t") == in_order
    world = ring.world
    nodes = {machine.program.node.peers.me: machine for machine in world.machines}
    here = world.machines[0].program.node
    ring_of = here.view.ring.placement(here.view.schema.keyspaces["ks"].replication)
    gone = max(nodes)
    nodes[gone].kill()
    assert world.run_until(lambda: not here.peers.up[gone], 30)
    served = []
    refused = 0
    for part in ring_of.token_ranges():
        if part.start >= part.end:
            wheres = [f"token(k) > {part.start}", f"token(k) <= {part.end}"]
        else:
            wheres = [f"token(k) > {part.start} AND token(k) <= {part.end}"]
        for where in wheres:
            text = f"SELECT k FROM ks.t WHERE {where}"
            if part.replicas.nodes == (gone,):
                assert isinstance(ring.ask(text).error, Unavailable)
                refused += 1
            else:
                served += ring.keys(text)
    alive = [k for k in in_order if ring_of.primary_of(position(ring, k)) != gone]
    assert refused
    assert sorted(served) == sorted(alive)
    assert isinstance(ring.ask("SELECT k FROM ks.t").error, Unavailable)


def position(ring: Ring, k: int) -> bytes:
    node = ring.world.machines[0].program.node
    found: bytes = node.rows.register(node.view.schema.table("ks", "t")).keys.position([number(k)])
    return found
