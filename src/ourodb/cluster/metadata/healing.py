"""A member that is gone for good is given up by the others, unasked.

Every voter that has had a member DOWN for ``heal_after`` says so in the log (``Suspect``), and takes it back when the
member is up again. Once most voters take it for dead the leader has the member healed away (``Heal``): a move gives its
ranges new replicas on the members that remain, these copy them from the others, and only then it is forgotten. All that
the leader goes by is in the log, so whoever leads next goes on.

A dead node isn't given up

- while healing is paused, or a move is under way or wished for: one at a time;
- when too few would remain for a keyspace's copies;
- when what it held can't be had from those that live: it had the only copy, or too many of its fellows are down, too;
- while others go or come, or the leader is new: what was away together may return one by one;
- when its whole rack, of two hosts or more, or its whole data centre is down: a partition rather than a death.

One that returns while its rows are still being copied stays: the move is undone.

Who gets its ranges must live. Where another dead node would get some, both are given up in one move, once both are due.

``plan`` decides; it is a pure function of a view and of who is down, so that every node can tell why nothing happens.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import structlog

from ourodb import limits
from ourodb.cluster.metadata.commands import Command, Heal, Suspect
from ourodb.cluster.metadata.consensus import Consensus
from ourodb.cluster.metadata.evolution import carry_out
from ourodb.cluster.metadata.peers import Peers
from ourodb.cluster.metadata.submissions import Applied, Submissions
from ourodb.cluster.metadata.view import ClusterView
from ourodb.cluster.ring.moves import HEAL, Move, MovedRange, Stage, ring_after
from ourodb.errors import OuroError, RequestError
from ourodb.ports import NodeId
from ourodb.schema.names import is_system_keyspace

log = structlog.get_logger()

PAUSED = "healing is paused"
NOT_TOGETHER = "node {} would get some of its ranges, or has the only other copy, and is down, too"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about those that are down.

    Attributes:
        nodes: that are to be given up now, together; none: nobody.
        obstacles: of the others, why not, though they may be due.
    """

    nodes: tuple[NodeId, ...]
    obstacles: Mapping[NodeId, str]


@dataclass(frozen=True, slots=True)
class Prospect:
    """What is to become of a member that is down.

    Attributes:
        down_ms: how long this node has seen it so.
        due_ms: until it is given up, as far as time is concerned; 0: it is due. None: never, here.
        obstacle: why it isn't given up even then; empty: it is.
        is_under_way: its ranges are getting new replicas already.
    """

    node: NodeId
    down_ms: int
    due_ms: int | None
    obstacle: str
    is_under_way: bool


def plan(
    view: ClusterView, down: Collection[NodeId], due: Collection[NodeId], *, is_asked: bool = False
) -> Plan:
    """Whom to give up now, and what stands in the way of the others.

    Args:
        down: members that own something and are down.
        due: of these, those that are taken for dead.
        is_asked: by an operator: also when healing is paused, or a whole rack is down.
    """
    obstacles: dict[NodeId, str] = {}
    whole = {} if is_asked else whole_domains(view, down)
    for node in sorted(down):
        obstacle = _obstacle(view, node, whole, is_asked)
        if obstacle:
            obstacles[node] = obstacle
    able = [node for node in sorted(due) if node in down and node not in obstacles]
    chosen: tuple[NodeId, ...] = ()
    others = [node for node in sorted(down) if node not in obstacles and node not in able]
    for node in [*able, *others[: limits.HEALING_PLANNED_MAX]]:
        if node in chosen or (node in able and chosen and not is_asked):
            continue
        together, obstacle = _together(view, {node, *chosen} if is_asked else {node}, down, able)
        if obstacle:
            obstacles[node] = obstacle
        elif node in able:
            chosen = together
    return Plan(chosen, obstacles)


def whole_domains(view: ClusterView, down: Collection[NodeId]) -> dict[NodeId, str]:
    """Members whose whole data centre, or whole rack of two hosts or more, is down, and what to say of it."""
    found: dict[NodeId, str] = {}
    owners = [member for member in view.members.values() if member.tokens]
    centers = {member.data_center for member in owners}
    for center in sorted(centers):
        local = [member for member in owners if member.data_center == center]
        if len(centers) > 1 and all(member.id in down for member in local):
            found |= {
                member.id: f"all of data centre {center} is down: a partition rather than a death"
                for member in local
            }
            continue
        for rack in sorted({member.rack for member in local}):
            inside = [member for member in local if member.rack == rack]
            if len({member.host for member in inside}) > 1 and all(member.id in down for member in inside):
                found |= {
                    member.id: f"all of rack {rack} is down: a partition rather than a death"
                    for member in inside
                }
    return found


