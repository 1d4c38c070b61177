"""Native functions: what exists, which overload a call means, and how it is computed, always from bytes to bytes.

``core`` has the shapes (``Function``, ``Aggregate``, ``Factory``) and the resolution of overloads; each other module
has the functions of one subject and gives them by a function named ``functions()``; ``native`` gathers them.

Source: Apache Cassandra 5, package ``cql3.functions``.
"""
