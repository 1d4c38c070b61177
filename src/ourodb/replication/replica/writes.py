"""Writes: mutations applied to the rows of this node, acknowledged when they are as durable as promised.

Mutations are applied as they come, so that the next request sees them. Acknowledgements wait for the end of the pass
of the loop: then the store writes all that was applied as one batch (``settle``), and the callers hear of it at once
under ``periodic`` durability, or after the fsync that they all share under ``group``. Where the store ends a batch
before that, each caller hears what became of the batch that its own write was in. Nothing here makes a task, a timer
or a future for a request.

A mutation whose row isn't in memory is tried again once it is. Others may overtake it meanwhile, which does
no harm: merging is commutative. What reads before it writes (conditions, counters, list indexes) begins anew
as a whole, and so does what came from a peer or is this node's alone: while it waited the range may have begun to move.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from ourodb import limits
from ourodb.errors import OuroError, Overloaded, RequestError, ServerError, internal_error
from ourodb.ports import Store
from ourodb.storage.families import DATA
from ourodb.storage.mutation import Mutation, in_pieces
from ourodb.storage.row import Wait
from ourodb.storage.rows import Rows

log = structlog.get_logger()

Done = Callable[[RequestError | None], None]
"""What is called, exactly once, when a request is carried out (None) or failed."""

Step = Callable[[], Wait | None]
"""Does something all or nothing, or says what it waits for, having done nothing."""


@dataclass(slots=True)
class Pieces:
    """Mutations that need not be applied all or none, but piece by piece.

    A piece is applied when all its rows are in memory at one time. What a peer gives, or has kept for a while, may be
    about more rows than there is room for, and would be waited for again and again.

    Attributes:
        left: what isn't applied yet.
        batches_lost: as of ``Rows``, before the first was: one that is lost since may be one of them.
    """

    left: deque[list[Mutation]]
    batches_lost: int


class Writes:
    """All writes to this node's rows."""

    def __init__(self, rows: Rows, store: Store, *, group: bool, arm: Callable[[], None]) -> None:
        """
        Args:
            group: acknowledge after the shared fsync; else as soon as the store has it.
            arm: asks the owner to call ``settle`` at the end of this pass of the loop.
        """
        self.rows = rows
        self._store = store
        self._group = group
        self._arm = arm
        self._unsettled: list[Done] = []
        self._unsynced: list[Done] = []
        self._written = (0, 0)
        """How many of both have been written in this pass."""
        self._lost: list[tuple[Done, RequestError]] = []
        store.follow_batches(self._batch_ended)
        self._queues: dict[bytes, list[tuple[Callable[[], None], Done]]] = {}

    def write(
        self, mutation: Mutation, now_s: int, done: Done, again: Callable[[], None] | None = None
    ) -> None:
        """Apply one mutation; ``done`` is never called before this returns, unless it failed.

        Args:
            again: begun instead of this, after a wait; may raise why it can't be.
        """
        try:
            wait = self.rows.apply(mutation, now_s)
        except OuroError as error:
            done(as_request_error(error))
            return
        if wait is not None:
            self._when_ready(wait.key, again or (lambda: self.write(mutation, now_s, done)), done)
            return
        if not self._unsettled:
            self._arm()
        self._unsettled.append(done)

    def write_all(
        self,
        mutations: Sequence[Mutation],
        now_s: int,
        done: Done,
        again: Callable[[], None] | None = None,
    ) -> None:
        """Apply all of them, or none, in one atomic write; ``again`` as of ``write``."""
        self.run(lambda: self.rows.apply_many(mutations, now_s), done, again=again)

    def in_pieces(self, mutations: Iterable[Mutation]) -> Pieces:
        """For ``write_pieces``."""
        return Pieces(deque(in_pieces(mutations, limits.APPLIED_RECORDS_MAX)), self.rows.batches_lost)

    def write_pieces(
        self, pieces: Pieces, now_s: int, done: Done, again: Callable[[], None] | None = None
    ) -> None:
        """Apply what is left of something; ``again`` as of ``write``."""
        rows, left = self.rows, pieces.left

        def step() -> Wait | None:
            if rows.batches_lost != pieces.batches_lost:
                raise Overloaded("the store couldn't take all of it; try again")
            while left:
                wait = rows.apply_many(left[0], now_s)
                if wait is not None:
                    return wait
                left.popleft()
            return None

        self.run(step, done, again=again)

    def run(
        self, step: Step, done: Done, *, sync: bool = False, again: Callable[[], None] | None = None
    ) -> None:
        """Run a step that applies something, again and again until it need not wait; then acknowledge it.

        Args:
            sync: acknowledge after an fsync also under ``periodic`` durability.
            again: as of ``write``.
        """
        try:
            wait = step()
        except OuroError as error:
            done(as_request_error(error))
            return
        if wait is not None:
            self._when_ready(wait.key, again or (lambda: self.run(step, done, sync=sync)), done)
            return
        if not self._unsettled and not self._unsynced:
            self._arm()
        (self._unsynced if sync else self._unsettled).append(done)

    def run_once(self, step: Step, done: Done, unknown: RequestError, again: Callable[[], None]) -> None:
        """Run a step that must not be repeated, and acknowledge it after an fsync.

        Args:
            unknown: what is told when it was applied and nobody knows whether it lasts. Any other error says that
                nothing was done.
            again: as of ``write``.
        """
        is_applied = False

        def noted() -> Wait | None:
            nonlocal is_applied
            wait = step()
            is_applied = wait is None
            return wait

        def noted_done(error: RequestError | None) -> None:
            done(error if error is None or not is_applied else unknown)

        self.run(noted, noted_done, sync=True, again=again)

    def settle(self) -> None:
        """The pass is over: hand what was applied to the store, and acknowledge."""
        try:
            self._store.settle()
        except OuroError as error:
            self._batch_ended(error)
        unsettled, unsynced, lost = self._unsettled, self._unsynced, self._lost
        self._unsettled, self._unsynced, self._lost = [], [], []
        self._written = (0, 0)
        if self._group:
            unsettled, unsynced = [], unsettled + unsynced if unsynced else unsettled
        if unsynced:
            # Before anybody hears something and writes more, which may be refused.
            self._store.sync(lambda error: _acknowledge(unsynced, error))
        for done in unsettled:
            done(None)
        for done, refusal in lost:
            done(refusal)

    def _batch_ended(self, error: OuroError | None) -> None:
        """The store has written, or lost, all that was applied so far and not written before."""
        if error is not None:
            refusal = as_request_error(error)
            for waiting, written in zip((self._unsettled, self._unsynced), self._written, strict=True):
                self._lost += [(done, refusal) for done in waiting[written:]]
                del waiting[written:]
        self._written = (len(self._unsettled), len(self._unsynced))

    def _when_ready(self, key: bytes, again: Callable[[], None], done: Done) -> None:
        queue = self._queues.get(key)
        if queue is not None:
            queue.append((again, done))
            return
        self._queues[key] = [(again, done)]
        self._store.fetch(DATA, key, lambda fetched: self._ready(key, fetched))

    def _ready(self, key: bytes, fetched: bytes | None | Exception) -> None:
        error = as_request_error(fetched) if isinstance(fetched, Exception) else None
        for again, done in self._queues.pop(key):
            if error is None:
                attempt(again, done)
            else:
                done(error)


def _acknowledge(waiting: Sequence[Done], error: Exception | None) -> None:
    refusal = None if error is None else as_request_error(error)
    for done in waiting:
        done(refusal)


def attempt(begin: Callable[[], None], done: Callable[[RequestError], None]) -> None:
    """Begin what has a way of its own to tell how it ends; ``done`` is told if it can't even begin."""
    try:
        begin()
    except OuroError as error:
        done(as_request_error(error))


def as_request_error(error: Exception) -> RequestError:
    """What the client is told of an error that comes where its session doesn't see it: in a later pass, mostly. A bug
    of ours is logged.
    """
    if isinstance(error, RequestError):
        return error
    if isinstance(error, OuroError):
        return ServerError(str(error))
    log.error("internal error", exc_info=error)
    return internal_error(error)
