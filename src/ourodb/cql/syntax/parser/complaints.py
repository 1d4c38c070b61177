"""Syntax errors in Cassandra's words: position, what was met, what was expected, and the text around it.

``line 1:14 mismatched input 'FORM' expecting K_FROM (SELECT a, b [FORM]...)``. Lines count from 1, columns from 0, in
characters; the end of the statement is ``line 0:-1``. The text in parentheses goes from ten tokens (blanks counted)
before the offending one, which stands in brackets, up to it.

Where Cassandra's message names the token at which its prediction gave up, ours names the token that doesn't fit.

Source: Apache Cassandra 5, ``ErrorCollector``; ANTLR 3, ``BaseRecognizer.getErrorMessage``.
"""

from __future__ import annotations

import re

from ourodb.cql.syntax.lexer import EOF, QUOTED_NAME, STRING, Span, locate, unquote_name, unquote_string
from ourodb.errors import CqlSyntaxError

_TOKENS_BEFORE = 10
_BEFORE_CHARACTERS_MAX = 1000
_TOKEN_CHARACTERS_MAX = 200
_token_or_blank = re.compile(r"[ \t\r\n]++|'[^']*+'?|\"[^\"]*+\"?|[A-Za-z0-9_]++|.", re.DOTALL)


def position(text: str, offset: int) -> str:
    """``line L:C`` of a character."""
    line_start = text.rfind("\n", 0, offset) + 1
    return f"line {text.count(chr(10), 0, offset) + 1}:{offset - line_start}"


def lexical_error(text: str, offset: int, problem: str) -> CqlSyntaxError:
    return CqlSyntaxError(f"{position(text, offset)} {problem}")


def mismatched(text: str, index: int, tag: str, expected: str) -> CqlSyntaxError:
    """The token with this index isn't the one that must stand there; both given by their tags."""
    shown = expected if expected == EOF or expected[0].isalpha() else f"'{expected}'"
    return _complain(text, index, tag, f"mismatched input {{}} expecting {shown}")


def no_viable(text: str, index: int, tag: str) -> CqlSyntaxError:
    """The token with this index begins nothing that may stand there."""
    return _complain(text, index, tag, "no viable alternative at input {}")


def at_token(text: str, index: int, problem: str) -> CqlSyntaxError:
    """Any other problem with the token."""
    return _complain(text, index, EOF, problem.replace("{", "{{").replace("}", "}}"))


def _complain(text: str, index: int, tag: str, problem: str) -> CqlSyntaxError:
    span = locate(text, index)
    if span is None:
        return CqlSyntaxError(f"line 0:-1 {problem.format(repr('<EOF>'))}")
    written = text[span.start : span.end]
    if tag == STRING:
        written = unquote_string(written)
    elif tag == QUOTED_NAME:
        written = unquote_name(written)
    message = problem.format(f"'{_shortened(written)}'")
    return CqlSyntaxError(f"{position(text, span.start)} {message} ({_snippet(text, span)})")


def _snippet(text: str, span: Span) -> str:
    searched = _token_or_blank.finditer(text, max(0, span.start - _BEFORE_CHARACTERS_MAX), span.start)
    starts = [match.start() for match in searched][-_TOKENS_BEFORE:]
    start = starts[0] if starts else span.start
    before = text[start : span.start].replace("\n", "")
    token = _shortened(text[span.start : span.end])
    return f"{'...' if start else ''}{before}[{token}]{'...' if span.end < len(text) else ''}"


def _shortened(written: str) -> str:
    if len(written) <= _TOKEN_CHARACTERS_MAX:
        return written
    return f"{written[:_TOKEN_CHARACTERS_MAX]}..."
