"""From CQL text to tokens.

One compiled pattern cuts the text, in C and without a match object per token; a second look gives each piece its *tag*.
A tag is a string: a keyword's is ``K_`` and the keyword in capitals, a symbol's is the symbol itself, and the
classes below have names of their own. They are the names that ANTLR shows in Cassandra's messages. Positions
aren't kept: a message that needs one cuts the text again (``locate``).

The cut mustn't depend on what follows for longer than a token, or a long text could take quadratic time: every
alternative of the pattern takes all that it has looked at, or leaves it to the next one to take. So an unterminated
string or comment takes the rest of the text, and is found out afterwards.

As in Cassandra: a minus sign directly before a digit belongs to the number (``a -1`` is two tokens), keywords and
``true``/``false`` are case-insensitive, ``--`` and ``//`` comment to the end of the line, ``/* */`` doesn't nest.

Source: Apache Cassandra 5, ``src/antlr/Lexer.g``.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ourodb.cql.types.identifiers import RESERVED_KEYWORDS

IDENT: Final = "IDENT"
QUOTED_NAME: Final = "QUOTED_NAME"
EMPTY_QUOTED_NAME: Final = "EMPTY_QUOTED_NAME"
STRING: Final = "STRING_LITERAL"
INTEGER: Final = "INTEGER"
FLOAT: Final = "FLOAT"
BOOLEAN: Final = "BOOLEAN"
DURATION: Final = "DURATION"
HEX: Final = "HEXNUMBER"
UUID: Final = "UUID"
QMARK: Final = "?"
EOF: Final = "EOF"
_COMMENT: Final = "COMMENT"

NATIVE_TYPES: Final = (
    """
    ascii bigint blob boolean counter date decimal double duration float inet int smallint text time
    timestamp timeuuid tinyint uuid varchar varint
    """
).split()

# Keywords that are names wherever a name may stand: of keyspaces, tables, types, columns, functions.
_BASIC_UNRESERVED: Final = (
    """
    access aggregate aggregates all ann as between called check cidrs cluster clustering columnfamilies
    compact contains custom datacenters default exists filtering finalfunc frozen function functions
    generated group hashed identity indexes initcond input internals keys keyspaces language like list login
    map masked mbean mbeans nologin nosuperuser only options partition password per permission permissions
    replace returns role roles select_masked sfunc static storage stype superuser superusers tables trigger
    tuple type types unmask unset user users values vector
    """
).split()

# Keywords that are names, but not of functions or user types.
_OTHER_UNRESERVED: Final = ["ttl", "count", "writetime", "maxwritetime", "key", "cast", "json", "distinct"]


def _tag_of_keyword(word: str) -> str:
    synonyms = {"table": "columnfamily", "columnfamilies": "tables"}
    return "K_" + synonyms.get(word, word).upper()


_KEYWORDS: Final = {
    **{word: _tag_of_keyword(word) for word in _BASIC_UNRESERVED},
    **{
        word: _tag_of_keyword(word)
        for word in (*_OTHER_UNRESERVED, *NATIVE_TYPES, *sorted(RESERVED_KEYWORDS))
    },
    "true": BOOLEAN,
    "false": BOOLEAN,
    "nan": "K_POSITIVE_NAN",
    "infinity": "K_POSITIVE_INFINITY",
    "-nan": "K_NEGATIVE_NAN",
    "-infinity": "K_NEGATIVE_INFINITY",
}

NATIVE_TYPE_TAGS: Final = frozenset(_tag_of_keyword(word) for word in NATIVE_TYPES)

TYPE_NAME_TAGS: Final = frozenset(
    {IDENT, QUOTED_NAME, "K_KEY"} | {_tag_of_keyword(word) for word in _BASIC_UNRESERVED}
)
"""What may name a user type."""

KEPT_TYPE_NAMES: Final = frozenset("byte complex enum date interval macaddr bitstring".split())
"""Names that Cassandra keeps for types to come."""

NOT_TYPE_WORDS: Final = (frozenset(_OTHER_UNRESERVED) - {"key"}) | KEPT_TYPE_NAMES | frozenset(NATIVE_TYPES)
"""Words that are names, but not of user types unless they are quoted."""

NOT_FUNCTION_WORDS: Final = frozenset(_OTHER_UNRESERVED) - {"count"}
"""Keywords that are names, but not of functions unless they are quoted."""

UNRESERVED_TAGS: Final = (
    frozenset(_tag_of_keyword(word) for word in (*_BASIC_UNRESERVED, *_OTHER_UNRESERVED)) | NATIVE_TYPE_TAGS
)
"""Keywords that may be names."""

NAME_TAGS: Final = UNRESERVED_TAGS | {IDENT, QUOTED_NAME}
"""What may name a column, field, table, keyspace, role, property or variable."""

FUNCTION_NAME_TAGS: Final = (
    frozenset(_tag_of_keyword(word) for word in _BASIC_UNRESERVED)
    | NATIVE_TYPE_TAGS
    | {IDENT, QUOTED_NAME, "K_TOKEN", "K_COUNT"}
)
"""What may name a function."""

_SYMBOLS: Final = "( ) [ ] { } , ; : ? . .. = < <= > >= != + += - -= * / %".split()

# Pieces that get their tag without a closer look: symbols, and keywords in the two usual spellings.
_TAGS: Final = {
    **{symbol: symbol for symbol in _SYMBOLS},
    **_KEYWORDS,
    **{word.upper(): tag for word, tag in _KEYWORDS.items()},
}

_UNIT: Final = r"(?:[mM][oOsS]|[uUnN\u00b5][sS]|[yYwWdDhHmMsS])"
_DURATION: Final = rf"-?[0-9]++{_UNIT}(?:[0-9]++{_UNIT})*+"
_ISO_DURATION: Final = (
    r"-?P(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
    r"|\d++W"
    r"|(?=[\dT])(?:\d++Y)?(?:\d++M)?(?:\d++D)?(?:T(?=\d)(?:\d++H)?(?:\d++M)?(?:\d++S)?)?)(?![A-Za-z0-9_])"
)

_cut = re.compile(
    r"[(),=;?{}\[\]:*%]"
    r"|'[^']*+(?:''[^']*+)*+'?"
    r"|[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
    rf"|{_ISO_DURATION}"
    r"|[A-Za-z][A-Za-z0-9_]*+"
    rf"|0[xX][0-9A-Fa-f]*+|{_DURATION}(?![A-Za-z0-9_])"
    # `1..2` is an integer and a range. Groups that may fail after their first character are never possessive: Python
    # before 3.11.5 doesn't go back to where they began (gh-106052).
    r"|-?[0-9]++(?:\.(?!\.(?!\.))[0-9]*+)?(?:[eE][+-]?[0-9]++)?"
    r'|"[^"]*+(?:""[^"]*+)*+"?'
    r"|--[^\r\n]*+|//[^\r\n]*+|/\*(?:[^*]++|\*(?!/))*(?:\*/)?"
    r"|\$\$(?:[^$]++|\$(?!\$))*(?:\$\$)?"
    r"|-(?:[nN][aA][nN]|[iI][nN][fF][iI][nN][iI][tT][yY])(?![A-Za-z0-9_])"
    r"|\.\.|[<>!+\-]=|[^ \t\r\n]",
    re.ASCII,
)

_closer_look = re.compile(
    rf"(?P<DURATION>{_DURATION})"
    r"|(?P<HEXNUMBER>0x[0-9a-f]*+)"
    r"|(?P<FLOAT>-?[0-9]++(?:\.[0-9]*+)?(?:e[+-]?[0-9]++)?)"
    r"|(?P<UUID>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})",
    re.ASCII | re.IGNORECASE,
)
_iso_duration = re.compile(_ISO_DURATION, re.ASCII)


class LexicalError(Exception):
    """The text can't be cut into tokens.

    Attributes:
        offset: where, in characters; the text's length when its end is the trouble.
        problem: in ANTLR's words.
    """

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(problem)
        self.offset = offset
        self.problem = problem


class Span(NamedTuple):
    """A token's place: characters [start, end)."""

    start: int
    end: int


