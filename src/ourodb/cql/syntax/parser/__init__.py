"""From CQL text to the syntax tree: a recursive-descent parser, written by hand.

Each module reads one part of the grammar: ``types``, ``terms``, ``selection`` and ``where`` are for expressions,
``rows`` for statements on rows, ``definitions`` for keyspaces, tables and user types, ``dependents`` for what hangs
on a table, ``functions``, ``describe``, and ``access`` for roles. All of them read from a ``Cursor`` and never go back.

Promises: ``parse`` raises ``CqlSyntaxError`` and nothing else, whatever the text; it takes linear time; the depth of
the tree is bounded by ``EXPRESSION_NESTING_MAX + EXPRESSION_OPERATORS_MAX``, so that whoever walks it may recurse. The
length of the text is the caller's to bound.

Source: Apache Cassandra 5, ``src/antlr/Parser.g``. Beyond it: BETWEEN, NOT IN, NOT CONTAINS, CHECK and CREATE TABLE
LIKE as in Cassandra 6; a last comment needs no end of line.
"""

from __future__ import annotations

from ourodb.cql.syntax.ast import Batch, Delete, Insert, InsertJson, Select, Statement, Update
from ourodb.cql.syntax.lexer import EOF, LexicalError, tokenize
from ourodb.cql.syntax.parser import access, complaints, definitions, describe, rows
from ourodb.cql.syntax.parser.cursor import Cursor

_WITH_MARKERS = (Insert, Select, Update, Delete, Batch, InsertJson)

_READERS = {
    "K_SELECT": rows.select,
    "K_INSERT": rows.insert,
    "K_UPDATE": rows.update,
    "K_DELETE": rows.delete,
    "K_BEGIN": rows.batch,
    "K_USE": rows.use,
    "K_TRUNCATE": rows.truncate,
    "K_CREATE": definitions.create,
    "K_ALTER": definitions.alter,
    "K_DROP": definitions.drop,
    "K_DESCRIBE": describe.describe,
    "K_DESC": describe.describe,
    "K_GRANT": access.grant,
    "K_REVOKE": access.revoke,
    "K_LIST": access.list_access,
    "K_ADD": access.add_identity,
}


def parse(text: str) -> Statement:
    """The one statement in the text; semicolons may follow it.

    Raises:
        CqlSyntaxError: it isn't CQL; the message tells where and why.
    """
    try:
        texts, tags = tokenize(text)
    except LexicalError as error:
        raise complaints.lexical_error(text, error.offset, error.problem) from None
    c = Cursor(text, texts, tags)
    reader = _READERS.get(tags[0])
    if reader is None:
        raise c.no_viable()
    statement: Statement = reader(c)
    while tags[c.at] == ";":
        c.at += 1
    if tags[c.at] != EOF:
        raise c.mismatched(EOF)
    if c.markers and isinstance(statement, _WITH_MARKERS):
        statement.markers = tuple(c.markers)
    return statement
