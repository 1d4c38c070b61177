"""How CQL text is written: identifiers and strings, quoted where they must be.

DESCRIBE, error messages and the ``str()`` of syntax nodes go through here, so that what OuroDB prints can be read
back by any CQL parser.

Source: Apache Cassandra 5, ``ColumnIdentifier.maybeQuote`` and ``reserved_keywords.txt``.
"""

from __future__ import annotations

import re

RESERVED_KEYWORDS = frozenset(
    """
    add allow alter and apply asc authorize batch begin by columnfamily create delete desc describe drop entries execute
    from full grant if in index infinity insert into is keyspace limit materialized modify nan norecursive not null of
    on or order primary rename revoke schema select set table to token truncate unlogged update use using view where
    with
    """.split()
)
"""Words that can't be names unless they are quoted, lower case."""

# These two are literals wherever they stand bare; Cassandra forgets to quote them.
_BOOLEANS = frozenset(("true", "false"))

_needs_no_quotes = re.compile(r"[a-z][a-z0-9_]*").fullmatch


def quote_identifier(name: str) -> str:
    """The name as CQL: bare when that reads back as the same name, in double quotes otherwise."""
    if _needs_no_quotes(name) and name not in RESERVED_KEYWORDS and name not in _BOOLEANS:
        return name
    return '"' + name.replace('"', '""') + '"'


def quote_string(text: str) -> str:
    """The text as a CQL string literal."""
    return "'" + text.replace("'", "''") + "'"
