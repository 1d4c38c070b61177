"""Lightweight transactions: Paxos on one partition at a time.

A conditional statement is one consensus round among the replicas of its partition: *prepare* takes promises
from a quorum and reads what the condition is about in the same message; *propose* has a quorum accept what is
to be written; *commit* writes it. ``ballots`` has what travels and what is kept, ``acceptor`` the replica's
side, ``proposer`` the coordinator's; ``context`` is what the proposers of a node share, ``turns`` has those that are
about one partition wait for each other.

Source: Lamport 2001, "Paxos Made Simple"; Cassandra's ``StorageProxy.cas`` and CEP-14.
"""
