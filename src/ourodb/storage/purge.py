"""Removes what expired, what was deleted, and the tombstones that gc grace lets go; never changes what a read gives.

Led by the EXPIRY index (``storage.expiry``): a partition is visited only in an hour in which something of it is due.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ourodb.ports import Store
from ourodb.storage.row import Pause
from ourodb.storage.rows import TableRows


def purge(store: Store, tables: Mapping[int, TableRows], now_s: int) -> Iterator[Pause]:
    """Visit the partitions that are due; gives PAUSE after each slice of work.

    Args:
        tables: by incarnation; entries of others belong to dropped tables and are removed.
    """
    raise NotImplementedError
