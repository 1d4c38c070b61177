"""What the machines of a group agree on, and what they say to each other for it.

An *entry* is one step of the log. A *snapshot* stands for all entries up to its index: the state that they led to, and
the voters as of it. A *message* goes from one machine to another and may be lost, late, doubled or out of order; a
reply names what it answers, so that nobody need remember what he asked.

======================  ==================================  ===========================================================
message                 from                                says
======================  ==================================  ===========================================================
PreVote                 a machine that hears no leader      would you vote for me in this term?
PreVoteReply            anyone                              I would, or not; my term, in case yours is behind
Vote                    a candidate                         vote for me in this term
VoteReply               anyone                              my vote is yours, or not
Append                  the leader                          entries after one that you should have; also its heartbeat
AppendReply             anyone                              I have them; or I don't have the one before them
InstallSnapshot         the leader                          what you lack is no longer kept: take the state itself
InstallSnapshotReply    a follower                          I have the state as of this index
TimeoutNow              the leader                          campaign at once: I want you to lead
======================  ==================================  ===========================================================

On the wire a message is a msgpack map with its number under ``m``. Fields that a machine doesn't know are skipped, and
new ones get defaults, so that versions can mix. What comes from the network is checked here, once, as far as it can be
without knowing the log: ``raft`` takes a decoded message to be well-formed.

Source: Ongaro & Ousterhout 2014, figure 2 and section 7; Ongaro's thesis, sections 3.10 (TimeoutNow) and 9.6 (PreVote).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Annotated, Final, TypeAlias

import msgspec

from ourodb import limits
from ourodb.errors import ProtocolError
from ourodb.ports import NodeId

Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
"""Terms and indexes. The bound is out of reach and leaves room to count on."""


class EntryKind(IntEnum):
    """What an entry is for. Numbers are for ever."""

    COMMAND = 0
    """For the state machine."""
    NOOP = 1
    """A leader's first, by which it commits what its predecessors left."""
    VOTERS = 2
    """Who votes from here on: ``decode_voters`` of the payload."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of the log. The pair of index and term names it: no two entries of a group share it."""

    index: Number
    term: Number
    kind: EntryKind
    payload: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state after an entry, in place of all entries up to it.

    Attributes:
        index, term: of that entry.
        voters: as of it.
        data: the state, as the driver encoded it.
    """

    index: Number
    term: Number
    voters: tuple[NodeId, ...]
    data: bytes


class PreVote(msgspec.Struct, frozen=True, tag_field="m", tag=1):
    """Attributes:
    term: the one that the sender would campaign in; it isn't there yet.
    last_index, last_term: of the end of its log.
    """

    term: Number
    last_index: Number
    last_term: Number


class PreVoteReply(msgspec.Struct, frozen=True, tag_field="m", tag=2):
    """Attributes:
    term: the one that the sender is in.
    campaign_term: ``PreVote.term``.
    """

    term: Number
    campaign_term: Number
    is_granted: bool


class Vote(msgspec.Struct, frozen=True, tag_field="m", tag=3):
    """Attributes:
    is_transfer: the leader itself asked for this election, so that it is no reason to refuse that there is one.
    """

    term: Number
    last_index: Number
    last_term: Number
    is_transfer: bool = False


class VoteReply(msgspec.Struct, frozen=True, tag_field="m", tag=4):
    term: Number
    is_granted: bool


class Append(msgspec.Struct, frozen=True, tag_field="m", tag=5):
    """Attributes:
    prev_index, prev_term: the entry before ``entries``.
    entries: gapless; none in a heartbeat.
    commit: the leader's.
    """

    term: Number
    prev_index: Number
    prev_term: Number
    entries: tuple[Entry, ...]
    commit: Number


class AppendReply(msgspec.Struct, frozen=True, tag_field="m", tag=6):
    """Attributes:
    index: accepted: the sender's log is the leader's up to here. Refused: ``Append.prev_index``.
    conflict_index, conflict_term: refused: an entry of the sender, the last one at or before ``prev_index`` whose term
        is at most ``prev_term``. Nothing after it can be in the leader's log.
    """

    term: Number
    is_accepted: bool
    index: Number
    conflict_index: Number = 0
    conflict_term: Number = 0


class InstallSnapshot(msgspec.Struct, frozen=True, tag_field="m", tag=7):
    term: Number
    snapshot: Snapshot


class InstallSnapshotReply(msgspec.Struct, frozen=True, tag_field="m", tag=8):
    """Attributes:
    index: the sender's log is the leader's up to here.
    """

    term: Number
    index: Number


class TimeoutNow(msgspec.Struct, frozen=True, tag_field="m", tag=9):
    term: Number


Message: TypeAlias = (
    PreVote
    | PreVoteReply
    | Vote
    | VoteReply
    | Append
    | AppendReply
    | InstallSnapshot
    | InstallSnapshotReply
    | TimeoutNow
)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Message)
_voters_decoder: Final = msgspec.msgpack.Decoder(tuple[Annotated[int, msgspec.Meta(ge=1, le=1 << 62)], ...])


def encode_message(message: Message) -> bytes:
    """The message as it travels, at most ``RAFT_MESSAGE_BYTES_MAX``."""
    encoded = _encoder.encode(message)
    assert len(encoded) <= limits.RAFT_MESSAGE_BYTES_MAX
    return encoded


def decode_message(data: bytes) -> Message:
    """Inverse of ``encode_message``, for bytes from anyone.

    Raises:
        ProtocolError: the bytes are no message, or one that no machine sends.
    """
    if len(data) > limits.RAFT_MESSAGE_BYTES_MAX:
        raise _malformed(f"it has {len(data)} bytes")
    try:
        message: Message = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _malformed(str(error)) from error
    if isinstance(message, Append):
        _check_append(message)
    elif isinstance(message, InstallSnapshot):
        _check_snapshot(message)
    return message


def encode_voters(voters: tuple[NodeId, ...]) -> bytes:
    """Payload of a VOTERS entry."""
    assert _are_voters(voters), voters
    return _encoder.encode(voters)


def decode_voters(payload: bytes) -> tuple[NodeId, ...]:
    """Inverse of ``encode_voters``.

    Raises:
        ProtocolError: the bytes aren't the voters of any group.
    """
    try:
        voters = tuple(map(NodeId, _voters_decoder.decode(payload)))
    except msgspec.MsgspecError as error:
        raise _malformed(f"its voters can't be read: {error}") from error
    if not _are_voters(voters):
        raise _malformed(f"{voters} can't be the voters of a group")
    return voters


def _are_voters(voters: tuple[NodeId, ...]) -> bool:
    return 0 < len(voters) <= limits.RAFT_VOTERS_MAX and len(set(voters)) == len(voters) and min(voters) > 0


def _check_append(message: Append) -> None:
    indexes = [message.prev_index, *(entry.index for entry in message.entries)]
    if any(after != before + 1 for before, after in pairwise(indexes)):
        raise _malformed("its entries leave gaps")
    terms = [message.prev_term, *(entry.term for entry in message.entries), message.term]
    if any(after < before for before, after in pairwise(terms)):
        raise _malformed("its entries' terms go back")
    for entry in message.entries:
        if len(entry.payload) > limits.RAFT_ENTRY_BYTES_MAX:
            raise _malformed(f"entry {entry.index} has {len(entry.payload)} bytes")
        if entry.kind is EntryKind.VOTERS:
            decode_voters(entry.payload)


def _check_snapshot(message: InstallSnapshot) -> None:
    snapshot = message.snapshot
    if not _are_voters(snapshot.voters):
        raise _malformed(f"{snapshot.voters} can't be the voters of a group")
    if snapshot.index == 0 or snapshot.term > message.term:
        raise _malformed("its snapshot is of no entry")
    if len(snapshot.data) > limits.RAFT_SNAPSHOT_BYTES_MAX:
        raise _malformed(f"its snapshot has {len(snapshot.data)} bytes")


def _malformed(why: str) -> ProtocolError:
    return ProtocolError(f"Not a message of consensus: {why}")
