"""Delivers batches to the nodes of a cluster: several at a time, each at least once.

A few threads for each node send what the reader of a snapshot puts in. A node that refuses for now, or doesn't answer,
costs a pause, after which the batch goes to the next node: it may have been carried out already, which does no harm. A
node that refuses for good ends it all, and so does a cluster that takes nothing for a while.

At any moment ``resume_at`` names the first batch that isn't known to have arrived: all before it have.
"""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ourodb import limits
from ourodb.cli.admin import AdminError, split

SENDERS_PER_NODE: Final = 2
ANSWER_SECONDS_MAX: Final = 60.0
PAUSE_SECONDS_MIN: Final = 0.1
PAUSE_SECONDS_MAX: Final = 3.0
POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Batch:
    """A body that was made ready.

    Attributes:
        place: where its reader would begin to have it first.
        records, bytes: what was read for it.
        written: records in it.
    """

    body: bytes
    place: str
    records: int
    bytes: int
    written: int


class RetryError(Exception):
    """A node can't now; one line."""


class Courier:
    """Connections to the admin ports of some nodes, each kept open; for one thread."""

    def __init__(self, addresses: Sequence[str], first: int = 0) -> None:
        """
        Args:
            first: index of the node to begin with.
        Raises:
            AdminError: an address isn't one.
        """
        self._addresses = list(addresses)
        self._next = first % len(addresses)
        self._places = [split(address) for address in addresses]
        self._connection: http.client.HTTPConnection | None = None

    @property
    def address(self) -> str:
        """Of the node that is asked now."""
        return self._addresses[self._next]

    def turn(self) -> None:
        """Ask the next node from now on."""
        self.close()
        self._next = (self._next + 1) % len(self._addresses)

    def send(self, path: str, body: bytes) -> dict[str, Any]:
        """A node's answer.

        Raises:
            RetryError: it can't now, or doesn't answer.
            AdminError: it refuses.
        """
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                *self._places[self._next], timeout=ANSWER_SECONDS_MAX
            )
        try:
            self._connection.request("POST", path, body, {"Content-Type": "application/octet-stream"})
            reply = self._connection.getresponse()
            found = json.loads(reply.read())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            reason = str(error) or type(error).__name__
            raise RetryError(f"{self.address} doesn't answer ({reason})") from error
        except ValueError as error:
            self.close()
            raise AdminError(f"what listens on {self.address} is no admin port of a node") from error
        if reply.status == 200 and isinstance(found, dict):
            return found
        text = found.get("error") if isinstance(found, dict) else None
        text = str(text or f"{reply.status} {reply.reason}")
        if reply.status in (408, 503):
            raise RetryError(f"{self.address}: {text}")
        raise AdminError(f"{self.address}: {text}")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Delivery:
    """Batches on their way.

    Attributes:
        retries: batches that were sent once more, counted.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        path: str,
        delivered: Callable[[Batch], None],
        *,
        patience_s: float,
    ) -> None:
        """
        Args:
            delivered: called on any thread.
            patience_s: how long nothing may arrive.
        """
        self.retries = 0
        self._path = path
        self._delivered = delivered
        self._patience_s = patience_s
        self._last_s = time.monotonic()
        self._lock = threading.Lock()
        self._outstanding: dict[int, Batch] = {}
        self._number = 0
        self._failure: AdminError | None = None
        self._ended = threading.Event()
        self._waiting: queue.Queue[tuple[int, Batch]] = queue.Queue(limits.RESTORE_BATCHES_WAITING_MAX)
        for index in range(SENDERS_PER_NODE * len(addresses)):
            courier = Courier(addresses, index)
            # Nobody waits for them at the end: one may be in the midst of a long wait for a node.
            threading.Thread(target=self._work, args=(courier,), name="ouro-sender", daemon=True).start()

    @property
    def resume_at(self) -> str | None:
        """The place of the first batch that may not have arrived; None: all that were put in have."""
        with self._lock:
            return next((batch.place for batch in self._outstanding.values()), None)

    def put(self, batch: Batch) -> None:
        """Have a batch delivered; waits while many are under way.

        Raises:
            AdminError: one couldn't be.
        """
        with self._lock:
            self._number += 1
            self._outstanding[self._number] = batch
        while True:
            self._check()
            try:
                self._waiting.put((self._number, batch), timeout=POLL_SECONDS)
                return
            except queue.Full:
                continue

    def finish(self) -> None:
        """Wait until all have arrived.

        Raises:
            AdminError: one couldn't be delivered.
        """
        while self.resume_at is not None:
            self._check()
            time.sleep(POLL_SECONDS / 10)
        self.stop()

    def stop(self) -> None:
        """Send nothing more; what is under way may still arrive."""
        self._ended.set()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _fail(self, error: AdminError) -> None:
        self._failure = error
        self._ended.set()

    def _work(self, courier: Courier) -> None:
        """A sender's life."""
        while not self._ended.is_set():
            try:
                number, batch = self._waiting.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            try:
                if self._send(courier, batch):
                    with self._lock:
                        del self._outstanding[number]
                    self._last_s = time.monotonic()
                    self._delivered(batch)
            except AdminError as error:
                self._fail(error)
            except Exception as error:
                # A bug of ours; whoever waits for this sender must hear of it.
                self._fail(AdminError(f"{courier.address}: {type(error).__name__}: {error}"))
        courier.close()

    def _send(self, courier: Courier, batch: Batch) -> bool:
        """Whether it arrived; False when everything has ended.

        Raises:
            AdminError: it was refused, or nothing has arrived for too long.
        """
        pause_s = PAUSE_SECONDS_MIN
        began_s = time.monotonic()
        while not self._ended.is_set():
            try:
                courier.send(self._path, batch.body)
                return True
            except RetryError as error:
                if time.monotonic() - max(self._last_s, began_s) > self._patience_s:
                    raise AdminError(f"nothing has arrived for {self._patience_s:.0f} s: {error}") from error
            self.retries += 1
            courier.turn()
            self._ended.wait(pause_s)
            pause_s = min(2 * pause_s, PAUSE_SECONDS_MAX)
        return False
