"""The metadata log of one node, put together. Read this first.

Schema and topology are entries of one replicated log. A few voters agree on what comes next (``cluster.raft``), every
member has the log and applies it in order with pure functions, and what comes of that is the ``ClusterView`` that the
rest of the node goes by. Gossip spreads; it doesn't decide. The data plane never waits for this log: it reads the
present view, and goes on with it when no majority can be reached.

    commands, evolution, view, snapshot   what an entry says, and what it leads to: plain data and pure functions
    entries                               the log on disk
    consensus                             raft at work, and the one place where views are made
    catch_up                              members that don't vote, or lag, pull what others have applied
    submissions                           a change's way from the node that was asked for it to every live member
    moving, healing                       the leader's eye on moves, and on members that are gone for good
    voters                                who votes, and who replaces whom
    joining                               how a node becomes a member

``Metadata`` gives each of them what it needs, hands them the messages that come, and has one timer for all their
deadlines. It is armed only while something waits; a node alone that isn't asked for anything has none.

The life of a node's metadata: ``recover``; then ``start`` if it is a member, else ``found`` or ``join``; ``stop``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from ourodb import limits
from ourodb.cluster.metadata import first_format
from ourodb.cluster.metadata.catch_up import CatchUp, Waiters
from ourodb.cluster.metadata.commands import (
    PROPOSAL_ID_BYTES,
    Command,
    FoundCluster,
    NewMember,
    Proposal,
    decode_proposal,
    encode_proposal,
    summary,
)
from ourodb.cluster.metadata.consensus import Consensus, Listener
from ourodb.cluster.metadata.evolution import Outcome, apply, carry_out
from ourodb.cluster.metadata.healing import Healing, Prospect
from ourodb.cluster.metadata.inquiries import Inquiries
from ourodb.cluster.metadata.joining import Admissions, Joining, Progress
from ourodb.cluster.metadata.joining import Done as JoinDone
from ourodb.cluster.metadata.messages import AwaitEpoch, Join, decode_body
from ourodb.cluster.metadata.moving import MoveUpkeep
from ourodb.cluster.metadata.peers import Peers, SendMessage
from ourodb.cluster.metadata.snapshot import encode_view
from ourodb.cluster.metadata.submissions import Done, Proposals, Submissions
from ourodb.cluster.metadata.view import ClusterView, blank_view
from ourodb.cluster.metadata.voters import VoterUpkeep
from ourodb.cluster.raft.log import Stored, force_voters
from ourodb.cluster.raft.messages import Entry, EntryKind, Snapshot, decode_voters
from ourodb.cluster.raft.raft import Timing
from ourodb.errors import ConfigurationProblem, InvalidRequest, OuroError, ProtocolError, StoreDamaged
from ourodb.peer.messages import FAILED, REPLY, Verb
from ourodb.ports import Address, Link, NodeId, Ports, Timer
from ourodb.schema.changes import Change
from ourodb.schema.model import Schema
from ourodb.schema.names import is_system_keyspace
from ourodb.schema.snapshot import encode_schema

VERBS = frozenset({Verb.RAFT, Verb.PROPOSE, Verb.PULL, Verb.AWAIT_EPOCH, Verb.JOIN})
"""Those that ``Metadata.receive`` takes."""


class Metadata:
    """See the module."""

    __slots__ = (
        "_admissions", "_catch_up", "_check_ms", "_checked", "_consensus", "_first_schema", "_healing", "_inquiries",
        "_joining", "_moves", "_peers", "_ports", "_proposals", "_submissions", "_timer", "_timer_ms", "_upkeep",
        "_waiters",
    )  # fmt: skip

    def __init__(
        self,
        ports: Ports,
        host_id: UUID,
        links: Callable[[NodeId], Link | None],
        is_up: Callable[[NodeId], bool],
        send: SendMessage,
        timing: Timing | None = None,
    ) -> None:
        """
        Args:
            host_id: this node's, for ever.
            links: the way to a member.
            is_up: what the failure detector thinks of a member.
            send: puts the header of messages between nodes before a body and sends it, on the urgent lane.
        """
        self._ports = ports
        self._peers = Peers(links, is_up, send)
        self._consensus = Consensus(ports, host_id, self._peers, self, timing)
        self._catch_up = CatchUp(self._consensus, self._peers)
        self._waiters = Waiters(self._consensus, self._peers)
        self._submissions = Submissions(self._consensus, self._peers, self._catch_up, ports.random)
        self._proposals = Proposals(self._consensus, self._peers)
        self._upkeep = VoterUpkeep(self._consensus, self._peers)
        self._admissions = Admissions(self._consensus, self._peers, self._submissions, self._catch_up)
        self._inquiries = Inquiries(self._consensus, self._peers, ports.scheduler, self._submissions.live)
        self._moves = MoveUpkeep(self._consensus, self._peers, self._submissions)
        self._moves.voters_are_at_rest = lambda: self._upkeep.is_at_rest
        self._healing = Healing(self._consensus, self._peers, self._submissions)
        self._joining = Joining(self._consensus, self._peers, ports.transport)
        self._first_schema: Schema | None = None
        self._timer: Timer | None = None
        self._timer_ms = 0
        self._check_ms = 0
        # Members and voters as of the last view: once they change, the voters are looked at without delay.
        self._checked: tuple[object, object] = (self.view.members, self.view.voters)

    # What it knows

    @property
    def view(self) -> ClusterView:
        """What the entries applied so far amount to."""
        return self._consensus.view

    @property
    def epoch(self) -> int:
        """Index of the last entry applied."""
        return self._consensus.view.epoch

    @property
    def me(self) -> NodeId:
        """This node's id; 0 while it is no member."""
        return self._consensus.me

    @property
    def is_removed(self) -> bool:
        """Whether this node was a member and isn't any more."""
        return self.epoch > 0 and not self._consensus.me

    @property
    def leader(self) -> NodeId:
        """Who leads the log, as far as this node knows; 0 when it doesn't.

        A voter knows only whom it hears: what it was told of a leader before may be long over.
        """
        consensus = self._consensus
        if consensus.is_leader:
            return consensus.me
        if consensus.me in consensus.voters and not consensus.hears_leader:
            return NodeId(0)
        return consensus.leader

    @property
    def leads(self) -> int:
        """The term in which this node leads the log; 0 when it doesn't."""
        return self._consensus.term if self._consensus.is_leader else 0

    def hint_leader(self, node: NodeId) -> None:
        """A node says that it leads: those that have no vote learn it from nobody else."""
        self._consensus.hint_leader(node)

    @property
    def voters(self) -> tuple[NodeId, ...]:
        """Who decides, by the newest entry that this node has."""
        return self._consensus.voters

    @property
    def term(self) -> int:
        """Of the log, as far as this node knows."""
        return self._consensus.term

    @property
    def fault(self) -> OuroError | None:
        """Why this node can't follow the log any more."""
        return self._consensus.fault

    def last_entries(self, count: int) -> list[EntryInfo]:
        """The newest entries of this node's log, oldest first, for operators."""
        log, epoch = self._consensus.log, self.epoch
        count = min(count, limits.METADATA_ENTRIES_SHOWN_MAX)
        return [
            EntryInfo(entry.index, entry.term, _summary(entry), entry.index <= epoch)
            for entry in log.between(max(log.last_index - count, 0), log.last_index)
        ]

    def listen(self, listener: Listener) -> None:
        """Call ``listener(view, events)`` after each entry that changed more than the epoch; submitters hear later."""
        self._consensus.listen(listener)

    # Its life

    def recover(self) -> ClusterView:
        """Read what is on disk; the first thing to do. The view is the last one known, whatever the others do.

        For a store of a version before the ring, which belongs to no cluster yet, its schema is in the view.

        Raises:
            StoreDamaged: entries are missing, can't be read or can't be applied.
        """
        view = self._consensus.recover()
        if view.epoch == 0:
            self._first_schema = first_format.read_schema(self._ports.store)
            if self._first_schema is not None:
                self._consensus.view = view = replace(view, schema=self._first_schema)
        return view

    def start(self) -> None:
        """Take part in deciding, if this node votes; it is a member."""
        self._consensus.start()
        self._healing.look(self._consensus.now_ms)
        self._arm()

    def hand_over(self) -> None:
        """If this node leads, have another one lead. Worth doing a few milliseconds before ``stop``."""
        self._consensus.hand_over()

    def stop(self) -> None:
        """Decide on nothing more, and answer nobody."""
        self._consensus.stop()
        self._inquiries.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def found(self, cluster_name: str, member: NewMember, cluster_id: UUID) -> ClusterView:
        """Make a new cluster of which this node is the first member; in force when this returns.

        Raises:
            StoreError, Overloaded: it couldn't be written.
        """
        assert self.epoch == 0, "this node is in a cluster"
        schema = b"" if self._first_schema is None else encode_schema(self._first_schema)
        command = FoundCluster(cluster_id, cluster_name, member, schema)
        proposal = Proposal(self._ports.random.bytes(PROPOSAL_ID_BYTES), 0, command)
        view, outcome = apply(blank_view(), Entry(1, 1, EntryKind.COMMAND, encode_proposal(proposal)))
        assert outcome.error is None
        snapshot = Snapshot(1, 1, view.voters, encode_view(view))
        self._consensus.begin(Stored(1, None, snapshot, ()), view, first_format.removal(self._ports.store))
        self._first_schema = None
        self._arm()
        return self.view

    def join(
        self,
        seeds: Sequence[Address],
        me: NewMember,
        cluster_name: str,
        done: JoinDone,
        *,
        cluster_id: UUID | None = None,
        progress: Progress = lambda text: None,
    ) -> None:
        """Become a member of the cluster that the seeds are in.

        ``done`` is called exactly once: with the view, once it is in force and this node takes part; with
        ``ConfigurationProblem`` when the cluster refuses the node, or nobody let it in within a minute; with the
        store's error when the view couldn't be written.

        Args:
            seeds: addresses for peers; this node's own is passed over.
            progress: is told what happens, for an operator who waits.
        """
        assert self.epoch == 0, "this node is in a cluster"
        if self._first_schema is not None and _has_user_tables(self._first_schema):
            done(
                ConfigurationProblem(
                    "this node's data folder holds tables of its own, which can't be taken into another cluster;"
                    " start it with an empty one, or as a cluster by itself"
                )
            )
            return
        self._joining.join(seeds, Join(cluster_name, me, cluster_id), progress, done)
        self._arm()

    # Changes

    def inquire(self, done: Callable[[], None]) -> bool:
        """Find out whether this node has missed a change that somebody was told of.

        Returns:
            Whether there is anybody to ask. Then ``done`` is called later, once: when this node has applied all that
            was acknowledged before, or after METADATA_INQUIRY_MS.
        """
        is_asked = self._inquiries.ask(done)
        self._arm()
        return is_asked

    def submit(self, change: Change, done: Done) -> None:
        """Change the schema.

        ``done`` is called exactly once: with ``Applied`` when the change is in force on every live member, or ten
        seconds after it came into force on this one, with a warning that names those that lag; with Cassandra's error
        when it doesn't fit the schema; with ``Unavailable`` when nobody can decide, ``InDoubt`` when nobody said in
        time whether it was decided, both within two seconds; with the store's error when this node can't write.
        """
        self._submissions.submit_change(change, done)
        self._arm()

    def follow_moves(self, applied_epoch: Callable[[NodeId], int], hints_of: Callable[[NodeId], int]) -> None:
        """Moves go on when all have applied their stages, and who leaves has delivered its hints.

        Args:
            applied_epoch: the last entry that a member has applied, as far as is known.
            hints_of: how many hints a member keeps for others, as far as is known.
        """
        self._moves.applied_epoch = applied_epoch
        self._moves.hints_of = hints_of

    def heal_after(self, seconds: int) -> None:
        """Take members for dead that have been down for so long; 0: never."""
        self._healing.heal_after_ms = seconds * 1000

    def prospects(self) -> list[Prospect]:
        """What is to become of the members that are down, as this node sees it."""
        return self._healing.prospects(self._consensus.now_ms)

    def check_member(self, command: Command) -> None:
        """Whether a change of the ring fits now.

        Raises:
            RequestError: it doesn't.
        """
        carry_out(self.view, command)

    def submit_member(self, command: Command, done: Done) -> None:
        """Change the ring; ``done`` as for ``submit``, with ``InvalidRequest`` when the change doesn't fit."""
        self._submissions.submit_command(command, done)
        self._arm()

    def recover_majority(self, voters: Sequence[NodeId] = ()) -> None:
        """Give up a majority that is lost for good, and let this node decide alone, or with ``voters``.

        Every entry that this node has counts as decided; what only the lost nodes had is lost. They must never be
        started again with their data while they can't reach the others: they would go on as the old cluster. Once they
        reach a member they take over its view. Run this on one survivor only, the one with the highest epoch.

        Raises:
            InvalidRequest: a leader is there, or a live member has applied more than this node.
            StoreError, Overloaded: it couldn't be written.
        """
        consensus, view = self._consensus, self._consensus.view
        if not consensus.me:
            raise InvalidRequest("this node isn't a member of a cluster")
        if self.leader and (self.leader == consensus.me or self._peers.is_up(self.leader)):
            raise InvalidRequest(
                f"the metadata log has a leader, node {self.leader}: there is nothing to recover"
            )
        for node in view.members:
            if self._peers.is_up(node) and self._catch_up.epoch_of(node) > view.epoch:
                raise InvalidRequest(
                    f"node {node} has applied entry {self._catch_up.epoch_of(node)}, this one only {view.epoch};"
                    " recover there, so that less is lost"
                )
        chosen = tuple(sorted(voters)) or (consensus.me,)
        if consensus.me not in chosen or any(node not in view.members for node in chosen):
            raise InvalidRequest(f"{chosen} aren't members of which this node, {consensus.me}, is one")
        log = consensus.log
        for entry in log.between(view.epoch, log.last_index):
            view, _ = apply(view, entry)
        forced = force_voters(Stored(log.term, log.vote, log.snapshot, log.stored.entries), chosen)
        view = replace(
            view, epoch=view.epoch + limits.RECOVERY_EPOCHS, voters=chosen, recoveries=view.recoveries + 1
        )
        snapshot = Snapshot(view.epoch, forced.term, chosen, encode_view(view))
        consensus.begin(Stored(forced.term, None, snapshot, ()), view)
        self._arm()

    # Messages

    def receive(
        self, link: Link, sender: NodeId | None, verb: Verb, request: int, flags: int, body: bytes
    ) -> None:
        """A message of one of ``VERBS``.

        Args:
            sender: the member at the other end; None when it is none (yet). Of those only JOIN and PULL are heard.

        Raises:
            ProtocolError: it can't be read; the connection is no good.
        """
        try:
            if verb is Verb.JOIN:
                self._on_join(link, request, flags, body)
            elif verb is Verb.PULL and not flags & REPLY:
                self._catch_up.on_pull(link, request, body)
            elif sender and sender in self.view.members:
                self._on_member(link, sender, verb, request, flags, body)
            elif not flags & REPLY and request:
                self._peers.refuse(link, verb, request, "you aren't a member of this cluster")
        except StoreDamaged as error:
            raise ProtocolError(f"a peer sent what can't be read: {error}") from error
        self._arm()

    def on_connected(self) -> None:
        """There is a new connection to another node; one that waits to be let into the cluster asks again."""
        if self._joining:
            self._joining.on_connected()
            self.tick()

    def on_reachable(self) -> None:
        """Somebody went up or down: who votes may have to change."""
        self._check_ms = 0
        self._healing.look(self._consensus.now_ms)
        self._arm()

    def on_stranger(self, epoch: int) -> None:
        """A node that this one doesn't know speaks of ``epoch``: it is a member since then, so the leader has that."""
        leader = self.leader
        if leader and leader != self.me:
            self.on_epoch_seen(leader, epoch)

    def on_epoch_seen(self, node: NodeId, epoch: int) -> None:
        """A message, or gossip, says that the node has applied ``epoch``. Worth calling only for new epochs."""
        self._catch_up.on_seen(node, epoch)
        self._arm()

    def _on_join(self, link: Link, request: int, flags: int, body: bytes) -> None:
        if not flags & REPLY:
            self._admissions.on_join(link, request, body)
        elif not flags & FAILED:
            self._joining.on_reply(request, body)

    def _on_member(
        self, link: Link, sender: NodeId, verb: Verb, request: int, flags: int, body: bytes
    ) -> None:
        if verb is Verb.RAFT:
            self._consensus.step(sender, body)
        elif flags & FAILED:
            # As good as no answer: it is asked again, or another one is.
            return
        elif flags & REPLY:
            if verb is Verb.PROPOSE:
                self._submissions.on_propose_reply(sender, request, body)
            elif verb is Verb.PULL:
                self._catch_up.on_reply(sender, request, body)
            elif verb is Verb.AWAIT_EPOCH:
                kept = decode_body(AwaitEpoch, body).epoch
                self._catch_up.on_seen(sender, kept)
                self._submissions.on_kept(sender, kept)
                self._inquiries.on_reply(sender, request, kept)
        elif verb is Verb.PROPOSE:
            self._proposals.on_propose(link, request, body)
        elif verb is Verb.AWAIT_EPOCH:
            asked = decode_body(AwaitEpoch, body)
            self._consensus.note_committed(asked.epoch, asked.term)
            self._catch_up.on_seen(sender, asked.epoch)
            self._waiters.on_await(link, request, asked)

    # What consensus tells (``consensus.Observer``)

    def on_applied(self, entry: Entry, outcome: Outcome) -> None:
        self._proposals.on_applied(entry, outcome)
        self._submissions.on_applied(entry, outcome)

    def on_restored(self) -> None:
        self._submissions.on_restored()

    def on_progress(self) -> None:
        self._catch_up.on_progress()
        self._inquiries.look()
        view = self._consensus.view
        if (view.members, view.voters) != self._checked:
            self._checked = (view.members, view.voters)
            self._check_ms = 0
            self._healing.look(self._consensus.now_ms)
        self._arm()

    def on_kept(self) -> None:
        self._waiters.on_kept()
        self._submissions.on_kept(self._consensus.me, self._consensus.kept_epoch)

    def on_leader(self) -> None:
        self._upkeep.on_leader()
        self._moves.on_leader()
        self._healing.on_leader()
        self._proposals.on_leader()
        self._submissions.on_leader()
        self._arm()

    def on_refused(self, error: OuroError) -> None:
        self._submissions.on_refused(error)
        self._arm()

    # Time

    def tick(self) -> None:
        """Look at all deadlines."""
        now_ms = self._consensus.now_ms
        self._submissions.tick(now_ms)
        self._waiters.tick(now_ms)
        self._inquiries.tick(now_ms)
        self._catch_up.look(now_ms)
        self._joining.tick(now_ms)
        self._moves.tick(now_ms)
        self._healing.tick(now_ms)
        if self._upkeep.is_needed and now_ms >= self._check_ms:
            self._check_ms = now_ms + limits.VOTERS_CHECK_MS
            self._upkeep.tick(now_ms)
        self._arm()

    def _arm(self) -> None:
        """Have ``tick`` called soon while something waits, seldom while this node leads others, else not at all."""
        now_ms = self._consensus.now_ms
        if self._submissions or self._waiters or self._inquiries or self._joining or self._catch_up.is_needed:
            due_ms = now_ms + limits.METADATA_TICK_MS
        elif self._moves.is_needed:
            due_ms = now_ms + limits.METADATA_MOVES_MS
        elif self._upkeep.is_needed:
            due_ms = max(self._check_ms, now_ms)
        elif self._healing.is_needed:
            due_ms = max(self._healing.due_ms, now_ms)
        else:
            return
        if self._timer is not None:
            if self._timer_ms <= due_ms:
                return
            self._timer.cancel()
        self._timer_ms = due_ms
        self._timer = self._ports.scheduler.after(due_ms - now_ms, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.tick()


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """An entry for operators.

    Attributes:
        text: what it says, in a few words.
        is_applied: on this node.
    """

    index: int
    term: int
    text: str
    is_applied: bool


def _summary(entry: Entry) -> str:
    if entry.kind is EntryKind.NOOP:
        return "new leader"
    try:
        if entry.kind is EntryKind.VOTERS:
            return f"voters {', '.join(map(str, decode_voters(entry.payload)))}"
        return summary(decode_proposal(entry.payload).command)
    except (StoreDamaged, ProtocolError) as error:
        return str(error)


def _has_user_tables(schema: Schema) -> bool:
    return any(
        keyspace.tables and not is_system_keyspace(keyspace.name) for keyspace in schema.keyspaces.values()
    )
