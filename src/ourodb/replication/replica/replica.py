"""Reads and writes that peers ask of this node.

A request that names a table which this node doesn't know, or a partition that it doesn't hold, sent by a coordinator
that has applied more of the metadata log, is parked until this node has caught up. One for a table that is unknown,
sent by one that has applied no more, is for a table that is gone, and refused. Everything else is carried out on
arrival and answered when it is as durable as promised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

import msgspec
import structlog

from ourodb import limits
from ourodb.errors import OuroError, Overloaded
from ourodb.peer.messages import HEADER_BYTES, Verb
from ourodb.ports import DATA as DATA_LANE
from ourodb.ports import Clock, Link, NodeId, Store
from ourodb.replication.messages import CoordinatorBehind, OversizedRow, encode_failure
from ourodb.replication.peers import Peers
from ourodb.replication.replica.fence import Fence
from ourodb.replication.replica.reads import RangeCommand, decode_command, digest_of
from ourodb.replication.replica.writes import Pieces, Writes
from ourodb.storage.apply import UnknownIncarnation
from ourodb.storage.families import DATA
from ourodb.storage.mutation import Mutation, decode_mutation
from ourodb.storage.record import CorruptRecord
from ourodb.storage.row import Wait
from ourodb.storage.rows import Rows

log = structlog.get_logger()

MICROS = 1_000_000

REPLY_BYTES_MAX = limits.PEER_MESSAGE_BYTES_MAX[DATA_LANE] - HEADER_BYTES

Handler = Callable[[Link, NodeId, int, int, bytes], None]
"""(link to the sender, sender, request, the sender's epoch, body)."""


class Acknowledgement:
    """Answers a write once it is durable."""

    __slots__ = ("_link", "_peers", "_request", "_verb")

    def __init__(self, peers: Peers, link: Link, verb: int, request: int) -> None:
        self._peers = peers
        self._link = link
        self._verb = verb
        self._request = request

    def __call__(self, error: Exception | None) -> None:
        if error is None:
            self._peers.reply(self._link, self._verb, self._request)
        else:
            self._peers.fail(self._link, self._verb, self._request, encode_failure(error))


class Replica:
    """This node's rows, as peers see them.

    Attributes:
        catch_up: asks for the entries of the metadata log up to an epoch that a peer has applied.
        fence: against coordinators who don't know that rows have moved; None on a node outside of a cluster.
        holds: whether this node is to hold a partition, by its keyspace and position, as far as it knows.
        parked: requests that wait for them, counted now.
    """

    def __init__(self, rows: Rows, store: Store, writes: Writes, peers: Peers, clock: Clock) -> None:
        self.catch_up: Callable[[int], None] = lambda epoch: None
        self.fence: Fence | None = None
        self.holds: Callable[[str, bytes], bool] = lambda keyspace, position: True
        self._rows = rows
        self._store = store
        self._writes = writes
        self._peers = peers
        self._clock = clock
        self._parked: list[tuple[int, Callable[[], None]]] = []

    @property
    def parked(self) -> int:
        return len(self._parked)

    def handlers(self) -> dict[int, Handler]:
        """By verb."""
        return {
            Verb.WRITE: self.on_write,
            Verb.WRITE_ALL: self.on_write_all,
            Verb.REPAIR: self.on_repair,
            Verb.HINT: self.on_hints,
            Verb.READ_ROW: lambda *request: self.on_read(Verb.READ_ROW, *request),
            Verb.READ_SLICES: lambda *request: self.on_read(Verb.READ_SLICES, *request),
            Verb.READ_RANGE: lambda *request: self.on_read(Verb.READ_RANGE, *request),
        }

    def epoch_applied(self, epoch: int) -> None:
        """This node has caught up: what waited for it is run."""
        ready = [again for waited_for, again in self._parked if waited_for <= epoch]
        self._parked = [parked for parked in self._parked if parked[0] > epoch]
        for again in ready:
            again()

    # Verbs

    def on_write(self, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        mutation, _ = decode_mutation(body)
        now_s = self._clock.wall_us() // MICROS
        done = Acknowledgement(self._peers, link, Verb.WRITE, request)
        again = lambda: self.on_write(link, node, request, epoch, body)  # noqa: E731
        if self.knows(mutation.incarnation, epoch, again, done, mutation.position):
            self._writes.write(mutation, now_s, done, again)

    def on_write_all(self, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        """Several mutations, all or none."""
        done = Acknowledgement(self._peers, link, Verb.WRITE_ALL, request)
        mutations = decode_mutations(body)
        again = lambda: self.on_write_all(link, node, request, epoch, body)  # noqa: E731
        if self._knows_all(mutations, epoch, again, done):
            self._writes.write_all(mutations, self._clock.wall_us() // MICROS, done, again)

    def on_repair(self, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        """What this node lacked. Its deletions keep their age: made young again by each repair, none would ever die."""
        mutations = decode_mutations(body)
        now_s = self._clock.wall_us() // MICROS
        for mutation in mutations:
            mutation.stamped_at = now_s
        done = Acknowledgement(self._peers, link, Verb.REPAIR, request)
        self._write_pieces(self._writes.in_pieces(mutations), now_s, epoch, done)

    def _write_pieces(self, pieces: Pieces, now_s: int, epoch: int, done: Acknowledgement) -> None:
        """Write what is left of something, as long as its sender knows who holds it."""
        again = lambda: self._write_pieces(pieces, now_s, epoch, done)  # noqa: E731
        if self._knows_all(chain.from_iterable(pieces.left), epoch, again, done):
            self._writes.write_pieces(pieces, now_s, done, again)

    def _knows_all(
        self,
        mutations: Iterable[Mutation],
        epoch: int,
        again: Callable[[], None],
        refuse: Callable[[Exception], None],
    ) -> bool:
        """``knows``, of each of them."""
        return all(
            self.knows(mutation.incarnation, epoch, again, refuse, mutation.position)
            for mutation in mutations
        )

    def on_hints(self, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        """Mutations that this node missed; those of tables that are gone are dropped."""
        done = Acknowledgement(self._peers, link, Verb.HINT, request)
        again = lambda: self.on_hints(link, node, request, epoch, body)  # noqa: E731
        mutations = []
        for mutation in decode_mutations(body):
            try:
                self._rows.known(mutation.incarnation)
            except UnknownIncarnation:
                if epoch > self._peers.epoch:
                    self.park(epoch, again, done)
                    return
                continue
            mutations.append(mutation)
        pieces = self._writes.in_pieces(mutations)
        self._write_pieces(pieces, self._clock.wall_us() // MICROS, epoch, done)

    def on_read(self, verb: Verb, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        try:
            command, digest = decode_command(verb, body, self._rows)
            fence = self.fence
            if fence is not None and epoch < fence.epoch:
                if isinstance(command, RangeCommand):
                    # The end of all positions is after all of them.
                    end = b"\xff" * 9 if command.end is None else command.end
                    fence.check(epoch, command.rows.table.keyspace, command.start, end)
                else:
                    fence.check(epoch, command.rows.table.keyspace, command.position)
            chunk = command.run()
        except UnknownIncarnation as error:
            again = lambda: self.on_read(verb, link, node, request, epoch, body)  # noqa: E731
            if epoch > self._peers.epoch:
                self.park(epoch, again, lambda error: self._fail(link, verb, request, error))
            else:
                self._fail(link, verb, request, error)
            return
        except (CorruptRecord, msgspec.DecodeError) as error:
            log.warning("a read that can't be understood", peer=link.address, reason=str(error))
            self._fail(link, verb, request, error)
            return
        except OuroError as error:
            # Too many tombstones, or damage on disk.
            self._fail(link, verb, request, error)
            return
        if isinstance(chunk, Wait):

            def fetched(value: bytes | None | Exception) -> None:
                if isinstance(value, Exception):
                    self._fail(link, verb, request, value)
                else:
                    self.on_read(verb, link, node, request, epoch, body)

            self._store.fetch(DATA, chunk.key, fetched)
            return
        reply = digest_of(command, chunk) if digest else chunk.encode()
        if len(reply) > REPLY_BYTES_MAX:
            self._fail(link, verb, request, OversizedRow(f"a row has more than {REPLY_BYTES_MAX >> 20} MiB"))
            return
        self._peers.reply(link, verb, request, reply)

    # What isn't known yet

    def knows(
        self,
        incarnation: int,
        epoch: int,
        again: Callable[[], None],
        refuse: Callable[[Exception], None],
        position: bytes | None = None,
    ) -> bool:
        """Whether a request can be carried out: its table is known, and its sender knows who holds the partition.
        If not, the request is parked or refused.

        Args:
            epoch: the sender's.
            again: the request, to be run once this node has caught up.
            position: of its partition; None: whoever holds it will be found here.
        """
        try:
            rows = self._rows.known(incarnation)
            fence = self.fence
            if position is not None:
                if fence is not None and epoch < fence.epoch:
                    fence.check(epoch, rows.table.keyspace, position)
                elif epoch > self._peers.epoch and not self.holds(rows.table.keyspace, position):
                    # It is about to: what it has of the range from earlier times goes before.
                    self.park(epoch, again, refuse)
                    return False
        except CoordinatorBehind as error:
            refuse(error)
            return False
        except UnknownIncarnation as error:
            if epoch > self._peers.epoch:
                self.park(epoch, again, refuse)
            else:
                refuse(error)
            return False
        return True

    def park(self, epoch: int, again: Callable[[], None], refuse: Callable[[Exception], None]) -> None:
        """Run a request again once this node has applied an epoch; refuse it when too many wait."""
        if len(self._parked) >= limits.PARKED_REQUESTS_MAX:
            refuse(Overloaded("too many requests wait for the metadata log"))
            return
        self._parked.append((epoch, again))
        self.catch_up(epoch)

    def _fail(self, link: Link, verb: int, request: int, error: Exception) -> None:
        self._peers.fail(link, verb, request, encode_failure(error))


def encode_mutations(mutations: list[Mutation]) -> bytes:
    """Mutations one after the other."""
    return b"".join([mutation.encode() for mutation in mutations])


def decode_mutations(body: bytes) -> list[Mutation]:
    """Inverse of ``encode_mutations``.

    Raises:
        CorruptRecord: the bytes are no mutations.
    """
    offset = 0
    mutations = []
    while offset < len(body):
        mutation, offset = decode_mutation(body, offset)
        mutations.append(mutation)
    return mutations
