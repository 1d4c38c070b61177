"""Ballots, what an acceptor remembers of a partition, and the messages between proposer and acceptor.

A ballot is ``(microseconds, proposer)``, the proposer being the node's id and its generation. Its first part
is the timestamp of what is written under it, so no two ballots that a replica promises may share it: a
replica promises a ballot only if its microseconds exceed those of all before it. A proposer that hears of a
higher ballot than its own goes beyond it, whatever its clock says; clocks make rounds short, not right.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ourodb import limits

Ballot = tuple[int, int]
"""(microseconds since the epoch, node id << 32 | generation of the node)."""

NO_BALLOT: Final[Ballot] = (0, 0)

HISTORY_MAX: Final = 32
"""Chosen proposals that are remembered by their origin: a proposer that lost its ballot finds out whether others
finished what it began."""


class PaxosState(msgspec.Struct, array_like=True):
    """What a replica remembers of one partition.

    Attributes:
        promised: no lower ballot is answered.
        accepted: ballot of the proposal that was accepted last, never below ``committed``.
        proposal: its mutation as bytes; b"" for an empty one, None when there is none. It is kept when it is committed:
            another replica may have missed the commit.
        committed: the highest ballot whose commit was seen; empty proposals aren't committed.
        origin: the ballot under which the accepted proposal was first made; others may finish it under theirs.
        history: origins of the last proposals that were chosen up to ``committed``, oldest first, ascending.
    """

    promised: Ballot = NO_BALLOT
    accepted: Ballot = NO_BALLOT
    proposal: bytes | None = None
    committed: Ballot = NO_BALLOT
    origin: Ballot = NO_BALLOT
    history: tuple[Ballot, ...] = ()


def settled_before(ballot: Ballot, gc_grace_s: int) -> Ballot:
    """At the time of this ballot, what was proposed before the result isn't in doubt any more.

    Args:
        gc_grace_s: how long the table keeps deletions.
    Source: the TTL of Cassandra's ``system.paxos``.
    """
    return ballot[0] - max(gc_grace_s, limits.PAXOS_SETTLED_S_MIN) * 1_000_000, 0


def merge_states(one: PaxosState, other: PaxosState) -> PaxosState:
    """What a replica remembers that was told what two were."""
    accepted = max(one, other, key=lambda state: (state.accepted, state.committed))
    committed = max(one, other, key=lambda state: state.committed)
    return PaxosState(
        max(one.promised, other.promised),
        accepted.accepted,
        accepted.proposal,
        committed.committed,
        accepted.origin,
        committed.history,
    )


class Prepare(msgspec.Struct, array_like=True):
    """PAXOS_PREPARE: promise, and read.

    Attributes:
        read: body of a READ_SLICES.
        is_whole: all of it is needed for a decision; else as much as makes a chunk.
    """

    ballot: Ballot
    incarnation: int
    position: bytes
    read: bytes
    is_whole: bool = False


class Propose(msgspec.Struct, array_like=True):
    """PAXOS_PROPOSE: accept this mutation (b"" for none)."""

    ballot: Ballot
    incarnation: int
    position: bytes
    proposal: bytes
    origin: Ballot


class Commit(msgspec.Struct, array_like=True):
    """PAXOS_COMMIT: what was accepted by a quorum; write it.

    Attributes:
        history: as in ``PaxosState``, with this proposal's origin at its end.
    """

    ballot: Ballot
    incarnation: int
    position: bytes
    proposal: bytes
    history: tuple[Ballot, ...] = ()


class Promise(msgspec.Struct, array_like=True):
    """Answer to PAXOS_PREPARE.

    Attributes:
        promised: the ballot asked for; a higher one: it was refused, and nothing else is said.
        chunk: what was read.
    """

    promised: Ballot
    accepted: Ballot = NO_BALLOT
    proposal: bytes | None = None
    committed: Ballot = NO_BALLOT
    chunk: bytes = b""
    origin: Ballot = NO_BALLOT
    history: tuple[Ballot, ...] = ()


class Accepted(msgspec.Struct, array_like=True):
    """Answer to PAXOS_PROPOSE; ``promised`` as in ``Promise``."""

    promised: Ballot


encode = msgspec.msgpack.Encoder().encode
decode_state = msgspec.msgpack.Decoder(PaxosState).decode
decode_prepare = msgspec.msgpack.Decoder(Prepare).decode
decode_propose = msgspec.msgpack.Decoder(Propose).decode
decode_commit = msgspec.msgpack.Decoder(Commit).decode
decode_promise = msgspec.msgpack.Decoder(Promise).decode
decode_accepted = msgspec.msgpack.Decoder(Accepted).decode
