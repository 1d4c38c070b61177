"""What ``ouro status`` and the others draw from a node's answer.

Were these to fail, an operator would read a table that leaves out what matters, or takes one node for another.
"""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from ourodb.cli import gossip, metadata, operations, ring, status
from ourodb.cli.admin import AdminError, NoAnswerError, ask, candidates, split
from ourodb.cli.console import console
from ourodb.cli.local import layout
from ourodb.cli.up import Asked, planned

HALF = 1 << 63


def member(id: int, **others: Any) -> dict[str, Any]:
    return {
        "id": id, "state": "UP", "is_this_node": id == 1, "address": f"10.0.0.{id}:7000", "cql": f"10.0.0.{id}:9042",
        "dc": "datacenter1", "rack": f"rack{id}", "host": f"machine{id}", "tokens": 16, "owns": 1 / 3,
        "load_bytes": 3 << 20, "epoch": 7, "skew_ms": None if id == 1 else 1.5, "hints_waiting": 0,
        "is_voter": True, "is_leader": id == 2, **others,
    }  # fmt: skip


def report(*members: dict[str, Any], warnings: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "cluster_name": "flights", "address": "10.0.0.1:9042", "epoch": 7, "keyspace": None,
        "members": list(members), "warnings": list(warnings),
    }  # fmt: skip


def text(renderable: Any, width: int = 160) -> str:
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


def test_status_says_who_is_down_and_what_waits_for_it() -> None:
    found = report(member(1), member(2), member(3, state="DOWN", hints_waiting=1234), warnings=("look here",))
    shown = text(status.rendered(found, 160))
    assert "3 nodes, 2 up" in shown
    (line,) = [line for line in shown.splitlines() if "10.0.0.3" in line]
    assert line.split()[:2] == ["3", "DOWN"]
    assert "1,234" in line
    assert "! look here" in shown
    (leader,) = [line for line in shown.splitlines() if "leader" in line]
    assert "10.0.0.2" in leader


