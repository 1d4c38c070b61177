"""BEGIN BATCH ... APPLY BATCH, compiled: the plans of its statements, and the rules for putting them together.

Source: Apache Cassandra 5, ``BatchStatement.validate``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ourodb.cql.analysis.modifications import analyse_modification
from ourodb.cql.analysis.terms import BoundTerm, ColumnSpec, Context, prepare
from ourodb.cql.plan.modification import ModificationPlan, timestamp_value
from ourodb.cql.plan.options import ExecuteOptions
from ourodb.cql.syntax import ast
from ourodb.cql.types import BIGINT
from ourodb.cql.wire import codes
from ourodb.cql.wire.columns import RowsMetadata
from ourodb.cql.wire.primitives import UNSET, Value
from ourodb.errors import InvalidRequest
from ourodb.schema.model import Table
from ourodb.storage.keys import TableKeys

KINDS = {
    ast.BatchKind.LOGGED: codes.BATCH_LOGGED,
    ast.BatchKind.UNLOGGED: codes.BATCH_UNLOGGED,
    ast.BatchKind.COUNTER: codes.BATCH_COUNTER,
}


def check_batch(kind: int, plans: Sequence[ModificationPlan], *, has_timestamp: bool = False) -> None:
    """Whether these statements may be one batch.

    Args:
        kind: ``codes.BATCH_LOGGED``, ``BATCH_UNLOGGED`` or ``BATCH_COUNTER``.
        has_timestamp: the batch has USING TIMESTAMP.
    Raises:
        InvalidRequest: with Cassandra's text.
    """
    counters = [plan for plan in plans if plan.is_counter]
    if has_timestamp:
        if counters:
            raise InvalidRequest("Cannot provide custom timestamp for counter BATCH")
        if any(plan.is_conditional for plan in plans):
            raise InvalidRequest("Cannot provide custom timestamp for conditional BATCH")
        if any(plan.modification.timestamp is not None for plan in plans):
            raise InvalidRequest("Timestamp must be set either on BATCH or individual statements")
    if counters and kind == codes.BATCH_LOGGED:
        raise InvalidRequest("Cannot include a counter statement in a logged batch")
    if len(counters) < len(plans):
        if kind == codes.BATCH_COUNTER:
            raise InvalidRequest("Cannot include non-counter statement in a counter batch")
        if counters:
            raise InvalidRequest("Counter and non-counter mutations cannot exist in the same batch")
    if any(plan.is_conditional for plan in plans):
        first = plans[0].table
        if any(plan.table.name != first.name or plan.table.keyspace != first.keyspace for plan in plans):
            raise InvalidRequest("Batch with conditions cannot span multiple tables")


class BatchPlan:
    """A batch in CQL text.

    Attributes:
        plans: of its statements, which all read the batch's own list of values.
        kind: as on the wire.
    """

    __slots__ = ("_timestamp", "kind", "partition_key_indexes", "plans", "variables", "warnings")

    def __init__(self, statement: ast.Batch, context: Context, keys_of: Callable[[Table], TableKeys]) -> None:
        if statement.ttl is not None:
            raise InvalidRequest("Global TTL on the BATCH statement is not supported.")
        self._timestamp: BoundTerm | None = None
        if statement.timestamp is not None:
            receiver = ColumnSpec(context.keyspace or "", "", "[timestamp]", BIGINT)
            self._timestamp = prepare(statement.timestamp, receiver, context)
        self.kind = KINDS[statement.kind]
        modifications = [analyse_modification(one, context) for one in statement.statements]
        self.variables: Sequence[ColumnSpec] = context.bound_variables()
        self.plans = [ModificationPlan(one, keys_of(one.table), context) for one in modifications]
        check_batch(self.kind, self.plans, has_timestamp=self._timestamp is not None)
        # Cassandra tells none when the batch has a marker of its own.
        self.partition_key_indexes = () if self._timestamp is not None else _key_indexes(self.plans, context)
        self.warnings: Sequence[str] = tuple(context.warnings)

    def metadata(self, version: int) -> RowsMetadata | None:
        """A batch has no rows but those of its conditions."""
        return None

    def timestamp(self, values: Sequence[Value], options: ExecuteOptions) -> int | None:
        """Of USING TIMESTAMP; None when the statements have their own."""
        if self._timestamp is None:
            return None
        value = self._timestamp.evaluate(values, options)
        if value is None:
            raise InvalidRequest("Invalid null value of timestamp")
        return options.timestamp_us if value is UNSET else timestamp_value(value)  # type: ignore[arg-type]


def _key_indexes(plans: Sequence[ModificationPlan], context: Context) -> tuple[int, ...]:
    """As Cassandra: those of the first statement's table, when all statements are about that one."""
    if not plans or any(plan.table is not plans[0].table for plan in plans):
        return ()
    return context.partition_key_indexes(plans[0].table)
