"""``ouro serve --cores N``: a process a core, each a member of the ring in its own right.

The parent does nothing but watch. It lays out the members once, keeps that in the data folder as ``ouro up`` does, and
starts them: core 1 with the ports that were given, core 2 with the next ones, all with the one host id by which copies
of a row are kept off the same machine. What they print passes through it, each line with its core's name; when all of
them see each other it prints the one line that says ready.

A process that dies is told of and started again, at once and then ever more slowly while it doesn't last. One that says
it can't start as it was asked to (exit code 2) ends all when it says so the first time: starting it again won't help.
One that the cluster has gone on without (exit code 3) is started no more, as long as its data are there.
SIGTERM and SIGINT stop all in order; when the parent is killed, the kernel tells the processes to stop.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ourodb import __version__
from ourodb.cli.local import layout
from ourodb.cli.local.agreement import disagreement, look
from ourodb.cli.local.layout import LayoutError, NodePlan, RingPlan
from ourodb.cli.local.offspring import command
from ourodb.cli.serve import CANT_START, WAS_REMOVED
from ourodb.config import Config
from ourodb.errors import ConfigurationProblem

READY: Final = " ready: "
PAUSES_S: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Before a process that died is started again; from the first on once it has lasted."""
LASTS_S: Final = 60.0
LOOK_EVERY_S: Final = 0.05
STOP_SECONDS_MAX: Final = 60.0
LINE_BYTES_MAX: Final = 1 << 20

OWN_OPTIONS: Final = ("cores", "data", "cql_port", "peer_port", "admin_port", "host_id", "join")
"""Those that differ between processes, or that the parent sees to."""
LEFT_ALONE: Final = ("--listen=", "--secret=")
"""Options that the processes find where the parent found them; a secret that isn't on its command line must not get on
theirs."""


