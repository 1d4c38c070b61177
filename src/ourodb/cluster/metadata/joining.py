"""How a node becomes a member, seen from both sides.

``Joining`` is the newcomer's: it asks its seeds in turn, until one has made it a member or says that it can't be one.
Which of the two it is comes out of the log, so it doesn't matter whom it asks, how often, or whether an answer gets
lost: a node that is a member already is given the log again.

``Admissions`` is a member's: it submits ``AddMember`` and answers with its view, which the newcomer starts from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ourodb import limits
from ourodb.cluster.metadata.catch_up import CatchUp
from ourodb.cluster.metadata.commands import AddMember, NewMember
from ourodb.cluster.metadata.consensus import Consensus
from ourodb.cluster.metadata.entries import decode_snapshot
from ourodb.cluster.metadata.messages import Join, Joined, decode_body, encode_body
from ourodb.cluster.metadata.peers import Peers
from ourodb.cluster.metadata.snapshot import decode_view
from ourodb.cluster.metadata.submissions import Applied, InDoubt, Submissions
from ourodb.cluster.metadata.view import ClusterView
from ourodb.cluster.raft.log import Stored
from ourodb.errors import ConfigurationProblem, OuroError, Overloaded, StoreError, Unavailable
from ourodb.peer.messages import Verb
from ourodb.ports import Address, Link, NodeId, Transport

Done = Callable[[ClusterView | OuroError], None]
Progress = Callable[[str], None]

_LATER: Final = (InDoubt, Overloaded, StoreError, Unavailable)
"""Errors that say nothing about the newcomer: the next seed is asked, or this one again."""


@dataclass(slots=True)
class _Attempt:
    """Joining, as far as it has come.

    Attributes:
        seeds: in the order in which they are asked.
        asked: number of the JOIN under way, 0 for none.
        reason: what the last seed that answered said.
    """

    seeds: Sequence[Address]
    join: Join
    progress: Progress
    done: Done
    until_ms: int
    next_ms: int
    turn: int = 0
    asked: int = 0
    reason: str = ""


class Joining:
    """A node that wants to be a member."""

    __slots__ = ("_attempt", "_consensus", "_peers", "_transport")

    def __init__(self, consensus: Consensus, peers: Peers, transport: Transport) -> None:
        self._consensus = consensus
        self._peers = peers
        self._transport = transport
        self._attempt: _Attempt | None = None

    def __bool__(self) -> bool:
        return self._attempt is not None

    def join(self, seeds: Sequence[Address], join: Join, progress: Progress, done: Done) -> None:
        """See ``Metadata.join``."""
        assert self._attempt is None
        others = [seed for seed in seeds if seed != join.member.peer]
        if not others:
            done(ConfigurationProblem("there is nobody to join: name another node than this one"))
            return
        now_ms = self._consensus.now_ms
        self._attempt = _Attempt(others, join, progress, done, now_ms + limits.JOIN_MS_MAX, now_ms)
        self.tick(now_ms)

    def tick(self, now_ms: int) -> None:
        """Ask the next seed, or give up."""
        attempt = self._attempt
        if attempt is None or now_ms < min(attempt.next_ms, attempt.until_ms):
            return
        if now_ms >= attempt.until_ms:
            names = ", ".join(map(_named, attempt.seeds))
            why = f"the last answer was: {attempt.reason}" if attempt.reason else "none of them answered"
            self._end(
                ConfigurationProblem(
                    f"couldn't join the cluster at {names} within {limits.JOIN_MS_MAX // 1000} seconds; {why}"
                )
            )
            return
        seed = attempt.seeds[attempt.turn % len(attempt.seeds)]
        attempt.turn += 1
        attempt.next_ms = now_ms + limits.JOIN_RETRY_MS
        attempt.progress(f"asking {_named(seed)} to let this node join")
        attempt.asked = self._peers.ask_link(self._transport.link(seed), Verb.JOIN, encode_body(attempt.join))

    def on_connected(self) -> None:
        """A seed has begun to listen: what was sent to it before is lost, so ask again at once."""
        if self._attempt is not None:
            self._attempt.next_ms = 0

    def on_reply(self, request: int, body: bytes) -> None:
        """A seed answered.

        Raises:
            ProtocolError, StoreDamaged: it can't be read.
        """
        attempt = self._attempt
        reply = decode_body(Joined, body)
        if attempt is None or (request != attempt.asked and not reply.snapshot):
            return
        if reply.refusal:
            self._end(ConfigurationProblem(reply.refusal))
        elif reply.snapshot:
            self._take(attempt, reply.snapshot)
        else:
            attempt.reason = reply.later
            attempt.progress(reply.later)

    def _take(self, attempt: _Attempt, encoded: bytes) -> None:
        snapshot = decode_snapshot(encoded)
        view = decode_view(snapshot.data)
        if view.member_of_host(attempt.join.member.host_id) is None:
            attempt.reason = "a seed answered with a view that this node isn't in"
            return
        try:
            self._consensus.begin(Stored(snapshot.term, None, snapshot, ()), view)
        except OuroError as error:
            self._end(error)
            return
        self._end(self._consensus.view)

    def _end(self, outcome: ClusterView | OuroError) -> None:
        attempt, self._attempt = self._attempt, None
        assert attempt is not None
        attempt.done(outcome)


class Admissions:
    """A member that others ask to let them join."""

    __slots__ = ("_catch_up", "_consensus", "_peers", "_submissions", "_waiting")

    def __init__(
        self, consensus: Consensus, peers: Peers, submissions: Submissions, catch_up: CatchUp
    ) -> None:
        self._consensus = consensus
        self._peers = peers
        self._submissions = submissions
        self._catch_up = catch_up
        # By host id of the newcomer: the last of its requests, which is the one that is answered.
        self._waiting: dict[UUID, tuple[Link, int]] = {}

    def on_join(self, link: Link, request: int, body: bytes) -> None:
        """A node wants to be a member.

        Raises:
            ProtocolError: the request can't be read.
        """
        join = decode_body(Join, body)
        view, member = self._consensus.view, join.member
        if not self._consensus.me:
            self._answer(
                link, request, Joined(later="the node that was asked isn't a member of a cluster itself")
            )
            return
        if join.cluster_name != view.cluster_name or join.cluster_id not in (None, view.cluster_id):
            refusal = (
                f"the cluster there is called {view.cluster_name!r} (id {view.cluster_id}), and this node is to be in"
                f" {join.cluster_name!r}"
                + (f" (id {join.cluster_id})" if join.cluster_id is not None else "")
            )
            self._answer(link, request, Joined(refusal=refusal))
            return
        replaces = NodeId(member.replaces)
        if replaces and self._peers.is_up(replaces) and view.member_of_host(member.host_id) is None:
            refusal = f"node {replaces} is up: only a node that is gone for good can be replaced"
            self._answer(link, request, Joined(refusal=refusal))
            return
        is_under_way = member.host_id in self._waiting
        self._waiting[member.host_id] = (link, request)
        if not is_under_way:
            self._submissions.submit_command(
                AddMember(member), lambda outcome: self._decided(member, outcome), spreads=False
            )

    def _decided(self, member: NewMember, outcome: Applied | OuroError) -> None:
        link, request = self._waiting.pop(member.host_id)
        if isinstance(outcome, Applied):
            self._answer(link, request, Joined(snapshot=self._catch_up.snapshot()))
        elif isinstance(outcome, _LATER):
            self._answer(link, request, Joined(later=str(outcome)))
        else:
            self._answer(link, request, Joined(refusal=str(outcome)))

    def _answer(self, link: Link, request: int, joined: Joined) -> None:
        self._peers.answer(link, Verb.JOIN, request, encode_body(joined))


def _named(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