def tokenize(text: str) -> tuple[list[str], list[str]]:
    """The text's tokens: what was written, and their tags. The tags end with two EOFs more than there are texts.

    Raises:
        LexicalError: a character that begins no token, a string or comment without an end.
    """
    texts: list[str] = _cut.findall(text)
    known = _TAGS.get
    tags = [known(piece) or _tag(piece) for piece in texts]
    if "" in tags or (texts and not _is_closed(texts[-1])):
        raise _complaint(text)
    if "--" in text or "//" in text or "/*" in text:
        kept = [index for index, tag in enumerate(tags) if tag is not _COMMENT]
        texts = [texts[index] for index in kept]
        tags = [tags[index] for index in kept]
    tags.append(EOF)
    tags.append(EOF)
    return texts, tags


def _tag(piece: str) -> str:
    """The tag of a piece that isn't in the table; empty when it's no token."""
    first = piece[0]
    if first == "'":
        return STRING
    if first.isalpha() and first.isascii():
        tag = _KEYWORDS.get(piece.lower())
        if tag is not None:
            return tag
        if len(piece) == 36 and piece[8] == "-":
            return UUID
        if first == "P" and _iso_duration.fullmatch(piece):
            return DURATION
        return IDENT
    if first == '"':
        return QUOTED_NAME if piece != '""' else EMPTY_QUOTED_NAME
    if first == "-" and len(piece) > 1:
        if piece[1] == "-":
            return _COMMENT
        if piece[1] == "P":
            return DURATION
        if piece.lower() in _KEYWORDS:
            return _KEYWORDS[piece.lower()]
    elif first == "/":
        return _COMMENT
    elif first == "$" and len(piece) > 1:
        return STRING
    if piece.isdigit() or piece[1:].isdigit():
        return INTEGER if piece.isascii() and first in "-0123456789" else ""
    look = _closer_look.fullmatch(piece)
    return look.lastgroup or "" if look else ""


