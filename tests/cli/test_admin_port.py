"""What a command hears from an admin port whose node can't do what is asked."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

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
