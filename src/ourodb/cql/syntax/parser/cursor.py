"""The place where the parser is in a statement's tokens, and the smallest things that it reads there: names, markers.

The functions of this package take a cursor, read one rule of the grammar from it and leave it behind what they have
read, or raise ``CqlSyntaxError``. None of them ever goes back: where the grammar is ambiguous they look ahead.
"""

from __future__ import annotations

from ourodb.cql.syntax.ast import Constant, ConstantKind, Marker, QualifiedName
from ourodb.cql.syntax.lexer import (
    BOOLEAN,
    DURATION,
    EMPTY_QUOTED_NAME,
    FLOAT,
    FUNCTION_NAME_TAGS,
    HEX,
    INTEGER,
    NAME_TAGS,
    QMARK,
    QUOTED_NAME,
    STRING,
    UUID,
    unquote_name,
    unquote_string,
)
from ourodb.cql.syntax.parser import complaints
from ourodb.errors import CqlSyntaxError
from ourodb.limits import EXPRESSION_NESTING_MAX, EXPRESSION_OPERATORS_MAX

# What may end a table's name, a type or a term. Cassandra's parser looks two tokens past those; but not past the
# names in an INSERT's list and the like, which these follow.
_AFTER_PLAIN_NAME = frozenset(("(", ")", ".", "K_VALUES"))
_ENDS = NAME_TAGS | {INTEGER, FLOAT, STRING, BOOLEAN, UUID, HEX, DURATION, QMARK, ")", "]", "}", ">"}


class Cursor:
    """Where we are in the tokens.

    Attributes:
        texts, tags: of the tokens; two EOFs more in ``tags``, so that one may look one token past any other.
        at: index of the next token.
        markers: names of the bind markers met so far.
        depth: how many literals, calls, types or parentheses are open.
        operators: how many were met in the expression being read, or in a longer one beside or inside it.
    """

    __slots__ = ("at", "depth", "markers", "operators", "tags", "text", "texts")

    def __init__(self, text: str, texts: list[str], tags: list[str]) -> None:
        self.text = text
        self.texts = texts
        self.tags = tags
        self.at = 0
        self.markers: list[str | None] = []
        self.depth = 0
        self.operators = 0

    def accept(self, tag: str) -> bool:
        """Take the next token if it is this one."""
        if self.tags[self.at] == tag:
            self.at += 1
            return True
        return False

    def expect(self, *tags: str) -> None:
        """Take these tokens, which must come next."""
        for tag in tags:
            if self.tags[self.at] != tag:
                raise self.mismatched(tag)
            self.at += 1

    def take(self, tag: str) -> str:
        """The text of the next token, which must be of this kind."""
        self.expect(tag)
        return self.texts[self.at - 1]

    def string(self) -> str:
        return unquote_string(self.take(STRING))

    def integer(self, bits: int) -> int:
        """An INTEGER token that fits a signed number of so many bits."""
        text = self.take(INTEGER)
        value = int(text) if len(text) <= 20 else 1 << 64
        if not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise complaints.at_token(self.text, self.at - 1, f"{text[:40]} is out of range")
        return value

    def mismatched(self, expected: str) -> CqlSyntaxError:
        """The error that the next token isn't the one expected."""
        looked_past = self.at > 0 and self.tags[self.at - 1] in _ENDS and expected not in _AFTER_PLAIN_NAME
        return complaints.mismatched(self.text, self.at, expected, looked_past=looked_past)

    def no_viable(self, begun: int | None = None) -> CqlSyntaxError:
        """The error that the next token can't stand here.

        Args:
            begun: index of the token that began what can't go on; the next one when not given.
        """
        return complaints.no_viable(self.text, self.at, self.at if begun is None else begun)

    def descend(self) -> None:
        """One more level is open. Whoever closes it takes one from ``depth`` again."""
        self.depth += 1
        if self.depth > EXPRESSION_NESTING_MAX:
            problem = f"nested more than {EXPRESSION_NESTING_MAX} levels deep"
            raise complaints.at_token(self.text, self.at, problem)

    def count_operator(self) -> None:
        self.operators += 1
        if self.operators > EXPRESSION_OPERATORS_MAX:
            problem = f"more than {EXPRESSION_OPERATORS_MAX} operators in one expression"
            raise complaints.at_token(self.text, self.at, problem)


