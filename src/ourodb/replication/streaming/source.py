"""The side that has the rows: answers for what others ask of a range that they gain.

A *stream* is a row of questions and answers: each question names the move, the table and where to go on; the answer is
a chunk of records as they are stored, deletions and timestamps included, and says up to where it goes. So nothing is
remembered here, and either side may start again at any time. A question about a move that isn't under way is refused:
what comes late brings nothing back that was deleted since.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ourodb import limits
from ourodb.cluster.metadata.view import ClusterView
from ourodb.errors import OuroError
from ourodb.peer.messages import Verb
from ourodb.ports import BULK, Clock, Link, NodeId, Store
from ourodb.replication.messages import encode_failure
from ourodb.replication.paxos.acceptor import Acceptor
from ourodb.replication.peers import Peers
from ourodb.replication.replica.replica import Handler
from ourodb.replication.streaming.pace import Pace
from ourodb.storage.apply import UnknownIncarnation
from ourodb.storage.chunk import read_range, read_slices
from ourodb.storage.families import DATA
from ourodb.storage.keys import ALL_ROWS, Slice
from ourodb.storage.row import Wait
from ourodb.storage.rows import Rows

MICROS = 1_000_000


class StreamClosed(OuroError):
    """The move that a question is about isn't under way here."""


class StreamRows(msgspec.Struct, array_like=True, tag=1):
    """Ask for records of the partitions in [start, end).

    Attributes:
        slices: of the first partition alone, whose other rows were given before; None: everything.
    """

    move: int
    incarnation: int
    start: bytes
    end: bytes | None
    slices: Sequence[Slice] | None = None


class StreamStates(msgspec.Struct, array_like=True, tag=2):
    """Ask for what is known of conditional statements about the partitions in [start, end)."""

    move: int
    incarnation: int
    start: bytes
    end: bytes | None


Question = StreamRows | StreamStates
States = list[tuple[bytes, bytes]]
"""(position, state) in order; fewer than STREAM_STATES_MAX of them: there are no more."""

encode = msgspec.msgpack.Encoder().encode
decode_states = msgspec.msgpack.Decoder(States).decode
_decode_question = msgspec.msgpack.Decoder(Question).decode


class StreamSource:
    """Attributes:
    sent_bytes, sent_rows: in answers, counted.
    """

    def __init__(
        self,
        view: Callable[[], ClusterView],
        rows: Rows,
        store: Store,
        acceptor: Acceptor,
        peers: Peers,
        clock: Clock,
        pace: Pace,
    ) -> None:
        self.sent_bytes = 0
        self.sent_rows = 0
        self._view = view
        self._rows = rows
        self._store = store
        self._acceptor = acceptor
        self._peers = peers
        self._clock = clock
        self._pace = pace

    def handlers(self) -> dict[int, Handler]:
        """By verb."""
        return {Verb.STREAM: self._on_question}

    def _on_question(self, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        question = _decode_question(body)
        self._pace.add(lambda: self._answer(link, request, question))

    def _answer(self, link: Link, request: int, question: Question) -> None:
        try:
            move = self._view().move
            if move is None or move.id != question.move:
                raise StreamClosed(f"move {question.move} isn't under way here")
            if isinstance(question, StreamStates):
                found: States = []
                states = self._acceptor.states(question.incarnation, question.start, question.end)
                for state in states:
                    found.append(state)
                    if len(found) == limits.STREAM_STATES_MAX:
                        break
                reply: bytes | Wait = encode(found)
            else:
                reply = self._read(question)
        except OuroError as error:
            self._peers.fail(link, Verb.STREAM, request, encode_failure(error), BULK)
            return
        if isinstance(reply, Wait):
            self._store.fetch(
                DATA,
                reply.key,
                lambda fetched: (
                    self._peers.fail(link, Verb.STREAM, request, encode_failure(fetched), BULK)
                    if isinstance(fetched, Exception)
                    else self._answer(link, request, question)
                ),
            )
            return
        self.sent_bytes += len(reply)
        self._peers.reply(link, Verb.STREAM, request, reply, BULK)

    def _read(self, question: StreamRows) -> bytes | Wait:
        try:
            rows = self._rows.known(question.incarnation)
        except UnknownIncarnation:
            # Dropped since: there is nothing to give.
            return b"\x00\x00\x00\x00\x00"
        now_s = self._clock.wall_us() // MICROS
        if question.slices is None:
            chunk = read_range(
                rows,
                question.start,
                question.end,
                ALL_ROWS,
                now_s=now_s,
                rows_max=limits.STREAM_CHUNK_ROWS_MAX,
                bytes_max=limits.STREAM_CHUNK_BYTES_MAX,
                keys_max=limits.CHUNK_KEYS_PER_PASS,
            )
        else:
            chunk = read_slices(
                rows,
                question.start,
                question.slices,
                reverse=False,
                now_s=now_s,
                rows_max=limits.STREAM_CHUNK_ROWS_MAX,
                bytes_max=limits.STREAM_CHUNK_BYTES_MAX,
                keys_max=limits.CHUNK_KEYS_PER_PASS,
            )
        if isinstance(chunk, Wait):
            return chunk
        self.sent_rows += sum([len(partition.writes) for partition in chunk.partitions])
        return chunk.encode()
