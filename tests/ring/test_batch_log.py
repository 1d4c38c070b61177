"""A logged batch whose coordinator dies half way. If this fails, whoever relied on "all or nothing" has half."""

from __future__ import annotations

import time
from collections.abc import Callable

from cassandra import ConsistencyLevel as Level
from cassandra.query import SimpleStatement
from tests.ring.namespaces import Network
from tests.ring.ring import Ring, connect_to, eventually, new_keyspace

from ourodb import limits

BATCHES = 30
KEYS = 400
REPLAYED_SECONDS_MAX = limits.BATCH_LOG_REPLAY_MS / 1000 + 40


def test_replay(network: Callable[[int], Network], make_ring: Callable[..., Ring]) -> None:
    """One copy of each row, and batches of two rows: one on a node that the coordinator reaches, one on a node that it
    doesn't. It dies before it gives up. Where two others kept the batch, they finish it; else nothing was written.
    """
    ring = make_ring(4, network=network(4)).start()
    assert ring.network is not None
    coordinator, near, _, far = ring.nodes
    session = connect_to(coordinator)
    keyspace = new_keyspace(session, "'class': 'SimpleStrategy', 'replication_factor': 1")
    session.set_keyspace(keyspace)
    session.execute("CREATE TABLE t (id int PRIMARY KEY, number int)")
    metadata = session.cluster.metadata
    keys: dict[str, list[int]] = {node.host: [] for node in ring.nodes}
    for key in range(KEYS):
        (replica,) = metadata.get_replicas(keyspace, key.to_bytes(4, "big"))
        keys[replica.address].append(key)
    pairs = list(zip(keys[near.host], keys[far.host], strict=False))[:BATCHES]
    assert len(pairs) == BATCHES

    # The link stays cut to the end: nothing that the kernel still holds may arrive.
    ring.network.cut([coordinator.host], [far.host])
    for number, (one, other) in enumerate(pairs):
        session.execute_async(
            SimpleStatement(
                f"BEGIN BATCH INSERT INTO t (id, number) VALUES ({one}, {number});"
                f" INSERT INTO t (id, number) VALUES ({other}, {number}); APPLY BATCH",
                consistency_level=Level.ONE,
            )
        )
    time.sleep(0.5)
    coordinator.kill()
    session.cluster.shutdown()

    witness = connect_to(near, keyspace)

    def written(key: int) -> bool:
        query = SimpleStatement(f"SELECT number FROM t WHERE id = {key}", consistency_level=Level.ONE)
        return witness.execute(query).one() is not None

    def replayed() -> int:
        return int(sum(node.metrics()["ouro_batches_replayed"] for node in ring.live()))

    halves = [pair for pair in pairs if written(pair[0]) and not written(pair[1])]
    print(f"{len(halves)} of {BATCHES} batches were half done when their coordinator died")
    assert halves, "none was half done, so nothing was tested"
    eventually(
        lambda: all(written(one) == written(other) for one, other in pairs),
        "all batches are whole or not there",
        REPLAYED_SECONDS_MAX,
    )
    assert all(written(one) and written(other) for one, other in halves)
    assert replayed() >= len(halves)
    witness.cluster.shutdown()
