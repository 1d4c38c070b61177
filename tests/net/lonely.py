"""A process with one transport in it: ``python lonely.py OWN PEER talkative|quiet``. It says hello to its peer, prints
``connected``, ``heard`` and ``disconnected`` as it happens, and goes on talking, or falls silent."""

from __future__ import annotations

import asyncio
import sys
from uuid import uuid4

import uvloop

from ourodb.net.loop import Passes, SystemRandom
from ourodb.net.peers import PeerTransport
from ourodb.peer.handshake import PeerIdentity
from ourodb.ports import DATA

PORT = 7000


async def main(own: str, peer: str, manner: str) -> None:
    def say(word: str) -> None:
        print(word, flush=True)

    loop = asyncio.get_running_loop()
    identity = PeerIdentity(uuid4(), (own, PORT), "flights")
    transport = PeerTransport(loop, Passes(loop), SystemRandom(), b"secret", identity, bind_address=own)
    transport.on_connected = lambda address: say("connected")
    transport.on_disconnected = lambda address, refused: say("disconnected")
    transport.receive = lambda link, message: say("heard")
    await transport.start(own, PORT)
    link = transport.link((peer, PORT))
    greeted = False
    while True:
        if manner == "talkative" or not greeted:
            greeted = link.is_connected and link.send(DATA, b"hello")
            link.send(DATA, b"hello")
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
