"""What nodes say of themselves: if merging is wrong, nodes disagree for ever about epochs and loads."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourodb.cluster.gossip.state import Delta, NodeState, OversizedState
from ourodb.limits import GOSSIP_FIELDS_MAX, GOSSIP_STATE_BYTES_MAX, GOSSIP_TEXT_LENGTH_MAX

NAMES = ("epoch", "load_bytes", "words", "of_a_later_version")
CHANGES = st.lists(
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 1 << 40) | st.text(max_size=5), min_size=1),
    max_size=6,
)
LIVES = st.lists(CHANGES, min_size=1, max_size=3)


def told(lives: list[list[dict[str, int | str]]]) -> tuple[NodeState, list[NodeState]]:
    """A node's own state at the end, and every one that it had, over its processes' lives."""
    history = []
    own = NodeState()
    for generation, changes in enumerate(lives, 1):
        own = NodeState.of_new_process(generation)
        history.append(copy(own))
        for change in changes:
            own.beat += 1
            own.change(change)
            history.append(copy(own))
    return own, history


def copy(state: NodeState) -> NodeState:
    return NodeState(state.generation, state.beat, state.version, dict(state.fields))


@given(LIVES, st.data())
def test_deltas_in_any_order_with_losses_and_doubles_end_at_the_same(
    lives: list[list[dict[str, int | str]]], data: st.DataObject
) -> None:
    own, history = told(lives)
    deltas = [state.delta(7, since) for state in history for since in range(state.version + 1)]
    heard = data.draw(st.lists(st.sampled_from(deltas), max_size=30))
    known = NodeState()
    for delta in heard:
        before = (known.generation, known.beat, known.version)
        known.merge(delta)
        after = (known.generation, known.beat, known.version)
        assert after[0] >= before[0]
        assert after[0] > before[0] or (after[1] >= before[1] and after[2] >= before[2])
        # Whatever was heard: what is known is what the node once said, whole.
        (said,) = [s for s in history if (s.generation, s.version) == after[:1] + after[2:]][-1:] or [
            NodeState()
        ]
        assert known.fields == said.fields
    since = known.version if known.generation == own.generation else 0
    known.merge(own.delta(7, since))
    assert known == own


@given(LIVES, st.data())
def test_merging_twice_changes_nothing(lives: list[list[dict[str, int | str]]], data: st.DataObject) -> None:
    _, history = told(lives)
    state = data.draw(st.sampled_from(history))
    known = copy(data.draw(st.sampled_from(history)))
    delta = state.delta(7, 0)
    known.merge(delta)
    after = copy(known)
    assert not known.merge(delta)
    assert known == after


def test_a_delta_holds_only_what_is_newer() -> None:
    own = NodeState.of_new_process(1)
    own.change({"epoch": 5, "load_bytes": 1})
    seen = own.version
    own.change({"epoch": 6})
    assert own.delta(7, seen).fields == {"epoch": (seen + 1, 6)}
    assert set(own.delta(7, 0).fields) == {"epoch", "load_bytes", "stopping"}


def test_a_delta_with_a_gap_before_it_is_left_alone() -> None:
    """Else the state would seem complete, and what is missing would never be asked for."""
    known = NodeState(1, 0, 3, {"epoch": (3, 1)})
    assert not known.merge(Delta(7, 1, 0, 5, 6, {"load_bytes": (6, 1)}))
    assert known == NodeState(1, 0, 3, {"epoch": (3, 1)})


def test_fields_of_a_later_version_are_kept_and_passed_on() -> None:
    known = NodeState()
    known.merge(Delta(7, 1, 0, 0, 2, {"shoe_size": (2, 44)}))
    assert known.delta(7, 0).fields == {"shoe_size": (2, 44)}


def test_small_changes_of_load_are_not_told_and_small_numbers_are_exact() -> None:
    """Every change of every node travels to every other."""
    own = NodeState.of_new_process(1)
    assert own.change({"load_bytes": 1_000_000, "hints": 0})
    assert not own.change({"load_bytes": 1_001_000})
    assert own.load_bytes == 1_000_000
    assert own.change({"load_bytes": 1_100_000})
    for before, after in pairwise([0, 1, 2, 1, 0]):
        assert own.hints == before
        assert own.change({"hints": after})
    assert not own.change({"hints": 0, "load_bytes": 1_100_000})


@pytest.mark.parametrize(
    "changes",
    [
        {"words": "x" * (GOSSIP_TEXT_LENGTH_MAX + 1)},
        {f"field{number}": 1 for number in range(GOSSIP_FIELDS_MAX)},
        {f"field{number}": "€" * 200 for number in range(GOSSIP_STATE_BYTES_MAX // 600 + 1)},
        {"n" * 40: 1},
        {"number": 1 << 70},
    ],
)
def test_more_than_gossip_carries_is_refused_and_nothing_is_changed(changes: dict[str, int | str]) -> None:
    """What one node says is kept by all others: it must stay small."""
    own = NodeState.of_new_process(1)
    before = copy(own)
    with pytest.raises(OversizedState):
        own.change(changes)
    assert own == before


def test_a_full_state_has_room_for_the_last_word() -> None:
    """A node whose state is full must be able to say that it stops."""
    own = NodeState.of_new_process(1)
    own.change({f"field{number}": 1 for number in range(GOSSIP_FIELDS_MAX - 1)})
    assert own.change({"stopping": 1})
    assert own.is_stopping


def test_values_of_another_type_than_expected_do_no_harm() -> None:
    state = NodeState(1, 0, 2, {"epoch": (1, "seven"), "words": (2, 7)})
    assert state.epoch == 0
    assert state.text("words") == ""
    assert state.text("nothing") == ""


@given(st.builds(NodeState, st.integers(0, 1 << 48), st.integers(0, 1 << 48)))
def test_a_delta_survives_the_wire(state: NodeState) -> None:
    state.version = 3
    state.fields = {"epoch": (3, 9), "words": (1, "ä")}
    delta = state.delta(7, 0)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(delta), type=Delta) == delta
