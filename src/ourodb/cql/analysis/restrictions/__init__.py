"""WHERE: which partitions, which rows of them, and what must be looked at row by row.

``relations`` turns each relation into a ``Restriction`` on some columns and merges those on the same columns;
``statement`` sorts them into partition key, clustering and the rest, says what isn't allowed, and gives
``Restrictions``, whose methods evaluate them with bound values; ``filters`` tests single rows.

Source: Apache Cassandra 5, package ``cql3.restrictions``.
"""

from ourodb.cql.analysis.restrictions.statement import DELETE, SELECT, UPDATE, Restrictions

__all__ = ["DELETE", "SELECT", "UPDATE", "Restrictions"]
