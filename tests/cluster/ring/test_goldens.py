"""Rings as text: ``goldens/*.txt``.

A case is a script, a line ``----``, and the ring that it makes. An empty line ends it. ``#`` lines are for the
reader.

    join ID DC RACK HOST COUNT        a node whose COUNT tokens are chosen node ID DC RACK HOST TOKEN ...    a node
    with these tokens place STRATEGY NAME=VALUE ...     shows each range: the tokens (start, end], its share of all,
    the slices of positions,
                                      the primary and after it the secondaries; then what share of all each node has
    key TEXT                          shows who holds a key

``ACCEPT=1 pytest tests/cluster/ring`` writes what comes out now into the files; read the difference before
committing it.

If this fails, rows are looked for on other nodes than those that hold them: an existing cluster would have to move
its data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.ring.rings import member

from ourodb.cluster.ring.allocation import choose_tokens
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.placement import Placement, Ring
from ourodb.cluster.ring.tokens import PositionRange
from ourodb.cql.types.murmur3 import token
from ourodb.schema.model import Replication
from ourodb.storage.keys import single_position

SCRIPTS = sorted((Path(__file__).parent / "goldens").glob("*.txt"))


def answer(script: str) -> Iterator[str]:
    members: list[Member] = []
    placement: Placement | None = None
    for line in script.splitlines():
        verb, *words = line.split()
        if verb == "join":
            number, data_center, rack, host, count = words
            chosen = choose_tokens(members, data_center, rack, host, int(count))
            members.append(member(int(number), chosen, data_center, rack, host))
        elif verb == "node":
            number, data_center, rack, host, *given = words
            members.append(member(int(number), [int(each) for each in given], data_center, rack, host))
        elif verb == "place":
            options = dict(word.split("=") for word in words[1:])
            replication = Replication(f"org.apache.cassandra.locator.{words[0]}", options)
            ring = Ring(members)
            placement = ring.placement(replication)
            yield line
            yield from show(ring, placement, replication)
        else:
            assert verb == "key"
            assert placement is not None
            key = words[0].encode()
            replicas = placement.replicas_of(single_position([key]))
            yield f"{line}: token {token(key)}, nodes {' '.join(map(str, replicas.nodes))}"


def show(ring: Ring, placement: Placement, replication: Replication) -> Iterator[str]:
    for each in placement.token_ranges():
        slices = " ".join(map(slice_text, each.positions))
        nodes = " ".join(map(str, each.secondaries))
        yield f"  ({each.start:>20}, {each.end:>20}] {each.share:6.1%}  {each.primary} then {nodes or '-'}  {slices}"
    first = ring.primary_ownership(replication)
    for node, share in ring.ownership(replication).items():
        yield f"  node {node} holds {share:.1%}, is the primary of {first[node]:.1%}"


def slice_text(positions: PositionRange) -> str:
    start, end = positions
    return f"[{start.hex() or 'first'}, {'last' if end is None else end.hex()})"


def run(script: str) -> str:
    """The script with each case's answer as it is now."""
    blocks = []
    for block in script.strip("\n").split("\n\n"):
        lines = block.split("\n----", 1)[0].splitlines()
        case = "\n".join(line for line in lines if not line.startswith("#"))
        blocks.append("\n".join([*lines, "----", *answer(case)]) if case else "\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def test_scripts_are_found() -> None:
    """Without scripts the next test would pass for nothing."""
    assert SCRIPTS


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_rings(path: Path) -> None:
    script = path.read_text()
    now = run(script)
    if os.environ.get("ACCEPT"):
        path.write_text(now)
    assert now == script or os.environ.get("ACCEPT")