def test_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Paths and what a node says may look like the marks by which the library below is told colours and pictures."""
    line = "! rows in /backups/a[/b] and [old] are left out :cat:"
    console().print(line)
    assert capsys.readouterr().out == f"{line}\n"


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_status_on_a_narrow_terminal_leaves_out_what_matters_least(width: int) -> None:
    shown = text(status.rendered(report(member(1), member(2, hints_waiting=98765)), width), 400)
    table = shown.split("\n\n")[1]
    assert all(len(line.rstrip()) <= max(width, 55) for line in table.splitlines())
    assert "98,765" in table
    assert "10.0.0.2:9042" in table
    assert ("machine2" in table) == (width >= 120)


def test_a_clock_that_is_far_off_is_told_in_seconds() -> None:
    shown = text(
        status.rendered(report(member(1), member(2, skew_ms=-60_000.0), member(3, skew_ms=None)), 160)
    )
    assert "-60.0 s" in shown
    assert shown.splitlines()[-1].split().count("?") == 1


def drawing(*, up: tuple[int, ...] = (1, 2)) -> dict[str, Any]:
    """Two nodes, of which the first has the lower half of the tokens and the second the upper; each has both."""

    def part(start: int, end: int, primary: int, secondary: int) -> dict[str, Any]:
        return {
            "start": str(start), "end": str(end), "share": 0.5, "primary": primary,
            "acting_primary": next((id for id in (primary, secondary) if id in up), None),
            "secondaries": [secondary],
        }  # fmt: skip

    place = {"dc": "datacenter1", "rack": "rack1", "host": "machine"}
    return {
        "keyspace": "flights",
        "replication": {"class": "org.apache.cassandra.locator.SimpleStrategy", "replication_factor": "2"},
        "nodes": {
            str(id): {"address": f"10.0.0.{id}:7000", "cql": f"10.0.0.{id}:9042", "up": id in up, **place}
            for id in (1, 2)
        },
        "ranges": [part(HALF - 1, -1, 1, 2), part(-1, HALF - 1, 2, 1)],
    }


def band(shown: str, address: str) -> str:
    (line,) = [line for line in shown.splitlines() if address in line]
    return "".join(cell for cell in line if cell in ring.PRIMARY + ring.ACTING + ring.SECONDARY)


def test_bands_show_whose_tokens_are_where() -> None:
    shown = text(ring.drawn(drawing(), 160), 160)
    assert band(shown, "10.0.0.1") == "█" * 32 + "░" * 32
    assert band(shown, "10.0.0.2") == "░" * 32 + "█" * 32
    assert "SimpleStrategy, 2 copies" in shown
    assert shown.count("50.0%") == 2
    assert shown.count("100.0%") == 2


def test_bands_fit_the_terminal() -> None:
    shown = text(ring.drawn(drawing(), 70), 70)
    assert all(len(line) <= 70 for line in shown.splitlines())
    assert len(set(band(shown, "10.0.0.1"))) == 2


def test_who_acts_for_a_primary_that_is_down_is_seen() -> None:
    found = drawing(up=(2,))
    shown = text(ring.drawn(found, 160), 160)
    assert band(shown, "10.0.0.2") == "▓" * 32 + "█" * 32
    assert "1 DOWN" in shown
    first = text(ring.ranges(found)).splitlines()[1].split()
    assert first[-4:] == ["1", "DOWN", "2", "2"]


def test_a_range_without_anybody_is_seen() -> None:
    lines = text(ring.ranges(drawing(up=()))).splitlines()
    assert "nobody" in lines[1]


def test_a_key_is_explained() -> None:
    found = drawing(up=(2,))
    found["key"] = {
        "columns": {"origin": "text", "day": "date"}, "partition_key": "00ff", "token": "-42",
        **found["ranges"][0],
    }  # fmt: skip
    shown = text(ring.explained(found, "flights.by_day", ["JFK", "2013-07-04"]))
    assert "origin = JFK, day = 2013-07-04" in shown
    assert "token -42" in shown
    replicas = [line for line in shown.splitlines() if "10.0.0." in line]
    assert replicas[0].startswith("primary ")
    assert replicas[0].rstrip().endswith("DOWN")
    assert replicas[1].startswith("secondary 1, acting primary")
    assert replicas[1].rstrip().endswith("UP")


def test_gossip_shows_a_node_that_was_never_heard_of() -> None:
    node = {"id": 2, "address": "a", "up": False, "generation": 0, "heartbeat": 0, "phi": 12.5, "epoch": 0}
    found = {
        "rounds": 5, "messages_sent": 1, "messages_received": 2, "bytes_sent": 3, "refusals": {"leap": 4},
        "nodes": [node],
    }  # fmt: skip
    shown = text(gossip.rendered(found))
    assert "never heard of" in shown
    assert "12.50" in shown
    assert "refused 4 times: leap" in shown


def test_metadata_shows_who_decides() -> None:
    found = {
        "epoch": 3, "term": 2, "leader": 2, "voters": [1, 2], "recoveries": 1, "fault": "broken",
        "entries": [
            {"index": 3, "term": 2, "text": "[create] table", "is_applied": True},
            {"index": 4, "term": 2, "text": "drop", "is_applied": False},
        ],
        "nodes": drawing()["nodes"],
    }  # fmt: skip
    shown = text(metadata.rendered(found))
    assert "epoch 3, term 2, node 2 leads" in shown
    assert "given up 1 times" in shown
    assert "broken" in shown
    assert "[create] table" in shown
    assert shown.count("not applied yet") == 1


# Whom to ask


def test_where_to_ask(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert candidates(None, None) == ["127.0.0.1:7070"]
    assert candidates("10.0.0.1:7070", None) == ["10.0.0.1:7070"]
    layout.save(tmp_path / "ouro-ring", layout.spread(2, ports=(1, 2, 3)))
    nodes = ["127.0.0.1:3", "127.0.0.2:3"]
    assert candidates(None, None) == ["127.0.0.1:7070", *nodes]
    assert candidates(None, "ouro-ring") == nodes
    with pytest.raises(AdminError, match="there is no ring in nothing"):
        candidates(None, "nothing")
    (tmp_path / "ouro-ring" / "ring.json").write_text("{}")
    with pytest.raises(AdminError, match="isn't the layout of a ring"):
        candidates(None, "ouro-ring")
    with pytest.raises(
        NoAnswerError, match=r"none of 127.0.0.1:1, 127.0.0.2:1 answers; name a node with --admin"
    ):
        ask(["127.0.0.1:1", "127.0.0.2:1"], "/status")


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":7070", "host:0", "host:65536", "host:x", "host:²"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(AdminError, match="isn't HOST:PORT"):
        split(address)


def test_an_address_of_ipv6() -> None:
    assert split("[::1]:7070") == ("::1", 7070)


# The layout of a ring


def test_a_new_ring_has_a_node_for_each_rack(tmp_path: Any) -> None:
    plan = planned(tmp_path, Asked(dcs=2, racks=3))
    assert len(plan.nodes) == 6
    assert len({(node.dc, node.rack) for node in plan.nodes}) == 6
    assert len({node.host_id for node in plan.nodes}) == 6
    assert [node.address for node in plan.nodes][:2] == ["127.0.0.1", "127.0.0.2"]
    assert {node.cql_port for node in plan.nodes} == {9042}


def test_a_ring_keeps_its_layout_and_may_grow(tmp_path: Any) -> None:
    plan = planned(tmp_path, Asked(nodes=2, racks=2, cql_port=1234, options=("--durability=periodic",)))
    layout.save(tmp_path, plan.formed())
    grown = planned(tmp_path, Asked(nodes=4))
    assert grown.nodes[:2] == plan.nodes
    assert [node.rack for node in grown.nodes] == ["rack1", "rack2", "rack1", "rack2"]
    assert grown.options == ("--durability=periodic",)
    assert planned(tmp_path, Asked()) == plan.formed()
    for asked in (Asked(nodes=1), Asked(dcs=2), Asked(racks=1), Asked(admin_port=99)):
        with pytest.raises(layout.LayoutError):
            planned(tmp_path, asked)


def test_only_a_first_node_of_a_new_ring_founds_a_cluster(tmp_path: Any) -> None:
    plan = layout.spread(3)
    seeds = [plan.command(tmp_path, node)[-1] for node in plan.nodes]
    assert seeds == ["--join=", "--join=127.0.0.1:7000", "--join=127.0.0.1:7000"]
    formed = plan.formed()
    assert formed.command(tmp_path, formed.nodes[0])[-1] == "--join=127.0.0.2:7000,127.0.0.3:7000"


@pytest.mark.parametrize(
    "asked", [Asked(nodes=201), Asked(dcs=-1), Asked(cql_port=7000), Asked(nodes=-3)], ids=str
)  # fmt: skip
def test_layouts_that_cannot_be(tmp_path: Any, asked: Asked) -> None:
    with pytest.raises(layout.LayoutError):
        planned(tmp_path, asked)


def test_status_says_what_becomes_of_a_node_that_is_down() -> None:
    found = report(member(1), member(2), member(3, state="DOWN"))
    shown = text(status.rendered(found | {"healing": {"is_paused": False, "nodes": []}}, 160))
    assert "heal" not in shown
    told = "node 3 at 10.0.0.3 has been down for 42 s; its ranges get new replicas in 558 s"
    shown = text(status.rendered(found | {"healing": {"is_paused": True, "nodes": [{"text": told}]}}, 160))
    assert told in shown
    shown = text(status.rendered(found | {"healing": {"is_paused": True, "nodes": []}}, 160))
    assert "healing is paused" in shown


def test_operations_that_are_under_way_wait_or_have_ended() -> None:
    named = {"id": 7, "kind": "heal", "nodes": [3, 4], "began_ms": 1_000, "rows": 1_234, "bytes": 5 << 20}
    under_way = {
        **named, "stage": "copying", "ranges": 10, "ranges_done": 4, "seconds": 20.0, "bytes_per_s": 1 << 18,
        "left_s": 30.0, "waits": "node 2 went down",
    }  # fmt: skip
    ended = [
        {**named, "id": 5, "kind": "leave", "ended_ms": 61_000, "is_done": True, "reason": None},
        {**named, "id": 4, "kind": "join", "ended_ms": 3_000, "is_done": False, "reason": "node 9 was down"},
    ]
    found = {"under_way": [under_way], "waiting": [{"node": 0, "kind": "rebalance"}], "ended": ended}
    lines = text(operations.rendered(found), 200).splitlines()
    assert len(lines) == 5
    assert lines[1].split()[:4] == ["7", "heal", "3,", "4"]
    assert "4 of 10 ranges, 256.0 KiB/s, 30 s left; waits: node 2 went down" in lines[1]
    assert lines[2].split() == ["rebalance", "waits", "for", "its", "turn"]
    assert lines[3].rstrip().endswith("done")
    assert " 60 s " in lines[3]
    assert lines[4].rstrip().endswith("undone: node 9 was down")
    nothing = text(operations.rendered({"under_way": [], "waiting": [], "ended": []}))
    assert "no rows have moved" in nothing
