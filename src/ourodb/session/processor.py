"""Compiling statements and running them: from text and bound values to an answer.

Every statement is compiled into a plan, whose class says how it runs. EXECUTE of a plain INSERT or SELECT
goes through ``execute_prepared`` straight to its plan's fast path; everything else takes the general way, one
method for each kind of plan.

A plan is compiled against one ``Schema``. When the epoch has moved on, it is checked before its next use: if
its tables are still the same objects nothing has to be done, else the text is compiled again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import structlog

from ourodb import limits
from ourodb.cluster.metadata.metadata import Metadata
from ourodb.cluster.metadata.submissions import Applied
from ourodb.cluster.metadata.view import ClusterView
from ourodb.cluster.ring.model import Member
from ourodb.cql.analysis.ddl import DdlStatement, analyse_ddl
from ourodb.cql.analysis.modifications import analyse_modification
from ourodb.cql.analysis.terms import ColumnSpec, Context
from ourodb.cql.plan.batch import BatchPlan, check_batch
from ourodb.cql.plan.modification import ModificationPlan
from ourodb.cql.plan.options import ExecuteOptions
from ourodb.cql.plan.select import SelectPlan
from ourodb.cql.syntax import ast
from ourodb.cql.syntax.parser import parse
from ourodb.cql.wire.codes import Consistency
from ourodb.cql.wire.primitives import UNSET, Value
from ourodb.cql.wire.requests import Batch, Execute, Query, QueryParameters
from ourodb.cql.wire.responses import (
    SchemaChange,
    encode_schema_change_event,
    encode_status_change_event,
    encode_topology_change_event,
)
from ourodb.errors import (
    AlreadyExists,
    InvalidRequest,
    NotSupported,
    OuroError,
    RequestError,
    Unprepared,
)
from ourodb.ports import Clock, Random
from ourodb.replication.coordinator.cas import Bound
from ourodb.replication.coordinator.coordinator import Coordinator
from ourodb.replication.replica.writes import as_request_error
from ourodb.replication.timestamps import Timestamps
from ourodb.schema.changes import AlterKeyspace, Change, SchemaChangeEvent
from ourodb.schema.describe import describe
from ourodb.schema.model import Schema, Table
from ourodb.schema.node_info import NodeInfo
from ourodb.session.answer import Answer
from ourodb.session.modifications import Modifications
from ourodb.session.plans import DdlPlan, DescribePlan, Plan, UsePlan
from ourodb.session.reads import Reads, outdated
from ourodb.session.statements import PreparedStatement, PreparedStatements, StatementCache, statement_id
from ourodb.storage.keys import TableKeys
from ourodb.storage.mutation import Mutation
from ourodb.storage.rows import Rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ourodb.session.session import Session

log = structlog.get_logger()

MICROS = 1_000_000

Infos = Callable[[], tuple[NodeInfo, list[NodeInfo]]]
"""This node and the others, as the system tables show them."""

DDL_STATEMENTS = (
    ast.CreateKeyspace,
    ast.AlterKeyspace,
    ast.DropKeyspace,
    ast.CreateTable,
    ast.AlterTable,
    ast.DropTable,
    ast.CreateType,
    ast.AlterType,
    ast.DropType,
    ast.Truncate,
    ast.CreateIndex,
    ast.DropIndex,
    ast.CreateView,
    ast.AlterView,
    ast.DropView,
    ast.CreateFunction,
    ast.DropFunction,
    ast.CreateAggregate,
    ast.DropAggregate,
    ast.CreateTrigger,
    ast.DropTrigger,
)


class SchemaMismatch(Exception):
    """A statement doesn't fit the schema as this node knows it, which may not be the newest.

    Attributes:
        error: what the client is told if it is.
    """

    def __init__(self, error: RequestError) -> None:
        self.error = error


@contextmanager
def against_schema() -> Iterator[None]:
    """What is refused in here is refused because of the schema.

    Raises:
        SchemaMismatch: instead of ``InvalidRequest`` and ``AlreadyExists``.
    """
    try:
        yield
    except NotSupported:
        raise
    except (InvalidRequest, AlreadyExists) as error:
        raise SchemaMismatch(error) from error


class QueryProcessor:
    """Runs the statements of all sessions of one node.

    Attributes:
        address: where this node's clients connect.
        prepared: statements by id.
        clock: for ages and tracing.
        random: for trace ids.
        rows: the tables' rows.
    """

    def __init__(
        self,
        metadata: Metadata,
        rows: Rows,
        coordinator: Coordinator,
        modifications: Modifications,
        reads: Reads,
        clock: Clock,
        random: Random,
        timestamps: Timestamps,
        address: tuple[str, int],
        infos: Infos,
    ) -> None:
        """
        Args:
            address: where this node's clients connect.
            infos: what this node and the others say of themselves.
        """
        self._infos = infos
        self.address = address
        self.prepared: PreparedStatements[Any] = PreparedStatements()
        self.clock = clock
        self.random = random
        self.rows = rows
        self._metadata = metadata
        self._coordinator = coordinator
        self._modifications = modifications
        self._reads = reads
        self._timestamps = timestamps
        self._cache: StatementCache[Any] = StatementCache()
        self._listeners: dict[Session, None] = {}
        self._view = metadata.view
        self._epoch = self._view.epoch
        self._run: dict[type, Callable[..., None]] = {
            SelectPlan: self._run_select,
            ModificationPlan: self._run_modification,
            BatchPlan: self._run_batch,
            UsePlan: self._run_use,
            DdlPlan: self._run_ddl,
            DescribePlan: self._run_describe,
        }

    @property
    def schema(self) -> Schema:
        return self._view.schema

    # Requests

    def query(self, session: Session, request: Query, answer: Answer) -> None:
        """QUERY: compile, or find the plan of the same text, and run."""
        parameters = request.parameters
        keyspace = parameters.keyspace or session.keyspace
        if answer.trace is not None:
            answer.trace.about(request.statement, parameters)
        plan = self._cache.get(request.statement, keyspace, self._epoch)
        if plan is None:
            plan = self.compile(request.statement, keyspace)
            self._cache.offer(request.statement, keyspace, self._epoch, plan)
        answer.warnings = plan.warnings
        self._execute(session, plan, parameters, answer, b"", prepared=False)

    def prepare(self, text: str, keyspace: str | None) -> PreparedStatement[Any]:
        """PREPARE: compile and keep. The same text in the same keyspace is the same statement."""
        id = statement_id(text, keyspace)
        known = self.prepared.get(id)
        if known is not None:
            self.prepared.touch(id)
            self._refresh(known)
            return known
        plan = self.compile(text, keyspace)
        if len(plan.variables) > limits.BIND_VALUES_MAX:
            raise InvalidRequest(
                f"Too many markers(?). {len(plan.variables)} markers exceed the allowed maximum of "
                f"{limits.BIND_VALUES_MAX}"
            )
        statement = PreparedStatement(id, text, keyspace, plan, self._epoch)
        self.prepared.add(statement)
        return statement

    def execute_prepared(self, session: Session, request: Execute, answer: Answer) -> None:
        """EXECUTE."""
        statement = self.prepared.get(request.statement_id)
        if statement is None:
            raise Unprepared(request.statement_id)
        if statement.epoch != self._epoch:
            self._refresh(statement)
        self.prepared.touch(request.statement_id)
        plan = statement.plan
        parameters = request.parameters
        if plan.__class__ is ModificationPlan and plan.fast is not None and answer.trace is None:
            values = parameters.values
            if parameters.names is None and len(values) == len(plan.variables):
                now_us = self.clock.wall_us()
                now_s = parameters.now_s or now_us // MICROS
                timestamp_us = parameters.timestamp_us
                if timestamp_us is None:
                    timestamp_us = self._timestamps.next_us()
                mutation = plan.fast(values, timestamp_us, now_s)
                if mutation is not None:
                    answer.will_come()
                    self._coordinator.write(
                        plan.table.keyspace, mutation, parameters.consistency, now_us // MICROS, answer
                    )
                    return
        answer.warnings = plan.warnings
        if answer.trace is not None:
            answer.trace.about(statement.text, parameters)
        self._execute(
            session,
            plan,
            parameters,
            answer,
            request.result_metadata_id,
            prepared=True,
            recompiled=statement.recompiled,
        )

    def batch(self, session: Session, request: Batch, answer: Answer) -> None:
        """BATCH: statements that the driver put together."""
        parameters = request.parameters
        keyspace = parameters.keyspace or session.keyspace
        if answer.trace is not None:
            answer.trace.about("BATCH", parameters)
        length = sum([len(one.statement) for one in request.statements if one.statement is not None])
        if length > limits.STATEMENT_BYTES_MAX:
            # They are compiled in one go.
            raise InvalidRequest(
                f"The statements of the batch have {length} characters together; at most "
                f"{limits.STATEMENT_BYTES_MAX} are allowed. Prepare them, or send several batches"
            )
        bound = []
        warnings: list[str] = []
        for one in request.statements:
            if one.statement_id is not None:
                statement = self.prepared.get(one.statement_id)
                if statement is None:
                    raise Unprepared(one.statement_id)
                self.prepared.touch(one.statement_id)
                self._refresh(statement)
                plan = statement.plan
            else:
                assert one.statement is not None
                plan = self._cache.get(one.statement, keyspace, self._epoch)
                if plan is None:
                    plan = self.compile(one.statement, keyspace)
                    self._cache.offer(one.statement, keyspace, self._epoch, plan)
            if not isinstance(plan, ModificationPlan):
                raise InvalidRequest(
                    "Invalid statement in batch: only UPDATE, INSERT and DELETE statements are allowed."
                )
            warnings.extend(plan.warnings)
            bound.append(
                Bound(plan, positional(plan, one.values, None, prepared=one.statement_id is not None))
            )
        answer.warnings = warnings
        check_batch(request.kind, [plan for plan, _ in bound])
        options = self._options(session, parameters, keyspace)
        self._modifications.run(bound, options, None, answer, request.kind)

    def keep_trace(self, mutation: Mutation, now_s: int) -> None:
        """Write rows of a trace; the request itself was carried out, and its trace is worth less than its answer."""

        def kept(error: RequestError | None) -> None:
            if error is not None:
                log.warning("trace not kept", reason=str(error))

        try:
            self._coordinator.write("system_traces", mutation, Consistency.ANY, now_s, kept)
        except RequestError as error:
            kept(error)

    def inquire(self, done: Callable[[], None]) -> bool:
        """Have ``done`` called once this node knows all that was changed before, if there is anybody to ask."""
        return self._metadata.inquire(done)

    # Sessions

    def add_listener(self, session: Session) -> None:
        """The session registered for events."""
        self._listeners[session] = None

    def forget_listener(self, session: Session) -> None:
        self._listeners.pop(session, None)

    # Compiling

    def compile(self, text: str, keyspace: str | None) -> Plan:
        """The plan of a statement.

        Raises:
            RequestError: it can't be parsed.
            SchemaMismatch: it doesn't fit the schema.
        """
        if len(text) > limits.STATEMENT_BYTES_MAX:
            raise InvalidRequest(
                f"The statement has {len(text)} characters; the maximum is {limits.STATEMENT_BYTES_MAX}."
                " Bind large values to markers instead of writing them out."
            )
        statement = parse(text)
        with against_schema():
            return self._compile(statement, text, keyspace)

    def _compile(self, statement: Any, text: str, keyspace: str | None) -> Plan:
        if isinstance(statement, ast.Insert | ast.InsertJson | ast.Update | ast.Delete):
            context = Context(self.schema, keyspace, statement.markers)
            modification = analyse_modification(statement, context)
            return ModificationPlan(modification, self._keys_of(modification.table), context)
        if isinstance(statement, ast.Select):
            context = Context(self.schema, keyspace, statement.markers)
            return self._reads.compile(statement, text, context)
        if isinstance(statement, ast.Batch):
            return BatchPlan(statement, Context(self.schema, keyspace, statement.markers), self._keys_of)
        if isinstance(statement, ast.Use):
            if statement.keyspace not in self.schema.keyspaces:
                raise InvalidRequest(f"Keyspace '{statement.keyspace}' does not exist")
            return UsePlan(statement.keyspace)
        if isinstance(statement, ast.Describe):
            return DescribePlan(statement, keyspace)
        if isinstance(statement, DDL_STATEMENTS):
            return DdlPlan(statement, keyspace)
        raise NotSupported(_statement_name(statement))

    def _keys_of(self, table: Table) -> TableKeys:
        return self.rows.of(table).keys

    def _refresh(self, statement: PreparedStatement[Any]) -> None:
        """Make sure that a prepared statement's plan fits the present schema."""
        if statement.epoch == self._epoch:
            return
        plan = statement.plan
        tables = [plan.table] if hasattr(plan, "table") else [one.table for one in getattr(plan, "plans", ())]
        if not tables or any(self.schema.table(table.keyspace, table.name) is not table for table in tables):
            statement.plan = self.compile(statement.text, statement.keyspace)
            statement.recompiled = True
        statement.epoch = self._epoch

    # Running

    def _execute(
        self,
        session: Session,
        plan: Any,
        parameters: QueryParameters,
        answer: Answer,
        metadata_id: bytes,
        *,
        prepared: bool,
        recompiled: bool = False,
    ) -> None:
        parameters.values = positional(plan, parameters.values, parameters.names, prepared=prepared)
        self._run[type(plan)](session, plan, parameters, answer, metadata_id, recompiled)

    def _options(self, session: Session, parameters: QueryParameters, keyspace: str | None) -> ExecuteOptions:
        timestamp_us = parameters.timestamp_us
        return ExecuteOptions(
            self.clock,
            self.random,
            self._timestamps.next_us() if timestamp_us is None else timestamp_us,
            self.clock.wall_us() // MICROS if parameters.now_s is None else parameters.now_s,
            consistency=parameters.consistency,
            serial_consistency=parameters.serial_consistency,
            page_size=parameters.page_size,
            paging_state=parameters.paging_state,
            keyspace=keyspace,
            version=session.connection.version,
        )

    def _run_select(
        self,
        session: Session,
        plan: SelectPlan,
        parameters: QueryParameters,
        answer: Answer,
        metadata_id: bytes,
        recompiled: bool,
    ) -> None:
        options = self._options(session, parameters, session.keyspace)
        changed = outdated(plan, options.version, metadata_id)
        skip_metadata = parameters.skip_metadata and not changed and not (recompiled and options.version < 5)
        self._reads.run(
            plan, parameters.values, options, answer, skip_metadata=skip_metadata, changed=changed
        )

    def _run_modification(
        self,
        session: Session,
        plan: ModificationPlan,
        parameters: QueryParameters,
        answer: Answer,
        metadata_id: bytes,
        recompiled: bool,
    ) -> None:
        options = self._options(session, parameters, session.keyspace)
        self._modifications.run([Bound(plan, parameters.values)], options, None, answer)

    def _run_batch(
        self,
        session: Session,
        plan: BatchPlan,
        parameters: QueryParameters,
        answer: Answer,
        metadata_id: bytes,
        recompiled: bool,
    ) -> None:
        options = self._options(session, parameters, session.keyspace)
        bound = [Bound(one, parameters.values) for one in plan.plans]
        timestamp = plan.timestamp(parameters.values, options)
        self._modifications.run(bound, options, timestamp, answer, plan.kind)

    def _run_use(
        self,
        session: Session,
        plan: UsePlan,
        parameters: QueryParameters,
        answer: Answer,
        metadata_id: bytes,
        recompiled: bool,
    ) -> None:
        with against_schema():
            if plan.keyspace not in self.schema.keyspaces:
                raise InvalidRequest(f"Keyspace '{plan.keyspace}' does not exist")
        session.keyspace = plan.keyspace
        answer.set_keyspace(plan.keyspace)

    def _run_describe(
        self,
        session: Session,
        plan: DescribePlan,
        parameters: QueryParameters,
        answer: Answer,
        metadata_id: bytes,
        recompiled: bool,
    ) -> None:
        with against_schema():
            description = describe(plan.statement, self.schema, plan.keyspace, self._infos()[0])
        self._reads.answer_description(
            description, parameters.page_size, parameters.paging_state, session.connection.version, answer
        )

    # Schema

    def _run_ddl(
        self,
        session: Session,
        plan: DdlPlan,
        parameters: QueryParameters,
        answer: Answer,
        metadata_id: bytes,
        recompiled: bool,
    ) -> None:
        statement: DdlStatement = plan.statement
        data_centers: dict[str, int] = {}
        for member in self._view.members.values():
            data_centers[member.data_center] = data_centers.get(member.data_center, 0) + 1
        with against_schema():
            checked = analyse_ddl(
                statement, self.schema, plan.keyspace, data_centers, self.clock, self.random
            )
        answer.warnings = checked.warnings
        if checked.change is None:
            answer(None)
            return
        answer.will_come()
        change = checked.change

        def done(outcome: Applied | OuroError) -> None:
            if isinstance(outcome, OuroError):
                answer.error(as_request_error(outcome))
                return
            answer.warnings = [*checked.warnings, *outcome.warnings, *_put_off(outcome.view, change)]
            if not outcome.events:
                answer(None)
            else:
                answer.schema_change(SchemaChange(*outcome.events[-1]))

        self._metadata.submit(change, done)

    def tell_topology(self, change: str, member: Member) -> None:
        """Clients that registered hear that a node came (NEW_NODE) or went (REMOVED_NODE)."""
        address, port = member.native
        self._tell("TOPOLOGY_CHANGE", encode_topology_change_event(change, ip_address(address).packed, port))

    def tell_status(self, is_up: bool, member: Member) -> None:
        """Clients that registered hear that a node is up or down."""
        address, port = member.native
        change = "UP" if is_up else "DOWN"
        self._tell("STATUS_CHANGE", encode_status_change_event(change, ip_address(address).packed, port))

    def view_changed(self, view: ClusterView, events: Sequence[SchemaChangeEvent]) -> None:
        """The metadata log moved: tables that are gone lose their rows, clients that registered hear of it."""
        before = {table.incarnation: table for table in _tables(self.schema)}
        self._view = view
        self._epoch = view.epoch
        after = {table.incarnation: table for table in _tables(view.schema)}
        for incarnation, table in after.items():
            if before.get(incarnation) is not table:
                self.rows.register(table)
        for incarnation in before:
            if incarnation not in after:
                try:
                    self.rows.drop(incarnation)
                except OuroError as error:
                    # The next start of this node deletes them.
                    log.warning("rows of a table that is gone stay on disk for now", reason=str(error))
        self._reads.schema_changed(view)
        for event in events:
            self._tell("SCHEMA_CHANGE", encode_schema_change_event(SchemaChange(*event)))

    def _tell(self, event: str, body: bytes) -> None:
        for session in self._listeners:
            if event in session.events:
                session.connection.send_event(body)
                session.wake()


