"""What a node says of itself.

A state is a generation (the second in which the node's process started: a new process is a new generation), a
beat (how long that process has run: proof of life) and a map of small fields: the epoch of the metadata log
that it has applied, its load, the hints that wait on it, and words for display. Each change of a field gets
the next version. Only the node itself makes new beats and versions; everybody else passes them on, so of two
states of a node that of the greater generation, then that of the greater version, is the newer, and in
whatever order they are heard all end at the same.

A delta holds the fields whose version is greater than ``since``. Whoever has everything up to ``since`` has
everything up to the delta's version afterwards; a delta that starts later than what is known has a gap before
it and is left alone. Fields that a node doesn't know are kept and passed on, so that versions can mix.

Source: van Renesse, Dumitriu, Gough, Thomas 2008, "Efficient reconciliation and flow control for anti-entropy
protocols" (Scuttlebutt).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from ourodb.cluster.gossip.columns import Number
from ourodb.errors import OuroError
from ourodb.limits import (
    GOSSIP_FIELDS_MAX,
    GOSSIP_NAME_LENGTH_MAX,
    GOSSIP_STATE_BYTES_MAX,
    GOSSIP_TEXT_LENGTH_MAX,
)

EPOCH: Final = "epoch"
LOAD_BYTES: Final = "load_bytes"
HINTS: Final = "hints"
STOPPING: Final = "stopping"
LEADS: Final = "leads"
COPYING: Final = "copying"
"""How far a node has come with what it gains in a move: words for display."""
APPROXIMATE: Final = (LOAD_BYTES, HINTS)
"""For display: small changes of these are not worth telling a thousand nodes."""
APPROXIMATE_PARTS: Final = 64
"""A change of less than one part in so many is small."""

Value = int | str
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=GOSSIP_NAME_LENGTH_MAX)]
Told = (
    Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
    | Annotated[str, msgspec.Meta(max_length=GOSSIP_TEXT_LENGTH_MAX)]
)
Fields = Annotated[dict[Name, tuple[Number, Told]], msgspec.Meta(max_length=GOSSIP_FIELDS_MAX)]


class OversizedState(OuroError):
    """This node wants to say more of itself than gossip carries."""


class Delta(msgspec.Struct, array_like=True, frozen=True):
    """What is new of a node.

    Attributes:
        node: whose.
        since: the version from which on this holds all changes; 0: from the beginning.
        version: the version up to which it holds them.
        fields: name to (version, value).
    """

    node: Number
    generation: Number
    beat: Number
    since: Number
    version: Number
    fields: Fields

    def is_sound(self) -> bool:
        """Whether the versions are those of a delta."""
        return self.since <= self.version and all(
            self.since < version <= self.version for version, _ in self.fields.values()
        )


@dataclass(slots=True)
class NodeState:
    """One node, as far as it is known here.

    Attributes:
        generation: seconds since the epoch at which the node's process started, or a little more; 0: nothing is known.
        beat: how long its process had run when it said this, in GOSSIP_BEAT_MS; more each round.
        version: of the last change of a field.
        fields: name to (version, value).
    """

    generation: int = 0
    beat: int = 0
    version: int = 0
    fields: dict[str, tuple[int, Value]] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """The last entry of the metadata log that the node has applied; 0 when not known."""
        return self._number(EPOCH)

    @property
    def load_bytes(self) -> int:
        """What its store holds; about."""
        return self._number(LOAD_BYTES)

    @property
    def hints(self) -> int:
        """Mutations that wait on it for other nodes; about."""
        return self._number(HINTS)

    @property
    def leads(self) -> int:
        """The term in which it leads the metadata log; 0 when it doesn't."""
        return self._number(LEADS)

    @property
    def is_stopping(self) -> bool:
        """It has said that it goes down now."""
        return bool(self._number(STOPPING))

    @classmethod
    def of_new_process(cls, generation: int) -> NodeState:
        """A node's own state at its start. It has room for the last word from the beginning."""
        return cls(generation, 0, 1, {STOPPING: (1, 0)})

    def text(self, name: str) -> str:
        """A field that is text; empty when there is none."""
        value = self.fields.get(name, (0, ""))[1]
        return value if isinstance(value, str) else ""

    def values(self) -> dict[str, Value]:
        """All fields, by name, in order."""
        return {name: value for name, (_, value) in sorted(self.fields.items())}

    def change(self, changes: dict[str, Value]) -> bool:
        """Only for a node's own state: new values, under the next version.

        Returns:
            Whether anything is worth telling.
        Raises:
            OversizedState: too many fields, or too large ones. Nothing was changed.
        """
        news = {name: value for name, value in changes.items() if self._is_news(name, value)}
        if not news:
            return False
        version = self.version + 1
        fields = self.fields | {name: (version, value) for name, value in news.items()}
        try:
            msgspec.convert(fields, Fields)
        except msgspec.ValidationError as error:
            raise OversizedState(f"gossip doesn't carry this: {error}") from error
        bytes_needed = len(msgspec.msgpack.encode(fields))
        if bytes_needed > GOSSIP_STATE_BYTES_MAX:
            raise OversizedState(
                f"{bytes_needed} bytes of state, of {GOSSIP_STATE_BYTES_MAX} that gossip carries"
            )
        self.version, self.fields = version, fields
        return True

    def delta(self, node: int, since: int) -> Delta:
        """What changed after version ``since`` of this generation."""
        fields = {name: told for name, told in self.fields.items() if told[0] > since}
        return Delta(node, self.generation, self.beat, since, self.version, fields)

    def merge(self, delta: Delta) -> bool:
        """Take what is newer. Commutative, idempotent; no number ever goes back within a generation.

        Returns:
            Whether anything was newer.
        """
        if delta.generation != self.generation:
            if delta.generation < self.generation or delta.since:
                return False
            self.generation, self.beat, self.version = delta.generation, delta.beat, delta.version
            self.fields = dict(delta.fields)
            return True
        is_newer = delta.beat > self.beat
        if is_newer:
            self.beat = delta.beat
        if delta.since <= self.version < delta.version:
            self.fields.update(delta.fields)
            self.version = delta.version
            is_newer = True
        return is_newer

    def forget(self) -> None:
        """Nothing is known."""
        self.generation = self.beat = self.version = 0
        self.fields = {}

    def _number(self, name: str) -> int:
        value = self.fields.get(name, (0, 0))[1]
        return value if isinstance(value, int) else 0

    def _is_news(self, name: str, value: Value) -> bool:
        if name not in self.fields:
            return True
        known = self.fields[name][1]
        if name in APPROXIMATE and isinstance(known, int) and isinstance(value, int):
            return abs(value - known) * APPROXIMATE_PARTS > abs(known)
        return value != known
