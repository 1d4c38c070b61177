"""Messages as bytes: what one node writes another reads, and nothing else gets through.

If this fails, nodes of two versions can't form a group, or a damaged message stops a node or, worse, is believed.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourodb import limits
from ourodb.cluster.raft.messages import (
    Append,
    AppendReply,
    Entry,
    EntryKind,
    InstallSnapshot,
    InstallSnapshotReply,
    Message,
    PreVote,
    PreVoteReply,
    Snapshot,
    TimeoutNow,
    Vote,
    VoteReply,
    decode_message,
    decode_voters,
    encode_message,
    encode_voters,
)
from ourodb.errors import ProtocolError
from ourodb.ports import NodeId

numbers = st.integers(0, 1 << 62)
voters = st.lists(
    st.integers(1, 1 << 40).map(NodeId), min_size=1, max_size=limits.RAFT_VOTERS_MAX, unique=True
).map(tuple)


@st.composite
def appends(draw: st.DrawFn) -> Append:
    index = draw(st.integers(0, 1 << 60))
    terms = sorted(draw(st.lists(st.integers(0, 1 << 62), min_size=2, max_size=6)))
    entries = []
    for offset, term in enumerate(terms[1:-1], 1):
        kind = draw(st.sampled_from(EntryKind))
        payload = encode_voters(draw(voters)) if kind is EntryKind.VOTERS else draw(st.binary(max_size=50))
        entries.append(Entry(index + offset, term, kind, payload))
    return Append(terms[-1], index, terms[0], tuple(entries), draw(numbers))


@st.composite
def installs(draw: st.DrawFn) -> InstallSnapshot:
    term = draw(st.integers(1, 1 << 62))
    index = draw(st.integers(1, 1 << 62))
    snapshot = Snapshot(index, draw(st.integers(0, term)), draw(voters), draw(st.binary()))
    return InstallSnapshot(term, snapshot)


messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(PreVote, numbers, numbers, numbers),
    st.builds(PreVoteReply, numbers, numbers, st.booleans()),
    st.builds(Vote, numbers, numbers, numbers, st.booleans()),
    st.builds(VoteReply, numbers, st.booleans()),
    appends(),
    st.builds(AppendReply, numbers, st.booleans(), numbers, numbers, numbers),
    installs(),
    st.builds(InstallSnapshotReply, numbers, numbers),
    st.builds(TimeoutNow, numbers),
)


@given(messages)
def test_what_is_written_is_read(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@given(messages, st.dictionaries(st.text(min_size=12), st.integers() | st.binary(), max_size=3))
def test_fields_of_later_versions_are_skipped(message: Message, more: dict[str, Any]) -> None:
    fields = msgspec.msgpack.decode(encode_message(message))
    for entry in fields.get("entries", ()):
        entry["checksum of some kind"] = 1
    text = msgspec.msgpack.encode(fields | {name: str(value) for name, value in more.items()})
    assert decode_message(text) == message


@given(st.binary(max_size=200))
def test_garbage_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^Not a message of consensus: "):
        decode_message(text)


@given(messages, st.data())
def test_damaged_messages_are_refused_or_well_formed(message: Message, data: st.DataObject) -> None:
    text = bytearray(encode_message(message))
    for at in data.draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=4)):
        text[at] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_message(bytes(text))
    except ProtocolError:
        return
    assert decode_message(encode_message(decoded)) == decoded


X = Entry(4, 2, EntryKind.COMMAND, b"x")


@pytest.mark.parametrize(
    "message",
    [
        Append(3, 2, 2, (X,), 0),
        Append(3, 3, 2, (X, X), 0),
        Append(3, 3, 3, (X,), 0),
        Append(1, 3, 1, (X,), 0),
        Append(1, 3, 2, (), 0),
        Append(3, 3, 2, (Entry(4, 2, EntryKind.VOTERS, b"x"),), 0),
        Append(3, 3, 2, (Entry(4, 2, EntryKind.VOTERS, msgspec.msgpack.encode([])),), 0),
        Append(3, 3, 2, (Entry(4, 2, EntryKind.COMMAND, bytes(limits.RAFT_ENTRY_BYTES_MAX + 1)),), 0),
        Append(-1, 3, 2, (), 0),
        Append(1 << 63, 3, 2, (), 0),
        InstallSnapshot(3, Snapshot(0, 0, (NodeId(1),), b"")),
        InstallSnapshot(3, Snapshot(1, 4, (NodeId(1),), b"")),
        InstallSnapshot(3, Snapshot(1, 1, (), b"")),
        InstallSnapshot(3, Snapshot(1, 1, (NodeId(1), NodeId(1)), b"")),
        InstallSnapshot(3, Snapshot(1, 1, (NodeId(0),), b"")),
        InstallSnapshot(3, Snapshot(1, 1, (NodeId(1),), bytes(limits.RAFT_SNAPSHOT_BYTES_MAX + 1))),
        InstallSnapshot(3, Snapshot(1, 1, (NodeId(1),), bytes(limits.RAFT_MESSAGE_BYTES_MAX))),
    ],
    ids=lambda message: repr(message)[:70],
)
def test_messages_that_no_machine_sends_are_refused(message: Message) -> None:
    with pytest.raises(ProtocolError):
        decode_message(msgspec.msgpack.encode(message))


def test_the_largest_messages_fit() -> None:
    """A snapshot or an entry as large as it may be must be able to travel."""
    everyone = tuple(NodeId((1 << 40) + number) for number in range(limits.RAFT_VOTERS_MAX))
    snapshot = Snapshot(1 << 62, 1 << 62, everyone, bytes(limits.RAFT_SNAPSHOT_BYTES_MAX))
    for message in (
        InstallSnapshot(1 << 62, snapshot),
        Append(3, 3, 2, (Entry(4, 2, EntryKind.COMMAND, bytes(limits.RAFT_ENTRY_BYTES_MAX)),), 0),
    ):
        text = encode_message(message)
        assert decode_message(text) == message
        assert len(text) <= limits.RAFT_MESSAGE_BYTES_MAX


@pytest.mark.parametrize(
    "payload", [b"", b"x", b"\x90", b"\x91\x00", b"\x92\x01\x01", b"\x91\xa1x", b"\x91\xff"]
)
def test_voters_that_cannot_be_are_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_voters(payload)


@given(voters)
def test_voters_are_read_as_written(some: tuple[NodeId, ...]) -> None:
    assert decode_voters(encode_voters(some)) == some