def run(config: Config, given: Mapping[str, object], config_file: str | None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code.

    Args:
        given: the options of the command line; the processes read the environment and the file themselves.
    Raises:
        ConfigurationProblem: it can't start as it was asked to.
    """
    try:
        plan = planned(config)
        layout.save(config.data_path, plan)
        if not config.secret:
            if config.join and not (config.data_path / layout.SECRET).exists():
                raise ConfigurationProblem("joining a cluster takes its secret: --secret @FILE")
            layout.make_secret(config.data_path)
    except LayoutError as error:
        raise ConfigurationProblem(str(error)) from error
    shared = [f"--config={config_file}"] if config_file else []
    for name, value in given.items():
        if name not in OWN_OPTIONS and value is not None:
            shared.append(f"--{name.replace('_', '-')}={value}")
    if not config.secret:
        shared.append(f"--secret=@{config.data_path / layout.SECRET}")
    return asyncio.run(Cores(config, plan, shared).serve())


def planned(config: Config) -> RingPlan:
    """The members: those that the folder has, with more of them if there are to be more.

    Raises:
        LayoutError: the folder holds something else, or more of them.
    """
    folder = config.data_path
    present = layout.load(folder).with_those_back(folder) if layout.is_there(folder) else None
    if (folder / "CURRENT").exists():
        raise LayoutError(
            f"{folder} holds the data of a node that used one core; --cores {config.cores} needs a folder of its own"
        )
    for name, port in (("cql", config.cql_port), ("peer", config.peer_port), ("admin", config.admin_port)):
        if not 0 < port <= 65536 - config.cores:
            raise LayoutError(f"--{name}-port {port}: --cores {config.cores} takes as many ports from it on")
    if present is not None:
        if any(not node.name.startswith("core") for node in present.nodes):
            raise LayoutError(f"{folder} holds a ring that `ouro up` made")
        if len(present.nodes) > config.cores:
            raise LayoutError(
                f"{folder} holds the data of {len(present.nodes)} cores; it can't be run with fewer"
            )
    if ":" in (config.advertise or config.listen):
        raise LayoutError(
            f"--cores {config.cores}: nodes of one core each must have an IPv4 address, or a name"
        )
    host_id = config.host_id or socket.gethostname()
    nodes = tuple(
        NodePlan(
            name=f"core{number + 1}",
            address=config.advertise or config.listen,
            cql_port=config.cql_port + number,
            peer_port=config.peer_port + number,
            admin_port=config.admin_port + number,
            dc=config.dc,
            rack=config.rack,
            host_id=host_id,
        )
        for number in range(config.cores)
    )
    if present is None:
        return RingPlan(nodes)
    left = [node for node in present.nodes if node.has_left]
    plan = RingPlan(nodes, is_formed=present.is_formed).without(left)
    if not plan.members:
        raise LayoutError(layout.all_left(folder))
    return plan


@dataclass(slots=True)
class Core:
    """One member.

    Attributes:
        ends: how often its process died without having lasted.
        last_line: what it said last.
        ready: set once a process of it has served clients.
    """

    plan: NodePlan
    process: asyncio.subprocess.Process | None = None
    ends: int = 0
    last_line: str = ""
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class Cores:
    """The processes of one machine, and who watches them."""

    def __init__(self, config: Config, plan: RingPlan, shared: Sequence[str]) -> None:
        self.config = config
        self.plan = plan
        self.cores = [Core(node) for node in plan.members]
        self._shared = shared
        self._stopping = asyncio.Event()
        self._exit_code = 0

    async def serve(self) -> int:
        """Start all, and watch; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        watchers = [asyncio.create_task(self._keep(core)) for core in self.cores]
        ready = asyncio.create_task(self._tell_when_ready())
        await self._stopping.wait()
        ready.cancel()
        for core in self.cores:
            if core.process is not None and core.process.returncode is None:
                core.process.terminate()
        done, late = await asyncio.wait(watchers, timeout=STOP_SECONDS_MAX)
        if late:
            _say(f"{len(late)} processes haven't stopped after {STOP_SECONDS_MAX:.0f} s, and are killed")
            for core in self.cores:
                if core.process is not None and core.process.returncode is None:
                    core.process.kill()
            await asyncio.wait(late)
        for watcher in done:
            watcher.result()
        return self._exit_code

    async def _keep(self, core: Core) -> None:
        """Keep one member running."""
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started_s = loop.time()
            code = await self._run(core)
            if self._stopping.is_set():
                return
            lasted = loop.time() - started_s > LASTS_S
            core.ends = 0 if lasted else core.ends + 1
            how = f"exit code {code}" if code >= 0 else f"signal {-code}"
            if code == WAS_REMOVED:
                self._leave(core)
                return
            if code == CANT_START and not core.ready.is_set():
                self._exit_code = CANT_START
                self._stopping.set()
                return
            pause_s = PAUSES_S[min(core.ends, len(PAUSES_S)) - 1] if core.ends else 0.0
            when = "at once" if not pause_s else f"in {pause_s:.0f} s"
            _say(f"{core.plan.name} died ({how}) and is started again {when}; it said last: {core.last_line}")
            try:
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            except TimeoutError:
                continue

    def _leave(self, core: Core) -> None:
        """The cluster has gone on without this one: nobody waits for it any more, now or when all are started again."""
        _say(f"{core.plan.name} isn't started again; it said last: {core.last_line}")
        self.plan = self.plan.without([core.plan])
        layout.save(self.config.data_path, self.plan)
        core.ready.set()
        if not self.plan.members:
            self._exit_code = WAS_REMOVED
            self._stopping.set()

    async def _run(self, core: Core) -> int:
        """One process of a member, from its start to its end; returns its exit code."""
        process = core.process = await asyncio.create_subprocess_exec(
            *command(signal.SIGTERM, self._arguments(core.plan)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LINE_BYTES_MAX,
            # Ctrl-C is for the parent, which then stops all.
            start_new_session=True,
        )
        if self._stopping.is_set():
            process.terminate()
        assert process.stdout is not None
        async for line in process.stdout:
            text = line.decode(errors="replace").rstrip()
            if READY in text and text.startswith("OuroDB "):
                core.ready.set()
            else:
                core.last_line = text
                sys.stderr.write(f"{core.plan.name} | {text}\n")
                sys.stderr.flush()
        return await process.wait()

    def _arguments(self, node: NodePlan) -> list[str]:
        arguments = self.plan.arguments(self.config.data_path, node)
        arguments = [word for word in arguments if not word.startswith(LEFT_ALONE)]
        if self.config.join:
            seeds = ",".join(f"[{host}]:{port}" for host, port in self.config.seeds)
            arguments.append(f"--join={seeds}")
        return ["serve", *self._shared, *arguments, "--cores=1"]

    async def _tell_when_ready(self) -> None:
        """Once all see each other, say so."""
        loop = asyncio.get_running_loop()
        for core in self.cores:
            await core.ready.wait()
        while nodes := self.plan.members:
            if not disagreement(nodes, await loop.run_in_executor(None, look, nodes)):
                break
            await asyncio.sleep(LOOK_EVERY_S)
        else:
            return
        self.plan = self.plan.formed()
        layout.save(self.config.data_path, self.plan)
        first, last = nodes[0], nodes[-1]
        sys.stdout.write(
            f"OuroDB {__version__} ready: {len(nodes)} cores, CQL on {first.cql}-{last.cql_port},"
            f" peers on {first.peer}-{last.peer_port}, admin on {first.admin}-{last.admin_port},"
            f" data in {self.config.data_path.resolve()}\n"
        )
        sys.stdout.flush()


def _say(text: str) -> None:
    sys.stderr.write(f"ouro serve: {text}\n")
    sys.stderr.flush()
