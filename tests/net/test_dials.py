"""Tries to reach a peer that go wrong in uncommon ways.

If this fails, a link waits for ever for something that has ended, and two nodes never speak with each other again.
"""

from __future__ import annotations

import asyncio

import pytest
from tests.net.ring import Node, run, until

from ourodb.net.peer_links import LaneState, OutgoingProtocol
from ourodb.ports import DATA


@pytest.mark.parametrize(
    "host", ["a..b", "x" * 70, "a\0b", "\udcff", "\u00e4" * 80, "127.0.0.1%lo", "::1%nope"]
)
def test_an_address_that_no_resolver_takes_is_one_where_nobody_is(host: str) -> None:
    async def test() -> None:
        node = await Node().start()
        try:
            node.transport.link((host, 7000)).send(DATA, b"hello")
            await until(lambda: ("disconnected", (host, 7000), False) in node.events)
        finally:
            await node.transport.stop()

    run(test)


def test_a_try_that_was_given_up_as_it_succeeded_has_no_say_in_the_next() -> None:
    async def test() -> None:
        node = await Node().start()
        try:
            # Nobody listens there.
            address = ("127.0.0.9", 1)
            transport = node.transport
            lane = transport.link(address).lanes[DATA]
            # A first try has made its protocol, and its ``connection_made`` is about to be called.
            old = OutgoingProtocol(lane, transport.call(address, DATA))
            lane.state, lane.is_wanted, lane._protocol = LaneState.CONNECTING, True, old
            lane._dialling = asyncio.get_running_loop().create_task(asyncio.sleep(60))
            lane._since -= 10
            lane.connect_anew()
            lane.reached(old)
            await until(lambda: node.events)
        finally:
            await node.transport.stop()

    run(test)
