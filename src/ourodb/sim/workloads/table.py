"""Any read of any table gives what was written: random tables, writes and SELECTs against a model.

Each client writes to partitions of its own, one write after the other, with its own timestamps, and repeats a write
whose outcome it doesn't know until it is acknowledged; so at every moment it is known what they hold, whatever the
nodes' clocks say. It reads them, slices of them and several at once, and now and then those of others. Scans read whole
tables, page after page, each page perhaps by another node; meanwhile nobody begins a write.

At the end everything is read: at ONE, which may be stale ("look": see ``stale``), at QUORUM, at ALL, which repairs all
replicas, and then at ONE again, which mustn't be stale any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ourodb.cql.wire.codes import Consistency
from ourodb.sim.checkers.rows import Key, Shape, Write
from ourodb.sim.checkers.selects import ResultRow, Select
from ourodb.sim.checkers.tables import Judgement, check_tables
from ourodb.sim.history import Operation, Outcome
from ourodb.sim.workloads.stage import (
    NeverDone,
    Reply,
    Script,
    Stage,
    from_bigint,
    set_up_tables,
)
from ourodb.sim.workloads.tables import (
    KEYS_PER_CLIENT,
    Cql,
    Scribe,
    choice,
    draw_scan,
    draw_select,
    draw_shape,
    key_of,
    swept,
)

TABLES: Final = 2
CONNECTIONS: Final = 3
"""Of each client, which it uses by turns, so that different nodes read what one has written."""
OTHERS: Final = 1_000
"""Clients from this number on are further connections of the first ones."""
SCAN_WAIT_S: Final = 2.0
"""A scan waits so long for writes that are under way."""
POLL_S: Final = 0.005
PAGE_TRIES: Final = 3
WRITE_TRIES: Final = 60
"""For what is left at the end."""
READERS_AT_THE_END: Final = 3


class TableWorkload:
    """See the module.

    Attributes:
        shapes: of the tables.
    """

    name = "table"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.shapes = [draw_shape(stage.random, f"rows{number}") for number in range(TABLES)]
        self._scribes: dict[tuple[str, Key], Scribe] = {}
        self._writes = 0
        self._writing = 0
        self._scanning = 0
        self._pending: list[tuple[Operation, Write, Cql]] = []
        self._refused: list[str] = []
        self._judgement: Judgement | None = None

    def set_up(self) -> Script[None]:
        yield from set_up_tables(self._stage, [shape.create() for shape in self.shapes])

    def run_client(self, number: int) -> Script[None]:
        stage, random = self._stage, self._stage.random
        for shape in self.shapes:
            for index in range(KEYS_PER_CLIENT):
                key = key_of(shape, number, index)
                self._scribes[shape.name, key] = Scribe(shape, key, random)
        while not stage.is_over:
            shape = choice(random, self.shapes)
            drawn = random.below(20)
            if drawn < 10:
                key = key_of(shape, number, random.below(KEYS_PER_CLIENT))
                yield from self._write(number, self._scribes[shape.name, key])
            elif drawn < 19:
                keys = self._keys(number, shape)
                yield from self._read(number, shape, "read", *draw_select(random, shape, keys), self._level())
            else:
                yield from self._scan(number, shape)
            yield stage.sleep((1 + random.below(20)) / 1000)

    def finish(self) -> Script[None]:
        pending, self._pending = self._pending, []
        for operation, write, cql in pending:
            text, values = cql.bound()
            for _ in range(WRITE_TRIES):
                reply: Reply = yield self._stage.client(0).execute(text, values)
                if reply.error is None:
                    break
                yield self._stage.sleep(0.5)
            else:
                raise NeverDone(f"{write}: {reply.error_name}")
            self._stage.history.complete(operation, Outcome.DONE)
        yield self._stage.sleep(POLL_S)
        yield from self._read_everything("look", Consistency.ONE)
        yield from self._read_everything("read", Consistency.QUORUM)
        yield from self._read_everything("read", Consistency.ALL)
        for _ in range(READERS_AT_THE_END):
            yield from self._read_everything("read", Consistency.ONE)

    def problems(self) -> list[str]:
        return self._refused + self.judgement().problems

    def stale(self) -> list[str]:
        """Where a replica hadn't got what it missed before everything was read; no violation by itself."""
        return self.judgement().stale

    def judgement(self) -> Judgement:
        if self._judgement is None:
            shapes = {shape.name: shape for shape in self.shapes}
            self._judgement = check_tables(self._stage.history, shapes)
        return self._judgement

    # Writing

    def _write(self, number: int, scribe: Scribe) -> Script[None]:
        stage = self._stage
        while self._scanning and not stage.is_over:
            yield stage.sleep(POLL_S)
        if stage.is_over:
            return
        self._writes += 1
        write, cql = scribe.draw(self._writes)
        level = Consistency.ALL if swept(scribe.shape) else Consistency.QUORUM
        is_bound = bool(stage.random.below(3))
        text, values = cql.bound() if is_bound else (cql.text(), [])
        operation = stage.history.invoke(number, "write", number, write)
        self._writing += 1
        while True:
            reply: Reply = yield stage.client(number).execute(
                text, values, consistency=level, is_prepared=is_bound
            )
            if reply.error is None:
                stage.history.complete(operation, Outcome.DONE)
                break
            if not reply.is_explained:
                stage.history.complete(operation, Outcome.REFUSED, None, reply.error_name)
                self._refused.append(f"a write is refused: {write}: {reply.error_name}: {reply.error}")
                break
            if stage.is_over:
                self._pending.append((operation, write, cql))
                break
            yield stage.sleep((10 + stage.random.below(200)) / 1000)
        self._writing -= 1

    # Reading

    def _keys(self, number: int, shape: Shape) -> list[Key]:
        """Of the partitions to be read: one or several of its own, or one of somebody else's."""
        random = self._stage.random
        drawn = random.below(8)
        if drawn == 0:
            return [choice(random, [key for name, key in self._scribes if name == shape.name])]
        count = 2 + random.below(2) if drawn == 1 else 1
        return [
            key_of(shape, number, index) for index in {random.below(KEYS_PER_CLIENT) for _ in range(count)}
        ]

    def _level(self) -> Consistency:
        return Consistency.QUORUM if self._stage.random.below(8) else Consistency.ALL

    def _scan(self, number: int, shape: Shape) -> Script[None]:
        stage = self._stage
        self._scanning += 1
        waited_s = 0.0
        while self._writing and waited_s < SCAN_WAIT_S:
            yield stage.sleep(POLL_S)
            waited_s += POLL_S
        # What was acknowledged at this very moment overlaps otherwise.
        yield stage.sleep(POLL_S)
        if not self._writing and not stage.is_over:
            keys = [key for name, key in self._scribes if name == shape.name]
            select, cql = draw_scan(stage.random, shape, lambda: choice(stage.random, keys))
            yield from self._read(number, shape, "scan", select, cql, Consistency.QUORUM)
        self._scanning -= 1

    def _read(
        self,
        number: int,
        shape: Shape,
        kind: str,
        select: Select,
        cql: Cql,
        level: int,
        page_rows: int | None = None,
    ) -> Script[None]:
        """All pages of a SELECT; each is asked again if there is no answer."""
        stage, random = self._stage, self._stage.random
        is_bound = bool(random.below(3))
        text, values = cql.bound() if is_bound else (cql.text(), [])
        if page_rows is None:
            # What is sorted over partitions can't be paged.
            page_rows = 0 if select.sorts or random.below(3) == 0 else 1 + random.below(6)
        operation = stage.history.invoke(number, kind, number, select)
        rows: list[ResultRow] = []
        paging_state: bytes | None = None
        failures = 0
        while True:
            client = stage.client(number + OTHERS * random.below(CONNECTIONS))
            reply: Reply = yield client.execute(
                text,
                values,
                consistency=level,
                page_size=page_rows,
                paging_state=paging_state,
                is_prepared=is_bound,
            )
            if reply.error is not None:
                failures += 1
                if not reply.is_explained:
                    self._refused.append(f"a read is refused: {select}: {reply.error_name}: {reply.error}")
                elif failures < PAGE_TRIES:
                    continue
                stage.history.complete(operation, reply.outcome, None, reply.error_name)
                return
            if page_rows and len(reply.rows) > page_rows:
                self._refused.append(f"a page of {page_rows} has {len(reply.rows)} rows: {select}")
            rows += decoded(shape, select, reply.rows)
            paging_state = reply.paging_state
            if paging_state is None:
                break
        stage.history.complete(operation, Outcome.DONE, rows)

    def _read_everything(self, kind: str, level: int) -> Script[None]:
        """Each table as a whole, and its partitions one by one."""
        for shape in self.shapes:
            columns = [
                *shape.partition,
                *shape.clustering,
                *shape.statics,
                *shape.regulars,
            ]
            names = tuple(column.name for column in columns)
            start = f"SELECT {', '.join(names)} FROM {shape.name}"
            cql = Cql()
            cql.add(start)
            select = Select(shape.name, names, text=f"{start} at {Consistency(level).name}")
            yield from self._insist(shape, kind, select, cql, level, 50)
            for key in [key for name, key in self._scribes if name == shape.name]:
                cql = Cql()
                cql.add(start, " WHERE ")
                cql.equal(shape.partition, key)
                text = f"{cql.text()} at {Consistency(level).name}"
                select = Select(shape.name, names, keys=(key,), text=text)
                yield from self._insist(shape, kind, select, cql, level, 0)

    def _insist(
        self, shape: Shape, kind: str, select: Select, cql: Cql, level: int, page_rows: int
    ) -> Script[None]:
        for _ in range(WRITE_TRIES):
            before = len(self._stage.history)
            yield from self._read(0, shape, kind, select, cql, level, page_rows)
            if self._stage.history.operations[before].outcome is Outcome.DONE:
                return
            yield self._stage.sleep(0.5)
        raise NeverDone(f"{select}: {self._stage.history.operations[-1].error}")


def decoded(shape: Shape, select: Select, rows: Sequence[Sequence[bytes | None]]) -> list[ResultRow]:
    """Rows as they came over the wire."""
    columns = [
        None if name == "count" or name.startswith("writetime") else shape.column(name)
        for name in select.columns
    ]
    return [
        tuple(
            from_bigint(cell) if column is None else column.decode(cell)
            for column, cell in zip(columns, row, strict=True)
        )
        for row in rows
    ]
