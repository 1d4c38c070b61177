"""A few ``Gossip``s driven by lines of text, and what they do as text. The commands are the methods of ``Ring``."""

from __future__ import annotations

from tests.cluster.gossip.network import Draw

from ourodb.cluster.gossip.gossip import Gossip, Output
from ourodb.cluster.gossip.messages import Ack, Ack2, Digest, MalformedGossip, Syn, decode, encode
from ourodb.cluster.gossip.state import Delta
from ourodb.ports import NodeId


def show_delta(delta: Delta) -> str:
    since = f" since {delta.since}" if delta.since else ""
    fields = "".join(f" {name}={value}" for name, (_, value) in sorted(delta.fields.items()))
    return f"[{delta.node}@{delta.generation}.{delta.beat}/{delta.version}{since}:{fields}]"


def show_digest(digest: Digest) -> str:
    return " ".join(
        f"{node}@{generation}.{beat}/{version}" for node, generation, beat, version in digest.entries()
    )


def show(body: bytes) -> str:
    message = decode(body)
    if isinstance(message, Syn):
        return f"SYN {show_delta(message.own)} knows {show_digest(message.digest)}"
    if isinstance(message, Ack):
        parts = [f"ACK {show_delta(message.own)}"]
        if message.newer.count:
            parts.append(f"newer {show_digest(message.newer)}")
        parts += map(show_delta, message.deltas)
        if message.wanted.count:
            parts.append(f"wants {show_digest(message.wanted)}")
        return " ".join(parts)
    if isinstance(message, Ack2):
        return " ".join(["ACK2", *map(show_delta, message.deltas)])
    return f"kind {body[0]}"


class Ring:
    """Commands, each a line: the method's name and its arguments. All clocks show the same."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.members: list[NodeId] = []
        self.nodes: dict[NodeId, Gossip] = {}
        self.asleep: list[NodeId] = []
        self.flying: list[tuple[NodeId, NodeId, bytes]] = []
        self.lines: list[str] = []

    def run(self, line: str) -> None:
        command, *arguments = line.split()
        getattr(self, f"do_{command}")(*arguments)

    def do_members(self, *nodes: str) -> None:
        """Whom nodes started from now on, and those that run, take for the ring."""
        self.members = [NodeId(int(node)) for node in nodes]
        for node, gossip in self.nodes.items():
            self._take(node, gossip.set_members(self.now_ms, self.members))

    def do_start(self, node: str, generation: str) -> None:
        me = NodeId(int(node))
        self.nodes[me] = Gossip(me, int(generation), self.now_ms, Draw(me))
        self._take(me, self.nodes[me].set_members(self.now_ms, self.members))

    def do_kill(self, node: str) -> None:
        del self.nodes[NodeId(int(node))]

    def do_stop(self, node: str) -> None:
        me = NodeId(int(node))
        self._take(me, self.nodes[me].stop(self.now_ms))

    def do_wait(self, ms: str) -> None:
        self.now_ms += int(ms)

    def do_tick(self, *nodes: str) -> None:
        for node in nodes:
            me = NodeId(int(node))
            self._take(me, self.nodes[me].tick(self.now_ms))

    def do_rounds(self, count: str) -> None:
        """So many seconds, with a tick of everybody and quick messages in each; only changes are told."""
        for _ in range(int(count)):
            self.now_ms += 1_000
            for node, gossip in self.nodes.items():
                if node not in self.asleep:
                    self._take(node, gossip.tick(self.now_ms))
            while self.flying:
                self._deliver(is_told=False)

    def do_sleep(self, node: str) -> None:
        """The node's process is stopped; what is sent to it is lost."""
        self.asleep.append(NodeId(int(node)))

    def do_wake(self, node: str) -> None:
        self.asleep.remove(NodeId(int(node)))

    def do_update(self, node: str, *fields: str) -> None:
        changes = dict(field.split("=") for field in fields)
        self.nodes[NodeId(int(node))].update(
            **{name: int(value) if value.isdecimal() else value for name, value in changes.items()}
        )

    def do_deliver(self) -> None:
        """Everything, and the answers to it."""
        while self.flying:
            self._deliver(is_told=True)

    def do_drop(self, *ways: str) -> None:
        """What flies along these ways (``1->2``), or everything."""
        self.flying = [flight for flight in self.flying if ways and f"{flight[0]}->{flight[1]}" not in ways]

    def do_convict(self, node: str, by: str) -> None:
        me = NodeId(int(by))
        self._take(me, self.nodes[me].convict(self.now_ms, NodeId(int(node))))

    def do_seen(self, node: str, by: str) -> None:
        self.nodes[NodeId(int(by))].mark_seen(self.now_ms, NodeId(int(node)))

    def do_rumour(self, way: str, *deltas: str) -> None:
        """``1->2 3@1000.5/7``: a delta without fields flies, whether true or not."""
        source, target = (NodeId(int(node)) for node in way.split("->"))
        told = []
        for text in deltas:
            node, rest = text.split("@")
            generation, rest = rest.split(".")
            beat, version = rest.split("/")
            told.append(Delta(int(node), int(generation), int(beat), 0, int(version), {}))
        self.flying.append((source, target, encode(Ack2(source, told))))

    def do_claim(self, way: str, sender: str) -> None:
        """A message flies that says another sender than its link's."""
        source, target = (NodeId(int(node)) for node in way.split("->"))
        self.flying.append((source, target, encode(Ack2(int(sender), []))))

    def do_garbage(self, way: str, text: str) -> None:
        source, target = (NodeId(int(node)) for node in way.split("->"))
        self.flying.append((source, target, bytes.fromhex(text)))

    def do_show(self, *nodes: str) -> None:
        for name in nodes:
            me = NodeId(int(name))
            gossip = self.nodes[me]
            for node, state in gossip.states.items():
                up = "UP" if gossip.is_up(node) else "DOWN"
                told = " ".join(f"{key}={value}" for key, value in state.values().items())
                self.lines.append(
                    f"{me} of {node}: {up} {state.generation}.{state.beat}/{state.version} {told}".rstrip()
                )

    def do_refused(self, name: str) -> None:
        for reason, count in self.nodes[NodeId(int(name))].refusals.items():
            if count:
                self.lines.append(f"{name} refused {count}: {reason}")

    def _deliver(self, *, is_told: bool) -> None:
        flying, self.flying = self.flying, []
        for source, target, body in flying:
            if is_told:
                try:
                    text = show(body)
                except MalformedGossip:
                    text = f"garbage {body.hex()}"
                lost = "" if target in self.nodes else " (lost)"
                self.lines.append(f"{source}->{target} {text}{lost}")
            if target in self.nodes and target not in self.asleep:
                try:
                    self._take(target, self.nodes[target].receive(self.now_ms, source, body))
                except MalformedGossip as error:
                    self.lines.append(f"{target} raises {error}")

    def _take(self, me: NodeId, output: Output) -> None:
        for node, is_up in output.changes:
            self.lines.append(f"{self.now_ms} ms: {me} finds {node} {'UP' if is_up else 'DOWN'}")
        self.flying += [(me, node, body) for node, body in output.sends]


def run(script: str) -> str:
    """The script with what each of its blocks does now."""
    ring = Ring()
    blocks = []
    for block in script.strip("\n").split("\n\n"):
        commands = block.split("\n----", 1)[0]
        ring.lines = []
        for line in commands.splitlines():
            if line and not line.startswith("#"):
                ring.run(line)
        blocks.append("\n".join([commands, "----", *ring.lines]))
    return "\n\n".join(blocks) + "\n"
