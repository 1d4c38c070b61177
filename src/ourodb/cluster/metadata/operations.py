"""What became of moves: a record of each, in the view, so that every node can tell.

The core reads no clock: times are those that commands bring along, from the wall clock of the leader that proposed
them. They may jump, and are for people alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ourodb import limits
from ourodb.cluster.ring.moves import Move, Stage
from ourodb.ports import NodeId

Operations = tuple["Operation", ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One move, from its beginning on.

    Attributes:
        move: its id.
        kind: the move's.
        nodes: that come, go, or get other tokens, ascending.
        began_ms, switched_ms, ended_ms: since 1970; 0: not yet, or not known. Reads go to the new replicas between
            the last two.
        is_done: it ended well; else, once it has ended, it was undone.
        reason: why it was undone.
        rows, bytes: copied, by the nodes that have all that they gain.
        keyspace: that gets another replication; empty: none does.
    """

    move: int
    kind: str
    nodes: tuple[NodeId, ...]
    began_ms: int = 0
    switched_ms: int = 0
    ended_ms: int = 0
    is_over: bool = False
    is_done: bool = False
    reason: str = ""
    rows: int = 0
    bytes: int = 0
    keyspace: str = ""


def followed(
    operations: Operations,
    before: Move | None,
    after: Move | None,
    *,
    at_ms: int = 0,
    reason: str | None = None,
    rows: int = 0,
    bytes: int = 0,
) -> Operations:
    """The record after a command.

    Args:
        before, after: the move that was under way before it, and after it.
        at_ms: what the command says of the time.
        reason: why it undoes the move; None: it doesn't.
        rows, bytes: that it says were copied.
    """
    if before is None or after is None or before.id != after.id:
        found = operations
        if before is not None:
            found = _changed(
                found, before.id, ended_ms=at_ms, is_over=True, is_done=reason is None, reason=reason or ""
            )
        if after is not None:
            nodes = tuple(sorted(after.tokens))
            found = (*found, Operation(after.id, after.kind, nodes, at_ms, keyspace=after.keyspace))
        return found[-limits.OPERATIONS_MAX :]
    if before.stage is not after.stage and after.stage is Stage.SWITCHED:
        return _changed(operations, after.id, switched_ms=at_ms)
    if before.copied != after.copied:
        last = operations[-1] if operations else None
        if last is not None and last.move == after.id:
            return _changed(operations, after.id, rows=last.rows + rows, bytes=last.bytes + bytes)
    return operations


def _changed(operations: Operations, move: int, **fields: object) -> Operations:
    """With other fields of the last one, if it is about this move."""
    if not operations or operations[-1].move != move:
        return operations
    return (*operations[:-1], replace(operations[-1], **fields))  # type: ignore[arg-type]
