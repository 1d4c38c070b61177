"""Identifiers as CQL text.

Here, below the syntax, because the names of user types are part of the names of types.

Source: Apache Cassandra 5, ``ColumnIdentifier.maybeQuote`` and ``reserved_keywords.txt``.
"""

from __future__ import annotations

import re
from typing import Final

RESERVED_KEYWORDS: Final = frozenset(
    """
    add allow alter and apply asc authorize batch begin by columnfamily create delete desc describe drop entries execute
    from full grant if in index infinity insert into is keyspace limit materialized modify nan norecursive not null of
    on or order primary rename revoke schema select set table to token truncate unlogged update use using view where
    with
    """.split()
)
"""Words that can't be names unless they are quoted, lower case."""

# These two are literals wherever they stand bare; Cassandra forgets to quote them.
_BOOLEANS: Final = frozenset(("true", "false"))

_BARE: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)


def quote_identifier(name: str) -> str:
    """The name as CQL: bare when that reads back as the same name, in double quotes otherwise."""
    if _BARE.fullmatch(name) and name not in RESERVED_KEYWORDS and name not in _BOOLEANS:
        return name
    return '"' + name.replace('"', '""') + '"'
