"""What a node says of the cluster when it is asked by people: the answers of the admin API behind ``ouro
status``, ``ouro ring``, ``ouro gossip`` and ``ouro metadata``. Plain data, made of what this node knows at
the moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.placement import TokenRange
from ourodb.errors import InvalidRequest
from ourodb.node import Node
from ourodb.schema.keyspaces import LOCAL, SIMPLE
from ourodb.schema.model import Replication, Table
from ourodb.storage.keys import token_of

PRIMARY = Replication(SIMPLE, {"replication_factor": "1"})


def status_report(node: Node) -> dict[str, Any]:
    """Every member as this node sees it."""
    view = node.view
    owned = view.ring.ownership(PRIMARY)
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
                "is_this_node": id == node.peers.me,
                "cql": f"{member.native[0]}:{member.native[1]}",
                "tokens": len(member.tokens),
                "owns": owned[id],
                "load_bytes": state.load_bytes if state is not None else None,
                "epoch": view.epoch if id == node.peers.me else (state.epoch if state is not None else None),
                "skew_ms": None if skew is None else skew.ahead_us / 1000,
                "hints_waiting": node.hints.waiting(id),
                "is_voter": id in view.voters,
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
        "members": members,
    }


def ring_report(node: Node, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The ranges of the ring, or where one key is and why.

    Args:
        asked: keyspace (optional), table and key (both or neither); a key is the text of its one column, or a list.
    Raises:
        InvalidRequest: there is no such keyspace or table, or the key doesn't fit.
    """
    view = node.view
    name = asked.get("keyspace")
    replication = PRIMARY
    if name is not None:
        keyspace = view.schema.keyspaces.get(str(name))
        if keyspace is None:
            raise InvalidRequest(f"there is no keyspace {name}")
        if keyspace.virtual or keyspace.replication.strategy == LOCAL:
            raise InvalidRequest(f"keyspace {name} isn't replicated: every node has its own")
        replication = keyspace.replication
    placement = view.ring.placement(replication)
    report: dict[str, Any] = {
        "keyspace": name,
        "replication": {"class": replication.strategy, **replication.options},
        "nodes": {str(id): _named(member) for id, member in view.members.items()},
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
    report["key"] = {"partition_key": position[10:].hex(), "token": str(token), **_range(node, found)}
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
        "entries": metadata.last_entries(20),
        "nodes": {str(id): _named(member) for id, member in view.members.items()},
    }


def _named(member: Member) -> dict[str, str]:
    return {
        "address": f"{member.peer[0]}:{member.peer[1]}",
        "dc": member.data_center,
        "rack": member.rack,
        "host": member.host,
    }
