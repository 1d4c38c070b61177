"""What a command hears from an admin port whose node can't do what is asked."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

import ourodb.net.admin
from ourodb.errors import InvalidRequest
from ourodb.net.admin import AdminServer

SECONDS_MAX = 60


def refuse(body: Mapping[str, Any]) -> dict[str, Any]:
    raise InvalidRequest("not today")


def break_down(body: Mapping[str, Any]) -> dict[str, Any]:
    raise ValueError("a bug")


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/refuse", b"{}", 400, "not today"),
        ("/refuse", b"{", 400, "the body isn't valid JSON"),
        ("/refuse", b"[]", 400, "the body must be a JSON object"),
        ("/refuse", b"[" * 60_000, 400, "the body isn't valid JSON"),
        ("/refuse", b"\xff", 400, "the body isn't valid JSON"),
        ("/break", b"{}", 500, None),
    ],
)
def test_whose_fault_it_is(
    path: str, body: bytes, status: int, error: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken, an operator looks for a mistake in what he sent, and the node's bug isn't in its log."""
    caplog.set_level(logging.ERROR)
    found, text = asyncio.run(asked(path, body))
    assert found == status
    if error is not None:
        assert json.loads(text)["error"].startswith(error)
    assert ("a bug" in caplog.text) == (error is None)


def test_who_doesn_t_send_what_he_began_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """He would hold up the node when it is to stop, too."""
    monkeypatch.setattr(ourodb.net.admin, "BODY_SECONDS_MAX", 0.2)

    async def test() -> None:
        server = AdminServer({("POST", "/refuse"): refuse}, dict)
        port = server.take_port("127.0.0.1", 0)
        server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        async with asyncio.timeout(SECONDS_MAX):
            assert b"408" in await reader.readline()
        _, stuck = await asyncio.open_connection("127.0.0.1", port)
        stuck.write(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        async with asyncio.timeout(SECONDS_MAX / 2):
            await server.stop()
        for open_one in (writer, stuck):
            open_one.close()

    asyncio.run(test())


async def asked(path: str, body: bytes) -> tuple[int, bytes]:
    server = AdminServer({("POST", "/refuse"): refuse, ("POST", "/break"): break_down}, dict)
    port = server.take_port("127.0.0.1", 0)
    server.start()
    try:
        return await asyncio.to_thread(post, port, path, body)
    finally:
        await server.stop()


def post(port: int, path: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_MAX)
    try:
        connection.request("POST", path, body)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()
