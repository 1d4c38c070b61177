"""How CQL text is written: identifiers and strings, quoted where they must be.

DESCRIBE, error messages and the ``str()`` of syntax nodes go through here, so that what OuroDB prints can be read
back by any CQL parser.

Source: Apache Cassandra 5, ``ColumnIdentifier.maybeQuote`` and ``reserved_keywords.txt``.
"""

from __future__ import annotations

from ourodb.cql.syntax.lexer import NOT_FUNCTION_WORDS, NOT_TYPE_WORDS
from ourodb.cql.types.identifiers import quote_identifier

__all__ = ["quote_function_name", "quote_identifier", "quote_string", "quote_type_name"]


def quote_type_name(name: str) -> str:
    """The name of a user type, which must be quoted when it is a native type's too."""
    return f'"{name}"' if name in NOT_TYPE_WORDS else quote_identifier(name)


def quote_function_name(name: str) -> str:
    """The name of a function, which may be ``token``, and must be quoted when the grammar has other plans with it."""
    if name == "token":
        return name
    return f'"{name}"' if name in NOT_FUNCTION_WORDS else quote_identifier(name)


def quote_string(text: str) -> str:
    """The text as a CQL string literal."""
    return "'" + text.replace("'", "''") + "'"
