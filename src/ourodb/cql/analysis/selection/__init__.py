"""The SELECT clause: from selectors to the values of a result row.

``clause`` turns each selector into a ``Selectable`` (``selectable``): a type, a name, and a way to evaluate it on a
row. ``cells`` has those that look into a cell: elements, slices, fields, write times and TTLs.

Source: Apache Cassandra 5, package ``cql3.selection``.
"""
