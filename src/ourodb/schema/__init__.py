"""Keyspaces, tables and types: an immutable model, pure changes on it, the system's own tables, and DESCRIBE.

| module | what it holds |
| --- | --- |
| ``model`` | ``Schema`` > ``Keyspace`` > ``Table`` > ``Column``, all frozen |
| ``changes`` | commands as plain data, and their encoding |
| ``evolution`` | ``apply(schema, change)``; ``keyspaces``, ``tables`` and ``user_types`` carry the changes out |
| ``options`` | what WITH may say; ``compaction``, ``compression``, ``properties`` are parts of it |
| ``types``, ``names`` | types inside other types; names that are allowed or reserved |
| ``snapshot`` | a whole schema as bytes |
| ``system``, ``system_tables`` | the keyspaces that a new cluster starts with |
| ``virtual``, ``node_info`` | rows of the tables that nothing stores, and what a node says of itself |
| ``describe``, ``cql_text`` | DESCRIBE and the CREATE statements in it |

Nothing here knows of storage, sockets or clients.
"""
