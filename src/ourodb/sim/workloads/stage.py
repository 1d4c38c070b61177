"""What a workload sees of the cluster that it runs on.

Scripts are generators; what they yield is the stage's business: a script gets it from a client or from the stage,
yields it, and is given its value. On virtual time that is a promise, with blocking clients it may be the value
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from ourodb.cql.wire.codes import Consistency
from ourodb.errors import (
    CasWriteUnknown,
    IsBootstrapping,
    OuroError,
    Overloaded,
    ReadFailure,
    ReadTimeout,
    RequestError,
    ServerError,
    Unavailable,
    WriteFailure,
    WriteTimeout,
)
from ourodb.errors import InvalidRequest as _Invalid
from ourodb.ports import Random
from ourodb.sim.history import History, Outcome

T = TypeVar("T")
Script = Generator[Any, Any, T]

KEYSPACE: Final = "sim"
"""In which workloads make their tables."""


class NotSent(OuroError):
    """No node could be reached: the statement was never sent."""


class NoAnswer(OuroError):
    """The statement was sent, and then the connection was lost or time was up."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a statement got.

    Attributes:
        error: None when it succeeded.
        columns: names of the result's columns.
        rows: cells as on the wire.
        paging_state: where the next page begins, or None.
        epochs: how many entries of the metadata log the node that was asked had applied when it carried this out, at
            least and at most; zeros where nobody can tell.
    """

    error: RequestError | NotSent | NoAnswer | None = None
    columns: tuple[str, ...] = ()
    rows: list[list[bytes | None]] = field(default_factory=list)
    paging_state: bytes | None = None
    epochs: tuple[int, int] = (0, 0)

    @property
    def outcome(self) -> Outcome:
        """Whether a write took effect. Only what is refused before anything is done counts as refused."""
        if self.error is None:
            return Outcome.DONE
        if isinstance(self.error, _REFUSALS):
            return Outcome.REFUSED
        return Outcome.UNKNOWN

    @property
    def is_explained(self) -> bool:
        """Whether faults explain the error, if there is one. Any other says that the statement is wrong, or a node."""
        error = self.error
        if isinstance(error, ServerError):
            return any(text in error.message for text in _STORE_FAILED)
        return error is None or isinstance(error, _OF_FAULTS)

    @property
    def error_name(self) -> str:
        """The error's class, and its message where the class says little."""
        if self.error is None:
            return ""
        name = type(self.error).__name__
        return f"{name} ({self.error})" if isinstance(self.error, ServerError | Overloaded) else name

    def cell(self, column: str, row: int = 0) -> bytes | None:
        """A cell of one row; None when it is null, or the result has no such column."""
        return self.rows[row][self.columns.index(column)] if column in self.columns else None


_REFUSALS = (NotSent, Unavailable, IsBootstrapping, _Invalid)
_OF_FAULTS = (
    NotSent,
    NoAnswer,
    Unavailable,
    IsBootstrapping,
    Overloaded,
    ReadTimeout,
    ReadFailure,
    WriteTimeout,
    WriteFailure,
    CasWriteUnknown,
)
"""A disk that is full, or a store that stalls, is told as ``Overloaded``."""
_STORE_FAILED = ("Restart the node", "the storage engine failed")
"""In what a node says whose disk has failed an fsync. Nobody knows what lasts of what it wrote, so it writes nothing
more until it is started again; the protocol has no better error for that than ``ServerError``.
"""


class Client(Protocol):
    """One client, connected to some node."""

    def execute(
        self,
        statement: str,
        values: Sequence[bytes | None] = (),
        *,
        consistency: int = Consistency.QUORUM,
        serial_consistency: int = Consistency.SERIAL,
        timeout_s: float = 5.0,
        page_size: int = 0,
        paging_state: bytes | None = None,
        is_prepared: bool = True,
    ) -> Any:
        """Run a statement once, never twice. To be yielded: gives a ``Reply``.

        Args:
            values: as on the wire.
            page_size: rows; 0: unpaged.
            is_prepared: prepare it first, if this wasn't done on this connection.
        """
        ...


