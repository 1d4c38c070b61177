"""Sizes: that the program measures what it says, and that a hundred nodes stay within the bounds.

If one of these fails, news or deaths take too long to be known in a large ring, gossip costs too much, or nodes
hold unequal shares; or the program that tells us so at a thousand nodes counts something else.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ourodb.cluster.gossip import gossip as gossip_module
from ourodb.cluster.gossip.messages import decode
from ourodb.cluster.ring.placement import Ring
from ourodb.net.loop import SystemClock
from ourodb.peer.frames import FrameDecoder, FrameEncoder
from ourodb.peer.messages import HEADER, Verb
from ourodb.ports import URGENT, NodeId
from ourodb.sim.scale import plots, report
from ourodb.sim.scale.__main__ import main
from ourodb.sim.scale.figures import (
    BYTES_PER_SECOND_MAX,
    CHANGE_ROUNDS_MAX,
    UNEVENNESS_MAX,
    Figures,
    GossipFigures,
    NoFigures,
    PlacementFigures,
    Spread,
    load,
    load_or_none,
    save,
)
from ourodb.sim.scale.gossip import Observation, measure_gossip
from ourodb.sim.scale.placement import joining, measure_placement, moved, replication
from ourodb.sim.scale.ring import EPOCH, ROUND_NS, GossipRing


def told_nothing(what: str) -> None:
    pass


def started(nodes: int, seed: int = 1) -> tuple[GossipRing, Observation]:
    ring = GossipRing(nodes, seed)
    watch = Observation(ring)
    ring.start_all()
    assert ring.run_until(watch.is_whole, 20)
    return ring, watch


def test_a_hundred_nodes_stay_within_the_bounds() -> None:
    figures = measure_gossip(100, 1, told_nothing, node_rounds=1_000)
    assert 0 < figures.change.median_rounds <= figures.change.last_rounds <= CHANGE_ROUNDS_MAX / 2
    assert 2 < figures.death.median_rounds <= figures.death.last_rounds <= 10
    assert figures.start.last_rounds <= 10
    # A digest of a hundred nodes is a kilobyte, and each node begins three exchanges and takes part in three more.
    assert 5_000 < figures.bytes_per_second < figures.bytes_per_second_busiest < BYTES_PER_SECOND_MAX / 2
    assert figures.loss_node_hours > 0.25
    assert figures.pauses >= 3
    assert figures.false_downs_loss == figures.false_downs_pauses == 0
    assert figures.return_rounds < 2
    assert not Figures(1, (figures,), ()).missed()


def test_one_seed_gives_one_measurement() -> None:
    one, same, other = (measure_gossip(5, seed, told_nothing, node_rounds=200) for seed in (3, 3, 4))
    assert one == same
    assert one != other


def test_a_death_and_a_pause_are_seen_but_not_counted_as_mistakes() -> None:
    ring, watch = started(5)
    ring.run(10)
    ring.kill(NodeId(2))
    watch.await_deaths([NodeId(2)])
    assert ring.run_until(watch.is_known, 20)
    assert len(watch.heard_ns) == 4
    ring.pause(NodeId(3))
    ring.run(10)
    watch.wake(NodeId(3))
    ring.run(10)
    assert watch.return_ns > 0
    assert watch.ups == 4 * 3 + 4, "the dead one held the others to be UP"
    assert watch.wrong_downs == 0


def test_a_node_that_runs_and_is_found_down_is_a_mistake() -> None:
    """Nothing but losing everything makes production's detector err; then all of them do."""
    ring, watch = started(4)
    ring.run(10)
    ring.loss_ppm = 1_000_000
    ring.run(20)
    assert watch.wrong_downs == 4 * 3


