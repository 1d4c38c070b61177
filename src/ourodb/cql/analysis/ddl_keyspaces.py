"""CREATE, ALTER and DROP KEYSPACE: from syntax to a checked change.

Replication is made complete here: a short class name becomes the full one, and NetworkTopologyStrategy's
``replication_factor`` becomes a factor for each data centre that the cluster has now. So a data centre that joins later
gets no copies until someone says so.

Source: Apache Cassandra 5, ``CreateKeyspaceStatement``, ``AlterKeyspaceStatement``, ``AbstractReplicationStrategy``,
``SimpleStrategy``, ``NetworkTopologyStrategy``, ``ReplicationFactor``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ourodb.cql.syntax import ast
from ourodb.errors import AlreadyExists, ConfigurationException, InvalidRequest
from ourodb.schema.changes import AlterKeyspace, Change, CreateKeyspace, DropKeyspace
from ourodb.schema.keyspaces import LOCAL, NETWORK_TOPOLOGY, SIMPLE
from ourodb.schema.model import Replication, Schema
from ourodb.schema.names import check_keyspace_name, is_local_keyspace, is_system_keyspace
from ourodb.schema.properties import Properties, boolean_of, check_known, map_of, parse_integer

KNOWN: Final = ("durable_writes", "replication")
PACKAGE: Final = "org.apache.cassandra.locator."
FACTOR: Final = "replication_factor"


def create_keyspace(
    statement: ast.CreateKeyspace, schema: Schema, datacenters: Mapping[str, int]
) -> tuple[Change, list[str]]:
    """The change, and warnings for the client."""
    if is_local_keyspace(statement.name):
        raise InvalidRequest(f"System keyspace '{statement.name}' is not user-modifiable")
    check_keyspace_name(statement.name, InvalidRequest)
    entries = _replication_entries(statement.properties)
    if entries is None:
        raise InvalidRequest("Missing mandatory option 'replication'")
    if not entries:
        raise ConfigurationException("Missing replication strategy class")
    if statement.name in schema.keyspaces and not statement.if_not_exists:
        raise AlreadyExists(statement.name)
    durable_writes = boolean_of(statement.properties, "durable_writes")
    replication = _prepared(entries, {}, datacenters)
    _validate(statement.name, replication, datacenters)
    change = CreateKeyspace(
        statement.name,
        replication.strategy,
        dict(replication.options),
        durable_writes=durable_writes is not False,
        if_not_exists=statement.if_not_exists,
    )
    return change, _warnings(statement.name, replication, datacenters)


def alter_keyspace(
    statement: ast.AlterKeyspace, schema: Schema, datacenters: Mapping[str, int]
) -> tuple[Change, list[str]]:
    """The change, and warnings for the client."""
    entries = _replication_entries(statement.properties)
    keyspace = schema.keyspaces.get(statement.name)
    change = AlterKeyspace(statement.name, if_exists=statement.if_exists)
    if keyspace is None:
        return change, []
    durable_writes = boolean_of(statement.properties, "durable_writes")
    replication = keyspace.replication
    if entries:
        replication = _prepared(entries, keyspace.replication.options, datacenters)
    _validate(statement.name, replication, datacenters)
    warnings = _warnings(statement.name, replication, datacenters)
    if _total_factor(replication) > _total_factor(keyspace.replication):
        warnings.append(
            "When increasing replication factor you need to run a full (-full) repair to distribute the data."
        )
    change = AlterKeyspace(
        statement.name,
        replication.strategy if entries else None,
        dict(replication.options) if entries else None,
        durable_writes,
        if_exists=statement.if_exists,
    )
    return change, warnings


def drop_keyspace(statement: ast.DropKeyspace) -> Change:
    return DropKeyspace(statement.name, if_exists=statement.if_exists)


def _replication_entries(properties: Properties) -> dict[str, str] | None:
    check_known(properties, KNOWN)
    entries = map_of(properties, "replication")
    if entries and "class" not in entries:
        raise ConfigurationException("Missing replication strategy class")
    return entries


def _prepared(
    entries: Mapping[str, str], previous: Mapping[str, str], datacenters: Mapping[str, int]
) -> Replication:
    """Replication with defaults and the data centres of the cluster filled in."""
    options = {name: value for name, value in entries.items() if name != "class"}
    name = entries["class"]
    strategy = name if "." in name else PACKAGE + name
    if strategy == PACKAGE + "OldNetworkTopologyStrategy":
        raise ConfigurationException(
            "The support for the OldNetworkTopologyStrategy has been removed in C* version 4.0. The keyspace strategy "
            "should be switch to NetworkTopologyStrategy"
        )
    if strategy not in (SIMPLE, NETWORK_TOPOLOGY, LOCAL):
        raise ConfigurationException(f"Unable to find replication strategy class '{strategy}'")
    if strategy == SIMPLE:
        options.setdefault(FACTOR, previous.get(FACTOR, "1"))
    elif strategy == NETWORK_TOPOLOGY:
        _expand(options, previous, datacenters)
    return Replication(strategy, dict(sorted(options.items())))


def _expand(options: dict[str, str], previous: Mapping[str, str], datacenters: Mapping[str, int]) -> None:
    if not options:
        options[FACTOR] = previous.get(FACTOR, "1")
    factor = options.pop(FACTOR, None)
    if factor is not None:
        # What a data centre has is left as it is; only those not yet mentioned get the factor.
        for name, value in previous.items():
            if name != FACTOR:
                options.setdefault(name, value)
        if _factor(factor) is None:
            return
        for name in datacenters:
            options.setdefault(name, factor)
    for name in [name for name, value in options.items() if value == "0"]:
        del options[name]


def _validate(keyspace: str, replication: Replication, datacenters: Mapping[str, int]) -> None:
    strategy, options = replication.strategy, replication.options
    if strategy == LOCAL and not is_system_keyspace(keyspace):
        raise InvalidRequest(
            "Unable to use given strategy class: LocalStrategy is reserved for internal use."
        )
    if strategy == SIMPLE:
        _check_factor(options[FACTOR])
        known: list[str] = [FACTOR]
    else:
        if FACTOR in options:
            raise ConfigurationException(
                "replication_factor should not appear as an option at construction time for NetworkTopologyStrategy"
            )
        for value in options.values():
            _check_factor(value)
        if not options:
            raise ConfigurationException("Configuration for at least one datacenter must be present")
        known = list(datacenters)
    for name in options:
        if name not in known:
            raise ConfigurationException(
                f"Unrecognized strategy option {{{name}}} passed to {strategy.removeprefix(PACKAGE)} for keyspace "
                f"{keyspace}"
            )
    if keyspace == "system_auth" and strategy == NETWORK_TOPOLOGY:
        missing = [name for name in datacenters if name not in options]
        if missing:
            raise ConfigurationException(
                "Following datacenters have active nodes and must be present in replication options for keyspace "
                f"system_auth: [{', '.join(missing)}]"
            )


def _check_factor(text: str) -> None:
    replicas, slash, transient = text.partition("/")
    if slash and "/" in transient:
        raise ConfigurationException("Replication factor format is <replicas> or <replicas>/<transient>")
    counts = [parse_integer(replicas, 32)]
    if slash:
        counts.append(parse_integer(transient, 32))
    for count, part in zip(counts, (replicas, transient), strict=False):
        if count is None:
            raise ConfigurationException(f'For input string: "{part}"')
    if len(counts) == 2 and counts[1] != 0:
        raise ConfigurationException("Transient replication is not enabled on this node")
    if counts[0] is not None and counts[0] < 0:
        raise ConfigurationException(f"Replication factor must be non-negative, found {counts[0]}")


def _factor(text: str) -> int | None:
    try:
        _check_factor(text)
    except ConfigurationException:
        return None
    return parse_integer(text.partition("/")[0], 32)


def _total_factor(replication: Replication) -> int:
    return sum(_factor(value) or 0 for value in replication.options.values())


def _warnings(keyspace: str, replication: Replication, datacenters: Mapping[str, int]) -> list[str]:
    if is_system_keyspace(keyspace):
        return []
    warnings = []
    for name, value in replication.options.items():
        simple = replication.strategy == SIMPLE
        nodes = sum(datacenters.values()) if simple else datacenters.get(name, 0)
        factor = _factor(value) or 0
        if factor > nodes != 0:
            where = "" if simple else f" for datacenter {name}"
            warnings.append(
                f"Your replication factor {factor} for keyspace {keyspace} is higher than the number of nodes "
                f"{nodes}{where}"
            )
    return warnings
