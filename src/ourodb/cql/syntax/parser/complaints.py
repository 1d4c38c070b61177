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
_token_or_blank = re.compile(r"[ \t\r\n]++|'[^']*+'?|\"[^\"]*+\"?|-?[A-Za-z0-9_]++|.", re.DOTALL)


def position(text: str, offset: int) -> str:
    """``line L:C`` of a character."""
    line_start = text.rfind("\n", 0, offset) + 1
    return f"line {text.count(chr(10), 0, offset) + 1}:{offset - line_start}"


def lexical_error(text: str, offset: int, problem: str) -> CqlSyntaxError:
    return CqlSyntaxError(f"{position(text, offset)} {problem}")


def mismatched(text: str, index: int, expected: str, *, looked_past: bool) -> CqlSyntaxError:
    """The token with this index isn't the one that must stand there, which is given by its tag.

    Args:
        looked_past: Cassandra's parser has looked at the token behind it too, and shows it.
    """
    shown = expected if expected == EOF or expected[0].isalpha() else f"'{expected}'"
    return _complain(text, index, index, index + looked_past, "mismatched input ", f" expecting {shown}")


def no_viable(text: str, index: int, begun: int) -> CqlSyntaxError:
    """The token with this index fits nothing that could go on from the token ``begun``."""
    return _complain(text, index, begun, index, "no viable alternative at input ", "")


def at_token(text: str, index: int, problem: str) -> CqlSyntaxError:
    """Any other problem with the token with this index."""
    span = locate(text, index) or Span(len(text), len(text))
    return CqlSyntaxError(f"{position(text, span.start)} {problem}")


def _complain(text: str, index: int, begun: int, last: int, before: str, after: str) -> CqlSyntaxError:
    span = locate(text, index)
    shown = "<EOF>" if span is None else _shortened(_contents(text[span.start : span.end]))
    place = "line 0:-1" if span is None else position(text, span.start)
    return CqlSyntaxError(f"{place} {before}'{shown}'{after}{_snippet(text, begun, last)}")


def _snippet(text: str, begun: int, last: int) -> str:
    """The text around the token ``begun``, up to the token ``last`` or two tokens on, blanks counted."""
    highlighted = locate(text, begun)
    if highlighted is None:
        return ""
    behind = _token_or_blank.finditer(text, highlighted.end)
    ends = [match.end() for match, _ in zip(behind, range(2), strict=False)]
    end_span = locate(text, last)
    if end_span is None and len(ends) < 2:
        return ""
    searched = _token_or_blank.finditer(
        text, max(0, highlighted.start - _BEFORE_CHARACTERS_MAX), highlighted.start
    )
    starts = [match.start() for match in searched][-_TOKENS_BEFORE:]
    start = starts[0] if starts else highlighted.start
    end = _measured_end(text, highlighted)
    shown_end = end
    if last > begun:
        shown_end = min(ends[-1], _measured_end(text, end_span)) if end_span else ends[-1]
    shown = f"{text[start : highlighted.start]}[{_shortened(text[highlighted.start : end])}]"
    shown += _shortened(text[end:shown_end])
    cut = "..." if shown_end < len(text) else ""
    return f" ({'...' if start else ''}{shown}{cut})".replace("\n", "")


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
