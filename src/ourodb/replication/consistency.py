"""How many replicas a consistency level asks for, and whether that many can be had.

Source: Apache Cassandra 5, ``ConsistencyLevel.blockFor`` and ``assureSufficientReplicas``.
"""

from __future__ import annotations

from ourodb.cql.wire.codes import CONSISTENCY_NAMES, Consistency
from ourodb.errors import InvalidRequest, RequestError, Unavailable
from ourodb.schema.model import Keyspace

_FIXED = {Consistency.ONE: 1, Consistency.LOCAL_ONE: 1, Consistency.TWO: 2, Consistency.THREE: 3}
_LOCAL = (Consistency.LOCAL_ONE, Consistency.LOCAL_QUORUM, Consistency.LOCAL_SERIAL)
_QUORUMS = (
    Consistency.QUORUM,
    Consistency.LOCAL_QUORUM,
    Consistency.EACH_QUORUM,
    Consistency.SERIAL,
    Consistency.LOCAL_SERIAL,
)


def replicas(keyspace: Keyspace, data_center: str | None = None) -> int:
    """The keyspace's replication factor: in one DC, or the sum over all."""
    strategy = keyspace.replication.strategy.rpartition(".")[2]
    options = keyspace.replication.options
    if strategy == "SimpleStrategy":
        return _factor(options.get("replication_factor", "1"))
    if strategy == "NetworkTopologyStrategy":
        factors = {name: _factor(text) for name, text in options.items()}
        return factors.get(data_center, 0) if data_center is not None else sum(factors.values())
    return 1


def _factor(text: str) -> int:
    # "3/1" is three replicas of which one is transient.
    return int(text.partition("/")[0])


def required(level: int, keyspace: Keyspace, data_center: str) -> int:
    """Replicas that must answer at this level (with Cassandra's meaning), seen from a coordinator in this
    DC."""
    local = level in _LOCAL
    factor = replicas(keyspace, data_center if local else None)
    fixed = _FIXED.get(Consistency(level))
    if fixed is not None:
        return fixed
    if level in _QUORUMS:
        return factor // 2 + 1
    return factor if level == Consistency.ALL else 1


def refusal(
    level: int, keyspace: Keyspace, data_center: str, alive: int, *, write: bool
) -> RequestError | None:
    """Why a request at this level can't be run, or None.

    Args:
        alive: live replicas.
        write: an unconditional write; else a read.
    """
    name = CONSISTENCY_NAMES[level]
    if write and level in (Consistency.SERIAL, Consistency.LOCAL_SERIAL):
        return InvalidRequest("You must use conditional updates for serializable writes")
    if not write and level == Consistency.ANY:
        return InvalidRequest("ANY ConsistencyLevel is only supported for writes")
    if not write and level == Consistency.EACH_QUORUM:
        return InvalidRequest("EACH_QUORUM ConsistencyLevel is only supported for writes")
    wanted = required(level, keyspace, data_center)
    if wanted <= alive:
        return None
    return Unavailable(level, wanted, alive, f"Cannot achieve consistency level {name}")