def name(c: Cursor) -> str:
    """A name other than ``""``, its case resolved."""
    tag = c.tags[c.at]
    if tag not in NAME_TAGS:
        raise c.no_viable()
    piece = c.texts[c.at]
    c.at += 1
    return unquote_name(piece) if tag == QUOTED_NAME else piece.lower()


def column(c: Cursor) -> str:
    """A column's name; ``""`` is one too outside of definitions."""
    if c.tags[c.at] == EMPTY_QUOTED_NAME:
        c.at += 1
        return ""
    return name(c)


def column_ahead(c: Cursor, at: int) -> bool:
    return c.tags[at] in NAME_TAGS or c.tags[at] == EMPTY_QUOTED_NAME


def columns_in_parentheses(c: Cursor) -> tuple[str, ...]:
    c.expect("(")
    columns = [column(c)]
    while c.accept(","):
        columns.append(column(c))
    c.expect(")")
    return tuple(columns)


def keyspace_name(c: Cursor) -> str:
    return _name_of(c, "keyspace")


def table_name(c: Cursor) -> QualifiedName:
    """Also of a materialized view."""
    read = qualified_name(c, "table")
    if c.tags[c.at] not in _AFTER_TABLE_NAME:
        raise c.no_viable(c.at - 1)
    return read


# What may follow a table's name in some statement. Anything else is blamed on the name.
_AFTER_TABLE_NAME = frozenset(
    """
    ( ) ; . EOF K_ADD K_ALLOW K_ALTER K_AS K_DROP K_FROM K_GROUP K_IF K_JSON K_LIKE K_LIMIT K_NORECURSIVE K_OF K_ORDER
    K_PER K_PRIMARY K_RENAME K_SET K_TO K_USING K_WHERE K_WITH
    """.split()
)


def qualified_name(c: Cursor, what: str) -> QualifiedName:
    """``[keyspace.]name``.

    Args:
        what: names the thing in the message about a bind marker in its place.
    """
    if c.tags[c.at + 1] == ".":
        keyspace = _name_of(c, "keyspace")
        c.at += 1
        return QualifiedName(keyspace, _name_of(c, what))
    return QualifiedName(None, _name_of(c, what))


def _name_of(c: Cursor, what: str) -> str:
    if c.tags[c.at] == QMARK:
        raise CqlSyntaxError(f"Bind variables cannot be used for {what} names")
    return name(c)


def role_name(c: Cursor) -> str:
    return c.string() if c.tags[c.at] == STRING else _name_of(c, "role")


def index_name(c: Cursor) -> str:
    return _name_of(c, "index")


def function_name(c: Cursor) -> QualifiedName:
    """``[keyspace.]function``."""
    keyspace = None
    if c.tags[c.at + 1] == ".":
        keyspace = _name_of(c, "keyspace")
        c.at += 1
    return QualifiedName(keyspace, local_function_name(c))


def local_function_name(c: Cursor) -> str:
    tag = c.tags[c.at]
    if tag not in FUNCTION_NAME_TAGS:
        raise c.no_viable()
    piece = c.texts[c.at]
    c.at += 1
    return unquote_name(piece) if tag == QUOTED_NAME else piece.lower()


def call_ahead(c: Cursor, at: int) -> bool:
    """Whether a function call begins at this token."""
    tags = c.tags
    if tags[at] in FUNCTION_NAME_TAGS and tags[at + 1] == "(":
        return True
    return (
        tags[at] in NAME_TAGS
        and tags[at + 1] == "."
        and tags[at + 2] in FUNCTION_NAME_TAGS
        and tags[at + 3] == "("
    )


def marker(c: Cursor) -> Marker:
    """``?`` or ``:name``."""
    at = len(c.markers)
    if c.accept(QMARK):
        c.markers.append(None)
        return Marker(at)
    if c.tags[c.at] != ":":
        raise c.no_viable()
    c.at += 1
    variable = name(c)
    c.markers.append(variable)
    return Marker(at, variable)


def integer_or_marker(c: Cursor) -> Constant | Marker:
    """What LIMIT, TIMESTAMP and TTL take."""
    if c.tags[c.at] == INTEGER:
        c.at += 1
        return Constant(ConstantKind.INTEGER, c.texts[c.at - 1])
    return marker(c)


def if_exists(c: Cursor) -> bool:
    if c.accept("K_IF"):
        c.expect("K_EXISTS")
        return True
    return False


def if_not_exists(c: Cursor) -> bool:
    if c.accept("K_IF"):
        c.expect("K_NOT", "K_EXISTS")
        return True
    return False