def _obstacle(view: ClusterView, node: NodeId, whole: Mapping[NodeId, str], is_asked: bool) -> str:
    """Why a node by itself can't be given up, whoever else is down."""
    if not view.has_user_tables:
        return "there are no rows that would need other replicas"
    if view.is_healing_paused and not is_asked:
        return PAUSED
    if node in whole:
        return whole[node]
    if any(node in (wish.node, wish.replaces) for wish in view.wishes):
        return "it is about to be removed or replaced"
    if not is_asked and (view.move is not None or view.wishes):
        return "nodes come or go at the moment"
    try:
        carry_out(view, Heal((node,), is_asked=True))
    except RequestError as error:
        return str(error)
    return ""


def _together(
    view: ClusterView, some: Collection[NodeId], down: Collection[NodeId], able: Collection[NodeId]
) -> tuple[tuple[NodeId, ...], str]:
    """(who has to be given up in one move with some, these included; why that can't be)."""
    going = {*some}
    while True:
        concerned, obstacle = _consequences(view, going, down)
        others = [node for node in concerned if node not in going]
        waiting = [node for node in others if node not in able]
        if waiting:
            return (), NOT_TOGETHER.format(waiting[0])
        if not others:
            break
        going |= {*others}
    if obstacle:
        return (), obstacle
    nodes = tuple(sorted(going))
    try:
        carry_out(view, Heal(nodes, is_asked=True))
    except RequestError as error:
        return (), str(error)
    return nodes, ""


def _consequences(
    view: ClusterView, going: Collection[NodeId], down: Collection[NodeId]
) -> tuple[list[NodeId], str]:
    """(members that are down and without which, too, the move would get nowhere; why some ranges can't be copied)."""
    after = _without(view, going)
    live = [node for node in view.members if node not in down]
    concerned: dict[NodeId, None] = {}
    obstacle = ""
    for keyspace in view.schema.keyspaces.values():
        if all(table.virtual for table in keyspace.tables.values()):
            continue
        for one in after.moved_ranges(keyspace):
            concerned |= dict.fromkeys(node for node in one.gaining if node in down)
            if not is_system_keyspace(keyspace.name):
                obstacle = obstacle or _loss(one, keyspace.name, going, live)
            elif not any(node in live for node in one.before.nodes):
                # Of the system's keyspaces what those that live have is enough.
                concerned |= dict.fromkeys(one.before.nodes)
    return sorted(concerned), obstacle


def _without(view: ClusterView, going: Collection[NodeId]) -> ClusterView:
    """The view while members are being given up."""
    tokens: dict[NodeId, tuple[int, ...]] = dict.fromkeys(sorted(going), ())
    move = Move(0, HEAL, MappingProxyType(tokens), Stage.COPYING, 0)
    return replace(view, move=move, next_ring=ring_after(view.members, move))


def lost_with(view: ClusterView, node: NodeId) -> list[str]:
    """Keyspaces some of whose rows nobody but this member holds, by name."""
    after = _without(view, (node,))
    return [
        name
        for name, keyspace in sorted(view.schema.keyspaces.items())
        if keyspace.tables
        and not is_system_keyspace(name)
        and any(one.is_lost((node,)) for one in after.moved_ranges(keyspace))
    ]


def _loss(one: MovedRange, keyspace: str, going: Collection[NodeId], live: Collection[NodeId]) -> str:
    """Why a range can't be copied by those that gain it."""
    if one.is_lost(going):
        return f"nobody else has a copy of some of its rows of keyspace {keyspace}"
    if any(node in live and one.sources(node, live, going) is None for node in one.gaining):
        return f"too few other copies of its rows of keyspace {keyspace} are up to copy them from"
    return ""