def positional(
    plan: Plan, values: list[Value], names: list[str] | None, *, prepared: bool = True
) -> list[Value]:
    """The values in the order of the plan's variables.

    Args:
        prepared: how to say that there are too few or too many.

    Raises:
        InvalidRequest: there are too few or too many, or a name is missing.
    """
    variables: Sequence[ColumnSpec] = plan.variables
    if names is None:
        if len(values) != len(variables):
            raise InvalidRequest(
                f"there were {len(variables)} markers(?) in CQL but {len(values)} bound variables"
                if prepared
                else "Invalid amount of bind variables"
            )
        return values
    by_name = dict(zip(names, values, strict=True))
    return [by_name.get(variable.name, UNSET) for variable in variables]


def _tables(schema: Schema) -> list[Table]:
    return [
        table
        for keyspace in schema.keyspaces.values()
        for table in keyspace.tables.values()
        if not table.virtual
    ]


def _statement_name(statement: object) -> str:
    """``CreateIndex`` -> CREATE INDEX, for a message."""
    name = type(statement).__name__
    words = "".join(f" {letter}" if letter.isupper() else letter for letter in name).split()
    return " ".join(words).upper()


def _put_off(view: ClusterView, change: Change) -> tuple[str, ...]:
    """That a change of a keyspace's copies takes time."""
    if not isinstance(change, AlterKeyspace):
        return ()
    name = change.keyspace
    if all(one is None or one.keyspace != name for one in (view.move, *view.wishes)):
        return ()
    told = (
        f"the rows of keyspace {name} move in the background, and it keeps the replication that it had until then;"
        " ouro status shows how far they are"
    )
    return (told,)
