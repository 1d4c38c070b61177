"""What peers give about more rows than a node has room for in memory.

If this fails, a node that gains rows, gets hints or is repaired tries the same for ever, at full speed, and never ends.
"""

from __future__ import annotations

import pytest
from tests.writes.ring import Ring

import ourodb.sim.disk
from ourodb import limits
from ourodb.cql.wire.codes import Consistency
from ourodb.storage.mutation import MutationBuilder
from ourodb.storage.row import LiveRow


@pytest.mark.parametrize("how", ["here", "as a repair", "as hints"])
def test_more_rows_than_there_is_room_for_in_memory_are_taken_piece_by_piece(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """All that is applied in one go must be in memory at one time: waited for all at once, it never would be."""
    rows, room = 400, 2 * limits.APPLIED_RECORDS_MAX
    ring = Ring(2)
    ring.set_up("CREATE TABLE ks.w (k int, c int, v int, PRIMARY KEY (k, c))", factor=2)
    inserts = " ".join(f"INSERT INTO ks.w (k, c, v) VALUES (1, {row}, 1);" for row in range(rows))
    ring.done(0, f"BEGIN UNLOGGED BATCH {inserts} APPLY BATCH", Consistency.ALL)
    monkeypatch.setattr(ourodb.sim.disk, "SIM_WARM_KEYS_MAX", room)
    ring.machines[1].disk.conditions.later_one_in = 1
    node, sender = ring.node(1), ring.node(0)
    table = node.view.schema.table("ks", "w")
    assert table is not None
    keys = node.rows.register(table).keys
    builder = MutationBuilder(keys, ring.position("w", 1), 1 << 60, 0)
    for number in range(rows):
        builder.row([number.to_bytes(4, "big")]).cell(table.columns["v"], (2).to_bytes(4, "big"))
    mutation = builder.build()
    assert mutation is not None
    assert len(mutation.writes) == rows
    answers: list[object] = []
    if how == "here":
        node.writes.write_pieces(node.writes.in_pieces([mutation]), 0, answers.append)
    else:
        answer = lambda link, verb, request, *rest, **named: answers.append(None)  # noqa: E731
        monkeypatch.setattr(node.peers, "reply", answer)
        receive = node.replica.on_repair if how == "as a repair" else node.replica.on_hints
        link = node.peers.links[sender.peers.me]
        receive(link, sender.peers.me, 1, node.peers.epoch, mutation.encode())
    assert ring.world.run_until(lambda: bool(answers), 20), "it waits for ever"
    assert answers == [None]
    ring.machines[1].disk.conditions.later_one_in = 0
    for row in node.rows.register(table).read(ring.position("w", 1), 0):
        assert isinstance(row, LiveRow)
        assert row.cells[table.columns["v"].id][0] == (2).to_bytes(4, "big")
        rows -= 1
    assert not rows
