"""Names of keyspaces and tables: which are allowed, and which belong to the system.

Source: Apache Cassandra 5, ``SchemaConstants``, ``KeyspaceMetadata``, ``TableMetadata``.
"""

from __future__ import annotations

import re
from typing import Final

from ourodb.cql.syntax.format import quote_identifier
from ourodb.errors import ConfigurationException, InvalidRequest

KEYSPACE_NAME_MAX: Final = 48
TABLE_NAME_MAX: Final = 222

LOCAL_KEYSPACES: Final = ("system", "system_schema")
VIRTUAL_KEYSPACES: Final = ("system_views", "system_virtual_schema")
REPLICATED_KEYSPACES: Final = ("system_auth", "system_distributed", "system_traces")

_WORD = re.compile(r"\w+", re.ASCII)


def is_local_keyspace(name: str) -> bool:
    """Whether it is a system keyspace that each node has for itself, made on the fly or not."""
    return name.lower() in LOCAL_KEYSPACES or name.lower() in VIRTUAL_KEYSPACES


def is_system_keyspace(name: str) -> bool:
    """Whether it belongs to the database rather than to its users."""
    return is_local_keyspace(name) or name.lower() in REPLICATED_KEYSPACES


def check_keyspace_name(name: str, error: type[InvalidRequest | ConfigurationException]) -> None:
    """Refuse a name that no keyspace may have."""
    if _WORD.fullmatch(name) is None:
        raise error(
            "Keyspace name must not be empty and must contain alphanumeric or underscore characters only "
            f'(got "{name}")'
        )
    if len(name) > KEYSPACE_NAME_MAX:
        raise error(
            f"Keyspace name must not be more than {KEYSPACE_NAME_MAX} characters long "
            f'(got {len(name)} characters for "{name}")'
        )


def check_table_name(keyspace: str, name: str) -> None:
    """Refuse a name that no table may have.

    Raises:
        ConfigurationException: with Cassandra's text.
    """
    if _WORD.fullmatch(name) is None:
        raise ConfigurationException(
            f"{keyspace}.{name}: Table name must not be empty or not contain non-alphanumeric-underscore characters "
            f'(got "{name}")'
        )
    if len(name) > TABLE_NAME_MAX:
        raise ConfigurationException(
            f"{keyspace}.{name}: Table name must not be more than {TABLE_NAME_MAX} characters long "
            f'(got {len(name)} characters for "{name}")'
        )


def qualified(keyspace: str, name: str) -> str:
    """``keyspace.name``, each quoted where CQL needs it."""
    return f"{quote_identifier(keyspace)}.{quote_identifier(name)}"
