"""What a node says of the cluster when it is asked by people: the answers of the admin API behind ``ouro
status``, ``ouro ring``, ``ouro gossip`` and ``ouro metadata``. Plain data, made of what this node knows at
the moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ourodb.cluster.gossip.state import COPYING
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.moves import JOIN, REPLACE
from ourodb.cluster.ring.placement import TokenRange
from ourodb.errors import InvalidRequest
from ourodb.limits import CLOCK_SKEW_WARNING_MS
from ourodb.node import Node
from ourodb.ports import NodeId
from ourodb.replication.consistency import quorum, replicas
from ourodb.replication.streaming.copying import Progress
from ourodb.schema.keyspaces import LOCAL, SIMPLE
from ourodb.schema.model import Keyspace, Replication, Table
from ourodb.schema.names import is_system_keyspace
from ourodb.storage.keys import token_of

PRIMARY = Replication(SIMPLE, {"replication_factor": "1"})

ENTRIES_SHOWN = 20
"""Of the metadata log."""


def status_report(
    node: Node, asked: Mapping[str, Any] | None = None, *, read_only: str | None = None
) -> dict[str, Any]:
    """Every member as this node sees it, and what is worth a warning.

    Args:
        asked: keyspace (optional), whose rows ``owns`` is about: the part of them that a member has a copy of.
            Without one it is the part of the ring that the member is the primary replica of.
        read_only: why this node takes no writes, if it doesn't.
    Raises:
        InvalidRequest: there is no such keyspace.
    """
    view = node.view
    name = (asked or {}).get("keyspace")
    replication = PRIMARY if name is None else _keyspace(node, name).replication
    owned = view.ring.ownership(replication)
    gossip = node.gossip
    assert gossip is not None
    members = []
    for id, member in view.members.items():
        state = gossip.states.get(id)
        skew = node.skews.offset(id)
        members.append(
            {
                **_named(member),
                "id": id,
                "host_id": str(member.host_id),
                "state": "UP" if node.peers.up.get(id) else "DOWN",
                "movement": _movement(node, id),
                "is_this_node": id == node.peers.me,
                "cql": f"{member.native[0]}:{member.native[1]}",
                "tokens": len(member.tokens),
                "owns": owned[id],
                "load_bytes": node.load_bytes()
                if id == node.peers.me
                else (state.load_bytes if state is not None else None),
                "epoch": view.epoch if id == node.peers.me else (state.epoch if state is not None else None),
                "skew_ms": None if skew is None else skew.ahead_us / 1000,
                "hints_waiting": node.hints.waiting(id),
                "hints_kept": _hints_kept(node, id),
                "is_voter": id in view.voters,
                "is_leader": id == node.metadata.leader,
            }
        )
    return {
        "cluster_name": view.cluster_name,
        "cluster_id": str(view.cluster_id),
        "epoch": view.epoch,
        "host_id": str(node.identity.host_id),
        "address": f"{node.native[0]}:{node.native[1]}",
        "schema_version": str(view.schema.version),
        "leader": node.metadata.leader,
        "keyspace": name,
        "move": moves_report(node)["move"],
        "members": members,
        "warnings": [
            *([f"this node is read-only: {read_only}"] if read_only else []),
            *_warnings_of_clocks(node),
            *_warnings_of_metadata(node),
            *_warnings_of_keyspaces(node),
        ],
    }


def moves_report(node: Node) -> dict[str, Any]:
    """The move that is under way, how far each node that gains rows has come in it, and who is next."""
    view = node.view
    move = view.move
    assert node.gossip is not None
    wishes = [
        {"node": wish.node, "kind": wish.kind, **({"keyspace": wish.keyspace} if wish.keyspace else {})}
        for wish in view.wishes
    ]
    if move is None:
        return {"move": None, "wishes": wishes, "epoch": view.epoch}
    copying = {}
    for id in view.copying:
        state = node.gossip.states.get(id)
        progress = node.copying.progress
        if id != node.peers.me:
            found = None if state is None else Progress.of_text(state.text(COPYING))
            progress = found or Progress()
        is_over = id in move.copied
        copying[str(id)] = {
            "is_over": is_over,
            "ranges": progress.ranges,
            "ranges_done": progress.ranges if is_over else progress.ranges_done,
            "rows": progress.rows,
            "bytes": progress.bytes,
            "waits": progress.waits,
        }
    return {
        "move": {
            "id": move.id,
            "kind": move.kind,
            "stage": move.stage.name.lower(),
            "nodes": sorted(move.tokens),
            "keyspace": move.keyspace or None,
            "copying": copying,
        },
        "wishes": wishes,
        "epoch": view.epoch,
    }


def _movement(node: Node, id: NodeId) -> str | None:
    """Whether a member is about to come or to go: "join", "leave", "remove" or "replace"."""
    move = node.view.move
    if move is not None and id in move.tokens:
        return JOIN if move.tokens[id] and move.kind == REPLACE else move.kind
    return next((wish.kind for wish in node.view.wishes if wish.node == id), None)


def _hints_kept(node: Node, id: NodeId) -> int | None:
    """How many hints a member keeps for others, as far as this node has heard."""
    if id == node.peers.me:
        return node.hints.total
    state = node.gossip.states.get(id) if node.gossip is not None else None
    return None if state is None else state.hints


def _warnings_of_clocks(node: Node) -> list[str]:
    return [
        f"the clock of node {id} is {offset.ahead_us / 1_000_000:+.1f} s off this node's, more than"
        f" {CLOCK_SKEW_WARNING_MS} ms: of two writes of a cell the newer one may lose"
        for id, offset in node.skews.warnings()
        if id in node.view.members
    ]


def _warnings_of_metadata(node: Node) -> list[str]:
    view, metadata = node.view, node.metadata
    if metadata.fault is not None:
        return [f"this node can't follow the metadata log any more, restart it: {metadata.fault}"]
    up = sum(bool(node.peers.up.get(voter)) for voter in view.voters)
    found = []
    if up < quorum(len(view.voters)):
        found.append(
            f"{up} of {len(view.voters)} voters are up, no majority: the schema can't change and nobody can join."
            " If they are lost for good: ouro metadata recover"
        )
    elif not metadata.leader:
        found.append("no voter leads the metadata log at the moment")
    if node.hints.dropped:
        found.append(
            f"this node dropped {node.hints.dropped} hints, too old or too many: rows written meanwhile are made"
            " equal as they are read"
        )
    return found


def _warnings_of_keyspaces(node: Node) -> list[str]:
    """Where there are too few nodes, or too few that are up, for what a keyspace asks for."""
    view, up = node.view, node.peers.up
    found = []
    for keyspace in view.schema.keyspaces.values():
        if is_system_keyspace(keyspace.name) or not _is_replicated(keyspace):
            continue
        factor = replicas(keyspace)
        copies = hosts = factor
        below_quorum = lost = 0.0
        for one in view.ring.placement(keyspace.replication).token_ranges():
            nodes = one.replicas.nodes
            live = sum(bool(up.get(id)) for id in nodes)
            copies = min(copies, len(nodes))
            hosts = min(hosts, len({view.members[id].host for id in nodes}))
            below_quorum += one.share if live < quorum(factor) else 0.0
            lost += one.share if not live else 0.0
        name = f"keyspace {keyspace.name}"
        if copies < factor:
            found.append(f"{name} asks for {factor} copies, but the ring has nodes for {copies} only")
        elif hosts < copies:
            found.append(f"{name} has copies of a row on one machine: {copies} copies on {hosts}")
        if below_quorum:
            found.append(
                f"{name}: QUORUM can't be had for {below_quorum:.0%} of its rows, too few copies are up"
            )
        if lost:
            found.append(f"{name}: no copy of {lost:.0%} of its rows is up")
    return found


def _keyspace(node: Node, name: Any) -> Keyspace:
    """A replicated keyspace by its name.

    Raises:
        InvalidRequest: there is none.
    """
    keyspace = node.view.schema.keyspaces.get(str(name))
    if keyspace is None:
        raise InvalidRequest(f"there is no keyspace {name}")
    if not _is_replicated(keyspace):
        raise InvalidRequest(f"keyspace {name} isn't replicated: every node has its own")
    return keyspace


def _is_replicated(keyspace: Keyspace) -> bool:
    return not keyspace.virtual and keyspace.replication.strategy != LOCAL


def ring_report(node: Node, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The ranges of the ring, or where one key is and why.

    Args:
        asked: keyspace (optional), table and key (both or neither); a key is the text of its one column, or a list.
    Raises:
        InvalidRequest: there is no such keyspace or table, or the key doesn't fit.
    """
    view = node.view
    name = asked.get("keyspace")
    replication = PRIMARY if name is None else _keyspace(node, name).replication
    placement = view.ring.placement(replication)
    report: dict[str, Any] = {
        "keyspace": name,
        "replication": {"class": replication.strategy, **replication.options},
        "nodes": _nodes(node),
    }
    if asked.get("table") is None:
        report["ranges"] = [_range(node, one) for one in placement.token_ranges()]
        return report
    table = view.schema.table(str(name), str(asked["table"]))
    if table is None:
        raise InvalidRequest(f"there is no table {name}.{asked['table']}")
    position = node.rows.of(table).keys.position(_key_values(table, asked.get("key")))
    token = token_of(position)
    found = placement.token_range_of(token)
    assert found is not None
    report["key"] = {
        "columns": {column.name: column.type.cql_name for column in table.partition_key},
        "partition_key": position[10:].hex(),
        "token": str(token),
        **_range(node, found),
    }
    return report