class Healing:
    """One node's part in it: as anybody who sees others go down, as a voter, and as the leader.

    Attributes:
        heal_after_ms: 0: this node takes nobody for dead. Set by the node.
    """

    __slots__ = (
        "_changed_ms",
        "_consensus",
        "_down_since_ms",
        "_is_submitting",
        "_next_ms",
        "_peers",
        "_planned",
        "_submissions",
        "heal_after_ms",
    )

    def __init__(self, consensus: Consensus, peers: Peers, submissions: Submissions) -> None:
        self.heal_after_ms = 0
        self._changed_ms = consensus.now_ms
        self._consensus = consensus
        self._peers = peers
        self._submissions = submissions
        self._down_since_ms: dict[NodeId, int] = {}
        self._is_submitting = False
        self._next_ms = 0
        self._planned: tuple[tuple[object, ...], Plan] = ((), Plan((), {}))

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self._consensus.me) and (bool(self._down_since_ms) or self._withdrawn() is not None)

    @property
    def due_ms(self) -> int:
        """When to look next."""
        return self._next_ms

    def look(self, now_ms: int) -> None:
        """Who is down? Worth calling whenever that changes."""
        consensus, since = self._consensus, self._down_since_ms
        if not consensus.me:
            return
        self._down_since_ms = {
            node: since.get(node, now_ms)
            for node in consensus.view.members
            if node != consensus.me and not self._peers.is_up(node)
        }
        if self._down_since_ms.keys() != since.keys():
            self._changed_ms = now_ms

    def on_leader(self) -> None:
        """Whoever begins to lead gives everybody time to show up."""
        self._changed_ms = self._consensus.now_ms

    def tick(self, now_ms: int) -> None:
        """Say who is taken for dead; lead."""
        consensus, view = self._consensus, self._consensus.view
        if not consensus.me or self._is_submitting or now_ms < self._next_ms:
            return
        self._next_ms = now_ms + limits.HEALING_CHECK_MS
        self.look(now_ms)
        command = self._withdrawn() or self._suspicion(now_ms)
        if command is None and consensus.is_leader and not self._unsettled_ms(now_ms):
            down = self._owners_down(view)
            due = [node for node in down if view.is_taken_for_dead(node)]
            if due:
                nodes = self._plan(view, down, due).nodes
                command = Heal(nodes) if nodes else None
        if command is not None:
            self._submit(command)

    def prospects(self, now_ms: int) -> list[Prospect]:
        """What is to become of those that are down, by what this node knows."""
        view = self._consensus.view
        down = self._owners_down(view)
        if not down:
            return []
        due = [node for node in down if view.is_taken_for_dead(node)]
        obstacles = self._plan(view, down, due).obstacles
        going = {} if view.move is None else view.move.tokens
        found = []
        for node in down:
            down_ms = now_ms - self._down_since_ms[node]
            left_ms: int | None = self._unsettled_ms(now_ms)
            if node not in due:
                left_ms = (
                    max(self._unsettled_ms(now_ms), self.heal_after_ms - down_ms)
                    if self.heal_after_ms
                    else None
                )
            is_wished = any(wish.node == node and wish.kind == HEAL for wish in view.wishes)
            is_under_way = is_wished or (node in going and not going[node])
            obstacle = "" if is_under_way else obstacles.get(node, "")
            found.append(Prospect(node, down_ms, left_ms, obstacle, is_under_way))
        return found

    def _unsettled_ms(self, now_ms: int) -> int:
        """How long to wait because somebody has just gone or come."""
        settle_ms = min(limits.HEALING_SETTLE_MS, self.heal_after_ms or limits.HEALING_SETTLE_MS)
        return max(0, self._changed_ms + settle_ms - now_ms)

    def _plan(self, view: ClusterView, down: Sequence[NodeId], due: Sequence[NodeId]) -> Plan:
        key = (
            view.members, view.schema, view.move, view.wishes, view.voters, view.is_healing_paused,
            tuple(down), tuple(due),
        )  # fmt: skip
        if self._planned[0] != key:
            self._planned = key, plan(view, down, due)
        return self._planned[1]

    def _owners_down(self, view: ClusterView) -> list[NodeId]:
        return [node for node in self._down_since_ms if node in view.members and view.members[node].tokens]

    def _withdrawn(self) -> Command | None:
        """Somebody whom this node took for dead is up."""
        me = self._consensus.me
        for node, voters in self._consensus.view.suspects.items():
            if me in voters and node not in self._down_since_ms:
                return Suspect(node, me, is_down=False)
        return None

    def _suspicion(self, now_ms: int) -> Command | None:
        view, me = self._consensus.view, self._consensus.me
        if not self.heal_after_ms or me not in view.voters:
            return None
        for node in self._owners_down(view):
            since_ms = self._down_since_ms[node]
            if now_ms - since_ms >= self.heal_after_ms and me not in view.suspects.get(node, ()):
                return Suspect(node, me)
        return None

    def _submit(self, command: Command) -> None:
        self._is_submitting = True

        def done(outcome: Applied | OuroError) -> None:
            self._is_submitting = False
            if isinstance(outcome, OuroError):
                log.info("healing doesn't get on yet", reason=str(outcome))
            elif isinstance(command, Heal):
                log.warning("nodes that are gone for good are given up", nodes=list(command.nodes))

        self._submissions.submit_command(command, done, spreads=False)
