"""The few families (RocksDB's column families) that hold everything; a table is a prefix of keys, never a family.

In METADATA each user has a prefix of its own. The prefixes of this package are here; others declare theirs where
they are used.
"""

from __future__ import annotations

from typing import Final

DATA: Final = 0
"""Rows: see the package's docstring."""

METADATA: Final = 1
"""What the node knows about itself and the cluster."""

LOG: Final = 2
"""Consensus and batch logs."""

HINTS: Final = 3
"""Mutations that wait for a peer."""

EXPIRY: Final = 4
"""Which partitions have something to purge, by hour: see ``storage.expiry``."""

NAMES: Final = ("data", "metadata", "log", "hints", "expiry")
"""The families' names on disk, by number."""

TABLE_USE: Final = b"table-use/"
"""METADATA: prefix + incarnation -> a byte of flags, what the table's keys have ever held."""

PAXOS: Final = b"paxos/"
"""METADATA: prefix + incarnation + position -> what was promised and accepted there (``replication.paxos``)."""
