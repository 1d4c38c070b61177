"""Who votes on the metadata log, and when somebody else should.

One voter in a ring of one or two members, three from three members on, five from seven: always an odd number, since one
more makes a majority larger and not safer. Two members have one voter: with two, the loss of either would stop changes
of the schema; with one, only the loss of that one does.

Voters are spread over failure domains: data centres first, then racks, then hosts, so that a domain that fails takes as
few as can be; between equals the lower id. A voter that has been down for ten seconds is replaced by a live member, if
there is one. So is one that is about to leave, before it does: else whoever dies right after it might be one too many;
if it leads, another one leads first. One that was removed leaves before another takes its place: it counts against a
majority, and never comes back; a newcomer beside it would have to live for there to be one. When a better spread
becomes possible (the ring grew into another data centre) voters move. The leader makes one change at a time, and adds
before it removes those that may come back, so that at no moment fewer than before can be lost. It doesn't begin to grow
an odd number unless it can make it odd again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ourodb import limits
from ourodb.cluster.metadata.consensus import Consensus
from ourodb.cluster.metadata.peers import Peers
from ourodb.cluster.metadata.view import ClusterView
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.moves import HEAL, LEAVE, REMOVE, REPLACE
from ourodb.ports import NodeId

VOTERS_OF_MEMBERS: Final = ((7, 5), (3, 3), (1, 1))
"""(from so many members on, so many voters)."""


def voters_wanted(members: int) -> int:
    """How many voters a ring of so many members has."""
    return next((voters for least, voters in VOTERS_OF_MEMBERS if members >= least), 0)


def crowding(chosen: Iterable[Member]) -> tuple[int, int, int]:
    """How much they depend on the same data centres, racks and hosts; less is better, in this order."""
    members = list(chosen)
    return (
        _squares(member.data_center for member in members),
        _squares((member.data_center, member.rack) for member in members),
        _squares(member.host for member in members),
    )


def next_voters(
    members: Mapping[NodeId, Member], voters: Sequence[NodeId], lost: Iterable[NodeId], leader: NodeId
) -> tuple[NodeId, ...] | None:
    """The voters after the next change, which adds or removes one; None when all is as it should be.

    Args:
        members: ascending.
        lost: members that shouldn't vote: they are down, and have been for long enough if they are voters, or are about
            to leave.
        leader: stays a voter.
    """
    gone = frozenset(lost)
    wanted = voters_wanted(len(members))
    unfit = [voter for voter in voters if voter not in members or voter in gone]
    fit = [voter for voter in voters if voter not in unfit]
    able = [node for node in members if node not in gone and node not in voters]
    removed = [voter for voter in voters if voter not in members]
    if removed and len(voters) > 1:
        return _sorted(voter for voter in voters if voter != removed[0])
    if (
        len(fit) < wanted
        and len(able) > (not unfit and len(fit) % 2)
        and len(voters) < limits.RAFT_VOTERS_MAX
    ):
        return _sorted((*voters, _least_crowding(members, fit, able)))
    if len(voters) > wanted or (len(voters) % 2 == 0 and not unfit and not able):
        # Those that are down first, then those that the others can best do without.
        leaving = unfit or [voter for voter in fit if voter != leader]
        return _sorted(voter for voter in voters if voter != _most_crowding(members, voters, leaving))
    if not unfit and able and len(voters) == wanted > 1:
        return _better(members, voters, able, leader)
    return None


def _better(
    members: Mapping[NodeId, Member], voters: Sequence[NodeId], able: Sequence[NodeId], leader: NodeId
) -> tuple[NodeId, ...] | None:
    """One voter more, if with it the others can be spread better than they are, when one of them leaves."""
    present = crowding(members[voter] for voter in voters)
    leaving = [voter for voter in voters if voter != leader]

    def best_with(newcomer: NodeId) -> tuple[int, int, int]:
        grown = (*voters, newcomer)
        return min(crowding(members[voter] for voter in grown if voter != leaver) for leaver in leaving)

    # Nodes in the same place are as good as each other.
    places = {(members[n].data_center, members[n].rack, members[n].host): n for n in reversed(able)}
    newcomer = min(places.values(), key=lambda node: (best_with(node), node))
    return _sorted((*voters, newcomer)) if best_with(newcomer) < present else None


def _least_crowding(
    members: Mapping[NodeId, Member], voters: Sequence[NodeId], able: Sequence[NodeId]
) -> NodeId:
    chosen = [members[voter] for voter in voters]
    return min(able, key=lambda node: (crowding([*chosen, members[node]]), node))


def _most_crowding(
    members: Mapping[NodeId, Member], voters: Sequence[NodeId], leaving: Sequence[NodeId]
) -> NodeId:
    def without(leaver: NodeId) -> tuple[int, int, int]:
        return crowding(members[voter] for voter in voters if voter != leaver)

    return min(leaving, key=lambda node: (without(node), -node))


def _squares(domains: Iterable[object]) -> int:
    return sum(count * count for count in Counter(domains).values())


def _sorted(voters: Iterable[NodeId]) -> tuple[NodeId, ...]:
    return tuple(sorted(voters))


class VoterUpkeep:
    """The leader's eye on the voters.

    Attributes:
        is_at_rest: they were as they should be when it looked last.
    """

    __slots__ = ("_consensus", "_down_since_ms", "_peers", "_settled", "is_at_rest")

    def __init__(self, consensus: Consensus, peers: Peers) -> None:
        self._consensus = consensus
        self._peers = peers
        self._down_since_ms: dict[NodeId, int] = {}
        # For which members, voters and losses nothing was to be changed.
        self._settled: tuple[object, object, object] = (None, None, None)
        self.is_at_rest = True

    @property
    def is_needed(self) -> bool:
        """Whether this node leads and there is somebody to choose."""
        consensus = self._consensus
        return consensus.is_leader and (len(consensus.view.members) > 1 or len(consensus.voters) > 1)

    def on_leader(self) -> None:
        """Whoever begins to lead gives everybody the whole time to return."""
        self._down_since_ms.clear()

    def tick(self, now_ms: int) -> None:
        """Change the voters, if they should be others."""
        consensus, members = self._consensus, self._consensus.view.members
        down = [node for node in members if node != consensus.me and not self._peers.is_up(node)]
        since = self._down_since_ms
        self._down_since_ms = {node: since.get(node, now_ms) for node in down}
        voters = consensus.voters
        leaving = about_to_leave(consensus.view)
        lost = [
            node
            for node in members
            if node in leaving
            or (
                node in down
                and (node not in voters or now_ms - self._down_since_ms[node] >= limits.VOTER_DOWN_MS)
            )
        ]
        if self._settled[0] is members and self._settled[1:] == (voters, lost):
            self.is_at_rest = True
            return
        after = next_voters(members, voters, lost, consensus.me)
        self.is_at_rest = after is None
        if after is None:
            self._settled = (members, voters, lost)
        elif consensus.me in voters and consensus.me not in after:
            consensus.hand_over()
        else:
            consensus.change_voters(after)


def about_to_leave(view: ClusterView) -> frozenset[NodeId]:
    """Members that are leaving, being removed or replaced, or wait for their turn to."""
    moving = () if view.move is None else (node for node, tokens in view.move.tokens.items() if not tokens)
    waiting = (
        wish.replaces or wish.node for wish in view.wishes if wish.kind in (LEAVE, REMOVE, HEAL, REPLACE)
    )
    return frozenset((*moving, *waiting))
