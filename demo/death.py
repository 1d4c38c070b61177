"""A node dies and comes back, while a stock driver reads and writes at QUORUM.

A few threads write rows, and read rows that were acknowledged before; a read that doesn't find its row would be a lost
write. What the dead node misses waits as hints on the others, and is delivered when it is back. At the end it is cut
off from the others and read at ONE: what it answers is its own.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.cluster import Session
from console import PATIENCE_S, console, heading, wait_until

from ring import DemoRing

VICTIM = 3
WITNESS = 1
THREADS = 2
PARTITIONS = 32
HEALTHY_S = 3
DEAD_S = 5
AFTER_S = 2
MISSING_SHOWN_MAX = 5


class Passengers:
    """Threads that check passengers in, and look whether they are still there.

    Attributes:
        acknowledged: (gate, number) of each row that was written.
        lost: rows that were acknowledged and not found afterwards.
    """

    def __init__(self, session: Session) -> None:
        self.acknowledged: list[tuple[int, int]] = []
        self.counts: Counter[str] = Counter()
        self.lost: list[tuple[int, int]] = []
        self.last_error = ""
        self._session = session
        self._write = session.prepare("INSERT INTO boarding.passengers (gate, number, name) VALUES (?, ?, ?)")
        self._read = session.prepare("SELECT name FROM boarding.passengers WHERE gate = ? AND number = ?")
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=work, args=(number,), daemon=True)
            for work in (self._write_rows, self._read_rows)
            for number in range(THREADS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def second(self) -> Counter[str]:
        """Wait a second; what was done in it."""
        before = Counter(self.counts)
        time.sleep(1)
        now = Counter(self.counts)
        now.subtract(before)
        return now

    def _write_rows(self, thread: int) -> None:
        number = thread
        while not self._stopped.is_set():
            row = (number % PARTITIONS, number)
            number += THREADS
            if self._try("writes", self._write, (*row, f"passenger {row[1]}")) is not None:
                self.acknowledged.append(row)

    def _read_rows(self, thread: int) -> None:
        chance = random.Random(thread)
        while not self._stopped.is_set():
            if not self.acknowledged:
                time.sleep(0.01)
                continue
            row = chance.choice(self.acknowledged)
            found = self._try("reads", self._read, row)
            if found is not None and found.one() is None:
                self.lost.append(row)

    def _try(self, what: str, statement: Any, values: tuple[Any, ...]) -> Any:
        try:
            answer = self._session.execute(statement, values)
        except Exception as error:  # a driver has many; each is a failed request
            self.counts["failed"] += 1
            self.last_error = f"{type(error).__name__}: {error}"
            return None
        self.counts[what] += 1
        return answer


def act(ring: DemoRing) -> None:
    """The whole act."""
    heading(f"{ring.named(VICTIM)} dies")
    cluster = ring.connect()
    try:
        session = cluster.connect()
        session.execute("DROP KEYSPACE IF EXISTS boarding")
        session.execute(
            "CREATE KEYSPACE boarding WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}"
        )
        session.execute(
            "CREATE TABLE boarding.passengers (gate int, number int, name text, PRIMARY KEY (gate, number))"
        )
        passengers = Passengers(session)
        passengers.start()
        try:
            _watch(ring, passengers)
        finally:
            passengers.stop()
        if passengers.lost:
            raise RuntimeError(
                f"{len(passengers.lost)} acknowledged rows were not found: {passengers.lost[:MISSING_SHOWN_MAX]}"
            )
    finally:
        cluster.shutdown()
    _look_at_its_own(ring, passengers.acknowledged)


def _watch(ring: DemoRing, passengers: Passengers) -> None:
    """Kill the node, start it again, and print what each second brought."""
    console.print("A driver reads and writes at QUORUM: two of three copies have to answer.\n")
    console.print("[dim]second   reads  writes  failed  hints waiting[/]")
    second = 0

    def go_on(what: str = "") -> int:
        nonlocal second
        second += 1
        counts = passengers.second()
        hints = ring.hints_for(VICTIM)
        failed = f"[red]{counts['failed']:>6}[/]" if counts["failed"] else f"{0:>6}"
        console.print(
            f"{second:>6}  {counts['reads']:>6,}  {counts['writes']:>6,}  {failed}  {hints:>13,}   {what}"
        )
        return hints

    for _ in range(HEALTHY_S):
        go_on()
    ring.kill(VICTIM)
    go_on(f"[red]{ring.named(VICTIM)} got SIGKILL[/]")
    for _ in range(DEAD_S):
        go_on()
    wait_until(
        f"{ring.named(WITNESS)} sees that {ring.named(VICTIM)} is down",
        lambda: not ring.sees(WITNESS, VICTIM),
    )
    ring.show_status(WITNESS)
    console.print()
    ring.start(VICTIM)
    hints = go_on(f"[green]{ring.named(VICTIM)} is started again[/]")
    until = time.monotonic() + PATIENCE_S
    while hints or not ring.sees(WITNESS, VICTIM):
        if time.monotonic() > until:
            raise TimeoutError(f"after {PATIENCE_S} s {hints:,} hints still wait for {ring.named(VICTIM)}")
        hints = go_on()
    for _ in range(AFTER_S):
        go_on()
    if passengers.counts["failed"]:
        console.print(f"[dim]the last failure: {passengers.last_error}[/]")


def _look_at_its_own(ring: DemoRing, acknowledged: list[tuple[int, int]]) -> None:
    """Cut the node off, so that only its own copies answer, and look for every row."""
    wait_until("no hints wait any more", lambda: not ring.hints_for(VICTIM))
    others = [number for number in ring.numbers if number != VICTIM]
    cluster = ring.connect(VICTIM, consistency=ConsistencyLevel.ONE)
    try:
        session = cluster.connect()
        ring.split(others, [VICTIM])
        found = {
            (row.gate, row.number) for row in session.execute("SELECT gate, number FROM boarding.passengers")
        }
    finally:
        ring.heal()
        cluster.shutdown()
    missing = [row for row in acknowledged if row not in found]
    if missing:
        raise RuntimeError(
            f"{ring.named(VICTIM)} lacks {len(missing)} of {len(acknowledged):,} rows: {missing[:MISSING_SHOWN_MAX]}"
        )
    console.print(
        f"\nCut off from the others and read at ONE, {ring.named(VICTIM)} has all {len(acknowledged):,} rows that were"
        " acknowledged, those that it missed included."
    )
    wait_until("all see each other again", lambda: all(ring.sees(VICTIM, number) for number in others))