def _key_values(table: Table, key: Any) -> list[bytes]:
    texts = key if isinstance(key, list) else [key]
    columns = table.partition_key
    if len(texts) != len(columns) or any(text is None for text in texts):
        names = ", ".join(column.name for column in columns)
        raise InvalidRequest(
            f"the partition key of {table.keyspace}.{table.name} is ({names}): give a value for each"
        )
    values = []
    for column, text in zip(columns, texts, strict=True):
        try:
            values.append(column.type.parse(str(text)))
        except (ValueError, NotImplementedError) as error:
            raise InvalidRequest(f"{text!r} is no {column.type.cql_name}: {error}") from error
    return values


def _range(node: Node, one: TokenRange) -> dict[str, Any]:
    up = node.peers.up
    acting = next((id for id in one.replicas.nodes if up.get(id)), None)
    return {
        "start": str(one.start),
        "end": str(one.end),
        "share": one.share,
        "primary": one.primary,
        "acting_primary": acting,
        "secondaries": list(one.secondaries),
    }


def gossip_report(node: Node) -> dict[str, Any]:
    """What this node's gossip knows of each member."""
    gossip = node.gossip
    assert gossip is not None
    now_ms = node.peers.now_ms()
    return {
        "rounds": gossip.rounds,
        "messages_sent": gossip.messages_sent,
        "messages_received": gossip.messages_received,
        "bytes_sent": gossip.bytes_sent,
        "refusals": {reason: count for reason, count in gossip.refusals.items() if count},
        "nodes": [
            {
                "id": id,
                "address": _named(node.view.members[id])["address"],
                "up": gossip.is_up(id),
                "generation": state.generation,
                "heartbeat": state.beat,
                "phi": round(gossip.phi(id, now_ms), 2),
                "epoch": state.epoch,
            }
            for id, state in gossip.states.items()
            if id in node.view.members
        ],
    }


def metadata_report(node: Node) -> dict[str, Any]:
    """The metadata log: who leads, who votes, and what was decided last."""
    metadata = node.metadata
    view = node.view
    return {
        "epoch": view.epoch,
        "leader": metadata.leader,
        "term": metadata.term,
        "voters": list(view.voters),
        "recoveries": view.recoveries,
        "fault": None if metadata.fault is None else str(metadata.fault),
        "entries": [
            {"index": entry.index, "term": entry.term, "text": entry.text, "is_applied": entry.is_applied}
            for entry in metadata.last_entries(ENTRIES_SHOWN)
        ],
        "nodes": _nodes(node),
    }


def _nodes(node: Node) -> dict[str, dict[str, Any]]:
    """The members by id, as JSON has it."""
    return {
        str(id): {
            **_named(member),
            "cql": f"{member.native[0]}:{member.native[1]}",
            "up": bool(node.peers.up.get(id)),
        }
        for id, member in node.view.members.items()
    }


def _named(member: Member) -> dict[str, str]:
    return {
        "address": f"{member.peer[0]}:{member.peer[1]}",
        "dc": member.data_center,
        "rack": member.rack,
        "host": member.host,
    }