def test_where_news_are_slow_a_pause_as_long_as_a_death_takes_is_no_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a thousand nodes do, these speak to one other a round, and are more than one that wakes speaks to at once.

    Those to whom a death would have become certain just after the node woke must not take it for dead, and all
    others must hold it to be UP at once; one that wakes must see who died meanwhile, and nobody else.
    """
    monkeypatch.setattr(gossip_module, "GOSSIP_ENTRIES_PER_ROUND", 1)
    ring, watch = started(120)
    ring.run(6)
    pausing, dying = [NodeId(node) for node in (3, 33, 63, 93)], NodeId(110)
    pause_ns = 15 * ROUND_NS // 2
    for number, node in enumerate(pausing):
        delay_ns = (1 + 7 * number) * ROUND_NS // 31
        ring.loop.after(delay_ns, ring.pause, node)
        ring.loop.after(delay_ns + pause_ns, watch.wake, node)
    ring.run(4)
    ring.kill(dying)
    watch.await_deaths([dying])
    ring.run(4)
    downs = 120 * 119 - watch.ups
    assert 0 < downs < 4 * 119, "some had noticed, and some had not: else this shows nothing"
    ring.run(3)
    assert watch.wrong_downs == 0
    assert watch.return_ns < ROUND_NS // 100
    assert ring.run_until(watch.is_known, 8), "who woke takes no longer than if it had died then"
    assert watch.ups == 118 * 119 + 119, "the dead one held the others to be UP"
    assert watch.wrong_downs == 0


def test_news_is_noted_once_by_each_other_node() -> None:
    ring, watch = started(6)
    watch.await_news([NodeId(1)])
    gossip = ring.seats[NodeId(1)].gossip
    assert gossip is not None
    ring.run(5)
    assert not watch.is_known()
    assert not watch.heard_ns
    gossip.update(epoch=EPOCH + 1)
    assert ring.run_until(watch.is_known, 20)
    assert len(watch.heard_ns) == 5


def test_bytes_are_those_of_frames() -> None:
    """What a node is said to have sent is what its messages are on the wire, headers and all."""
    ring, _ = started(3)
    seat = ring.seats[NodeId(1)]
    assert seat.gossip is not None
    bodies_bytes = seat.gossip.bytes_sent
    message = HEADER.pack(Verb.GOSSIP, 0, 0, 0, EPOCH)
    (received,) = FrameDecoder(URGENT, 0).decode(
        FrameEncoder(URGENT, 0).encode([message + b"\x03\x92\x01\x90"])
    )
    assert decode(received[HEADER.size :]) is not None
    overhead = len(FrameEncoder(URGENT, 0).encode([message]))
    assert seat.messages_sent == seat.gossip.messages_sent > 0
    assert seat.bytes_sent == bodies_bytes + overhead * seat.messages_sent


def test_shares_are_even_and_a_join_moves_little_more_than_its_part() -> None:
    for figures in measure_placement((9, 30), SystemClock(), told_nothing):
        assert 1 <= figures.unevenness_primary <= UNEVENNESS_MAX
        assert figures.unevenness_racks == 1
        assert 1 <= figures.unevenness_replicated <= UNEVENNESS_MAX
        # The rack that gets one more node still holds one copy of everything: its part is 1 / (N + 3).
        assert 0.85 / (figures.nodes + 3) < figures.moved < 1.15 * figures.moved_ideal


def test_what_moves_is_what_the_newcomer_holds() -> None:
    """No join makes two older nodes exchange data."""
    members = [joining([])]
    while len(members) < 12:
        members.append(joining(members))
    after = [*members, joining(members)]
    copies = replication(3)
    rings = Ring(members), Ring(after)
    assert moved(*(ring.placement(copies) for ring in rings)) == pytest.approx(
        rings[1].ownership(copies)[after[-1].id]
    )
    assert moved(*[rings[1].placement(copies)] * 2) == 0


FIGURES = Figures(
    1,
    (
        GossipFigures(
            10, Spread(0.5, 1, 7), 20, 3_000, 3_100, 6, Spread(1, 2, 4), Spread(3, 4, 12), 5, 0, 5, 8, 0, 0.1
        ),
    ),
    (PlacementFigures(10, 1.03, 1.13, 1.11, 0.083, 0.091, 0.02, 0.001, 0.002),),
)


def test_missed_targets_are_told() -> None:
    assert not FIGURES.missed()
    slow, placed = FIGURES.gossip[0], FIGURES.placement[0]
    missed = replace(
        FIGURES,
        gossip=(replace(slow, change=Spread(1, 21, 4), bytes_per_second_busiest=50_001),),
        placement=(replace(placed, place_seconds=1.5, unevenness_primary=1.16, unevenness_replicated=1.3),),
    ).missed()
    assert [sentence.partition(":")[0] for sentence in missed] == ["10 nodes"] * 5


def test_figures_are_kept_and_those_of_other_sizes_stay(tmp_path: Path) -> None:
    assert load_or_none(tmp_path, 1) == Figures(1, (), ())
    save(FIGURES, tmp_path)
    assert load(tmp_path) == load_or_none(tmp_path, 1) == FIGURES
    assert load_or_none(tmp_path, 2) == Figures(2, (), ()), "rings of two seeds are no table"
    ring = FIGURES.gossip[0]
    both = FIGURES.with_ring(replace(ring, nodes=30)).with_ring(replace(ring, nodes=3))
    assert [each.nodes for each in both.gossip] == [3, 10, 30]
    assert both.placement == FIGURES.placement
    anew = replace(FIGURES.placement[0], moved=0.09)
    assert FIGURES.with_ring(anew).placement == (anew,)
    (tmp_path / "figures.json").write_text("{}")
    with pytest.raises(NoFigures):
        load(tmp_path)


def test_tables_stand_between_marks_and_the_rest_of_the_document_stays(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(f"# Words\n\n{report.BEGIN}\nold\n{report.END}\nmore words\n")
    report.write(FIGURES, tmp_path)
    text = document.read_text()
    assert text.startswith("# Words\n\n")
    assert text.endswith("more words\n")
    assert "old" not in text
    assert "| 10 |" in text
    report.write(FIGURES, tmp_path)
    assert document.read_text() == text


def test_the_program_prints_tables_without_matplotlib(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sizes", "3,6", "--only", "placement"]) == 0
    out = capsys.readouterr().out
    assert "| 6 |" in out
    assert out.endswith("missed: nothing\n")


def test_the_program_says_what_pictures_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it measures anything."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["--write", str(tmp_path / "new")]) == 2
    assert plots.INSTALL in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
