"""What a consistency level asks for, and whether it can be had.

``replicas`` and ``required`` count as Cassandra does: by the keyspace's replication factor, not by how many
nodes there happen to be. A keyspace of factor 3 on one node refuses QUORUM, with "2 required, 1 alive".

Source: Apache Cassandra 5, ``ConsistencyLevel.blockFor``, ``validateForCasCommit``, ``validateCounterForWrite``,
``ReplicaPlans.assureSufficientLiveReplicas``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ourodb.cql.wire.codes import CONSISTENCY_NAMES, Consistency
from ourodb.errors import InvalidRequest, RequestError, Unavailable
from ourodb.schema.model import Keyspace, Table

_FIXED: Final = {
    int(Consistency.ONE): 1,
    int(Consistency.LOCAL_ONE): 1,
    int(Consistency.TWO): 2,
    int(Consistency.THREE): 3,
}
_QUORUMS: Final = (
    int(Consistency.QUORUM),
    int(Consistency.LOCAL_QUORUM),
    int(Consistency.EACH_QUORUM),
    int(Consistency.SERIAL),
    int(Consistency.LOCAL_SERIAL),
)
LOCAL_LEVELS: Final = (
    int(Consistency.LOCAL_ONE),
    int(Consistency.LOCAL_QUORUM),
    int(Consistency.LOCAL_SERIAL),
)
"""Levels that ask only the coordinator's own data centre."""


def replicas(keyspace: Keyspace, data_center: str | None = None) -> int:
    """The keyspace's replication factor: in one DC, or the sum over all.

    A strategy that knows no DCs has its whole factor in each, as Cassandra's LOCAL_QUORUM takes it.
    """
    strategy = keyspace.replication.strategy.rpartition(".")[2]
    options = keyspace.replication.options
    if strategy == "SimpleStrategy":
        return _factor(options.get("replication_factor", "1"))
    if strategy == "NetworkTopologyStrategy":
        factors = {name: _factor(text) for name, text in options.items()}
        return factors.get(data_center, 0) if data_center is not None else sum(factors.values())
    return 1


def knows_data_centers(keyspace: Keyspace) -> bool:
    return keyspace.replication.strategy.endswith("NetworkTopologyStrategy")


def quorum(factor: int) -> int:
    return factor // 2 + 1


def quorums(keyspace: Keyspace) -> Mapping[str, int]:
    """A quorum of each data centre that has copies: what EACH_QUORUM asks for."""
    options = keyspace.replication.options
    return {name: quorum(_factor(text)) for name, text in options.items() if _factor(text)}


def _factor(text: str) -> int:
    # "3/1" is three replicas of which one is transient.
    return int(text.partition("/")[0])


def required(level: int, keyspace: Keyspace, data_center: str) -> int:
    """Replicas that must answer at this level, seen from a coordinator in this DC."""
    fixed = _FIXED.get(level)
    if fixed is not None:
        return fixed
    if level == Consistency.EACH_QUORUM and knows_data_centers(keyspace):
        return sum(quorums(keyspace).values())
    factor = replicas(keyspace, data_center if level in LOCAL_LEVELS else None)
    if level in _QUORUMS:
        return quorum(factor)
    return factor if level == Consistency.ALL else 1


def misuse(level: int, *, write: bool) -> RequestError | None:
    """Why a level can't be used for reads, or for unconditional writes; None when it can.

    Args:
        write: an unconditional write; else a read.
    """
    if write and level in (Consistency.SERIAL, Consistency.LOCAL_SERIAL):
        return InvalidRequest("You must use conditional updates for serializable writes")
    if not write and level == Consistency.ANY:
        return InvalidRequest("ANY ConsistencyLevel is only supported for writes")
    if not write and level == Consistency.EACH_QUORUM:
        return InvalidRequest("EACH_QUORUM ConsistencyLevel is only supported for writes")
    return None


def misuse_of_counter(level: int, table: Table) -> RequestError | None:
    """Why a level can't be used for increments; None when it can."""
    if level == Consistency.ANY:
        return InvalidRequest(f"Consistency level ANY is not yet supported for counter table {table.name}")
    if level in (Consistency.SERIAL, Consistency.LOCAL_SERIAL):
        return InvalidRequest("Counter operations are inherently non-serializable")
    return None


def misuse_of_commit(level: int, keyspace: Keyspace) -> RequestError | None:
    """Why a level can't be used for the commit of a conditional statement; None when it can."""
    name = CONSISTENCY_NAMES.get(level, str(level))
    if level in (Consistency.SERIAL, Consistency.LOCAL_SERIAL):
        return InvalidRequest(
            f"{name} is not supported as conditional update commit consistency. Use ANY if you mean"
            ' "make sure it is accepted but I don\'t care how many replicas commit it for non-SERIAL reads"'
        )
    if level == Consistency.EACH_QUORUM and not knows_data_centers(keyspace):
        strategy = keyspace.replication.strategy
        return InvalidRequest(
            f"consistency level {name} not compatible with replication strategy ({strategy})"
        )
    return None


def unavailable(level: int, required: int, alive: int, data_center: str | None = None) -> Unavailable:
    """With Cassandra's text.

    Args:
        data_center: the one that has too few, for EACH_QUORUM.
    """
    where = "" if data_center is None else f" in DC {data_center}"
    return Unavailable(
        level, required, alive, f"Cannot achieve consistency level {CONSISTENCY_NAMES[level]}{where}"
    )
