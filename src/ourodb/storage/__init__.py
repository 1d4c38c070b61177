"""One node's rows: keys, cells, merge, tombstones, TTL, purge, snapshots, and the engine below them.

How a row is kept
-----------------
A key is ``incarnation (u32) | position | kind (u8) | rest``. The *position* is opaque and prefix-free: in a hash table
the token (8 bytes, order-preserving), the key's length (u16) and the partition key. A partition is one contiguous run:

====================  =========================================  ===================================================
kind                  rest                                       value
====================  =========================================  ===================================================
``HEADER`` 0x10       nothing                                    partition deletion, static row, has-range-tombstones
``STATIC_ELEMENT``    column id (u16) | element path             an element of a static collection
``RANGE_TOMBSTONE``   start bound                                end bound, deletion; fragments never overlap
``ROW`` 0x40          clustering                                 the row: marker, deletion, simple cells
``ROW`` 0x40          clustering | 0x01 | column id | path       an element of a collection or a field of a UDT
====================  =========================================  ===================================================

Each clustering component is the order-preserving, prefix-free encoding of its type, complemented for DESC; its first
byte lies strictly between 0x08 and 0xF0, so that ``prefix + 0xFF`` bounds everything that begins with a prefix and
a row sorts directly before its elements.

A *record* is a value in the form in which it is stored and in which it travels. A mutation is a list of (key suffix,
record) of one partition; applying it is ``merge(stored record, record)`` for each, which is commutative, associative
and idempotent. Reading gathers the records of a slice and resolves deletions and expiry at a given ``now``.
"""
