"""Keyspaces, tables and types: an immutable model, pure changes on it, and DESCRIBE.

``model`` holds the data structures, ``changes`` turns (schema, change) into a new schema, ``describe`` renders CQL.
Nothing here knows of storage, sockets or clients.
"""
