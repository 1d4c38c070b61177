"""Syntax errors in Cassandra's words: position, what was met, what was expected, and the text around it.

``line 1:9 mismatched input 'FORM' expecting K_FROM (SELECT * [FORM]...)``. Lines count from 1, columns from 0, in
characters; the end of the statement is ``line 0:-1``. The text in parentheses begins ten tokens (blanks counted)
before the one in brackets, at which the rule that failed began, and ends with the offending one. Brackets and end are
off by the quotes around a string, as they are in Cassandra, which measures a token by its contents.

Source: Apache Cassandra 5, ``ErrorCollector``; ANTLR 3, ``BaseRecognizer.getErrorMessage``.
"""

from __future__ import annotations

import re

from ourodb.cql.syntax.lexer import EOF, Span, locate, unquote_name, unquote_string
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


def mismatched(text: str, index: int, expected: str) -> CqlSyntaxError:
    """The token with this index isn't the one that must stand there, which is given by its tag."""
    shown = expected if expected == EOF or expected[0].isalpha() else f"'{expected}'"
    return _complain(text, index, index, "mismatched input ", f" expecting {shown}")


def no_viable(text: str, index: int, begun: int) -> CqlSyntaxError:
    """The token with this index fits nothing that could go on from the token ``begun``."""
    return _complain(text, index, begun, "no viable alternative at input ", "")


def at_token(text: str, index: int, problem: str) -> CqlSyntaxError:
    """Any other problem with the token with this index."""
    span = locate(text, index) or Span(len(text), len(text))
    return CqlSyntaxError(f"{position(text, span.start)} {problem}")


def _complain(text: str, index: int, begun: int, before: str, after: str) -> CqlSyntaxError:
    span = locate(text, index)
    if span is None:
        return CqlSyntaxError(f"line 0:-1 {before}'<EOF>'{after}")
    highlighted = span if begun == index else locate(text, begun) or span
    shown = _shortened(_contents(text[span.start : span.end]))
    snippet = _snippet(text, highlighted, span)
    return CqlSyntaxError(f"{position(text, span.start)} {before}'{shown}'{after} ({snippet})")


def _snippet(text: str, highlighted: Span, last: Span) -> str:
    searched = _token_or_blank.finditer(
        text, max(0, highlighted.start - _BEFORE_CHARACTERS_MAX), highlighted.start
    )
    starts = [match.start() for match in searched][-_TOKENS_BEFORE:]
    start = starts[0] if starts else highlighted.start
    end = _measured_end(text, highlighted)
    before = text[start : highlighted.start]
    behind = text[end : _measured_end(text, last)] if last.start > highlighted.start else ""
    cut = "..." if _measured_end(text, last) < len(text) else ""
    shown = f"{before}[{_shortened(text[highlighted.start : end])}]{_shortened(behind)}"
    return f"{'...' if start else ''}{shown}{cut}".replace("\n", "")


def _measured_end(text: str, span: Span) -> int:
    return span.start + len(_contents(text[span.start : span.end]))


def _contents(piece: str) -> str:
    if piece[0] == "'" or piece.startswith("$$"):
        return unquote_string(piece)
    return unquote_name(piece) if piece[0] == '"' and piece != '""' else piece


def _shortened(written: str) -> str:
    if len(written) <= _TOKEN_CHARACTERS_MAX:
        return written
    return f"{written[:_TOKEN_CHARACTERS_MAX]}..."
