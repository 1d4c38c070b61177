"""Compiling statements and running them: from text and bound values to an answer.

Every statement is compiled into a plan, whose class says how it runs. EXECUTE of a plain INSERT or SELECT goes through
``execute_prepared`` straight to its plan's fast path; everything else takes the general way, one method for a kind of
plan.

A plan is compiled against one ``Schema``. When the epoch has moved on, it is checked before its next use: if its table is
still the same object, nothing has to be done, else the text is compiled again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ourodb import limits
from ourodb.cluster.metadata.log import Applied, MetadataLog
from ourodb.cluster.metadata.view import ClusterView
from ourodb.cql.analysis.ddl import analyse_ddl
from ourodb.cql.analysis.modifications import analyse_modification
from ourodb.cql.analysis.operations import ListCellIds
from ourodb.cql.analysis.terms import Context
from ourodb.cql.plan.batch import BatchPlan
from ourodb.cql.plan.modification import Changes, ModificationPlan
from ourodb.cql.plan.options import ExecuteOptions
from ourodb.cql.plan.select import SelectPlan
from ourodb.cql.syntax import ast
from ourodb.cql.syntax.parser import parse
from ourodb.cql.wire import codes
from ourodb.cql.wire.columns import RowsMetadata
from ourodb.cql.wire.primitives import UNSET, Value
from ourodb.cql.wire.requests import Batch, Execute, Query, QueryParameters
from ourodb.cql.wire.responses import SchemaChange, encode_schema_change_event
from ourodb.errors import InvalidRequest, NotSupported, OuroError, RequestError, ServerError, Unprepared
from ourodb.ports import Clock, Random
from ourodb.replication.coordinator.cas import Bound, CasResult, ConditionalWrites
from ourodb.replication.coordinator.counter import Counters
from ourodb.replication.coordinator.write import Writes
from ourodb.replication.timestamps import Timestamps
from ourodb.schema.changes import SchemaChangeEvent
from ourodb.schema.describe import describe
from ourodb.session.answer import Answer
from ourodb.session.statements import PreparedStatement, PreparedStatements, StatementCache, statement_id
