"""Nothing is left behind: no process and no folder, however a test ends.

Were these to fail, a developer's machine would fill up with databases that nobody asked for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ourodb.cli.local.process import started_at
from ourodb.testing import cluster
from ourodb.testing.places import PREFIX, free_network, new_folder
from ourodb.testing.ring import Ring, RingError

PATIENCE_S = 120

USER = """
import time
from ourodb.testing import cluster
with cluster(nodes=2) as ring:
    print(ring.folder, *(node.pid for node in ring.nodes), flush=True)
    time.sleep(3600)
"""


def wait_until_gone(*pids: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while [pid for pid in pids if started_at(pid) is not None]:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_nodes_die_with_a_test_process_that_is_killed(tmp_path: Path) -> None:
    user = subprocess.Popen(
        [sys.executable, "-c", USER],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert user.stdout is not None
    folder, *pids = user.stdout.readline().split()
    # One that doesn't listen to anybody must go as well.
    os.kill(int(pids[0]), signal.SIGSTOP)
    user.kill()
    user.wait()
    user.stdout.close()
    wait_until_gone(*map(int, pids))
    assert Path(folder).exists()


def test_a_folder_of_a_process_that_is_gone_is_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ours = new_folder()
    abandoned = tmp_path / f"{PREFIX}{gone.pid}-12345-abcdefgh"
    reused = tmp_path / f"{PREFIX}{os.getpid()}-12345-abcdefgh"
    other = tmp_path / f"{PREFIX}not-ours"
    for folder in (abandoned, reused, other):
        folder.mkdir()
    new_folder()
    assert ours.exists()
    assert other.exists()
    assert not abandoned.exists()
    assert not reused.exists()


def test_an_error_in_the_block_leaves_nothing() -> None:
    with pytest.raises(ZeroDivisionError), cluster(nodes=1) as ring:
        node = ring.nodes[0]
        pid, folder = node.pid, ring.folder
        assert folder.exists()
        raise ZeroDivisionError
    assert started_at(pid) is None
    assert not folder.exists()


def test_a_driver_that_fails_to_shut_down_leaves_nothing() -> None:
    class Driver:
        def shutdown(self) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), cluster(nodes=1) as ring:
        ring._clusters.append(Driver())
        pid = ring.nodes[0].pid
    assert started_at(pid) is None
    assert not ring.folder.exists()


def test_options_that_are_numbers_are_taken_as_they_are_written() -> None:
    with cluster(nodes=1, options=["--num-tokens", 4]) as ring:  # type: ignore[list-item]
        assert ring.nodes[0].is_running


def test_a_node_that_cannot_start_is_told_with_its_words() -> None:
    ring = Ring(1, options=["--num-tokens=0"])
    with pytest.raises(RingError, match="--num-tokens"):
        ring.start()
    ring.close()
    assert not ring.folder.exists()


def test_nodes_outlive_the_thread_that_asked_for_them() -> None:
    ring = Ring(1)
    thread = threading.Thread(target=ring.start)
    thread.start()
    thread.join()
    try:
        assert ring.nodes[0].is_running
        assert ring.nodes[0].status()["members"]
        assert ring.nodes[0].stop() == 0
    finally:
        ring.close()


def test_two_rings_have_nothing_in_common() -> None:
    networks = {free_network(3)[0] for _ in range(20)}
    assert len(networks) > 1
    assert all(address.startswith("127.") and address.endswith(".1") for address in networks)
