"""What all proposers of a node share: their ballots, their turns, and those they talk to."""

from __future__ import annotations

from ourodb.ports import Clock, Random, Scheduler
from ourodb.replication.coordinator.write import WriteContext
from ourodb.replication.paxos.acceptor import Acceptor
from ourodb.replication.paxos.ballots import Ballot
from ourodb.replication.paxos.turns import Turns
from ourodb.replication.peers import Peers
from ourodb.replication.timestamps import Timestamps


class PaxosContext:
    """What all proposers of a node share.

    Attributes:
        turns: of those that are about one partition.
        contentions: ballots lost to others, counted.
        unknown: statements whose outcome couldn't be told, counted.
    """

    __slots__ = (
        "_generation",
        "_last_us",
        "acceptor",
        "clock",
        "contentions",
        "peers",
        "random",
        "scheduler",
        "timestamps",
        "turns",
        "unknown",
        "writing",
    )

    def __init__(
        self,
        peers: Peers,
        acceptor: Acceptor,
        writing: WriteContext,
        clock: Clock,
        random: Random,
        scheduler: Scheduler,
        timestamps: Timestamps,
        generation: int,
    ) -> None:
        """
        Args:
            generation: of this run of the node: ballots of different runs differ, whatever the clock does.
        """
        self._last_us = 0
        self._generation = generation & 0xFFFF_FFFF
        self.peers = peers
        self.acceptor = acceptor
        self.writing = writing
        self.clock = clock
        self.random = random
        self.scheduler = scheduler
        self.timestamps = timestamps
        self.contentions = 0
        self.unknown = 0
        self.turns = Turns(peers.later)

    def next_ballot(self, above: Ballot) -> Ballot:
        """A ballot that nobody ever had, higher than ``above``."""
        self._last_us = max(self.timestamps.next_us(), above[0] + 1, self._last_us + 1)
        return self._last_us, self.peers.me << 32 | self._generation
