"""Who a node is, kept in its store from its first start on.

The host id names the node for ever. The counter incarnation grows after each unclean stop: the last
increments of a shard may then be lost, and a shard must never go back in time (see ``storage.counter``). It grows to
the time of day at least, since a store that was restored from a snapshot doesn't know what became of it afterwards. The
paging key authenticates the paging states that this cluster hands out.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import msgspec

from ourodb.errors import StoreDamaged
from ourodb.ports import Random, Store
from ourodb.storage.families import METADATA

KEY = b"node/identity"
CLEAN_KEY = b"node/clean"
TOKENS = 16
TOKEN_SPAN = 1 << 64
TOKEN_LEAST = -(1 << 63)


@dataclass(frozen=True, slots=True)
class Identity:
    """Attributes:
    tokens: the start of the node's ranges, decimal, ascending.
    counter_incarnation: of this run of the node.
    paging_key: 32 bytes.
    was_clean: the node's last run ended in order (or this is its first).
    """

    host_id: UUID
    tokens: tuple[str, ...]
    counter_incarnation: int
    paging_key: bytes
    was_clean: bool


class _Stored(msgspec.Struct):
    host_id: bytes
    tokens: list[int]
    counter_incarnation: int
    paging_key: bytes


def load_identity(store: Store, random: Random, now_s: int) -> Identity:
    """The node's identity; made, and put on disk, at its first start.

    Args:
        now_s: seconds since 1970.
    Raises:
        StoreDamaged: it can't be read.
    """
    encoded = _read(store, KEY)
    was_clean = True
    if encoded is None:
        stored = _Stored(UUID(bytes=random.bytes(16), version=4).bytes, _tokens(random), 1, random.bytes(32))
    else:
        try:
            stored = msgspec.msgpack.decode(encoded, type=_Stored)
        except msgspec.MsgspecError as error:
            raise StoreDamaged(
                f"this node's identity can't be read: {error}; restore the node from a snapshot"
            ) from error
        was_clean = _read(store, CLEAN_KEY) is not None
        if not was_clean:
            stored.counter_incarnation = _next(stored.counter_incarnation, now_s)
    store.apply(((METADATA, KEY, msgspec.msgpack.encode(stored)), (METADATA, CLEAN_KEY, None)))
    store.settle()
    return Identity(
        UUID(bytes=stored.host_id),
        tuple(map(str, stored.tokens)),
        stored.counter_incarnation,
        stored.paging_key,
        was_clean,
    )


def renew_counter_incarnation(store: Store, now_s: int) -> int:
    """The next counter incarnation of this node, in force with the writes of this pass.

    Args:
        now_s: as of ``load_identity``.
    Raises:
        StoreError: it can't be written.
    """
    encoded = _read(store, KEY)
    assert encoded is not None
    stored = msgspec.msgpack.decode(encoded, type=_Stored)
    stored.counter_incarnation = _next(stored.counter_incarnation, now_s)
    store.apply(((METADATA, KEY, msgspec.msgpack.encode(stored)),))
    return stored.counter_incarnation


def mark_clean_stop(store: Store) -> None:
    """The last write of a run that ends in order."""
    store.apply(((METADATA, CLEAN_KEY, b"\x01"),))
    store.settle()


def _next(incarnation: int, now_s: int) -> int:
    """One that no life of the store has had, even if it was restored from a snapshot since."""
    return max(incarnation + 1, now_s)


def _read(store: Store, key: bytes) -> bytes | None:
    """The value, by a scan, which never answers LATER."""
    return next((value for _, value in store.scan(METADATA, key, key + b"\x00")), None)


def _tokens(random: Random) -> list[int]:
    """Evenly spread from a random first one: a node alone owns everything anyhow."""
    first = int.from_bytes(random.bytes(8), "big")
    step = TOKEN_SPAN // TOKENS
    return sorted((first + i * step) % TOKEN_SPAN + TOKEN_LEAST for i in range(TOKENS))
