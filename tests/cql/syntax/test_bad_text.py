"""Whatever is sent as a statement gets a tree or a syntax error that points into it.

If this fails, a client can raise an internal error, or is told of a place where nothing is wrong.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ourodb.cql.syntax.lexer import locate, tokenize
from ourodb.cql.syntax.parser import parse
from ourodb.errors import CqlSyntaxError
from ourodb.limits import EXPRESSION_NESTING_MAX, EXPRESSION_OPERATORS_MAX

STATEMENTS = [
    block.split("\n----")[0]
    for path in sorted((Path(__file__).parent / "goldens").glob("*.txt"))
    for block in path.read_text().split("\n\n")
]
WORDS = sorted({word for statement in STATEMENTS for word in re.findall(r"\w+|'[^']*'|[^\w\s]+", statement)})


def check(text: str) -> None:
    """Parse it; an error's position must be that of what it quotes."""
    message = ""
    try:
        str(parse(text))
    except CqlSyntaxError as error:
        message = error.message
    position = re.match(r"line (\d+):(\d+) (?:mismatched|no viable alternative at) input '(.)", message)
    if position:
        line, column, quoted = position.groups()
        met = text.split("\n")[int(line) - 1][int(column) :]
        assert met.startswith((quoted, "'", '"', "$$")), message


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text(text: str) -> None:
    check(text)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=25))
def test_any_words(words: list[str]) -> None:
    check(" ".join(words))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(STATEMENTS), st.data())
def test_damaged_statements(statement: str, data: st.DataObject) -> None:
    """Words taken out, put in and doubled; the text cut off."""
    words = re.split(r"(\s+|[(),=\[\]{}])", statement)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(words) - 1))
        new = data.draw(
            st.sampled_from(["", words[at] * 2, *data.draw(st.lists(st.sampled_from(WORDS), max_size=2))])
        )
        words[at] = new
    text = "".join(words)
    check(text[: data.draw(st.integers(0, len(text)))] if data.draw(st.booleans()) else text)


BOMBS = {
    "lists": ("INSERT INTO t (a) VALUES (", "[", ""),
    "closed lists": ("INSERT INTO t (a) VALUES (", "[", "]"),
    "sets": ("INSERT INTO t (a) VALUES (", "{", "}"),
    "maps": ("INSERT INTO t (a) VALUES (", "{1:", "}"),
    "user types": ("INSERT INTO t (a) VALUES (", "{a:", "}"),
    "tuples": ("INSERT INTO t (a) VALUES (", "(", ")"),
    "calls": ("INSERT INTO t (a) VALUES (", "f(", ")"),
    "casts": ("INSERT INTO t (a) VALUES (", "CAST(", " AS int)"),
    "hints": ("INSERT INTO t (a) VALUES (", "(int)", ""),
    "sums": ("INSERT INTO t (a) VALUES (", "1 + ", ""),
    "sums of parentheses": ("INSERT INTO t (a) VALUES (", "(", "+ 1)"),
    "products": ("INSERT INTO t (a) VALUES (", "1 * ", ""),
    "selected sums": ("SELECT ", "a - ", ""),
    "selected parentheses": ("SELECT ", "(", ")"),
    "selected lists": ("SELECT ", "[", "]"),
    "selected sets": ("SELECT ", "{", "}"),
    "selected calls": ("SELECT ", "f(", ")"),
    "selected casts": ("SELECT ", "cast(", " AS int)"),
    "selected hints": ("SELECT ", "(int)", ""),
    "negations": ("SELECT ", "- ", ""),
    "fields": ("SELECT a", ".b", ""),
    "fields of parentheses": ("SELECT ", "(", ").b"),
    "elements": ("SELECT a", "[1]", ""),
    "relations": ("SELECT * FROM t WHERE ", "(", ")"),
    "types": ("CREATE TABLE t (a ", "list<", ">"),
    "frozen types": ("CREATE TABLE t (a ", "frozen<tuple<", ">>"),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_depth_is_bounded(bomb: tuple[str, str, str]) -> None:
    start, opening, closing = bomb
    for depth in (1_000, 50_000):
        with pytest.raises(CqlSyntaxError, match="more than"):
            parse(f"{start}{opening * depth}1{closing * depth}")


def test_depth_up_to_the_bound_is_read_and_written() -> None:
    """The bounds leave room for what the grammar allows, and the deepest tree can be walked."""
    deep = "[" * EXPRESSION_NESTING_MAX + "1" + "]" * EXPRESSION_NESTING_MAX
    wide = " + ".join(["1"] * (EXPRESSION_OPERATORS_MAX + 1))
    statement = parse(f"INSERT INTO t (a) VALUES ({deep}, {wide}, {wide}, [{wide}, {wide}])")
    assert hash(statement) == hash(
        parse(f"INSERT INTO t (a) VALUES ({deep}, {wide}, {wide}, [{wide}, {wide}])")
    )
    assert f"{wide}, {wide}" in str(statement.values[3])  # type: ignore[union-attr]


def test_long_texts_are_read() -> None:
    """Nothing in the parser depends on the length of a statement, only on its depth."""
    rows = "INSERT INTO t (a, b) VALUES (1, 'x');" * 5_000
    assert len(parse(f"BEGIN BATCH {rows} APPLY BATCH").statements) == 5_000  # type: ignore[union-attr]
    fields = ", ".join(f"a{n} = {n}" for n in range(20_000))
    assert len(parse(f"UPDATE t SET {fields} WHERE k = 1").assignments) == 20_000  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "piece", ["'", '"', "$$", "/*", "1", "-", "P1", "/", "'' ", '"a" "', "1.", "1h", "--\n", "$"]
)
def test_repeated_beginnings_of_tokens_are_cut(piece: str) -> None:
    """Each of these would take quadratic time if the lexer gave back what it had looked at."""
    check(f"SELECT {piece * 100_000}x")


def test_an_error_message_is_short() -> None:
    """It must fit a [string] of the protocol, however long the token in it."""
    with pytest.raises(CqlSyntaxError) as caught:
        parse(f"SELECT * FROM t WHERE a = {'x' * 500_000} {'y' * 500_000}")
    assert len(caught.value.message) < 2_000


def test_tokens_are_found_again() -> None:
    text = "SELECT /* a */ b -- c\nFROM t"
    texts, _ = tokenize(text)
    spans = [locate(text, index) for index in range(len(texts))]
    assert [text[span.start : span.end] for span in spans if span] == texts == ["SELECT", "b", "FROM", "t"]
    assert locate(text, len(texts)) is None
