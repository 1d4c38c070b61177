"""Consensus as a state machine: events in, one ``Output`` out, no clock and no socket. Read ``raft.py`` first."""
