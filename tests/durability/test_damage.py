"""A flipped bit in the log or in a data file is refused or reported; nothing wrong is ever served."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from tests.durability.folders import copy, data_files, flip_somewhere, logs, open_store, sync
from tests.nodes import NodeProcess

from ourodb.bench.client import Client
from ourodb.errors import RequestError, StoreDamaged, StoreError
from ourodb.storage.families import DATA
from ourodb.storage.rocks import SYNCED

LOG_FLIPS = 60
DATA_FLIPS = 40
ROWS = 2000


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, bytes]]:
    """A store whose rows are all in the log, and what they are."""
    return _written(tmp_path_factory.mktemp("logged") / "store", in_files=False)


@pytest.fixture(scope="module")
def filed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, bytes]]:
    """A store whose rows are all in data files, and what they are."""
    return _written(tmp_path_factory.mktemp("filed") / "store", in_files=True)


def _written(folder: Path, *, in_files: bool) -> tuple[Path, dict[bytes, bytes]]:
    draw = random.Random(7)
    truth = {b"key-%06d" % i: draw.randbytes(40) * 3 for i in range(ROWS)}
    store = open_store(folder)
    for number, (key, value) in enumerate(truth.items()):
        store.apply([(DATA, key, value)])
        if number % 50 == 49:
            sync(store)
    # The engine moves what its log holds to data files when it is closed.
    if in_files:
        store.close()
    written = copy(folder, folder.with_name("written"))
    assert bool(data_files(written)) is in_files
    store.close()
    return written, truth


def test_a_flip_in_the_log_is_refused(logged: tuple[Path, dict[bytes, bytes]], tmp_path: Path) -> None:
    """Broken, rows after the flip are gone although they were acknowledged, and nobody is told."""
    folder, truth = logged
    draw = random.Random(11)
    refusals: list[str] = []
    for _ in range(LOG_FLIPS):
        damaged = copy(folder, tmp_path / "damaged")
        (log,) = [path for path in logs(damaged) if path.stat().st_size]
        offset = flip_somewhere(log, draw)
        for attempt in range(2):
            try:
                store = open_store(damaged)
            except StoreDamaged as refusal:
                refusals.append(str(refusal))
                continue
            assert attempt == 0, "a second start serves what the first one refused"
            # A flip in padding, which nothing is read from.
            found = {key: store.get(DATA, key) for key in truth}
            store.close()
            assert found == truth, f"a flip at {offset} changed what is served"
            break
    assert len(refusals) >= LOG_FLIPS
    assert all("snapshot" in refusal for refusal in refusals), "it doesn't say what to do"


def test_a_flip_in_a_data_file_is_reported(filed: tuple[Path, dict[bytes, bytes]], tmp_path: Path) -> None:
    """Broken, a bad disk changes what clients read; or one bad block takes all other rows with it."""
    folder, truth = filed
    draw = random.Random(13)
    reported = served = 0
    for _ in range(DATA_FLIPS):
        damaged = copy(folder, tmp_path / "damaged")
        offset = flip_somewhere(data_files(damaged)[0], draw)
        try:
            store = open_store(damaged)
        except StoreDamaged:
            reported += 1
            continue
        for key, value in truth.items():
            try:
                found = store.get(DATA, key)
            except StoreDamaged:
                reported += 1
            else:
                assert found == value, f"a flip at {offset} changed {key!r}"
                served += 1
        seen = []
        try:
            for key, value in store.scan(DATA, b"", b"\xff"):
                assert truth[key] == value
                seen.append(key)
        except StoreDamaged:
            assert store.damaged
        else:
            assert len(seen) == len(truth), f"a flip at {offset} ended a scan early, and nobody was told"
        assert seen == sorted(truth)[: len(seen)]
        store.close()
    assert reported
    assert served > DATA_FLIPS * len(truth) // 2, "one flip costs far more than a block"


def test_a_store_without_its_anchor_is_refused(
    filed: tuple[Path, dict[bytes, bytes]], tmp_path: Path
) -> None:
    """Broken, one lost file of the engine turns a full store into a new, empty one."""
    for lost in ("CURRENT", "MANIFEST-*", "*.sst"):
        damaged = copy(filed[0], tmp_path / "damaged")
        for path in damaged.glob(lost):
            path.unlink()
        with pytest.raises(StoreError):
            open_store(damaged).close()


def test_a_node_refuses_a_damaged_log(own_node: NodeProcess) -> None:
    """Broken, the operator sees a traceback, or a node that serves without its last writes."""
    _load(own_node, 500)
    own_node.kill()
    log = max(logs(own_node.data), key=lambda path: path.stat().st_size)
    flip_somewhere(log, random.Random(3), 0.4, 0.6)
    with pytest.raises(RuntimeError, match="ended with 2"):
        own_node.start()
    (line,) = own_node.output.strip().splitlines()
    assert line.startswith("ouro serve: ")
    assert "damaged" in line
    assert "ouro restore" in line


def test_a_node_reports_damaged_rows_and_serves_the_others(own_node: NodeProcess) -> None:
    """Broken, clients get wrong rows, or one bad block takes the node down."""
    truth = _load(own_node, 3000)
    own_node.kill()
    own_node.start().kill()  # Recovery writes what the log holds to data files.
    largest = data_files(own_node.data)[0]
    draw = random.Random(5)
    for part in range(1, 6):
        flip_somewhere(largest, draw, part / 8, part / 8 + 0.05)
    client = Client((own_node.host, own_node.start().port))
    refused, served = [], 0
    for n, text in truth.items():
        try:
            rows = client.query(f"SELECT v FROM d.rows WHERE n = {n}")
        except RequestError as error:
            refused.append(error)
        else:
            assert rows == [[text.encode()]]
            served += 1
    assert refused
    assert served > len(truth) // 2
    others = [error for error in refused if "damaged data on disk" not in error.message]
    assert not others
    with pytest.raises(RequestError, match="damaged data on disk"):
        client.query("SELECT count(*) FROM d.rows")
    client.query("INSERT INTO d.rows (n, v) VALUES (-1, 'new')")
    assert client.query("SELECT v FROM d.rows WHERE n = -1") == [[b"new"]]
    client.close()
    assert "damage on disk" in own_node.output
    assert own_node.stop() == 0


def _load(node: NodeProcess, count: int) -> dict[int, str]:
    client = Client((node.host, node.start().port))
    client.query("CREATE KEYSPACE d WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
    client.query("CREATE TABLE d.rows (n int PRIMARY KEY, v text)")
    draw = random.Random(9)
    truth = {n: draw.randbytes(60).hex() for n in range(count)}
    numbers = list(truth)
    for start in range(0, count, 50):
        inserts = (
            f"INSERT INTO d.rows (n, v) VALUES ({n}, '{truth[n]}');" for n in numbers[start : start + 50]
        )
        client.query(f"BEGIN UNLOGGED BATCH {' '.join(inserts)} APPLY BATCH")
    client.close()
    return truth


def test_a_store_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    """Broken, an older version writes its own format into a newer store, and both are lost."""
    from ourodb.storage.families import METADATA
    from ourodb.storage.rocks import FORMAT, FORMAT_KEY

    store = open_store(tmp_path / "store")
    store.apply([(METADATA, FORMAT_KEY, str(FORMAT + 1).encode())])
    store.close()
    with pytest.raises(StoreError, match=f"format {FORMAT + 1}"):
        open_store(tmp_path / "store")
    assert (tmp_path / "store" / SYNCED).exists()
    node = NodeProcess(tmp_path / "store")
    with pytest.raises(RuntimeError, match="ended with 2"):
        node.start()
    assert len(node.output.strip().splitlines()) == 1
    shutil.rmtree(tmp_path / "store")