def _is_closed(piece: str) -> bool:
    """Whether the text's last piece has the end that its beginning calls for."""
    first = piece[0]
    if first in "'\"":
        return piece.count(first) % 2 == 0
    if piece.startswith("/*"):
        return len(piece) >= 4 and piece.endswith("*/")
    if first == "$":
        return len(piece) >= 4 and piece.endswith("$$")
    return True


def _complaint(text: str) -> LexicalError:
    """The first thing that's wrong with a text that ``tokenize`` can't cut."""
    for match in _cut.finditer(text):
        piece = match[0]
        if not _TAGS.get(piece) and not _tag(piece):
            return LexicalError(match.start(), f"no viable alternative at character '{piece[0]}'")
    expected = {"'": "'''", '"': "'\"'", "/": "'*'", "$": "'$'"}[piece[0]]
    return LexicalError(len(text), f"mismatched character '<EOF>' expecting {expected}")


def locate(text: str, index: int) -> Span | None:
    """Where the token with this index is; None when it is the EOF."""
    for match in _cut.finditer(text):
        if match[0].startswith(("--", "//", "/*")):
            continue
        if index == 0:
            return Span(*match.span())
        index -= 1
    return None


def unquote_name(piece: str) -> str:
    """The name in a QUOTED_NAME token."""
    return piece[1:-1].replace('""', '"')


def unquote_string(piece: str) -> str:
    """The contents of a STRING token, written in either way."""
    if piece[0] == "$":
        return piece[2:-2]
    inner = piece[1:-1]
    return inner.replace("''", "'") if "'" in inner else inner