class Stage(Protocol):
    """Where a workload plays.

    Attributes:
        random: its draws.
        history: what it saw.
        replication_factor: for its tables.
        data_centers: replication factors by data centre, of its tables, if clients keep to one data centre each (see
            ``sides``); empty: they use all nodes, and ``replication_factor`` is for the cluster as a whole.
        is_over: time is up; scripts of clients end when they see it.
    """

    history: History
    replication_factor: int
    data_centers: Mapping[str, int]
    is_over: bool

    @property
    def random(self) -> Random: ...

    def client(self, number: int) -> Client:
        """A client's own connection; the same number always gets the same client."""
        ...

    def sleep(self, seconds: float) -> Any:
        """To be yielded."""
        ...


class Workload(Protocol):
    """What clients do.

    Attributes:
        name: by which it is chosen.
    """

    name: str

    def set_up(self) -> Script[None]:
        """Make the tables."""
        ...

    def run_client(self, number: int) -> Script[None]:
        """One client, until the stage is over."""
        ...

    def finish(self) -> Script[None]:
        """Look at what there is in the end, after everything has healed."""
        ...

    def problems(self) -> list[str]:
        """What was wrong, for people; empty when everything was right."""
        ...


def set_up_tables(stage: Stage, tables: Sequence[str]) -> Script[None]:
    """Make the keyspace and tables, trying again until it is done.

    Args:
        tables: CREATE TABLE IF NOT EXISTS statements.
    """
    replication = f"'class': 'SimpleStrategy', 'replication_factor': {stage.replication_factor}"
    if stage.data_centers:
        factors = ", ".join(f"'{name}': {factor}" for name, factor in stage.data_centers.items())
        replication = f"'class': 'NetworkTopologyStrategy', {factors}"
    statements = [f"CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH replication = {{{replication}}}", *tables]
    for statement in statements:
        yield from insist(stage, statement, (), is_prepared=False)


def insist(
    stage: Stage,
    statement: str,
    values: Sequence[bytes | None],
    *,
    number: int = 0,
    consistency: int = Consistency.QUORUM,
    tries: int = 60,
    is_prepared: bool = True,
    is_answer: Callable[[Reply], bool] = lambda reply: reply.error is None,
) -> Script[Reply]:
    """Run a statement that may be repeated, until it succeeds; gives its reply.

    Args:
        is_answer: which replies are taken; some refusals may be among them.
    Raises:
        NeverDone: it didn't, though nothing is wrong any more.
    """
    client = stage.client(number)
    reply = Reply()
    for _ in range(tries):
        answered: Reply = yield client.execute(
            statement, values, consistency=consistency, is_prepared=is_prepared
        )
        reply = answered
        if is_answer(reply):
            return reply
        yield stage.sleep(0.5)
    raise NeverDone(f"{statement}: {reply.error_name}: {reply.error}")


def read_all(
    stage: Stage, statement: str, *, consistency: int, number: int = 0, page_size: int = 500
) -> Script[tuple[tuple[str, ...], list[list[bytes | None]]]]:
    """All rows of a SELECT, page after page, trying again until it succeeds; gives columns and rows.

    Raises:
        NeverDone: it didn't, though nothing is wrong any more.
    """
    client = stage.client(number)
    rows: list[list[bytes | None]] = []
    paging_state: bytes | None = None
    failures = 0
    while True:
        reply = yield client.execute(
            statement, consistency=consistency, page_size=page_size, paging_state=paging_state
        )
        if reply.error is not None:
            failures += 1
            if failures > 60:
                raise NeverDone(f"{statement}: {reply.error_name}: {reply.error}")
            yield stage.sleep(0.5)
            continue
        rows += reply.rows
        paging_state = reply.paging_state
        if paging_state is None:
            return reply.columns, rows


class NeverDone(OuroError):
    """Something that has to succeed on a healed cluster doesn't."""


def bigint(number: int) -> bytes:
    """A value of type bigint."""
    return number.to_bytes(8, "big", signed=True)


def from_bigint(value: bytes | None) -> int | None:
    return None if value is None else int.from_bytes(value, "big", signed=True)
