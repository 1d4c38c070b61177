"""Tokens of Cassandra's Murmur3Partitioner."""

from __future__ import annotations


def token(partition_key: bytes) -> int:
    """The signed 64-bit token of a serialized partition key."""
    raise NotImplementedError
