"""Statements that were compiled once and are kept: prepared ones by id, unprepared ones by text.

Both caches are bounded. A prepared statement that was pushed out is answered with UNPREPARED, upon which
every driver prepares it again; an unprepared one is simply compiled again. Compiled plans hold on to the
``Table`` they were compiled against; ``PreparedStatement.epoch`` tells cheaply whether the schema has moved
since.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from ourodb import limits

P = TypeVar("P")

PLAN_BYTES = 4096
PLAN_BYTES_PER_CHARACTER = 160
"""About what a compiled statement takes: a list of literals 140 for each character of its text, one of markers 190, one
of selected columns 360, an ordinary INSERT 50 to 100.
"""


def statement_id(text: str, keyspace: str | None) -> bytes:
    """The id that clients get: 16 bytes, the same on all nodes, so that any of them knows what another
    prepared.

    Source: Cassandra's ``QueryProcessor.computeId``: MD5 of keyspace and text.
    """
    return hashlib.md5(f"{keyspace or ''}{text}".encode(), usedforsecurity=False).digest()


def plan_bytes(text: str) -> int:
    """About how much memory the plan of a statement takes: far more than its text."""
    return PLAN_BYTES + PLAN_BYTES_PER_CHARACTER * len(text)


@dataclass(slots=True)
class PreparedStatement(Generic[P]):
    """One prepared statement.

    Attributes:
        keyspace: the one that names without a keyspace are looked up in.
        plan: compiled against the schema of ``epoch``.
        recompiled: the schema changed under it, so that clients may hold outdated metadata of its result.
    """

    id: bytes
    text: str
    keyspace: str | None
    plan: P
    epoch: int
    recompiled: bool = False


class PreparedStatements(Generic[P]):
    """Prepared statements by id; the one not used for longest goes first."""

    def __init__(
        self, count_max: int = limits.PREPARED_STATEMENTS_MAX, bytes_max: int = limits.PREPARED_BYTES_MAX
    ) -> None:
        self.evicted = 0
        self._by_id: OrderedDict[bytes, PreparedStatement[P]] = OrderedDict()
        self._bytes = 0
        self._count_max = count_max
        self._bytes_max = bytes_max
        self.get = self._by_id.get
        self.touch = self._by_id.move_to_end

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, statement: PreparedStatement[P]) -> None:
        self.remove(statement.id)
        self._by_id[statement.id] = statement
        self._bytes += plan_bytes(statement.text)
        # The newest stays, however large: its client would prepare it again and again.
        while len(self._by_id) > self._count_max or (self._bytes > self._bytes_max and len(self._by_id) > 1):
            _, oldest = self._by_id.popitem(last=False)
            self._bytes -= plan_bytes(oldest.text)
            self.evicted += 1

    def remove(self, id: bytes) -> None:
        """Forget a statement; nothing happens when it isn't there."""
        removed = self._by_id.pop(id, None)
        if removed is not None:
            self._bytes -= plan_bytes(removed.text)


class StatementCache(Generic[P]):
    """Plans of unprepared statements by (text, keyspace), valid for one epoch of the schema.

    Loading tools send millions of distinct texts once each; a text is kept only when it comes for the second
    time.
    """

    def __init__(
        self, count_max: int = limits.CACHED_STATEMENTS_MAX, bytes_max: int = limits.CACHED_BYTES_MAX
    ) -> None:
        self._plans: OrderedDict[tuple[str, str | None], P] = OrderedDict()
        self._bytes = 0
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._epoch = -1

    def get(self, text: str, keyspace: str | None, epoch: int) -> P | None:
        if epoch != self._epoch:
            self._plans.clear()
            self._bytes = 0
            self._epoch = epoch
            return None
        return self._plans.get((text, keyspace))

    def offer(self, text: str, keyspace: str | None, epoch: int, plan: P) -> None:
        """Keep the plan if its text has been seen before and isn't too long."""
        if epoch != self._epoch or len(text) > limits.CACHED_STATEMENT_BYTES_MAX:
            return
        seen = hash(text)
        if seen not in self._seen:
            self._seen[seen] = None
            if len(self._seen) > self._count_max:
                self._seen.popitem(last=False)
            return
        if (text, keyspace) not in self._plans:
            self._bytes += plan_bytes(text)
        self._plans[text, keyspace] = plan
        while len(self._plans) > self._count_max or self._bytes > self._bytes_max:
            (oldest, _), _ = self._plans.popitem(last=False)
            self._bytes -= plan_bytes(oldest)
