"""Deletes ranges of keys that may hold nothing."""

from __future__ import annotations

from ourodb.errors import OuroError
from ourodb.ports import Store


def clear(store: Store, family: int, start: bytes, end: bytes) -> None:
    """Delete the keys in [start, end), if there are any: a tombstone of a range costs every read near it."""
    try:
        is_empty = next(store.scan(family, start, end), None) is None
    except OuroError:
        # It is damaged, and goes all the same.
        is_empty = False
    if not is_empty:
        store.delete_range(family, start, end)
