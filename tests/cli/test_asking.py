"""Commands that change something, and the node that they ask.

If this fails, a node leaves that nobody meant, two nodes decide alone, or an operator is told that a node has left
while it still holds rows.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from ourodb.cli import admin, leaving, metadata
from ourodb.cli.application import application

Reply = tuple[int, dict[str, Any]]
Say = Callable[[str], Reply]

SLOW_S = 1.0
PATIENCE_S = 0.3


class FakeNode:
    """An admin port that answers what it is told to.

    Attributes:
        seen: (path, body) of what it was asked.
    """

    def __init__(self, say: Say) -> None:
        seen: list[tuple[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *words: object) -> None: ...

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                seen.append((self.path, json.loads(body) if body else None))
                status, reply = say(self.path)
                data = json.dumps(reply).encode()
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            do_POST = do_GET  # noqa: N815

        self.seen = seen
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def make_node() -> Iterator[Callable[[Say], FakeNode]]:
    nodes = []

    def make(say: Say) -> FakeNode:
        nodes.append(FakeNode(say))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for long."""
    real = admin.call

    def call(address: str, path: str, body: Any = None, *, timeout_s: float = 0) -> dict[str, Any]:
        return real(address, path, body, timeout_s=PATIENCE_S)

    for module in (admin, leaving, metadata):
        monkeypatch.setattr(module, "call", call)
    monkeypatch.setattr(leaving, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(leaving, "IDLE_SECONDS_MAX", 0.2)
    monkeypatch.setattr(leaving, "SILENCE_SECONDS_MAX", 0.2)


def slow(answers: dict[str, dict[str, Any]], path: str) -> Reply:
    """Answers at once what changes nothing, and late what does."""
    if path in answers:
        return 200, answers[path]
    time.sleep(SLOW_S)
    return 200, {"node": 1}


def changed(node: FakeNode) -> list[str]:
    return [path for path, body in node.seen if body is not None]


QUIET = {"/metadata": {"leader": 0, "nodes": {}}}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "change",
    [
        lambda addresses: leaving.leave(addresses, 3, is_dead=False, wait=False, as_json=True),
        lambda addresses: metadata.recover(addresses, yes=True, as_json=True),
    ],
)
def test_what_changes_something_is_asked_of_one_node_alone(
    make_node: Callable[[Say], FakeNode], change: Callable[[list[str]], int]
) -> None:
    """The first has taken it, and is busy: the second mustn't do it, too."""
    one, two = make_node(partial(slow, QUIET)), make_node(partial(slow, QUIET))
    with pytest.raises(admin.NoAnswerError):
        change([one.address, two.address])
    assert len(changed(one)) == 1
    assert not two.seen


def test_who_is_to_leave_must_be_named_where_there_are_several(make_node: Callable[[Say], FakeNode]) -> None:
    one, two = make_node(partial(slow, QUIET)), make_node(partial(slow, QUIET))
    with pytest.raises(admin.AdminError, match="which node is to leave"):
        leaving.leave([one.address, two.address], None, is_dead=False, wait=False, as_json=True)
    assert not one.seen
    assert not two.seen


def test_options_before_the_subcommand_count(make_node: Callable[[Say], FakeNode]) -> None:
    node = make_node(lambda path: (200, {"leader": 1, "nodes": {"1": {"up": True}}}))
    result = CliRunner().invoke(application, ["metadata", "--admin", node.address, "recover", "--yes"])
    assert "node 1 leads the metadata log" in result.output
    assert node.seen == [("/metadata", None)] * 2


class Ring:
    """Three nodes, of which the third is told to leave.

    Attributes:
        movement: of the third, one for each time that somebody asks, and then the last.
        is_there: it is a member.
    """

    def __init__(self, *movements: str | None) -> None:
        self.movements = list(movements)
        self.is_there = True
        self.asked_is = 1

    def say(self, path: str) -> Reply:
        if path != "/status":
            return 200, {"node": 3}
        movement = self.movements.pop(0) if len(self.movements) > 1 else self.movements[0]
        ids = (1, 2, 3) if self.is_there else (1, 2)
        members = [
            {"id": id, "movement": movement if id == 3 else None, "is_this_node": id == self.asked_is}
            for id in ids
        ]
        move = {"kind": "leave", "nodes": [3], "stage": "copying", "keyspace": None, "copying": {}}
        return 200, {"members": members, "move": move if movement else None}


@pytest.mark.usefixtures("impatient")
def test_who_stops_answering_says_nothing_about_another(make_node: Callable[[Say], FakeNode]) -> None:
    node = make_node(Ring("leave").say)
    threading.Timer(0.1, node._server.shutdown).start()
    threading.Timer(0.2, node._server.server_close).start()
    with pytest.raises(admin.AdminError, match="whether node 3 has left can't be told"):
        leaving.leave([node.address], 3, is_dead=False, wait=True, as_json=True)


@pytest.mark.usefixtures("impatient")
def test_who_was_asked_to_leave_and_answers_no_more_has_left(
    make_node: Callable[[Say], FakeNode], capsys: pytest.CaptureFixture[str]
) -> None:
    ring = Ring("leave")
    ring.asked_is = 3
    node = make_node(ring.say)
    threading.Timer(0.1, node._server.shutdown).start()
    threading.Timer(0.2, node._server.server_close).start()
    assert leaving.leave([node.address], None, is_dead=False, wait=True, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"node": 3, "is_gone": True}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("movements", [("leave", "leave", None), (None,)])
def test_who_stays_is_said_to_stay(
    make_node: Callable[[Say], FakeNode],
    capsys: pytest.CaptureFixture[str],
    movements: tuple[str | None, ...],
) -> None:
    """Undone, or never decided on: nobody waits for ever."""
    node = make_node(Ring(*movements).say)
    assert leaving.leave([node.address], 3, is_dead=False, wait=True, as_json=False) == 1
    assert "node 3 stays" in capsys.readouterr().out


@pytest.mark.parametrize("address", ["a..b:7070", "localhost:²", f"{'a' * 70}.example:7070"])
def test_an_address_that_is_none_takes_one_line(address: str) -> None:
    result = CliRunner().invoke(application, ["status", "--admin", address])
    assert result.exit_code == 2
    assert "isn't HOST:PORT" in result.output
