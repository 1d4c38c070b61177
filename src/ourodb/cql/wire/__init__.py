"""The CQL native protocol, versions 3, 4 and 5, without input or output: bytes in, events out.

How the pieces stand on each other, lowest first:

``codes``
    Opcodes, flags, consistency levels: the numbers of the protocol.
``primitives``
    [int], [string], [value], ...: a bounds-checked ``Reader`` and the writers.
``segments``
    Protocol v5's outer framing: CRC24 header, CRC32 payload, LZ4.
``frames``
    The 9-byte envelope header, and compressed bodies of v3 and v4.
``envelopes``
    From a stream of bytes to envelopes, for both ends and all versions.
``columns``
    Column specifications and the metadata of results, encoded once for each prepared statement.
``requests``
    Decoding what clients ask. EXECUTE is the hot one.
``responses``
    Encoding what they are answered.
``connection``
    ``ServerConnection``: one connection's framing, negotiation and order of messages.
``client_messages``, ``client``
    The other end, ``ClientConnection`` and its codec: for the load generator.

Promises: nothing here opens a socket, reads a clock or draws a random number. Whatever bytes arrive, the only
exception that leaves a decoder is ``ourodb.errors.ProtocolError``, and ``ServerConnection.receive`` raises nothing:
it answers the ERROR itself. Sizes are checked before anything is allocated or expanded. How the byte stream was cut
into chunks never changes what comes out.

Sources: Apache Cassandra's native_protocol_v3.spec, v4.spec, v5.spec; texts of errors follow Apache Cassandra 5.
"""
