"""What stands after WITH, read as Java reads it.

Properties reach the schema as raw texts. Numbers and booleans are taken from them by the rules of Java's parsers, and
written back as Java writes them, because both show in error messages, in ``system_schema`` and in DESCRIBE.

Source: Apache Cassandra 5, ``PropertyDefinitions``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TypeAlias

from ourodb.errors import CqlSyntaxError

Properties: TypeAlias = Mapping[str, str | dict[str, str]]
"""Name to text, or to a map of texts, as in ``cql.syntax.ast``."""

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DOUBLE = re.compile(
    r"([+-]?(?:NaN|Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?))[fFdD]?", re.ASCII
)
_TRUE = ("1", "true", "yes")
_FALSE = ("0", "false", "no")


def check_known(properties: Properties, known: tuple[str, ...]) -> None:
    """Refuse properties that nobody knows."""
    for name in properties:
        if name not in known:
            raise CqlSyntaxError(f"Unknown property '{name}'")


def text_of(properties: Properties, name: str) -> str | None:
    """The text of a property, None when it isn't given."""
    value = properties.get(name)
    if value is None or isinstance(value, str):
        return value
    raise CqlSyntaxError(f"Invalid value for property '{name}'. It should be a string")


def map_of(properties: Properties, name: str) -> dict[str, str] | None:
    """The map of a property, None when it isn't given."""
    value = properties.get(name)
    if value is None or isinstance(value, dict):
        return value
    raise CqlSyntaxError(f"Invalid value for property '{name}'. It should be a map.")


def boolean_of(properties: Properties, name: str) -> bool | None:
    """The boolean of a property, None when it isn't given."""
    text = text_of(properties, name)
    if text is None:
        return None
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise CqlSyntaxError(
        f"Invalid boolean value {text} for '{name}'. Positive values can be '1', 'true' or 'yes'. "
        "Negative values can be '0', 'false' or 'no'."
    )


def integer_of(properties: Properties, name: str) -> int | None:
    """The 32-bit integer of a property, None when it isn't given."""
    text = text_of(properties, name)
    if text is None:
        return None
    number = parse_integer(text, 32)
    if number is None:
        raise CqlSyntaxError(f"Invalid integer value {text} for '{name}'")
    return number


def double_of(properties: Properties, name: str) -> float | None:
    """The double of a property, None when it isn't given."""
    text = text_of(properties, name)
    if text is None:
        return None
    number = parse_double(text)
    if number is None:
        raise CqlSyntaxError(f"Invalid double value {text} for '{name}'")
    return number


def parse_integer(text: str, bits: int) -> int | None:
    """A decimal integer of that many bits, None when ``text`` isn't one."""
    if _INTEGER.fullmatch(text) is None or len(text) > 20:
        return None
    number = int(text)
    return number if -(1 << (bits - 1)) <= number < 1 << (bits - 1) else None


def parse_double(text: str) -> float | None:
    """A double, None when ``text`` isn't one."""
    match = _DOUBLE.fullmatch(text.strip())
    return None if match is None else float(match[1])


def show_double(number: float) -> str:
    """As Java's ``Double.toString``: 0.01, 1.0, 6.71E-5."""
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    shown = Decimal(repr(number)).normalize()
    power = shown.adjusted()
    if not shown or -3 <= power < 7:
        plain = format(shown, "f")
        return plain if "." in plain else plain + ".0"
    digits = "".join(map(str, shown.as_tuple().digits))
    return f"{'-' if number < 0 else ''}{digits[0]}.{digits[1:] or '0'}E{power}"
