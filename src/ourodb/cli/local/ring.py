"""A ring in a folder of this machine: its layout, and the processes of its nodes.

Nodes are started side by side, since one that joins asks its seeds until they are there. Whether a process is ours is
told by its pid file and nothing else, so that whatever else runs on this machine is left alone.
"""

from __future__ import annotations

import fcntl
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ourodb.cli.local import layout
from ourodb.cli.local.layout import LayoutError, NodePlan, RingPlan
from ourodb.cli.local.process import (
    end,
    last_lines,
    running,
    start_detached,
    wait_for_end,
    who_listens,
)
from ourodb.config import expanded

LOCK: Final = ".lock"


class LocalRing:
    """One ring.

    Attributes:
        folder: absolute.
    """

    def __init__(self, folder: Path, plan: RingPlan) -> None:
        self.folder = expanded(folder).absolute()
        self.plan = plan
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._log_starts: dict[str, int] = {}

    @classmethod
    def load(cls, folder: Path) -> LocalRing:
        """The ring that is in a folder.

        Raises:
            LayoutError: there is none.
        """
        return cls(folder, layout.load(expanded(folder)))

    @property
    def nodes(self) -> Sequence[NodePlan]:
        """Those that haven't left."""
        return self.plan.members

    def data(self, node: NodePlan) -> Path:
        return self.folder / node.name

    def log(self, node: NodePlan) -> Path:
        return self.folder / f"{node.name}.log"

    def pid_file(self, node: NodePlan) -> Path:
        return self.folder / f"{node.name}.pid"

    def pid(self, node: NodePlan) -> int | None:
        """The node's process, while it runs."""
        return running(self.pid_file(node))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other ``ouro up`` and ``ouro down`` out of the folder.

        Raises:
            LayoutError: one is at work there, or the folder can't be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / LOCK).open("w")
        except OSError as error:
            raise LayoutError(f"can't write to {self.folder}: {error.strerror}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise LayoutError(f"another ouro up or ouro down is at work in {self.folder}") from None
            yield

    def prepare(self) -> None:
        """Write down the layout, and make the secret.

        Raises:
            LayoutError: it can't be written.
        """
        layout.save(self.folder, self.plan)
        layout.make_secret(self.folder)

    def forget(self) -> None:
        """There is no layout."""
        (self.folder / layout.PLAN).unlink(missing_ok=True)

    def taken_ports(self, nodes: Sequence[NodePlan]) -> list[str]:
        """For each port of these nodes that somebody listens on: which, and who."""
        found = []
        for node in nodes:
            for option, port in node.ports.items():
                who = who_listens(node.address, port)
                if who is not None:
                    found.append(f"{node.address}:{port} ({option}) is taken by {who}")
        return found

    def start(self, node: NodePlan) -> None:
        """Start a node that doesn't run; it goes on when this process ends.

        Raises:
            LayoutError: its log can't be written, or there is no room for it.
        """
        log = self.log(node)
        command = self.plan.command(self.folder, node)
        try:
            self._log_starts[node.name] = log.stat().st_size if log.exists() else 0
            self._started[node.name] = start_detached(command, log, self.pid_file(node))
        except OSError as error:
            raise LayoutError(f"{node.name} can't be started: {error.strerror} ({log})") from error

    def exit_code(self, node: NodePlan) -> int | None:
        """How a node ended that was started here; None while it runs."""
        return self._started[node.name].poll()

    def last_words(self, node: NodePlan) -> list[str]:
        """The last lines of a node's log, since it was started here."""
        return last_lines(self.log(node), start=self._log_starts.get(node.name, 0))

    def formed(self) -> None:
        """All nodes have agreed: from now on none of them founds a cluster."""
        if not self.plan.is_formed:
            self.plan = self.plan.formed()
            layout.save(self.folder, self.plan)

    def left(self, nodes: Sequence[NodePlan]) -> None:
        """These don't belong to the ring any more: from now on nobody starts them, or waits for them.

        Raises:
            LayoutError: that can't be written down.
        """
        self.plan = self.plan.without(nodes)
        layout.save(self.folder, self.plan)

    def stop(self, nodes: Sequence[NodePlan], *, kill: bool, timeout_s: float) -> list[NodePlan]:
        """End processes; returns the nodes whose haven't ended in time."""
        number = signal.SIGKILL if kill else signal.SIGTERM
        asked = {self.pid_file(node): node for node in nodes if end(self.pid_file(node), number)}
        left = wait_for_end(list(asked), timeout_s)
        for path in asked:
            if path not in left:
                path.unlink(missing_ok=True)
        return [asked[path] for path in left]


def shown(folder: Path) -> str:
    """A folder as one would type it."""
    absolute = expanded(folder).absolute()
    here = Path.cwd()
    text = str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
    return f"'{text}'" if " " in text else text
