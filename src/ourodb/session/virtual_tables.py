"""The tables that nothing stores, put where the ordinary read path finds them.

Rows of ``system``, ``system_schema`` and ``system_views`` are made from the schema and the node's state. For a SELECT they are
encoded like stored rows into a ``MemoryStore``, and the same executor that reads user tables reads that. What follows
from the schema alone is kept until the schema moves; the rest is made for each read.
"""

from __future__ import annotations
