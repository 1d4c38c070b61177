"""A ring of real nodes inside a test, without Docker, a JVM or root.

    from ourodb.testing import cluster

    with cluster(nodes=3) as ring:
        session = ring.connect()
        ring.nodes[2].kill()

With pytest the fixtures ``ouro`` and ``ouro_keyspace`` come by themselves (``testing.plugin``). The nodes are processes
on loopback addresses that nobody else uses, with their data in a temporary folder. They are gone afterwards whatever
happens: when the test process dies, the kernel ends them.

Importing this costs nothing; what it takes is imported when a ring is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ourodb.testing.ring import Ring

__all__ = ["cluster"]


@contextmanager
def cluster(nodes: int = 3, *, dcs: int = 1, racks: int = 1, options: Sequence[str] = ()) -> Iterator[Ring]:
    """A ring for as long as the block runs; all its nodes see each other when it begins.

    Args:
        nodes: how many.
        dcs, racks: data centres (``datacenter1``, ...) and racks in each (``rack1``, ...) over which they are spread.
        options: more options for ``ouro serve``, as in ``["--num-tokens=4"]``.
    Raises:
        RingError: the nodes couldn't be started; the message has the end of their logs.
    """
    from ourodb.testing.ring import Ring

    ring = Ring(nodes, dcs=dcs, racks=racks, options=options)
    try:
        ring.start()
        yield ring
    finally:
        ring.close()
